/* What the operations on bitmaps are made of: the list, its directory and its tables. */
#ifndef QCOW2_BITMAP_H
#define QCOW2_BITMAP_H

#include "qcow2/internal.h"

/* Open the list for changing and look for @name: its index is in *@at, -1 if there is none. @what: for the message. */
int bitmap_begin(struct qcow2 *q, const char *what, const char *name, int *at, struct err *e) MUST_CHECK;

/* The same for one that has to be there: -ENOENT, -EBUSY if it is in use and not @in_use_too. */
int bitmap_find(struct qcow2 *q, const char *what, const char *name, bool in_use_too, int *at, struct err *e) MUST_CHECK;

/* The table has to be as long as the disk wants it, or its bits mean something else: -EUCLEAN. */
int bitmap_fits_disk(struct qcow2 *q, const struct qcow2_bitmap *b, struct err *e) MUST_CHECK;

/* Table entries that a disk of @size bytes takes. */
uint64_t bitmap_entries(const struct qcow2 *q, const struct qcow2_bitmap *b, uint64_t size);

/* Give back entries [@from, table_size) of @t, and the table itself. */
int bitmap_free_table(struct qcow2 *q, const struct qcow2_bitmap *b, const uint64_t *t, uint32_t from, struct err *e) MUST_CHECK;

/* A copy of the list, to be changed: strings stay the handle's. @more: room for so many more. */
int bitmap_copy_list(struct qcow2 *q, struct qcow2_bitmap **out, unsigned more, struct err *e) MUST_CHECK;

/* Write a directory of @n bitmaps to a new place, give the old one's back, and name it in @hd. @x: the extension. */
int bitmap_put_dir(struct qcow2 *q, const struct qcow2_bitmap *list, unsigned n, struct head *hd, struct qext *ext,
	uint8_t x[24], struct err *e) MUST_CHECK;

/*
 * Commit a new list. What leaves the list (@gone) is freed; the array becomes the handle's on success. On failure the
 * transaction is aborted.
 */
int bitmap_publish(struct qcow2 *q, struct qcow2_bitmap **list, unsigned n, struct qcow2_bitmap *gone, struct err *e) MUST_CHECK;

#endif
