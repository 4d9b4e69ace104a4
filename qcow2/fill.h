/* Filling a new image front to back, in one commit. */
#ifndef QCOW2_FILL_H
#define QCOW2_FILL_H

#include "qcow2/qcow2.h"

struct qcow2_fill;

/*
 * @q: just created, without a data file, opened for changes; borrowed until the end. -EOPNOTSUPP: it has content.
 * @out: ended by qcow2_fill_end() or qcow2_fill_abort()
 */
int qcow2_fill_begin(struct qcow2 *q, struct qcow2_fill **out, struct err *e) MUST_CHECK;

/* The content of guest cluster @index; each one above the one before. Clusters that are left out read as zeros. */
int qcow2_fill_put(struct qcow2_fill *f, uint64_t index, const void *cluster, struct err *e) MUST_CHECK;

/* Commit point: until this returns 0 the image is empty. */
int qcow2_fill_end(struct qcow2_fill *f, struct err *e) MUST_CHECK;

/* Give up: the image stays empty. Returns e->code. */
int qcow2_fill_abort(struct qcow2_fill *f, struct err *e);

#endif
