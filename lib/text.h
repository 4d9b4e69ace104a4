/* What people type and read: sizes, numbers, tables, progress, near misses. */
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
 * Take the next number out of a line of words: blanks and @sep before it are passed over, *p ends up behind it. False,
 * and *p stays, if what follows is no number of 64 bits. For what the kernel and QEMU print; libc's scanf would bring
 * its floating point along.
 */
bool text_take_num(const char **p, char sep, uint64_t *out);

/*
 * Take the next word out of a list with commas, in which ",," is a comma, as in QEMU's options. @word: out, as much room as all of
 * the list takes. *p ends up at the word behind it; NULL behind the last, and then there is none: false.
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

/* @part of @whole in hundredths, with two digits after the point, in @out; all of nothing is 100.00. Returns @out. */
const char *text_percent(uint64_t part, uint64_t whole, char out[TEXT_SIZE_MAX]);

/* A time span with an optional suffix ms, s, m, h, into milliseconds; a bare number counts seconds. */
int text_span(const char *s, const char *what, uint64_t *ms, struct err *e) MUST_CHECK;

/* How many single-letter edits lie between two words (Levenshtein); words over 31 letters count as far apart. */
unsigned text_distance(const char *a, const char *b);

/* How many of @s's first @max bytes to keep, so that no character of several bytes (UTF-8) is cut. */
size_t text_cut(const char *s, size_t max);

/* Whether @s is UTF-8: no overlong forms, no surrogates. QMP, and so the record, can say nothing else. */
bool text_is_utf8(const char *s);

/*
 * @s for a terminal: control characters (C0, DEL, C1), what turns the direction of writing, and bytes that are not UTF-8
 * become \xNN. Names come from images, paths from strangers.
 */
void text_put_safe(struct buf *b, const char *s);

/* @s for a POSIX shell: bare when harmless, else in single quotes. */
void text_shell_quote(struct buf *b, const char *s);

/*
 * A listing as virsh lays it out: " Id   Name" over dashes, columns as wide as their widest cell.
 * Cells are copied. Memory trouble shows when printed.
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
 * "LABEL: [ 42 %]" in place on stderr if that is a terminal; silent elsewhere. Waits for nobody. progress_end() ends
 * the line.
 */
void progress(const char *label, uint64_t done, uint64_t total);
void progress_end(void);

/* From now on elsewhere too. */
void progress_always(void);

#endif
