/*
 * Guest data into an image that no guest uses: qcow2, or raw.
 *
 * Everything since the last writer_commit() is one shadow commit (qcow2.h): new clusters and tables beside those that
 * stand, then the header's first sector. Only clusters that the active layer has for itself are overwritten where they
 * are, as a guest would. So a cut leaves, in every sector, what was there or what was written; metadata as after one of
 * the commits, without leaks; and what is shared with snapshots as it was.
 */
#ifndef QCOW2_IMAGE_WRITER_H
#define QCOW2_IMAGE_WRITER_H

#include "qcow2/image/image.h"

struct writer;

/*
 * @to:    open for changes, with its backing files if it has any: what is written in part is completed from there
 * @below: how much of the disk a backing file will cover in the end, bytes; only past that, and past the one that is
 *         there now, a cluster may be left out because it is to be zeros
 *
 * Borrows @to, which until the next commit reads as it was. -EOPNOTSUPP: an external data file, encryption.
 */
int writer_open(struct image *to, uint64_t below, struct writer **out, struct err *e) MUST_CHECK;

/* Within the disk. Best in order and in whole clusters. After a failure only writer_close() is left. */
int writer_data(struct writer *w, uint64_t goff, const void *buf, size_t n, struct err *e) MUST_CHECK;
int writer_zero(struct writer *w, uint64_t goff, uint64_t n, struct err *e) MUST_CHECK;

/* The cluster at @goff, compressed to @n bytes, fewer than it has. Images of qcow2 only. */
int writer_packed(struct writer *w, uint64_t goff, const void *p, size_t n, struct err *e) MUST_CHECK;

/* Bytes that a cut would now take with it. */
uint64_t writer_pending(const struct writer *w);

/* Make what was written durable. Commit point: the header's first sector (raw: every sector for itself). */
int writer_commit(struct writer *w, struct err *e) MUST_CHECK;

/* How much the file may grow if [@goff, @goff + @n) is written, in order with other questions: bytes, without tables. */
int writer_cost(struct writer *w, uint64_t goff, uint64_t n, uint64_t *bytes, struct err *e) MUST_CHECK;

/* What was not committed is lost, but for what went over the layer's own clusters. NULL is fine. */
void writer_close(struct writer *w);

static inline void writer_closep(struct writer **w)
{
	writer_close(*w);
}
#define auto_writer __attribute__((cleanup(writer_closep)))

#endif
