/* One L2 table under check: what its entries say, refer to, and may claim. "L2 table entry", "Extended L2 Entries". */
#include "qcow2/check.h"

#define SUB_BOTH(b) ((b) >> 32 & (b))
#define SUB_ALLOC   0xffffffffull

/* What makes an entry's cluster come right after the one before. */
struct frag {
	uint64_t next;
	uint64_t allocated, fragmented, compressed;
};

static void frag_add(struct frag *g, const struct chk *c, uint64_t off)
{
	g->allocated++;
	g->fragmented += g->next && off != g->next;
	g->next = off + c->q->cluster;
}

static void packed(struct chk *c, const struct l2ref *t, uint64_t i, uint64_t v, uint64_t sub, struct frag *g)
{
	uint64_t hoff, len;

	l2_compressed(c->q, v, &hoff, &len);
	if (v & OFLAG_COPIED)
		found(c, F_PACKED_COPIED, t->n, hoff);
	v &= ~OFLAG_COPIED;
	if (c->q->h.incompat & QCOW2_INCOMPAT_DATA_FILE) {
		found(c, F_PACKED_DATA_FILE, t->n, i, v);
		return;
	}
	if (sub) {
		found(c, F_PACKED_BITMAP, t->n, i, v);
		if (!c->mend)
			return;
	}
	claim(c, hoff, len, USE_DATA, t->n, NULL);
	g->allocated++;
	g->fragmented++;
	g->compressed++;
}

/* An entry with a host offset, or with a data file's offset of 0. */
static void standard(struct chk *c, const struct l2ref *t, uint64_t v, uint64_t sub, struct frag *g)
{
	bool ext = c->q->l2_step == 16;
	uint64_t off = v & OFFSET_MASK;

	if (SUB_BOTH(sub))
		found(c, F_SUB_BOTH, t->n, off);
	if (off & (c->q->cluster - 1)) {
		if (ext ? sub & SUB_ALLOC : !(v & OFLAG_ZERO)) {
			found(c, F_L2_ALIGN, t->n, off);
		} else {
			found(c, F_L2_PREALLOC, t->n, off);
			if (c->mend)
				return;
		}
	}
	frag_add(g, c, off);
	if (!(c->q->h.incompat & QCOW2_INCOMPAT_DATA_FILE))
		claim(c, off, c->q->cluster, USE_DATA, t->n, NULL);
}

/* Any entry but the plain ones that the loop below deals with. */
static void judge(struct chk *c, const struct l2ref *t, uint64_t i, uint64_t v, uint64_t sub, struct frag *g)
{
	bool ext = c->q->l2_step == 16, data_file = c->q->h.incompat & QCOW2_INCOMPAT_DATA_FILE;

	if (v & OFLAG_COMPRESSED) {
		packed(c, t, i, v, sub, g);
		return;
	}
	if (v & L2_RESERVED)
		found(c, F_L2_RESERVED, t->n, v);
	if (c->q->h.version == 2 && (v & OFLAG_ZERO))
		found(c, F_V2_ZERO, t->n, v);
	if (v & OFFSET_MASK)
		standard(c, t, v, sub, g);
	else if (data_file && (v & OFLAG_COPIED) && (ext || !(v & OFLAG_ZERO)))
		standard(c, t, v, sub, g);
	else if (ext && (sub & SUB_ALLOC))
		found(c, F_SUB_NONE, t->n);
}

/*
 * The common table: standard clusters, nothing odd, nothing shared with other uses. No call for a plain entry; the
 * compiler makes one loop for the usual width of cells, and one for all.
 */
static inline __attribute__((always_inline)) void count(struct chk *c, const struct l2ref *t, const uint8_t *l2,
	unsigned width, struct frag *g)
{
	const uint64_t plain = OFLAG_COPIED | OFFSET_MASK | (c->q->h.version > 2 ? OFLAG_ZERO : 0);
	const uint64_t odd = ~plain | (c->q->cluster - 1 - (plain & OFLAG_ZERO)), first = c->cells.first;
	uint64_t n = c->cells.n, whole = c->q->dev->size >> c->q->h.cluster_bits;
	unsigned bits = c->q->h.cluster_bits;

	if (whole < first + n)
		n = whole > first ? whole - first : 0;
	for (uint64_t k = 0; k < c->q->cluster / 8; k++) {
		uint64_t v = get_be64(l2 + 8 * k), off = v & OFFSET_MASK, i = (off >> bits) - first;

		if (!v)
			continue;
		if ((v & odd) || !off || i >= n) {
			judge(c, t, k, v, 0, g);
			continue;
		}
		frag_add(g, c, off);
		if (cell_add(&c->cells, width, i, USE_DATA, t->n))
			found(c, F_OVERLAP, 1, i + first);
	}
}

void check_l2(struct chk *c, const struct l2ref *t, const uint8_t *l2)
{
	struct frag g = { 0 };

	if (c->q->l2_step == 16 || (c->q->h.incompat & QCOW2_INCOMPAT_DATA_FILE))
		for (uint64_t i = 0, at = 0; at < c->q->cluster; i++, at += c->q->l2_step)
			judge(c, t, i, get_be64(l2 + at), c->q->l2_step == 16 ? get_be64(l2 + at + 8) : 0, &g);
	else if (c->cells.width == 1)
		count(c, t, l2, 1, &g);
	else
		count(c, t, l2, c->cells.width, &g);
	if (c->mute || c->later)
		return;
	c->r->allocated += g.allocated * t->active;
	c->r->fragmented += g.fragmented * t->active;
	c->r->compressed += g.compressed * t->active;
}

int check_l2_flags(struct chk *c, const struct l2ref *t, const uint8_t *l2, struct err *e)
{
	bool data_file = c->q->h.incompat & QCOW2_INCOMPAT_DATA_FILE, ext = c->q->l2_step == 16, wrong;
	unsigned bits = c->q->h.cluster_bits;

	for (uint64_t at = 0; at < c->q->cluster; at += c->q->l2_step) {
		uint64_t v = get_be64(l2 + at), off = v & OFFSET_MASK, rc = 1;
		bool copied = v >> 63;

		if (!v || (!data_file && flag_right(&c->cells, off >> bits, copied)))
			continue;
		if ((v & OFLAG_COMPRESSED) || (!off && !(data_file && copied && (ext || !(v & OFLAG_ZERO)))))
			continue;
		wrong = !copied;
		if (!data_file && flag_wrong(c, off >> bits, copied, &wrong, &rc, e) < 0)
			return e->code;
		if (wrong)
			found(c, rc > 1 ? F_SHARED_DATA : F_FLAG_DATA, t->active, v, rc);
	}
	return 0;
}

/* What an entry becomes that repair may mend in place. False: it stays. */
static bool mended(const struct chk *c, uint64_t *v, uint64_t *sub)
{
	bool ext = c->q->l2_step == 16;

	if (*v & OFLAG_COMPRESSED) {
		if (!(*v & OFLAG_COPIED) && !*sub)
			return false;
		*v &= ~OFLAG_COPIED;
		*sub = 0;
		return true;
	}
	if (!(*v & OFFSET_MASK & (c->q->cluster - 1)) || (ext ? *sub & SUB_ALLOC : !(*v & OFLAG_ZERO)))
		return false;
	*v = ext ? 0 : OFLAG_ZERO;
	*sub = SUB_ALLOC << 32;
	return true;
}

/* An entry lies within one sector: what a cut leaves is the entry as it was or as it should be. */
int check_l2_mend(struct chk *c, const struct l2ref *t, const uint8_t *l2, struct err *e)
{
	unsigned step = c->q->l2_step;

	for (uint64_t at = 0; at < c->q->cluster; at += step) {
		uint64_t v = get_be64(l2 + at), sub = step == 16 ? get_be64(l2 + at + 8) : 0;
		uint8_t out[16];

		if (!mended(c, &v, &sub))
			continue;
		put_be64(out, v);
		put_be64(out + 8, sub);
		if (dev_write(c->q->dev, t->off + at, out, step, e) < 0)
			return e->code;
	}
	return 0;
}
