/* Checkpoints whose guest hardly stands: its memory streams out while it runs on. */
#ifndef ENGINE_LIVE_H
#define ENGINE_LIVE_H

#include "engine/memory.h"

/*
 * Which way is open here, into vm->way; the user hears of each that is not. In this order: a background snapshot, of the
 * instant in which it begins (QEMU tracks writes by userfaultfd, so kernel, rights and kind of memory must be right);
 * pre-copy, of the instant in which it ends; the guest stopped meanwhile. QMP: migrate-set-capabilities.
 */
int live_choose(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/*
 * Take the pending checkpoint by vm->way, which is not the stopped one. The disks switch before the memory is complete:
 * after a failure the guest runs on, and create_is_whole() tells whether they have; live_undo() then. A killed fermata is
 * recovered at once, by a child.
 * QMP: stop, transaction, migrate, cont; or migrate, transaction at "pre-switchover", migrate-continue, cont.
 */
int live_take(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/*
 * The pending checkpoint has its disks, not its memory, and @s says that it is a disk snapshot now: put it on record as
 * such, and delete it, so that nothing is left. What cannot be deleted stays on record.
 */
int live_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/*
 * After a kill: memory_go_on(), but a background snapshot is not cancelled: its guest goes on as soon as that is right, and
 * QEMU writes all that it has to. No capability is left on.
 */
int live_end(struct fermata_vm *vm, bool ran, struct err *e) MUST_CHECK;

#endif
