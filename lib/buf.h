/* A growing byte buffer that is also a string. */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

/*
 * Appending never fails at the call: when memory runs out the buffer remembers it, ignores what follows, and
 * buf_check() says so once. @p is NUL-terminated whenever it is not NULL. All zero is a valid empty buffer.
 */
struct buf {
	char *p;
	size_t n;   /* bytes used, without the NUL */
	size_t cap; /* bytes allocated */
	bool oom;
};

#define auto_buf __attribute__((cleanup(buf_done)))

void buf_add(struct buf *b, const void *data, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);

/* Forget the content, keep the memory. */
void buf_clear(struct buf *b);

/* Make room for @n more bytes and return where they go, or NULL when memory ran out; buf_grew() says how many came. */
char *buf_room(struct buf *b, size_t n);
void buf_grew(struct buf *b, size_t n);

/* The content as a string; "" for an empty buffer. Borrowed until the next append. */
const char *buf_str(const struct buf *b);

/* 0, or -ENOMEM if any append was lost; @what completes "cannot ...". */
int buf_check(const struct buf *b, const char *what, struct err *e) MUST_CHECK;

/* The string, which the caller frees, and empty @b; an empty buffer gives an allocated "". NULL: memory ran out, @b is as it was. */
char *buf_take(struct buf *b);

void buf_done(struct buf *b);

/* A formatted string of its own; NULL when memory ran out. Caller frees. */
char *str_fmt(const char *fmt, ...) PRINTF(1, 2);

bool str_eq(const char *a, const char *b); /* either may be NULL; NULL equals only NULL */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);

#endif
