/* save, restore, managedsave, dump. */
#ifndef ENGINE_SAVE_SAVE_H
#define ENGINE_SAVE_SAVE_H

#include "lib/err.h"

struct fermata_vm;

/* ---- recover.c ---- */

/* The pending save or restore was cut off: finish it if its file is whole, else undo. */
int save_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
