/* Private to kvm/: questions to the host's kernel. */
#ifndef KVM_HOST_H
#define KVM_HOST_H

#include "kvm/kvm.h"

/* /dev/kvm, opened and of the version we know. The errors of kvm_usable(). @fd: out, the caller's. */
int kvm_open_device(int *fd, struct err *e) MUST_CHECK;

/*
 * What "-cpu" takes for the host's own CPU. Some nested KVMs offer IA32_ARCH_CAPABILITIES and then refuse the value
 * they offered, at which QEMU aborts: there it is "host,-arch-capabilities".
 */
const char *host_cpu(void);

#endif
