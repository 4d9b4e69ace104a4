/* Persistent dirty bitmaps: each operation as one shadow commit. "Bitmaps". */
#include "qcow2/bitmap.h"

#include <inttypes.h>
#include <string.h>

/* "Bitmap table": an entry without a cluster reads as zeros, or with this as ones */
#define BT_ONES 1ull

/* Replace @b's table by one where every entry is @fill. */
static int fill_table(struct qcow2 *q, struct qcow2_bitmap *b, uint64_t n, uint64_t fill, struct err *e)
{
	auto_free uint64_t *old = NULL, *new = calloc(n ? n : 1, 8);

	if (!new)
		return q_nomem(e);
	for (uint64_t i = 0; i < n; i++)
		new[i] = fill;
	if (bitmap_load_table(q, b, &old, e) < 0 || bitmap_free_table(q, b, old, 0, e) < 0)
		return e->code;
	return bitmap_put_table(q, b, new, n, e);
}

static int add_allowed(struct qcow2 *q, const struct qcow2_bitmap *b, int at, struct err *e)
{
	if (q->h.version < 3)
		return err_set(e, -EOPNOTSUPP, "version 2 has none");
	if (at >= 0)
		return err_set(e, -EEXIST, "'%s' is there already", b->name);
	if (!b->name_len || strlen(b->name) > MAX_BITMAP_NAME)
		return err_set(e, -EINVAL, "its name must have 1 to %d bytes", MAX_BITMAP_NAME);
	if (b->granularity & (b->granularity - 1) || b->gran_bits < MIN_BITMAP_GRAN || b->gran_bits > MAX_BITMAP_GRAN)
		return err_set(e, -EINVAL, "the granularity must be a power of two between 512 and 2G");
	if (!q->h.size)
		return err_set(e, -EINVAL, "the disk is empty");
	if (q->bitmaps.n == MAX_BITMAPS)
		return err_set(e, -EFBIG, "the image has %d, the limit", MAX_BITMAPS);
	return 0;
}

int qcow2_bitmap_add(struct qcow2 *q, const char *name, uint64_t granularity, bool disabled, struct err *e)
{
	struct qcow2_bitmap b = { .granularity = granularity, .type = 1, .flags = disabled ? 0 : QCOW2_BITMAP_AUTO };
	auto_free struct qcow2_bitmap *list = NULL;
	auto_free uint64_t *t = NULL;
	uint64_t n;
	int at;

	if (bitmap_begin(q, "add a bitmap", name, &at, e) < 0)
		return e->code;
	if (!granularity)
		b.granularity = q->cluster < 4096 ? 4096 : q->cluster > 65536 ? 65536 : q->cluster;
	b.gran_bits = (unsigned)__builtin_ctzll(b.granularity);
	b.name = (char *)name;
	b.name_len = strlen(name) > MAX_BITMAP_NAME ? UINT16_MAX : (uint16_t)strlen(name);
	if (add_allowed(q, &b, at, e) < 0)
		return err_at(e, "cannot add a bitmap");
	n = bitmap_entries(q, &b, q->h.size);
	b.name = strdup(name);
	t = n * 8 > MAX_BITMAP_TABLE ? malloc(1) : calloc(n, 8);
	if (!b.name || !t) {
		free(b.name);
		return q_nomem(e);
	}
	if (bitmap_copy_list(q, &list, 1, e) < 0 || bitmap_put_table(q, &b, t, n, e) < 0) {
		free(b.name);
		return txn_abort(q, e);
	}
	list[q->bitmaps.n] = b;
	if (bitmap_publish(q, &list, q->bitmaps.n + 1, NULL, e) < 0) {
		free(b.name);
		return e->code;
	}
	return 0;
}

int qcow2_bitmap_remove(struct qcow2 *q, const char *name, struct err *e)
{
	auto_free struct qcow2_bitmap *list = NULL;
	auto_free uint64_t *t = NULL;
	struct qcow2_bitmap gone;
	int at;

	if (bitmap_find(q, "remove a bitmap", name, true, &at, e) < 0)
		return e->code;
	if (bitmap_copy_list(q, &list, 0, e) < 0)
		return e->code;
	gone = list[at];
	memmove(&list[at], &list[at + 1], (q->bitmaps.n - (unsigned)at - 1) * sizeof *list);
	if (bitmap_load_table(q, &gone, &t, e) < 0 || bitmap_free_table(q, &gone, t, 0, e) < 0)
		return txn_abort(q, e);
	return bitmap_publish(q, &list, q->bitmaps.n - 1, &gone, e);
}

int qcow2_bitmap_clear(struct qcow2 *q, const char *name, struct err *e)
{
	auto_free struct qcow2_bitmap *list = NULL;
	int at;

	if (bitmap_find(q, "clear a bitmap", name, false, &at, e) < 0)
		return e->code;
	if (bitmap_copy_list(q, &list, 0, e) < 0 || fill_table(q, &list[at], list[at].table_size, 0, e) < 0)
		return txn_abort(q, e);
	return bitmap_publish(q, &list, q->bitmaps.n, NULL, e);
}

int qcow2_bitmap_enable(struct qcow2 *q, const char *name, bool on, struct err *e)
{
	auto_free struct qcow2_bitmap *list = NULL;
	int at;

	if (bitmap_find(q, on ? "enable a bitmap" : "disable a bitmap", name, false, &at, e) < 0)
		return e->code;
	if (bitmap_copy_list(q, &list, 0, e) < 0)
		return e->code;
	list[at].flags = (list[at].flags & ~QCOW2_BITMAP_AUTO) | (on ? QCOW2_BITMAP_AUTO : 0);
	return bitmap_publish(q, &list, q->bitmaps.n, NULL, e);
}

/* ---- the disk changed under its bitmaps ---- */

/*
 * Bits past the disk's end (of @size bytes) are zero: mask them in the last cluster of @n. @entry: of the table; one
 * that says "all ones" becomes a cluster.
 */
static int cut_tail(struct qcow2 *q, const struct qcow2_bitmap *b, uint64_t *entry, uint64_t n, uint64_t size, struct err *e)
{
	uint64_t bits = (size >> b->gran_bits) + ((size & (b->granularity - 1)) != 0);
	uint64_t in = bits - (n - 1) * q->cluster * 8, off = *entry & OFFSET_MASK;
	auto_free uint8_t *buf = NULL;

	if (in == q->cluster * 8)
		return 0;
	buf = malloc(q->cluster);
	if (!buf)
		return q_nomem(e);
	memset(buf, 0xff, q->cluster);
	if (off && q_read(q, off, buf, q->cluster, e) < 0)
		return e->code;
	if (in % 8)
		buf[in / 8] &= (uint8_t)((1u << in % 8) - 1);
	memset(buf + (in + 7) / 8, 0, q->cluster - (in + 7) / 8);
	if ((off && refs_free(q, off, q->cluster, e) < 0) || refs_alloc(q, 1, entry, e) < 0)
		return e->code;
	return txn_write(q, *entry, buf, q->cluster, e);
}

static int refit_one(struct qcow2 *q, struct qcow2_bitmap *b, uint64_t size, struct err *e)
{
	uint64_t n = bitmap_entries(q, b, size), keep = n < b->table_size ? n : b->table_size;
	auto_free uint64_t *old = NULL, *new = calloc(n ? n : 1, 8);

	if (!new)
		return q_nomem(e);
	if (bitmap_load_table(q, b, &old, e) < 0)
		return e->code;
	memcpy(new, old, keep * 8);
	if (bitmap_free_table(q, b, old, (uint32_t)keep, e) < 0)
		return e->code;
	/* What is shorter loses bits of its last cluster; what is longer starts with zeros where "all ones" stood. */
	if (keep && (size < q->h.size ? keep == n && new[keep - 1] & OFFSET_MASK : new[keep - 1] == 1) &&
		cut_tail(q, b, &new[keep - 1], keep, size < q->h.size ? size : q->h.size, e) < 0)
		return e->code;
	return bitmap_put_table(q, b, new, n, e);
}

int bitmaps_refit(struct qcow2 *q, struct head *hd, struct qext *ext, uint8_t x[24], uint64_t size, bool dirty, struct err *e)
{
	auto_free struct qcow2_bitmap *list = NULL;
	const struct qcow2_bitmap *had;
	bool changed = false;
	unsigned n = 0;

	if (qcow2_bitmaps(q, &had, &n, e) < 0)
		return e->code;
	if (!n)
		return 0;
	if (!size)
		return err_set(e, -EOPNOTSUPP, "an empty disk cannot have bitmaps");
	if (bitmap_copy_list(q, &list, 0, e) < 0)
		return e->code;
	for (unsigned i = 0; i < n; i++) {
		bool all = dirty && (list[i].flags & QCOW2_BITMAP_AUTO);
		int r = 0;

		/* One that was not saved vouches for nothing, and its table may be of any size. */
		if (list[i].flags & QCOW2_BITMAP_IN_USE || (!all && size == q->h.size))
			continue;
		changed = true;
		if (all)
			r = fill_table(q, &list[i], bitmap_entries(q, &list[i], size), BT_ONES, e);
		else
			r = refit_one(q, &list[i], size, e);
		if (r < 0)
			return r;
	}
	return changed ? bitmap_put_dir(q, list, n, hd, ext, x, e) : 0;
}
