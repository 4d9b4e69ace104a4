/* Filling a new image front to back. */
#ifndef QCOW2_FILL_H
#define QCOW2_FILL_H

#include "qcow2/qcow2.h"

struct qcow2_fill;

/* Has the active layer no table, nor a data file? Then qcow2_fill_begin() takes it. */
int qcow2_is_empty(struct qcow2 *q, bool *empty, struct err *e) MUST_CHECK;

/*
 * @q: just created, without a data file, opened for changes; borrowed until the end. -EOPNOTSUPP: it has content.
 * @out: ended by qcow2_fill_end() or qcow2_fill_abort()
 */
int qcow2_fill_begin(struct qcow2 *q, struct qcow2_fill **out, struct err *e) MUST_CHECK;

/*
 * The content of guest cluster @index; each one above the one before. Clusters that are left out read as the backing file
 * or as zeros.
 */
int qcow2_fill_put(struct qcow2_fill *f, uint64_t index, const void *cluster, struct err *e) MUST_CHECK;
int qcow2_fill_packed(struct qcow2_fill *f, uint64_t index, const void *p, size_t n, struct err *e) MUST_CHECK; /* compressed */
int qcow2_fill_zero(struct qcow2_fill *f, uint64_t index, struct err *e) MUST_CHECK;

/*
 * Until this is called the image is empty. Where the refcount table is long enough (qcow2_create's "whole"), all of it is
 * written where it is, and the commit point is each sector of the L1 table for itself: a cut leaves parts of the disk and
 * leaks. Else tables move, and the commit point is the header's first sector.
 */
int qcow2_fill_end(struct qcow2_fill *f, struct err *e) MUST_CHECK;

/* Give up: the image stays empty. Returns e->code. */
int qcow2_fill_abort(struct qcow2_fill *f, struct err *e);

#endif
