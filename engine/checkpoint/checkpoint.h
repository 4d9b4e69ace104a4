/* Checkpoints with their memory outside the images: taking and loading, in every way. */
#ifndef ENGINE_CHECKPOINT_CHECKPOINT_H
#define ENGINE_CHECKPOINT_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

struct disks;
struct fermata_create;
struct fermata_snap;
struct fermata_taken;
struct fermata_vm;

/* ---- checkpoint.c ---- */

/*
 * Where @s will have its memory: the file that @c names, or a name that was never used. -EEXIST, -ENOSPC; what memory_check() and
 * instant_name() say.
 * @handover: out, whether an instant one takes the memory's own file: where @c asks for that, and there is such a file
 */
int checkpoint_name(struct fermata_vm *vm, struct fermata_snap *s, const struct fermata_create *c, bool *handover, struct err *e)
	MUST_CHECK;

/* How the pending checkpoint is to be taken. */
struct take {
	const struct disks *ds;
	const struct fermata_snap *snap;
	bool live;     /* while the guest runs on, if there is a way */
	bool handover; /* instant: checkpoint_name() says so */
};

/*
 * Take the pending one: the memory is in its file, flushed and in its place, before the disks switch; then the guest goes
 * on. Whatever fails before that, no disk has switched; what was made stays for create_undo(). A killed fermata is
 * recovered at once, by a child.
 * @made: out, the way and the pause
 */
int checkpoint_take(struct fermata_vm *vm, const struct take *t, struct fermata_taken *made, struct err *e) MUST_CHECK;

/* ---- files.c ---- */

/*
 * Whether the memory of the pending @s is whole. One that only lacks its name gets it, or, if somebody else's file is there,
 * goes by the one that it has.
 */
bool checkpoint_complete(struct fermata_vm *vm, struct fermata_snap *s);

/* The disks of the pending one have switched. If its memory is not whole, what is left is a disk snapshot, and @s says so. */
void checkpoint_keep(struct fermata_vm *vm, struct fermata_snap *s);

/* The user is to hear that it is kept so. */
void checkpoint_kept(struct fermata_vm *vm, const struct fermata_snap *s);

/* Remove what the pending one has written of its memory. */
void checkpoint_drop(struct fermata_vm *vm, const struct fermata_snap *s);

/* ---- load.c ---- */

/*
 * Whether the memory of @s is there, looks whole, and QEMU and host can take it. @force: whatever the QEMU. @verify: read
 * all of what will only be mapped, too.
 */
int checkpoint_check(struct fermata_vm *vm, const struct fermata_snap *s, bool force, bool verify, struct err *e) MUST_CHECK;

/*
 * Bring up a QEMU on the overlays of @s and load its memory, every byte checked; the guest is paused. The present one is not
 * touched. On failure no second QEMU is left.
 */
int checkpoint_load(struct fermata_vm *vm, const struct fermata_snap *s, bool force, struct err *e) MUST_CHECK;

/* ---- change.c ---- */

/*
 * It stands: end the present QEMU, and put the second one in its place. Cut off, a child goes on with it at once. Commit
 * point: the end of the present one.
 */
int checkpoint_change(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* The pending revert was cut off: finished if the second QEMU stands, else undone as far as there is something left. */
int checkpoint_revert_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- files.c ---- */

/* Whether the pending creation of @s is one, cut off or under way. */
bool handover_is(struct fermata_vm *vm, const struct fermata_snap *s);

/* ---- handover_recover.c ---- */

/* What a hand-over that was cut off has left: nothing, all of it (or at least its disks), or what the disks tell. */
enum handover_left { HANDOVER_NOTHING, HANDOVER_WHOLE, HANDOVER_DISKS };

/*
 * It was cut off. If the present QEMU lives, it goes on, and nothing has happened; else what there is of the second one is the
 * guest, and the checkpoint is finished. HANDOVER_DISKS: both are gone, and the memory with them.
 */
int handover_recover(struct fermata_vm *vm, enum handover_left *left, struct err *e) MUST_CHECK;

/* ---- live.c ---- */

/*
 * After a kill: memory_go_on(), but a background snapshot is not cancelled: its guest goes on as soon as that is right, and
 * QEMU writes all that it has to. No capability is left on.
 */
int live_end(struct fermata_vm *vm, bool ran, struct err *e) MUST_CHECK;

#endif
