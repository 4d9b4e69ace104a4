/* engine/checkpoint/internal.h */
#ifndef ENGINE_CHECKPOINT_INTERNAL_H
#define ENGINE_CHECKPOINT_INTERNAL_H

#include <stdbool.h>

#include "engine/checkpoint/checkpoint.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "lib/err.h"

struct buf;
struct instance;
struct kvm;

/* ---- handover.c ---- */

/*
 * Take the pending one. Commit point: the end of the present QEMU, when the second one has gone on. Until then it can be
 * undone at any time, since the second one writes to no disk of the present one that is part of the checkpoint.
 */
int handover_take(struct fermata_vm *vm, const struct take *t, struct fermata_taken *made, struct err *e) MUST_CHECK;

/* ---- files.c ---- */

/* Remove the files that the pending one has made. */
void handover_drop(struct fermata_vm *vm, const struct fermata_snap *s);

/* ---- instant.c ---- */

/*
 * Where @s, whose container has its name, will have the memory; and whether only what differs from the file that the
 * running QEMU has mapped. -EOPNOTSUPP: this QEMU, or this VM, cannot.
 * @handover: in and out; the user hears of it where the memory is in no file of its own, and a hand-over becomes a copy
 */
int instant_name(struct fermata_vm *vm, struct fermata_snap *s, bool *handover, struct err *e) MUST_CHECK;

/*
 * Take the pending one: stop, copy, switch the disks, go on; what was written is flushed and put in its place while the
 * guest runs. Fails as checkpoint_take(). QMP: xen-save-devices-state.
 */
int instant_take(struct fermata_vm *vm, const struct take *t, struct fermata_taken *made, struct err *e) MUST_CHECK;

/* All is copied: flush, describe, put everything in its place. Commit point: the container's name. */
int instant_place(struct fermata_vm *vm, const struct fermata_snap *s, bool ran, struct ram_out *ram, struct mem_out *mem,
	const struct buf *stream, struct err *e) MUST_CHECK;

/* @in into @second, which was started for it, and has mapped that. */
int instant_load(struct fermata_vm *vm, struct instance *second, const struct fermata_snap *s, const struct mem_in *in, struct err *e)
	MUST_CHECK;

/* ---- live.c ---- */

/*
 * Which way is open here; the user hears of each that is not. In this order: a background snapshot, of the
 * instant in which it begins (QEMU tracks writes by userfaultfd, so kernel, rights and kind of memory must be right);
 * pre-copy, of the instant in which it ends; the guest stopped meanwhile. QMP: migrate-set-capabilities.
 */
int live_choose(struct fermata_vm *vm, enum fermata_way *way, struct err *e) MUST_CHECK;

/*
 * Take the pending checkpoint by @made->way, which is not the stopped one, unless in the end it has to be. The disks switch before the memory is complete:
 * after a failure the guest runs on, and create_is_whole() tells whether they have; live_undo() then. A killed fermata is
 * recovered at once, by a child.
 * QMP: stop, transaction, migrate, cont; or migrate, transaction at "pre-switchover", migrate-continue, cont.
 */
int live_take(struct fermata_vm *vm, const struct take *t, struct fermata_taken *made, struct err *e) MUST_CHECK;

/* ---- files.c ---- */

char *live_memory_name(const struct fermata_vm *vm, const struct fermata_snap *s);
char *device_state_name(const struct fermata_vm *vm, const struct fermata_snap *s);

/* ---- handover_recover.c ---- */

int complete_memory_file(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e);
/* QMP migrate-set-capabilities, late-block-activate: @k takes the locks of its images at "cont", not when it has loaded. */
int set_late_block_activate(struct kvm *k, bool on, struct err *e) MUST_CHECK;
void dismiss_old_qemu(struct fermata_vm *vm);

/*
 * The guest has gone on in the second QEMU and its memory could not be kept, for reason @e: what is left is a disk snapshot, or
 * nothing, if there are no disks. Then @e's code.
 */
int give_up_memory(struct fermata_vm *vm, const struct err *e);

#endif
