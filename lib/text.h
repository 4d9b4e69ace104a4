/* Text that people type and read: numbers, sizes, time spans, quoting, tables, progress. */
#ifndef LIB_TEXT_H
#define LIB_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/buf.h"
#include "lib/err.h"

/* A whole decimal number in @min..@max; "5x" and "" are errors. @what names it in the message. -EINVAL, -ERANGE. */
int text_num(const char *s, uint64_t min, uint64_t max, const char *what, uint64_t *out, struct err *e) MUST_CHECK;

/*
 * Parse the next number of a line, skipping blanks and @sep before it, and advance *p past it. False, with *p unchanged,
 * if no number of 64 bits follows. For text that the kernel or QEMU prints; scanf() would link libc's floating point.
 */
bool text_take_num(const char **p, char sep, uint64_t *out);

/*
 * Parse the next word of a comma-separated list; ",," is a literal comma, as in QEMU's options. @word: out, as large as
 * the whole list. *p advances to the next word, and to NULL after the last one; false if *p is NULL.
 */
bool text_take_word(const char **p, char *word);

/*
 * A size in bytes with an optional suffix K, M, G, T, P, E (powers of 1024, either case; "KiB" and "k" too) and an
 * optional fraction ("1.5G"). @unit: what a bare number counts in (1 for bytes).
 */
int text_size(const char *s, uint64_t unit, const char *what, uint64_t *out, struct err *e) MUST_CHECK;

/* "1.5 GiB", with three significant digits, as qemu-img prints sizes. @out: 24 bytes. */
#define TEXT_SIZE_MAX 24
void text_fmt_size(uint64_t bytes, char out[TEXT_SIZE_MAX]);

/* @part of @whole in percent, "42.00", into @out; 100.00 if @whole is 0. Returns @out. */
const char *text_percent(uint64_t part, uint64_t whole, char out[TEXT_SIZE_MAX]);

/* A time span with an optional suffix ms, s, m, h, into milliseconds; a bare number counts seconds. */
int text_span(const char *s, const char *what, uint64_t *ms, struct err *e) MUST_CHECK;

/* Levenshtein distance of two words; 32 if either has more than 31 letters. */
unsigned text_distance(const char *a, const char *b);

/* The largest length, @max at most, at which @s can be cut without splitting a UTF-8 character. */
size_t text_cut(const char *s, size_t max);

/* Is @s valid UTF-8, without overlong forms and surrogates? QMP and the record can hold nothing else. */
bool text_is_utf8(const char *s);

/*
 * Append @s so that a terminal can show it: control characters (C0, DEL, C1), bidirectional overrides and bytes that
 * are not UTF-8 become \xNN. Names and paths may come from untrusted images.
 */
void text_put_safe(struct buf *b, const char *s);

/* Append @s as one word of a POSIX shell: in single quotes if it needs them. */
void text_shell_quote(struct buf *b, const char *s);

/*
 * A listing as virsh lays it out: " Id   Name" over dashes, columns as wide as their widest cell.
 * Cells are copied. table_print() reports -ENOMEM for all of them.
 */
struct table {
	unsigned cols;
	size_t n_cells;
	struct buf text; /* every cell, each with its NUL */
};

void table_init(struct table *t, unsigned cols, const char *const head[]);
void table_cell(struct table *t, const char *s);
void table_cellf(struct table *t, const char *fmt, ...) PRINTF(2, 3);
int table_print(struct table *t, FILE *f, struct err *e) MUST_CHECK;
void table_done(struct table *t);

/*
 * Show "LABEL: [ 42 %]" in place on stderr if that is a terminal. Never blocks (say_if_free()). progress_end() ends the
 * line.
 */
void progress(const char *label, uint64_t done, uint64_t total);
void progress_end(void);

/* Show progress even if stderr is no terminal (--verbose). */
void progress_always(void);

#endif
