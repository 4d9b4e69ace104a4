/* External checkpoints: memory and devices in a file, the disks frozen as backing files, all of one instant. */
#ifndef ENGINE_CHECKPOINT_H
#define ENGINE_CHECKPOINT_H

#include "engine/memory.h"

/*
 * Where @s will have its memory: @file, or a name that was never used; @instant: so that it can be mapped. -EEXIST, -ENOSPC;
 * what memory_check() and instant_name() say.
 */
int checkpoint_name(struct fermata_vm *vm, struct fermata_snap *s, const char *file, bool instant, struct err *e) MUST_CHECK;

/* How long the guest stood last, as the events tell. Takes them all. */
uint64_t checkpoint_pause_us(struct mon *m);

/*
 * Take the pending one: the memory is in its file, flushed and in its place, before the disks switch; then the guest goes
 * on. Whatever fails before that, no disk has switched; what was made stays for create_undo(). A killed fermata is
 * recovered at once, by a child.
 */
int checkpoint_take(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* The disks of the pending one have switched. If its memory is not whole, what is left is a disk snapshot, and @s says so. */
void checkpoint_keep(struct fermata_vm *vm, struct fermata_snap *s);

/* The user is to hear that it is kept so. */
void checkpoint_kept(struct fermata_vm *vm, const struct fermata_snap *s);

/* Remove what the pending one has written of its memory. */
void checkpoint_drop(struct fermata_vm *vm, const struct fermata_snap *s);

/* ---- going back to one: a second QEMU comes up beside the present one, in a folder of its own ---- */

/*
 * Whether the memory of @s is there, looks whole, and QEMU and host can take it. @force: whatever the QEMU. @verify: read
 * all of what will only be mapped, too.
 */
int checkpoint_check(struct fermata_vm *vm, const struct fermata_snap *s, bool force, bool verify, struct err *e) MUST_CHECK;

/* The folder of the second QEMU. Caller frees; NULL: no memory. */
char *checkpoint_beside(const struct fermata_vm *vm);

/* Whether the QEMU of folder @dir has loaded all of its memory. */
bool checkpoint_stands(const char *dir);

/*
 * Start a QEMU on the overlays of @s, waiting for its state, in that folder, and call @fn for it: meanwhile it is @vm's, and
 * connected; afterwards vm is as before, without a connection. When either fails, it is gone again.
 */
typedef int checkpoint_next_fn(struct fermata_vm *vm, const struct fermata_snap *s, void *ctx, struct err *e);
int checkpoint_next(struct fermata_vm *vm, const struct fermata_snap *s, const char *machine, checkpoint_next_fn *fn, void *ctx,
	struct err *e) MUST_CHECK;

/*
 * Bring up a QEMU on the overlays of @s and load its memory, every byte checked; the guest stands. The present one is not
 * touched. On failure no second QEMU is left.
 */
int checkpoint_load(struct fermata_vm *vm, const struct fermata_snap *s, bool force, struct err *e) MUST_CHECK;

/*
 * It stands: end the present QEMU, and put the second one in its place. Cut off, a child goes on with it at once. Commit
 * point: the end of the present one.
 */
int checkpoint_change(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* The pending revert was cut off: finished if the second QEMU stands, else undone as far as there is something left. */
int checkpoint_revert_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
