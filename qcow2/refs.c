/* Refcounts of host clusters: any width, blocks loaded on demand, changed in memory. "Host cluster management". */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <string.h>

uint64_t refblock_get(const uint8_t *blk, unsigned order, uint64_t i)
{
	unsigned per, sh;

	switch (order) {
	case 3: return blk[i];
	case 4: return get_be16(blk + 2 * i);
	case 5: return get_be32(blk + 4 * i);
	case 6: return get_be64(blk + 8 * i);
	}
	per = 3 - order; /* log2 of the counts in a byte; the first is in its low bits */
	sh = (unsigned)(i & ((1u << per) - 1)) << order;
	return blk[i >> per] >> sh & ((1u << (1u << order)) - 1);
}

void refblock_set(uint8_t *blk, unsigned order, uint64_t i, uint64_t v)
{
	unsigned per, sh, mask;

	switch (order) {
	case 3: blk[i] = (uint8_t)v; return;
	case 4: put_be16(blk + 2 * i, (uint16_t)v); return;
	case 5: put_be32(blk + 4 * i, (uint32_t)v); return;
	case 6: put_be64(blk + 8 * i, v); return;
	}
	per = 3 - order;
	sh = (unsigned)(i & ((1u << per) - 1)) << order;
	mask = ((1u << (1u << order)) - 1) << sh;
	blk[i >> per] = (uint8_t)((blk[i >> per] & ~mask) | (unsigned)v << sh);
}

int refs_load(struct qcow2 *q, struct err *e)
{
	size_t n = (size_t)(q->h.rt_clusters * q->cluster / 8);
	struct refs *r = &q->refs;

	if (r->table)
		return 0;
	if (region_check(q, "refcount table", q->h.rt_off, q->h.rt_clusters, q->cluster, MAX_RT_BYTES, e) < 0 ||
		q_read_table(q, q->h.rt_off, n, "read the refcount table", &r->table, e) < 0)
		return e->code;
	r->blk = calloc(n ? n : 1, sizeof *r->blk);
	if (!r->blk) {
		refs_done(r);
		return q_nomem(e);
	}
	r->n = n;
	return 0;
}

/* More blocks in memory than the file has room for: several table entries name the same block. */
static int count_block(struct qcow2 *q, struct err *e)
{
	if (q->refs.loaded >= q_clusters(q, q->dev->size))
		return err_set(e, -EUCLEAN, "the refcount table names more blocks than the file holds");
	q->refs.loaded++;
	return 0;
}

static int block_load(struct qcow2 *q, uint64_t i, struct err *e)
{
	uint64_t off = q->refs.table[i];
	auto_free uint8_t *p = NULL;

	if ((off & RT_RESERVED) || region_check(q, "refcount block", off & ~RT_RESERVED, 1, q->cluster, q->cluster, e) < 0)
		return err_set(e, -EUCLEAN, "refcount table entry %" PRIu64 " is %#" PRIx64 ", no block of this file", i, off);
	if (count_block(q, e) < 0)
		return e->code;
	p = malloc(q->cluster);
	if (!p)
		return q_nomem(e);
	if (q_read(q, off, p, q->cluster, e) < 0)
		return e->code;
	q->refs.blk[i].data = take_ptr(&p);
	return 0;
}

int refs_block(struct qcow2 *q, uint64_t i, const uint8_t **p, struct err *e)
{
	*p = NULL;
	if (refs_load(q, e) < 0)
		return e->code;
	if (i >= q->refs.n)
		return 0;
	if (!q->refs.blk[i].data && q->refs.table[i] && block_load(q, i, e) < 0)
		return e->code;
	*p = q->refs.blk[i].data;
	return 0;
}

void refs_drop(struct qcow2 *q, uint64_t i)
{
	struct rblk *b = &q->refs.blk[i];

	if (b->data && !b->dirty) {
		free(b->data);
		b->data = NULL;
		q->refs.loaded--;
	}
}

static int table_grow(struct qcow2 *q, uint64_t need, struct err *e)
{
	uint64_t per = q->cluster / 8, n = (need + per - 1) / per * per;
	struct refs *r = &q->refs;
	uint64_t *t;
	struct rblk *b;

	if (n > MAX_RT_BYTES / 8)
		return err_set(e, -EFBIG, "the image's refcount table would be larger than the limit of %llu bytes", MAX_RT_BYTES);
	t = realloc(r->table, n * sizeof *t);
	if (t)
		r->table = t;
	b = t ? realloc(r->blk, n * sizeof *b) : NULL;
	if (!b)
		return q_nomem(e);
	r->blk = b;
	memset(r->table + r->n, 0, (n - r->n) * sizeof *t);
	memset(r->blk + r->n, 0, (n - r->n) * sizeof *b);
	r->n = n;
	return 0;
}

/* Block @i for changing: loaded or made, and dirty. */
static int block_change(struct qcow2 *q, uint64_t i, struct rblk **out, struct err *e)
{
	const uint8_t *p;
	struct rblk *b;

	if (refs_load(q, e) < 0 || (i >= q->refs.n && table_grow(q, i + 1, e) < 0) || refs_block(q, i, &p, e) < 0)
		return e->code;
	b = &q->refs.blk[i];
	if (!p) {
		b->data = calloc(1, q->cluster);
		if (!b->data)
			return q_nomem(e);
		q->refs.loaded++;
	}
	b->dirty = true;
	*out = b;
	return 0;
}

int refs_get(struct qcow2 *q, uint64_t cluster, uint64_t *rc, struct err *e)
{
	const uint8_t *p;

	if (refs_block(q, cluster / refs_per_block(q), &p, e) < 0)
		return e->code;
	*rc = p ? refblock_get(p, q->h.refcount_order, cluster % refs_per_block(q)) : 0;
	return 0;
}

/* Cluster @i of block @b became free: the old image may still use it. @base: the block's first cluster. */
static int pin(struct qcow2 *q, struct rblk *b, uint64_t i, struct err *e)
{
	if (!b->pin)
		b->pin = calloc(1, (size_t)(refs_per_block(q) / 4));
	if (!b->pin)
		return q_nomem(e);
	b->pin[i / 8] |= (uint8_t)(1u << i % 8);
	return 0;
}

/* The common width, apart so that the compiler sees the loop; stops before a count that cannot move. */
static uint64_t add16(uint8_t *p, uint64_t i, uint64_t end, int delta, bool *freed)
{
	for (; i < end; i++) {
		uint16_t v = get_be16(p + 2 * i);

		if (!v || (delta > 0 && v == UINT16_MAX))
			break;
		v = (uint16_t)(v + delta);
		put_be16(p + 2 * i, v);
		*freed |= !v;
	}
	return i;
}

static uint64_t add_any(uint8_t *p, unsigned order, uint64_t max, uint64_t i, uint64_t end, int delta, bool *freed)
{
	for (; i < end; i++) {
		uint64_t v = refblock_get(p, order, i);

		if (!v || (delta > 0 && v == max))
			break;
		v += (uint64_t)(int64_t)delta;
		refblock_set(p, order, i, v);
		*freed |= !v;
	}
	return i;
}

static int cannot_add(struct qcow2 *q, uint64_t cluster, const struct rblk *b, uint64_t i, struct err *e)
{
	if (b && b->data && refblock_get(b->data, q->h.refcount_order, i)) {
		err_set(e, -EFBIG, "cluster %#" PRIx64 " would be shared more often than %u-bit refcounts can say",
			cluster << q->h.cluster_bits, 1u << q->h.refcount_order);
		return err_hint(e, "widen them with 'fermata img amend -o refcount_bits=...'");
	}
	err_set(e, -EUCLEAN, "cluster %#" PRIx64 " is in use but its refcount is 0", cluster << q->h.cluster_bits);
	return q_hint_check(q, e);
}

/* One block's part of a run: clusters [i, end) of block @bi. */
static int add_in_block(struct qcow2 *q, uint64_t bi, uint64_t i, uint64_t end, int delta, struct err *e)
{
	uint64_t per = refs_per_block(q), done;
	unsigned order = q->h.refcount_order;
	struct rblk *b;
	bool freed = false;

	if (refs_load(q, e) < 0)
		return e->code;
	/* Nothing to count there: not a reason to make blocks for whatever an entry claims. */
	if (bi >= q->refs.n || (!q->refs.table[bi] && !q->refs.blk[bi].data))
		return cannot_add(q, bi * per + i, NULL, 0, e);
	if (block_change(q, bi, &b, e) < 0)
		return e->code;
	done = order == 4 ? add16(b->data, i, end, delta, &freed)
			  : add_any(b->data, order, refs_max(q), i, end, delta, &freed);
	if (done < end)
		return cannot_add(q, bi * per + done, b, done, e);
	for (; freed && i < end; i++)
		if (!refblock_get(b->data, order, i) && pin(q, b, i, e) < 0)
			return e->code;
	return 0;
}

int refs_add(struct qcow2 *q, uint64_t first, uint64_t n, int delta, struct err *e)
{
	uint64_t per = refs_per_block(q);

	while (n) {
		uint64_t i = first % per, step = n < per - i ? n : per - i;

		if (add_in_block(q, first / per, i, i + step, delta, e) < 0)
			return e->code;
		first += step;
		n -= step;
	}
	return 0;
}

/* The same for setting a value. */
static int set_in_block(struct qcow2 *q, uint64_t bi, uint64_t i, uint64_t end, uint64_t v, struct err *e)
{
	unsigned order = q->h.refcount_order;
	struct rblk *b;

	if (block_change(q, bi, &b, e) < 0)
		return e->code;
	for (; i < end; i++) {
		if (!v && refblock_get(b->data, order, i) && pin(q, b, i, e) < 0)
			return e->code;
		refblock_set(b->data, order, i, v);
	}
	return 0;
}

int refs_set(struct qcow2 *q, uint64_t first, uint64_t n, uint64_t v, struct err *e)
{
	uint64_t per = refs_per_block(q);

	if (v > refs_max(q))
		return err_set(e, -EFBIG, "refcount %" PRIu64 " does not fit in %u bits", v, 1u << q->h.refcount_order);
	while (n) {
		uint64_t i = first % per, step = n < per - i ? n : per - i;

		if (set_in_block(q, first / per, i, i + step, v, e) < 0)
			return e->code;
		first += step;
		n -= step;
	}
	return 0;
}

/* From cluster @c on, the first that is free now and in the old image, within its block; the block's end if none. */
static int next_free(struct qcow2 *q, uint64_t c, uint64_t *out, struct err *e)
{
	uint64_t per = refs_per_block(q), bi = c / per, i = c % per;
	unsigned order = q->h.refcount_order;
	const uint8_t *p, *pins;

	if (refs_block(q, bi, &p, e) < 0)
		return e->code;
	pins = p ? q->refs.blk[bi].pin : NULL;
	if (p && order == 4)
		while (i < per && (get_be16(p + 2 * i) || (pins && pins[i / 8] >> i % 8 & 1)))
			i++;
	else
		while (p && i < per && (refblock_get(p, order, i) || (pins && pins[i / 8] >> i % 8 & 1)))
			i++;
	*out = bi * per + i;
	return 0;
}

/* Length of the free run at @c, @want at most, over block boundaries. */
static int free_run(struct qcow2 *q, uint64_t c, uint64_t want, uint64_t *run, struct err *e)
{
	for (*run = 0; *run < want; (*run)++) {
		uint64_t at = c + *run, f;

		if (next_free(q, at, &f, e) < 0)
			return e->code;
		if (f != at)
			break;
	}
	return 0;
}

int refs_alloc_some(struct qcow2 *q, uint64_t min, uint64_t *n, uint64_t *hoff, struct err *e)
{
	uint64_t c = q->refs.hint, f, run = 0;

	while (run < min) {
		if (c >= MAX_HOST_OFF >> q->h.cluster_bits)
			return err_set(e, -EFBIG, "no room for %" PRIu64 " more clusters below the format's limit", min);
		if (next_free(q, c, &f, e) < 0)
			return e->code;
		/* Not at once: look on from there, in the next block when this one is full. */
		if (f != c) {
			c = f;
			continue;
		}
		if (free_run(q, c, *n, &run, e) < 0)
			return e->code;
		if (run < min)
			c += run;
	}
	if (!c)
		return cannot_add(q, 0, NULL, 0, e); /* the header's own cluster */
	if (refs_set(q, c, run, 1, e) < 0)
		return e->code;
	if (min == 1)
		q->refs.hint = c + run;
	*n = run;
	*hoff = c << q->h.cluster_bits;
	return 0;
}

int refs_alloc(struct qcow2 *q, uint64_t n, uint64_t *hoff, struct err *e)
{
	return refs_alloc_some(q, n, &n, hoff, e);
}

int refs_alloc_packed(struct qcow2 *q, uint64_t n, uint64_t *hoff, struct err *e)
{
	uint64_t at = q->refs.packed, left = at ? q->cluster - (at & (q->cluster - 1)) : 0, rc, next;

	/* Every cluster counts the compressed ones that it has a part of. */
	if (at && refs_get(q, at >> q->h.cluster_bits, &rc, e) < 0)
		return e->code;
	if (at && (!rc || rc == refs_max(q)))
		at = left = 0;
	*hoff = at;
	if (n > left) {
		if (refs_alloc(q, 1, &next, e) < 0)
			return e->code;
		if (next != at + left)
			at = 0;
		*hoff = at ? at : next;
	}
	if (at && refs_add(q, at >> q->h.cluster_bits, 1, 1, e) < 0)
		return e->code;
	at = *hoff + n;
	q->refs.packed = at & (q->cluster - 1) ? at : 0;
	return 0;
}

int refs_free(struct qcow2 *q, uint64_t hoff, uint64_t bytes, struct err *e)
{
	return refs_add(q, hoff >> q->h.cluster_bits, q_clusters(q, bytes), -1, e);
}

int refs_retire(struct qcow2 *q, uint64_t hoff, struct err *e)
{
	uint64_t c = hoff >> q->h.cluster_bits, per = refs_per_block(q), i = c % per + per;
	uint8_t *pins;

	if (refs_add(q, c, 1, -1, e) < 0)
		return e->code;
	pins = q->refs.blk[c / per].pin;
	if (pins)
		pins[i / 8] |= (uint8_t)(1u << i % 8);
	return 0;
}
