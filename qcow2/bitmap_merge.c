/* Adding one bitmap's bits to another's, whatever their granularities. "Bitmap data". */
#include "qcow2/bitmap.h"

#include <inttypes.h>
#include <string.h>

/* The bitmap that grows: one cluster of its data at a time, going upward. */
struct bitmap_sink {
	struct qcow2 *q;
	const struct qcow2_bitmap *b;
	uint64_t *t; /* its table, changed as clusters are written */
	uint64_t at; /* entry whose data is in buf */
	bool have;
	uint8_t *buf;
};

static int sink_flush(struct bitmap_sink *s, struct err *e)
{
	uint64_t *v = &s->t[s->at], off = *v & OFFSET_MASK;

	if (!s->have)
		return 0;
	s->have = false;
	if ((off && refs_free(s->q, off, s->q->cluster, e) < 0) || refs_alloc(s->q, 1, v, e) < 0)
		return e->code;
	return txn_write(s->q, *v, s->buf, s->q->cluster, e);
}

static int sink_load(struct bitmap_sink *s, uint64_t i, struct err *e)
{
	uint64_t off = s->t[i] & OFFSET_MASK;

	if (s->have && s->at == i)
		return 0;
	if (sink_flush(s, e) < 0)
		return e->code;
	memset(s->buf, 0, s->q->cluster);
	if (off && q_read(s->q, off, s->buf, s->q->cluster, e) < 0)
		return e->code;
	s->at = i;
	s->have = true;
	return 0;
}

int bitmap_set(struct bitmap_sink *s, uint64_t from, uint64_t to, struct err *e)
{
	uint64_t bit = from >> s->b->gran_bits, last = (to - 1) >> s->b->gran_bits, per = s->q->cluster * 8;

	while (bit <= last) {
		uint64_t i = bit / per, end = (i + 1) * per - 1 < last ? (i + 1) * per - 1 : last;

		/* All ones already, without data. */
		if (!(s->t[i] & OFFSET_MASK) && (s->t[i] & 1)) {
			bit = end + 1;
			continue;
		}
		if (sink_load(s, i, e) < 0)
			return e->code;
		for (; bit <= end; bit++)
			s->buf[bit % per / 8] |= (uint8_t)(1u << bit % 8);
	}
	return 0;
}

/* Runs of set bits in @n bits from bit number @first on. */
static int add_bits(struct bitmap_sink *s, const uint8_t *p, uint64_t first, uint64_t n, unsigned gran, struct err *e)
{
	uint64_t size = s->q->h.size;

	for (uint64_t i = 0; i < n;) {
		uint64_t from, to;

		if (!p[i / 8] && i % 8 == 0) {
			i += 8;
			continue;
		}
		if (!(p[i / 8] >> i % 8 & 1)) {
			i++;
			continue;
		}
		from = first + i;
		while (i < n && p[i / 8] >> i % 8 & 1)
			i++;
		to = (first + i) << gran;
		if (bitmap_set(s, from << gran, to < size ? to : size, e) < 0)
			return e->code;
	}
	return 0;
}

/* Whose bits are added. */
struct source {
	struct qcow2 *q;
	const struct qcow2_bitmap *b;
};

static int add_all(void *ctx, struct bitmap_sink *s, struct err *e)
{
	struct qcow2 *src = ((struct source *)ctx)->q;
	const struct qcow2_bitmap *from = ((struct source *)ctx)->b;
	uint64_t per = src->cluster * 8, size = s->q->h.size;
	uint64_t bits = (size >> from->gran_bits) + ((size & (from->granularity - 1)) != 0);
	auto_free uint8_t *buf = malloc(src->cluster);
	auto_free uint64_t *t = NULL;

	if (!buf)
		return q_nomem(e);
	if (bitmap_load_table(src, from, &t, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < from->table_size && i * per < bits; i++) {
		uint64_t off = t[i] & OFFSET_MASK, n = bits - i * per < per ? bits - i * per : per;

		if (!off && !(t[i] & 1))
			continue;
		if (!off)
			memset(buf, 0xff, src->cluster);
		else if (q_read(src, off, buf, src->cluster, e) < 0)
			return e->code;
		if (add_bits(s, buf, i * per, n, from->gran_bits, e) < 0)
			return e->code;
	}
	return 0;
}

/* Part of a transaction: set in @to what @ranges says, and give @to a new table. */
static int bitmap_mark(struct qcow2 *q, struct qcow2_bitmap *to, bitmap_ranges_fn *ranges, void *ctx, struct err *e)
{
	auto_free uint8_t *buf = malloc(q->cluster);
	auto_free uint64_t *t = NULL;
	struct bitmap_sink s = { .q = q, .b = to, .buf = buf };

	if (!buf)
		return q_nomem(e);
	if (bitmap_load_table(q, to, &t, e) < 0)
		return e->code;
	s.t = t;
	if (ranges(ctx, &s, e) < 0 || sink_flush(&s, e) < 0 || refs_free(q, to->table_off, to->table_size * 8ull, e) < 0)
		return e->code;
	return bitmap_put_table(q, to, t, to->table_size, e);
}

/* Part of a transaction: add @from's bits, of @src, to @to's, and give @to a new table. Both fit their disks. */
static int bitmap_merge(struct qcow2 *q, struct qcow2_bitmap *to, struct qcow2 *src, const struct qcow2_bitmap *from, struct err *e)
{
	struct source ctx = { src, from };

	return bitmap_mark(q, to, add_all, &ctx, e);
}

/* @src's bitmap @name, fit to be read. */
static int source(struct qcow2 *q, struct qcow2 *src, const char *name, const struct qcow2_bitmap **out, struct err *e)
{
	const struct qcow2_bitmap *list = NULL;
	unsigned n = 0;

	if (src->h.size != q->h.size)
		return err_set(e, -EINVAL, "the disks have %" PRIu64 " and %" PRIu64 " bytes", src->h.size,
			q->h.size);
	if (qcow2_bitmaps(src, &list, &n, e) < 0)
		return e->code;
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(list[i].name, name)) {
			*out = &list[i];
			if (list[i].flags & QCOW2_BITMAP_IN_USE)
				return err_set(e, -EBUSY, "'%s' is in use, or was not saved", name);
			return bitmap_fits_disk(src, &list[i], e);
		}
	return err_set(e, -ENOENT, "there is no bitmap '%s'", name);
}

int qcow2_bitmap_merge(struct qcow2 *q, const char *name, struct qcow2 *src, const char *from, struct err *e)
{
	auto_free struct qcow2_bitmap *list = NULL;
	const struct qcow2_bitmap *b = NULL;
	int at;

	if (bitmap_find(q, "merge bitmaps", name, false, &at, e) < 0)
		return e->code;
	if (source(q, src, from, &b, e) < 0 || bitmap_fits_disk(q, &q->bitmaps.list[at], e) < 0)
		return err_at(e, "cannot merge bitmaps");
	if (bitmap_copy_list(q, &list, 0, e) < 0 || bitmap_merge(q, &list[at], src, b, e) < 0)
		return txn_abort(q, e);
	return bitmap_publish(q, &list, q->bitmaps.n, NULL, e);
}

int bitmaps_mark(struct qcow2 *q, bitmap_ranges_fn *ranges, void *ctx, struct err *e)
{
	auto_free struct qcow2_bitmap *list = NULL;
	const struct qcow2_bitmap *had;
	bool any = false;
	unsigned n = 0;

	if (q_may_write(q, "change bitmaps", e) < 0 || qcow2_bitmaps(q, &had, &n, e) < 0 || bitmap_copy_list(q, &list, 0, e) < 0)
		return e->code;
	for (unsigned i = 0; i < n; i++) {
		/* One that was not saved vouches for nothing. */
		if (list[i].flags & QCOW2_BITMAP_IN_USE || !(list[i].flags & QCOW2_BITMAP_AUTO))
			continue;
		any = true;
		if (bitmap_fits_disk(q, &list[i], e) < 0 || bitmap_mark(q, &list[i], ranges, ctx, e) < 0)
			return txn_abort(q, e);
	}
	return any ? bitmap_publish(q, &list, n, NULL, e) : 0;
}
