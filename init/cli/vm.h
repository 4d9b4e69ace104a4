/* What the commands share: opening the VM that a command names. */
#ifndef INIT_CLI_VM_H
#define INIT_CLI_VM_H

#include "engine/vm/program.h"

/*
 * Open the host of --root and the VM @name on it; notices go to stderr, progress to the terminal.
 * @out: vm_put(). @what: the command, for others who meet the lock.
 */
int vm_get(const char *name, enum fermata_access access, const char *what, struct fermata_vm **out, struct err *e) MUST_CHECK;

/* As vm_get() for writing; the first SIGINT, SIGTERM or SIGHUP cancels the work, a second one kills. */
int vm_get_long(const char *name, const char *what, struct fermata_vm **out, struct err *e) MUST_CHECK;

/* Only install those signal handlers, with a VM open. */
void call_off_on_signal(void);
void vm_put(struct fermata_vm **vm);
#define auto_vm __attribute__((cleanup(vm_put)))

/* The host alone. */
int host_get(struct fermata **out, struct err *e) MUST_CHECK;
void host_put(struct fermata **host);
#define auto_host __attribute__((cleanup(host_put)))

/* As vm_do(), for commands to the running QEMU only: works although an operation is pending or the record damaged. */
int vm_steer(const char *name, const char *what, int (*fn)(struct fermata_vm *vm, struct err *e), struct err *e) MUST_CHECK;

/* Open for writing, do @fn, close: most commands that change a VM. */
int vm_do(const char *name, const char *what, int (*fn)(struct fermata_vm *vm, struct err *e), struct err *e) MUST_CHECK;

/* Print on stderr which interrupted operation is pending. vm_get() for reading calls it. */
void vm_tell_pending(const struct fermata_vm *vm);

#endif
