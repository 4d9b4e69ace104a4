/* How new metadata gets to the device: adjacent writes joined, flushes, and the one sector that commits. */
#include "qcow2/internal.h"

#include <string.h>

#define WBUF_SIZE (256 * KIB)

int txn_write_done(struct qcow2 *q, struct err *e)
{
	struct wbuf *w = &q->wbuf;
	size_t n = w->n;

	w->n = 0;
	return n ? dev_write(q->dev, w->off, w->p, n, e) : 0;
}

void txn_touch(struct qcow2 *q)
{
	if (!q->old_size)
		q->old_size = q->dev->size;
	q->unflushed = true;
}

int txn_barrier(struct qcow2 *q, struct err *e)
{
	if (!q->unflushed)
		return 0;
	if (dev_flush(q->dev, e) < 0)
		return e->code;
	q->unflushed = false;
	return 0;
}

int txn_put_sector(struct qcow2 *q, const uint8_t *p, size_t n, struct err *e)
{
	q->lost = true; /* until we know: the sector may be there, whatever an error says */
	if (dev_write(q->dev, 0, p, n < SECTOR ? n : SECTOR, e) < 0 || dev_flush(q->dev, e) < 0)
		return err_also(e, "the change may have been made or not");
	q->lost = false;
	return 0;
}

int txn_write(struct qcow2 *q, uint64_t off, const void *buf, size_t n, struct err *e)
{
	struct wbuf *w = &q->wbuf;

	txn_touch(q);
	if (!w->p)
		w->p = malloc(WBUF_SIZE);
	if (!w->p)
		return q_nomem(e);
	if ((w->n && off != w->off + w->n) || w->n + n > WBUF_SIZE)
		if (txn_write_done(q, e) < 0)
			return e->code;
	if (n > WBUF_SIZE)
		return dev_write(q->dev, off, buf, n, e);
	if (!w->n)
		w->off = off;
	memcpy(w->p + w->n, buf, n);
	w->n += n;
	return 0;
}

int txn_write_table(struct qcow2 *q, uint64_t off, const uint64_t *t, size_t n, struct err *e)
{
	uint8_t buf[512];
	uint64_t end = q_clusters(q, n * 8) << q->h.cluster_bits;

	for (uint64_t at = 0, i = 0; at < end; at += sizeof buf) {
		memset(buf, 0, sizeof buf);
		for (size_t k = 0; k < sizeof buf && i < n; k += 8)
			put_be64(buf + k, t[i++]);
		if (txn_write(q, off + at, buf, sizeof buf, e) < 0)
			return e->code;
	}
	return 0;
}
