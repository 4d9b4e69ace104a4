/* Deleting an external snapshot: its frozen images are merged with what stands on them. */
#ifndef ENGINE_REMOVE_EXT_H
#define ENGINE_REMOVE_EXT_H

#include "engine/internal.h"

/* 0 if @s can be deleted now: there is room to move the data, and nothing is in the way. */
int remove_ext_check(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/*
 * Merge what the pending deletion's snapshot froze: into the one overlay on it or that one into it, whichever moves less;
 * into each of several. What a running VM's disk uses is merged by QEMU's jobs, all else natively. Every step can be
 * repeated. Images that nothing needs afterwards go on the record's list. Commit point: the record, for each disk.
 * Fails without a pending operation: QEMU could not; the snapshot is there as before, or the hint says that it is gone.
 */
int remove_ext_redo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
