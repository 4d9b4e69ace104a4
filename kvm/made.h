/* Private to kvm/: what a guest can see of a command line. */
#ifndef KVM_MADE_H
#define KVM_MADE_H

#include "kvm/kvm.h"

/* As lines "KEY = VALUE", devices in their order. */
void made_words(struct argv *a, struct buf *out);

/* Note it in @run_dir, for as long as that QEMU runs. */
int made_note(const char *run_dir, struct argv *a, struct err *e) MUST_CHECK;

#endif
