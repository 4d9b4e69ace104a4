/* Create, revert, delete a snapshot, whatever its kind. */
#ifndef ENGINE_SNAPSHOT_SNAPSHOT_H
#define ENGINE_SNAPSHOT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

struct fermata_snap;
struct fermata_vm;
struct native;

/* ---- create_end.c ---- */

/*
 * The pending snapshot is on every disk: note what the images say of it, make it current, drop what it replaces.
 * Commit point: the record.
 * @loose: out; the snapshot, if it has no metadata and so is not on record: the caller's. Else NULL.
 */
int create_finish(struct fermata_vm *vm, struct fermata_snap **loose, struct err *e) MUST_CHECK;

/* Take back what the pending creation did. */
int create_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Whether the pending snapshot is whole on every disk. */
int create_is_whole(struct fermata_vm *vm, bool *whole, struct err *e) MUST_CHECK;

/* ---- revert_internal.c ---- */

/* The pending revert is done: note it, and let the guest run if that was asked. Commit point: the record. */
int revert_finish(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- revert.c ---- */

/* Keep the present as a snapshot called @name, of the same kind as @s. */
int revert_keep(struct fermata_vm *vm, const struct fermata_snap *s, const char *name, struct err *e) MUST_CHECK;

/* ---- revert_internal.c ---- */

/* VM off: take the disks back to where they were before the pending revert. */
int revert_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- create_end.c ---- */

/*
 * The pending checkpoint has its disks, not its memory, and @s says that it is a disk snapshot now: put it on record as
 * such, and delete it, so that nothing is left. What cannot be deleted stays on record.
 */
int live_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- delete_external.c ---- */

/*
 * Merge what the pending deletion's snapshot froze: into the one overlay on it or that one into it, whichever moves less;
 * into each of several. What a running VM's disk uses is merged by QEMU's jobs, all else natively. Every step can be
 * repeated. Images that nothing needs afterwards go on the record's list. Commit point: the record, for each disk.
 * Fails without a pending operation: QEMU could not; the snapshot is there as before, or the hint says that it is gone.
 */
int remove_ext_redo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- revert_external.c ---- */

int revert_ext_redo(struct fermata_vm *vm, struct native *n, struct err *e) MUST_CHECK;

/* ---- revert_internal.c ---- */

#endif
