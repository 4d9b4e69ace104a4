/* Private to kvm/: the words of a definition's [qemu] args. */
#ifndef KVM_DEF_ARGS_H
#define KVM_DEF_ARGS_H

#include <stddef.h>

#include "lib/err.h"

/* -EINVAL if one of the @n words contradicts what fermata itself says to QEMU, with the key or command to use instead. */
int def_check_args(char *const *words, size_t n, struct err *e) MUST_CHECK;

#endif
