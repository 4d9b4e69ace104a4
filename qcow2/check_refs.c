/* Refcounts under check: the structure that holds them, and what they say. "Host cluster management". */
#include "qcow2/check.h"

#define RT_CHUNK 8192 /* entries of the refcount table read at once */

static int rt_entry(struct chk *c, uint64_t i, uint64_t *v, struct err *e)
{
	uint64_t first = i & ~(RT_CHUNK - 1ull);

	*v = 0;
	if (i >= c->rt_n)
		return 0;
	if (first != c->rt_first) {
		uint64_t n = c->rt_n - first < RT_CHUNK ? c->rt_n - first : RT_CHUNK;

		c->rt_first = UINT64_MAX;
		if (q_read(c->q, c->q->h.rt_off + 8 * first, c->rt, n * 8, e) < 0)
			return err_at(e, "cannot read the refcount table");
		c->rt_first = first;
	}
	*v = BE64(c->rt[i - first]);
	return 0;
}

/* Is there a table at all? One that is not cannot be used, and is counted as having no entries. */
static void rt_judge(struct chk *c)
{
	struct qhdr *h = &c->q->h;
	uint64_t bytes = h->rt_clusters * c->q->cluster;
	bool clash = false, good;

	c->rt_first = UINT64_MAX;
	c->rt_n = 0;
	good = !(h->rt_off & (c->q->cluster - 1)) && bytes && bytes <= MAX_RT_BYTES && h->rt_off < MAX_HOST_OFF &&
		h->rt_off + bytes < c->q->dev->size + c->q->cluster;
	if (good) {
		claim(c, h->rt_off, bytes, USE_META, 1, &clash);
		c->rt_n = bytes / 8;
	}
	if ((!good && !c->later) || clash) {
		found(c, F_RT_PLACE, 1, h->rt_off, bytes);
		c->rebuild = true;
	}
}

/* Entry @i of the refcount table, not 0. */
static void rb_judge(struct chk *c, uint64_t i, uint64_t v)
{
	uint64_t k = (v >> c->q->h.cluster_bits) - c->cells.first, n;
	bool clash = false;

	if (v & RT_RESERVED)
		found(c, F_RB_RESERVED, 1, i);
	else if (v & (c->q->cluster - 1))
		found(c, F_RB_ALIGN, 1, i);
	else if (v >> c->q->h.cluster_bits >= c->n_clusters)
		found(c, F_RB_OUTSIDE, 1, i);
	else {
		claim(c, v, c->q->cluster, USE_META, 1, &clash);
		n = k < c->cells.n ? cell_count(&c->cells, k) : 1;
		if (n == 1)
			return;
		found(c, F_RB_COUNT, 1, i, n);
	}
	c->rebuild = true;
}

int check_refblocks(struct chk *c, struct err *e)
{
	uint64_t v;

	if (c->apply && c->rebuild)
		return 0; /* there will be another table with other blocks */
	rt_judge(c);
	for (uint64_t i = 0; i < c->rt_n; i++) {
		if (rt_entry(c, i, &v, e) < 0)
			return e->code;
		if (v)
			rb_judge(c, i, v);
	}
	return 0;
}

/* ---- comparing ---- */

/* May this refcount be made to say what the references say? */
static int apply(struct chk *c, uint64_t cluster, uint64_t rc, uint64_t want, struct err *e)
{
	struct refs *r = &c->q->refs;

	if (rc > want && !(c->fix & QCOW2_FIX_LEAKS))
		want = rc; /* nobody said so, or it may belong to what we could not see */
	if (rc < want && !(c->fix & QCOW2_FIX_ERRORS))
		want = rc;
	if (want == (c->rebuild ? 0 : rc))
		return 0;
	if (c->rebuild && r->loaded * c->q->cluster > MAX_REBUILD)
		return err_set(e, -EFBIG, "cannot rebuild refcounts: they need more than %llu bytes", MAX_REBUILD);
	return refs_set(c->q, cluster, 1, want, e);
}

/* As many references as refcounts can say; what is beyond is reported. */
static uint64_t limited(struct chk *c, uint64_t cluster, uint64_t n)
{
	uint64_t max = refs_max(c->q);

	if (n <= max)
		return n;
	found(c, F_OVERFLOW, n - max, cluster << c->q->h.cluster_bits);
	return max;
}

/* A cluster whose refcount is not the number of its references, or any when they are being set. */
static int differs(struct chk *c, uint64_t cluster, uint64_t rc, uint64_t n, struct err *e)
{
	if (cluster >= c->n_clusters && !n && !c->apply)
		return 0; /* behind the file's end: nobody cares what its refcount is */
	n = limited(c, cluster, n);
	if (rc || n)
		c->r->image_end = (cluster + 1) << c->q->h.cluster_bits;
	if (c->apply)
		return apply(c, cluster, rc, n, e);
	if (rc != n)
		found(c, rc < n ? F_RC_LOW : F_RC_HIGH, 1, cluster, rc, n);
	return 0;
}

/* Refcounts of one block, or none (@p is NULL), for the cells [i, end); @at: the index in the block of the first. */
static inline __attribute__((always_inline)) int compare(struct chk *c, const uint8_t *p, uint64_t at, uint64_t i,
	uint64_t end, unsigned width, unsigned order, struct err *e)
{
	uint32_t mask = cell_mask(width);
	uint64_t last = UINT64_MAX, first = c->cells.first;
	bool all = c->apply;

	for (; i < end; i++, at++) {
		uint64_t n = cell_load(c->cells.p, width, i) & mask;
		uint64_t rc = !p ? 0 : order == 4 ? get_be16(p + 2 * at) : refblock_get(p, order, at);

		if ((rc != n || all) && differs(c, first + i, rc, n, e) < 0)
			return e->code;
		if (n || (rc && first + i < c->n_clusters))
			last = i;
		cell_store(c->cells.p, width, i, rc == 1 ? RC_ONE : RC_OTHER);
	}
	if (last != UINT64_MAX)
		c->r->image_end = (first + last + 1) << c->q->h.cluster_bits;
	return 0;
}

static int compare_block(struct chk *c, const uint8_t *p, uint64_t at, uint64_t i, uint64_t end, struct err *e)
{
	unsigned order = c->q->h.refcount_order, width = c->cells.width;

	if (order == 4 && width == 1)
		return compare(c, p, at, i, end, 1, 4, e);
	return compare(c, p, at, i, end, width, order, e);
}

/* Refcounts that nobody can read: the flags of these clusters are not judged, a rebuild counts them from nothing. */
static int unknown_block(struct chk *c, uint64_t i, uint64_t end, struct err *e)
{
	for (; i < end; i++) {
		uint64_t n = limited(c, c->cells.first + i, cell_count(&c->cells, i));

		if (c->apply && n && apply(c, c->cells.first + i, 0, n, e) < 0)
			return e->code;
		if (n)
			c->r->image_end = (c->cells.first + i + 1) << c->q->h.cluster_bits;
		cell_store(c->cells.p, c->cells.width, i, RC_UNKNOWN);
	}
	return 0;
}

static bool rb_readable(const struct chk *c, uint64_t v)
{
	return !(v & (c->q->cluster - 1)) && v < c->q->dev->size;
}

int check_compare(struct chk *c, struct err *e)
{
	uint64_t per = refs_per_block(c->q), i = 0, v;

	while (i < c->cells.n) {
		uint64_t at = (c->cells.first + i) % per, end = i + (per - at);
		int r;

		if (end > c->cells.n)
			end = c->cells.n;
		if (rt_entry(c, (c->cells.first + i) / per, &v, e) < 0)
			return e->code;
		if (v && rb_readable(c, v) && q_read(c->q, v, c->buf, c->q->cluster, e) < 0)
			return err_at(e, "cannot read refcounts");
		if (v && !rb_readable(c, v))
			r = unknown_block(c, i, end, e);
		else
			r = compare_block(c, v ? c->buf : NULL, at, i, end, e);
		if (r < 0)
			return r;
		i = end;
	}
	return 0;
}

/* ---- COPIED flags ---- */

static int refcount_of(struct chk *c, uint64_t cluster, uint64_t *rc, bool *known, struct err *e)
{
	uint64_t per = refs_per_block(c->q), i = cluster % per, v;
	unsigned order = c->q->h.refcount_order;
	uint8_t p[8] = { 0 };

	*rc = 0;
	if (rt_entry(c, cluster / per, &v, e) < 0)
		return e->code;
	*known = !v || rb_readable(c, v);
	if (!v || !*known)
		return 0;
	if (q_read(c->q, v + (i << order >> 3), p, order > 3 ? 1u << (order - 3) : 1, e) < 0)
		return err_at(e, "cannot read refcounts");
	*rc = refblock_get(p, order, order < 3 ? i & ((1u << (3 - order)) - 1) : 0);
	return 0;
}

int flag_wrong(struct chk *c, uint64_t cluster, bool copied, bool *wrong, uint64_t *rc, struct err *e)
{
	uint64_t i = cluster - c->cells.first;
	bool known;

	*wrong = false;
	*rc = 1;
	if (i < c->cells.n) {
		if (flag_right(&c->cells, cluster, copied) || cell_load(c->cells.p, c->cells.width, i) == RC_UNKNOWN)
			return 0;
	} else if (cluster <= c->n_clusters || c->later) {
		return 0;
	}
	if (refcount_of(c, cluster, rc, &known, e) < 0)
		return e->code;
	*wrong = known && (*rc == 1) != copied;
	return 0;
}
