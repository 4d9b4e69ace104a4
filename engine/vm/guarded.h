/* Guarded commands, as the record and the run folder know them. */
#ifndef ENGINE_VM_GUARDED_H
#define ENGINE_VM_GUARDED_H

#include <stdbool.h>

#include "engine/vm/vm.h"
#include "lib/err.h"

/* The lock that a guard holds. Caller frees; NULL: no memory. */
char *guard_lock(const struct fermata_vm *vm);
bool guard_is_held(const struct fermata_vm *vm);

/* Whether a boot goes back to the guarded command's checkpoint before all else: the host went down with who guarded. */
bool guard_is_first(const struct fermata_vm *vm);

/* Whether a guard is on record, and nobody guards. */
bool guard_is_cut(const struct fermata_vm *vm);

/* Note on record if it is the user's to decide now: the guest went on without its guard, or it is too long ago. */
int guard_look(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Tell the user what is to be decided, and how. */
void guard_tell(struct fermata_vm *vm);

#endif
