/* INI with '#' comments: sections, "key = value" lines, errors with file and line. */
#ifndef LIB_INI_H
#define LIB_INI_H

#include <stddef.h>

#include "lib/err.h"

/* One line that is neither blank nor a comment. Strings are borrowed for the call. */
struct ini_line {
	const char *file;
	unsigned line;       /* from 1 */
	const char *section; /* "" before the first section; "disk" of "[disk vda]" */
	const char *name;    /* "vda" of "[disk vda]", "" of "[boot]" */
	const char *key;     /* NULL: the line opens the section */
	const char *value;   /* without the blanks around it and without a comment after " #" */
};

/*
 * Parse @text and call @line_fn for every section head and every key, in order. If the callback fails, parsing stops
 * and "FILE:LINE: " is prepended to its message. -EINVAL: any other line, a head without "]", an empty key, a NUL
 * byte. Duplicates are not detected here: only the caller knows which keys may repeat.
 */
int ini_parse(const char *file, const char *text, size_t len,
	int (*line_fn)(void *ctx, const struct ini_line *l, struct err *e), void *ctx, struct err *e) MUST_CHECK;

#endif
