/* What a guest can see of its definition. */
#ifndef KVM_DEF_GUEST_H
#define KVM_DEF_GUEST_H

#include "kvm/def.h"
#include "lib/buf.h"

/*
 * As lines "KEY = VALUE" in a fixed order, with defaults filled in: memory, processors, firmware, devices and the words of
 * [qemu]. What only the host or fermata is told (cache, user, snapshot-dir, [boot], the image's name) is left out, and so
 * are comments, blanks and the order of keys.
 */
void def_guest(const struct def *def, struct buf *b);

#endif
