/* Walking from an L1 table to all that it references: counting it, and getting its COPIED flags right. */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <string.h>

/* Neighbouring clusters, counted together. */
struct run {
	struct qcow2 *q;
	uint64_t first, n;
	int delta;
};

static int run_flush(struct run *r, struct err *e)
{
	uint64_t n = r->n;

	r->n = 0;
	return n ? refs_add(r->q, r->first, n, r->delta, e) : 0;
}

int tree_bad_entry(struct qcow2 *q, uint64_t v, struct err *e)
{
	err_set(e, -EUCLEAN, "L2 entry %#" PRIx64 " does not point to a cluster", v);
	return q_hint_check(q, e);
}

int tree_count_l2(struct qcow2 *q, const uint8_t *l2, int delta, struct err *e)
{
	const bool data_file = q->h.incompat & QCOW2_INCOMPAT_DATA_FILE;
	const unsigned bits = q->h.cluster_bits, step = q->l2_step;
	const uint64_t inside = q->cluster - 1;
	struct run r = { q, 0, 0, delta };

	for (const uint8_t *p = l2, *end = l2 + q->cluster; p < end; p += step) {
		uint64_t v = get_be64(p), first, n;

		if (v & OFLAG_COMPRESSED) {
			l2_refs(q, v, &first, &n);
			if (run_flush(&r, e) < 0 || refs_add(q, first, n, delta, e) < 0)
				return e->code;
			continue;
		}
		v &= OFFSET_MASK;
		if (!v || data_file)
			continue;
		if (v & inside)
			return tree_bad_entry(q, v, e);
		v >>= bits;
		if (r.n && v == r.first + r.n)
			r.n++;
		else if (run_flush(&r, e) < 0)
			return e->code;
		else
			r = (struct run){ q, v, 1, delta };
	}
	return run_flush(&r, e);
}

int tree_read_l2(struct qcow2 *q, uint64_t entry, uint8_t *buf, struct err *e)
{
	uint64_t off = entry & OFFSET_MASK;

	if (region_check(q, "L2 table", off, 1, q->cluster, q->cluster, e) < 0) {
		q_hint_check(q, e);
		return e->code;
	}
	return q_read(q, off, buf, q->cluster, e);
}

/* Each L2 table of one L1 takes a cluster of its own; more references than clusters are a trap, not an image. */
static int l1_sane(struct qcow2 *q, const uint64_t *l1, size_t n, struct err *e)
{
	uint64_t used = 0;

	for (size_t i = 0; i < n; i++)
		used += (l1[i] & OFFSET_MASK) != 0;
	if (used > q_clusters(q, q->dev->size))
		return err_set(e, -EUCLEAN, "an L1 table names more L2 tables than the file holds");
	return 0;
}

int tree_count(struct qcow2 *q, const uint64_t *l1, size_t n, const uint64_t *except, size_t n_except, int delta,
	struct err *e)
{
	auto_free uint8_t *buf = malloc(q->cluster);

	if (!buf)
		return q_nomem(e);
	if (l1_sane(q, l1, n, e) < 0)
		return e->code;
	for (size_t i = 0; i < n; i++) {
		uint64_t off = l1[i] & OFFSET_MASK;

		if (!off || (i < n_except && (except[i] & OFFSET_MASK) == off))
			continue;
		if (tree_read_l2(q, off, buf, e) < 0 || refs_add(q, off >> q->h.cluster_bits, 1, delta, e) < 0 ||
			tree_count_l2(q, buf, delta, e) < 0)
			return e->code;
	}
	return 0;
}

/*
 * Refcounts of clusters that come in order, mostly: the block of the last one is kept at hand, and all that the loop
 * over a table needs is copied here, out of the way of what it writes.
 */
struct peek {
	struct qcow2 *q;
	const uint8_t *blk;
	uint64_t bi;
	unsigned shift; /* log2 of counts per block */
	unsigned order;
};

static inline int peek_is_one(struct peek *k, uint64_t cluster, bool *one, struct err *e)
{
	uint64_t bi = cluster >> k->shift, i = cluster & ((1ull << k->shift) - 1);

	if (bi != k->bi) {
		if (refs_block(k->q, bi, &k->blk, e) < 0)
			return e->code;
		k->bi = bi;
	}
	*one = k->blk && (k->order == 4 ? get_be16(k->blk + 2 * i) : refblock_get(k->blk, k->order, i)) == 1;
	return 0;
}

int tree_fix_l2(struct qcow2 *q, uint8_t *l2, bool *changed, struct err *e)
{
	const unsigned bits = q->h.cluster_bits, order = q->h.refcount_order, step = q->l2_step;
	const bool data_file = q->h.incompat & QCOW2_INCOMPAT_DATA_FILE;
	struct peek k = { q, NULL, UINT64_MAX, bits + 3 - order, order };
	bool one = false, any = false;

	for (uint8_t *p = l2, *end = l2 + q->cluster; p < end; p += step) {
		uint64_t v = get_be64(p), w = v & ~OFLAG_COPIED;

		if (!v)
			continue;
		if (v & OFLAG_COMPRESSED) {
			;
		} else if (data_file) {
			w = v; /* not refcounted, always 1; an offset of 0 is valid there */
		} else if (v & OFFSET_MASK) {
			if (peek_is_one(&k, (v & OFFSET_MASK) >> bits, &one, e) < 0)
				return e->code;
			w |= one ? OFLAG_COPIED : 0;
		}
		if (v != w) {
			put_be64(p, w);
			any = true;
		}
	}
	*changed = any;
	return 0;
}

int tree_move_l2(struct qcow2 *q, uint64_t *entry, const uint8_t *l2, struct err *e)
{
	uint64_t off = *entry & OFFSET_MASK, new;

	if (refs_alloc(q, 1, &new, e) < 0 || (off && refs_retire(q, off, e) < 0) ||
		txn_write(q, new, l2, q->cluster, e) < 0)
		return e->code;
	*entry = new | OFLAG_COPIED;
	return 0;
}

int tree_fix_flags(struct qcow2 *q, uint64_t *l1, size_t n, struct err *e)
{
	auto_free uint8_t *buf = malloc(q->cluster);
	uint64_t rc;

	if (!buf)
		return q_nomem(e);
	if (l1_sane(q, l1, n, e) < 0)
		return e->code;
	for (size_t i = 0; i < n; i++) {
		bool changed;

		if (!(l1[i] & OFFSET_MASK))
			continue;
		if (tree_read_l2(q, l1[i], buf, e) < 0 || tree_fix_l2(q, buf, &changed, e) < 0)
			return e->code;
		if (changed) {
			if (tree_move_l2(q, &l1[i], buf, e) < 0)
				return e->code;
			continue;
		}
		if (refs_get(q, (l1[i] & OFFSET_MASK) >> q->h.cluster_bits, &rc, e) < 0)
			return e->code;
		l1[i] = (l1[i] & ~OFLAG_COPIED) | (rc == 1 ? OFLAG_COPIED : 0);
	}
	return 0;
}

int tree_put_l1(struct qcow2 *q, const uint64_t *l1, size_t n, uint64_t *off, struct err *e)
{
	*off = 0;
	if (!n)
		return 0;
	if (refs_alloc(q, q_clusters(q, n * 8), off, e) < 0)
		return e->code;
	return txn_write_table(q, *off, l1, n, e);
}
