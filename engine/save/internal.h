/* engine/save/internal.h */
#ifndef ENGINE_SAVE_INTERNAL_H
#define ENGINE_SAVE_INTERNAL_H

#include <stdbool.h>

#include "engine/record/record.h"
#include "engine/save/save.h"

struct err;
struct fermata_snap;
struct fermata_vm;

/* ---- save.c ---- */

bool save_is_ours(const char *path, const struct fermata_snap *s);
int save_begin(struct fermata_vm *vm, enum pending_op op, const char *path, bool run, struct err *e);
int save_give_up(struct fermata_vm *vm, bool ran, struct err *e);
int end_saved(struct fermata_vm *vm, struct err *e);

/* ---- restore.c ---- */

int restore_finish(struct fermata_vm *vm, bool run, struct err *e);

/* ---- save.c ---- */

int spare_managed(struct fermata_vm *vm, const char *path, bool force, struct err *e);

#endif
