/* What the files of engine/save/ share: private to the room. */
#ifndef ENGINE_SAVE_INTERNAL_H
#define ENGINE_SAVE_INTERNAL_H

#include <stdbool.h>

#include "engine/record/record.h"
#include "engine/save/save.h"
#include "lib/err.h"

struct fermata_snap;
struct fermata_vm;

/* ---- save.c ---- */

/* Whether @path is the file that the pending operation made. */
bool save_is_ours(const char *path, const struct fermata_snap *s);

/* @p, a save to @path or a restore from it, goes on record as pending, with what is known about that file. */
int save_begin(struct fermata_vm *vm, struct pending p, const char *path, struct err *e) MUST_CHECK;

/* The save failed: the guest is brought back into the state it was in, and nothing is pending. Returns e->code. */
int save_give_up(struct fermata_vm *vm, bool ran, struct err *e) MUST_CHECK;

/* The memory is whole and has its name: the VM is ended, and its saved memory recorded as what goes with the disks. */
int end_saved(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* -EBUSY: a managed save, which is not @path, would be of no use any more once @path is restored. @force: it is removed. */
int spare_managed(struct fermata_vm *vm, const char *path, bool force, struct err *e) MUST_CHECK;

/* ---- restore.c ---- */

/* The memory is loaded and the guest paused: a managed save is used up before the guest goes on, if it is to @run. */
int restore_finish(struct fermata_vm *vm, bool run, struct err *e) MUST_CHECK;

#endif
