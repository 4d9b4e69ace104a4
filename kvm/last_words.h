/* Private to kvm/: why a QEMU died. */
#ifndef KVM_LAST_WORDS_H
#define KVM_LAST_WORDS_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/err.h"

/*
 * Called when talking to our child @pid failed with @e. If it has ended, it is reaped, and @e becomes how it ended and
 * what it last wrote to the file @log (any offset), with what to do about the usual reasons: -EREMOTEIO. False if it
 * lives. @prog: its argv[0], with which it begins its lines.
 */
bool last_words(pid_t pid, int log, const char *prog, struct err *e);

#endif
