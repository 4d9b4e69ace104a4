/* What was cut off is finished or undone: the top of the engine, above every room. */
#ifndef ENGINE_RECOVER_H
#define ENGINE_RECOVER_H

#include "lib/err.h"

struct fermata_vm;

/* ---- recover.c ---- */

/* Finish or undo what is pending. */
int vm_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- open.c ---- */

/* For kvm_guard_call(), with the VM: when the command has died with the guest stopped, what the next command would do. */
void recover_now(void *vm);

#endif
