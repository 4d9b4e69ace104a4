/* Private to kvm/: asking a QEMU what it can do. */
#ifndef KVM_PROBE_H
#define KVM_PROBE_H

#include "kvm/kvm.h"

/* Start c->path with "-machine none" and fill in all but cpu_host. */
int probe_ask(struct kvm_caps *c, struct err *e) MUST_CHECK;

#endif
