/* engine/vm/internal.h */
#ifndef ENGINE_VM_INTERNAL_H
#define ENGINE_VM_INTERNAL_H

#include "engine/vm/vm.h"
#include "lib/err.h"

/* ---- compat.c ---- */

int live_machine(struct fermata_vm *vm, char **machine, struct err *e) MUST_CHECK;

#endif
