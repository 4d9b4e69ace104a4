/* Whether what was saved of a guest belongs to the machine that it is to go on in. */
#ifndef ENGINE_COMPAT_H
#define ENGINE_COMPAT_H

#include "engine/vm/vm.h"
#include "lib/err.h"

/*
 * Two descriptions of a machine, each as lines "KEY = VALUE" in their order: 0 if they are the same, else -ESTALE, and
 * which line has changed, or is new, or gone. @then, @now: for the message, as in "when it was saved" and "now".
 */
int compat_lines(const char *was, const char *is, const char *then, const char *now, struct err *e) MUST_CHECK;

/* Whether the guest would see the same machine by the definition's text @was as it does by the present one. -ESTALE. */
int compat_definition(const struct fermata_vm *vm, const char *was, struct err *e) MUST_CHECK;

#endif
