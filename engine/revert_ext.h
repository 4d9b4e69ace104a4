/* Going back to an external snapshot. */
#ifndef ENGINE_REVERT_EXT_H
#define ENGINE_REVERT_EXT_H

#include "engine/internal.h"

/*
 * New overlays on what @s froze; the VM is off before the disks switch and, unless asked otherwise, after. Overlays that
 * only the present used are removed. Commit point: the record.
 */
int revert_external(struct fermata_vm *vm, const struct fermata_snap *s, const struct fermata_revert *r, struct err *e) MUST_CHECK;

/* Whether all that is needed on the disks' side to go back is there. */
int revert_ext_check(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Give @s, a copy, a name for every overlay; make them. */
int revert_ext_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;
int revert_ext_make(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* In memory alone: the disks use the pending revert's overlays, it is current, what the present used may go. */
int revert_ext_switch(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* The pending revert was cut off. With the guest still running: undo. With the VM off: redo. */
int revert_ext_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;
int revert_ext_redo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
