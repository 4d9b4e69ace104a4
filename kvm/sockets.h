/* Private to kvm/: the sockets that [qemu] args have QEMU listen on. */
#ifndef KVM_SOCKETS_H
#define KVM_SOCKETS_H

#include <stddef.h>
#include <sys/types.h>

#include "lib/buf.h"
#include "lib/err.h"

/*
 * @word, the value of option @option (the word before it, or ""), as a second QEMU gets it: where it says to listen on a socket
 * with a name, that name is followed by @aside. -ENAMETOOLONG: by then it does not fit an address any more; -EEXIST: there is
 * something there that is no socket, which QEMU would replace. @out: the caller's.
 */
int sockets_word(const char *option, const char *word, const char *aside, char **out, struct err *e) MUST_CHECK;

/* The command line of process @pid, each word with its NUL; empty if it cannot be read. */
void sockets_words(pid_t pid, struct buf *words);

/* Remove what one that had @words has left of the names that it had aside. */
void sockets_remove(const struct buf *words);

#endif
