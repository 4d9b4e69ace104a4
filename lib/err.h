/* Errors: the caller owns the storage, the innermost layer says why, main() prints once. */
#ifndef LIB_ERR_H
#define LIB_ERR_H

#include <errno.h>

#include "lib/err_type.h"

#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Start a failure with our own words. @code: negative errno. Returns @code. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);

/* The same for a failed system call: ": " and strerror(@errnum) follow. Returns -@errnum. */
int err_sys(struct err *e, int errnum, const char *fmt, ...) PRINTF(3, 4);

/* Say where: prepend "@fmt: " to the message. Returns e->code. */
int err_at(struct err *e, const char *fmt, ...) PRINTF(2, 3);

/* Say what else went wrong, e.g. while undoing: append "; @fmt". Returns e->code. */
int err_also(struct err *e, const char *fmt, ...) PRINTF(2, 3);

/* Say what to do about it. The first hint wins: the innermost layer knows best. Returns e->code. */
int err_hint(struct err *e, const char *fmt, ...) PRINTF(2, 3);

/* Out of memory while doing @what. Returns -ENOMEM. */
int err_nomem(struct err *e, const char *what);

#endif
