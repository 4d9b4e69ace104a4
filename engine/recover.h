/* What was cut off is finished or undone: the top of the engine, above every room. */
#ifndef ENGINE_RECOVER_H
#define ENGINE_RECOVER_H

#include "lib/err.h"

struct fermata_vm;

/* Finish or undo what is pending. */
int vm_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
