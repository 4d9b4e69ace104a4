/* INI with '#' comments: sections, "key = value" lines, errors with file and line. */
#ifndef LIB_INI_H
#define LIB_INI_H

#include <stddef.h>

#include "lib/err.h"

/* One line that says something. Strings are borrowed for the call. */
struct ini_line {
	const char *file;
	unsigned line;       /* from 1 */
	const char *section; /* "" before the first section; "disk" of "[disk vda]" */
	const char *name;    /* "vda" of "[disk vda]", "" of "[boot]" */
	const char *key;     /* NULL: the line opens the section */
	const char *value;   /* without the blanks around it and without a comment after " #" */
};

/*
 * Read @text and give every section head and every key to @line_fn, in order. A callback's failure ends the reading;
 * "FILE:LINE: " is put before its message. A line that is none of these, a head without its "]", an empty key and a
 * NUL byte are -EINVAL. Duplicates are the caller's to judge: only it knows which keys may repeat.
 */
int ini_parse(const char *file, const char *text, size_t len,
	int (*line_fn)(void *ctx, const struct ini_line *l, struct err *e), void *ctx, struct err *e) MUST_CHECK;

#endif
