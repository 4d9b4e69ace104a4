/* An instance of QEMU: launch, end, a second one, a standby. */
#ifndef ENGINE_QEMU_QEMU_H
#define ENGINE_QEMU_QEMU_H

#include <stdbool.h>

#include "engine/chain/chain.h"
#include "lib/err.h"

struct fermata_snap;
struct fermata_vm;
struct kvm;
struct kvm_spec;

/* A QEMU that runs for a VM: its run directory, borrowed, and the connection to it. The VM's own is vm->run_dir and vm->kvm. */
struct instance {
	const char *dir;
	struct kvm *kvm; /* NULL: none, or it has been taken over */
};

/* ---- launch.c ---- */

/*
 * Start QEMU stopped, on the disks' present chains. @machine: NULL for the definition's. @incoming: to wait for saved
 * memory. @map: the file that its memory begins as; NULL: empty memory. The connection is kept.
 */
int life_launch(struct fermata_vm *vm, const char *machine, bool incoming, const char *map, struct err *e) MUST_CHECK;

/* Where a memory that can be handed over has its file; NULL: the VM has none. Borrowed. */
const char *life_memory_dir(const struct fermata_vm *vm);

/* End QEMU, whatever it does. */
int life_kill(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- second.c ---- */

/* The folder of the second QEMU. Caller frees; NULL: no memory. */
char *checkpoint_beside(const struct fermata_vm *vm);

/* The second QEMU is the VM's from now on; the first has ended. Done again, it goes on where it was. */
int checkpoint_move_in(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Whether the QEMU of folder @dir has loaded all of its memory. */
bool checkpoint_stands(const char *dir);

/*
 * checkpoint_next(): start a QEMU on the overlays of @s, waiting for its state, in that folder, and call @fn for it, which may take the
 * connection over. @vm is as before, but without a connection. When either fails, the second QEMU is gone again.
 */
typedef int checkpoint_next_fn(struct fermata_vm *vm, struct instance *second, const struct fermata_snap *s, void *ctx, struct err *e);
int checkpoint_next(struct fermata_vm *vm, const struct fermata_snap *s, const char *machine, checkpoint_next_fn *fn, void *ctx,
	struct err *e) MUST_CHECK;

/* ---- standby.c ---- */

/* Whether one for @s waits, ready. */
bool standby_ready(const struct fermata_vm *vm, const struct fermata_snap *s);

/*
 * The pending revert is to what the standby holds: it becomes the second QEMU of checkpoint_change(). Done again after a cut,
 * it goes on where it was.
 */
int standby_take(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Away with it, if there is one: its images are to change. @why: a notice; NULL: none. */
int standby_give_up(struct fermata_vm *vm, const char *why, struct err *e) MUST_CHECK;

/* One that has ended, or never came to stand, is removed. */
int standby_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- launch.c ---- */

/* Start @q, of which @dir is given. @spec: all but what is found out here; @chains: of every disk. On failure @q has no connection. */
int launch(struct fermata_vm *vm, struct instance *q, struct kvm_spec *spec, const struct chains *chains, struct err *e) MUST_CHECK;

/* ---- standby.c ---- */

char *standby_dir(const struct fermata_vm *vm);
int standby_drop(struct fermata_vm *vm, struct err *e);

#endif
