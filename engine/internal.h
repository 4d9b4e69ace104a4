/* engine/internal.h */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

#include "engine/recover.h"
#include "lib/err.h"

struct fermata;
struct fermata_vm;

/* ---- definition.c ---- */

int no_such_vm(struct fermata *f, const char *name, struct err *e);

/* Whether there is such a VM: it has a definition, or runs. -ENOENT. */
int definition_there(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Read it into @vm; while the VM runs and its file is broken or gone, what it was started with, and vm->trouble says so. */
int definition_read(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
