/* What our own program asks of a VM beyond engine/fermata.h, in the lower rooms' terms. Not for embedders. */
#ifndef ENGINE_VM_PROGRAM_H
#define ENGINE_VM_PROGRAM_H

#include "engine/fermata.h"

struct def;
struct kvm;

const struct def *fermata_vm_def(const struct fermata_vm *vm);

/* The connection to the running QEMU, made on first use. -ESRCH with "is not running" when it is off. */
int fermata_vm_kvm(struct fermata_vm *vm, struct kvm **out, struct err *e) MUST_CHECK;

#endif
