/* What is left of a VM that was undefined. */
#ifndef ENGINE_UNDEFINED_H
#define ENGINE_UNDEFINED_H

#include <stdbool.h>

#include "engine/vm/vm.h"
#include "lib/err.h"

/* Where the definition is set aside; @what: what goes with it, enum fermata_undefine. Caller frees; NULL: no memory. */
char *undefined_path(const struct fermata_vm *vm, unsigned what);

/* Whether there is one. */
bool undefined_is(const struct fermata_vm *vm);

/*
 * Under the VM's lock: an undefine that was carried out, or was cut off after it had set the definition aside, is finished.
 * @found: out, whether there was one. Can be repeated.
 */
int undefined_finish(struct fermata_vm *vm, bool *found, struct err *e) MUST_CHECK;

#endif
