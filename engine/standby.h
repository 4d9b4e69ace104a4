/*
 * A second QEMU that has loaded an external checkpoint, on overlays of its own, and stands: going back to it is then only the
 * end of the present one. It is on record with its overlays, and runs in a folder of its own.
 */
#ifndef ENGINE_STANDBY_H
#define ENGINE_STANDBY_H

#include "engine/internal.h"

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

#endif
