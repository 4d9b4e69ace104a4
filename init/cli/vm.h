/* What the commands share: opening the VM that a command names. */
#ifndef INIT_CLI_VM_H
#define INIT_CLI_VM_H

#include "engine/vm/program.h"

/*
 * Open the host of --root and the VM @name on it; notices go to stderr, progress to the terminal.
 * @out: vm_put(). @what: the command, for others who meet the lock.
 */
int vm_get(const char *name, enum fermata_access access, const char *what, struct fermata_vm **out, struct err *e) MUST_CHECK;

/* The same for writing, so that ^C and SIGTERM call the work off; a second one is not asked about. */
int vm_get_long(const char *name, const char *what, struct fermata_vm **out, struct err *e) MUST_CHECK;

/* That alone: from here on, with a VM open. */
void call_off_on_signal(void);
void vm_put(struct fermata_vm **vm);
#define auto_vm __attribute__((cleanup(vm_put)))

/* The host alone. */
int host_get(struct fermata **out, struct err *e) MUST_CHECK;
void host_put(struct fermata **host);
#define auto_host __attribute__((cleanup(host_put)))

/* As vm_do(), for what is told to the running QEMU alone: nothing pending or damaged is in its way. */
int vm_steer(const char *name, const char *what, int (*fn)(struct fermata_vm *vm, struct err *e), struct err *e) MUST_CHECK;

/* Open for writing, do @fn, close: most commands that change a VM. */
int vm_do(const char *name, const char *what, int (*fn)(struct fermata_vm *vm, struct err *e), struct err *e) MUST_CHECK;

/* On stderr, what of a command that was cut off is on record; vm_get() for reading does it. */
void vm_tell_pending(const struct fermata_vm *vm);

#endif
