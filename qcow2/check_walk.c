/*
 * The walk: from the header to every reference, counted window by window. An L2 table that several L1 tables name is read
 * once and counted as often as it is named.
 */
#include "qcow2/check.h"

#include <stdlib.h>

/* ---- L2 tables, gathered from L1 tables ---- */

static int by_off(const void *pa, const void *pb)
{
	const struct l2ref *a = pa, *b = pb;

	return (a->off > b->off) - (a->off < b->off);
}

static void tab_merge(struct chk *c)
{
	size_t n = 0;

	qsort(c->tab, c->n_tab, sizeof *c->tab, by_off);
	for (size_t i = 0; i < c->n_tab; i++) {
		struct l2ref *t = &c->tab[i];

		if (n && c->tab[n - 1].off == t->off) {
			c->tab[n - 1].n += t->n;
			c->tab[n - 1].active += t->active;
		} else {
			c->tab[n++] = *t;
		}
	}
	c->n_tab = n;
}

static int visit(struct chk *c, const struct l2ref *t, const uint8_t *l2, struct err *e)
{
	switch (c->phase) {
	case PH_FLAGS:
		return check_l2_flags(c, t, l2, e);
	case PH_MEND:
		return check_l2_mend(c, t, l2, e);
	default:
		check_l2(c, t, l2);
		return 0;
	}
}

/* Read the gathered tables in the order in which they lie in the file, neighbours together. */
static int tab_flush(struct chk *c, struct err *e)
{
	uint64_t cs = c->q->cluster;
	struct l2ref *t = c->tab, *end;

	tab_merge(c);
	end = t + c->n_tab;
	while (t < end) {
		uint64_t start = t->off;
		struct l2ref *stop = t + 1;

		while (stop < end && stop->off <= stop[-1].off + 2 * cs && stop->off + cs - start <= c->buf_len)
			stop++;
		if (q_read(c->q, start, c->buf, stop[-1].off + cs - start, e) < 0)
			return err_at(e, "cannot read L2 tables");
		for (; t < stop; t++)
			if (visit(c, t, c->buf + (t->off - start), e) < 0)
				return e->code;
	}
	c->n_tab = 0;
	return 0;
}

static int tab_add(struct chk *c, uint64_t off, uint32_t times, bool active, struct err *e)
{
	if (c->n_tab == c->tab_len) {
		tab_merge(c);
		if (c->n_tab > c->tab_len / 2 && tab_flush(c, e) < 0)
			return e->code;
	}
	c->tab[c->n_tab++] = (struct l2ref){ off, times, active ? times : 0 };
	return 0;
}

/* ---- L1 tables ---- */

static int l1_flag(struct chk *c, uint64_t i, uint64_t v, struct err *e)
{
	uint64_t rc = 0;
	bool wrong;

	if (flag_wrong(c, (v & OFFSET_MASK) >> c->q->h.cluster_bits, v >> 63, &wrong, &rc, e) < 0)
		return e->code;
	if (wrong)
		found(c, rc > 1 ? F_SHARED_L2 : F_FLAG_L2, 1, i, v, rc);
	return 0;
}

/* An L1 entry that is not 0. */
static int l1_entry(struct chk *c, uint64_t i, uint64_t v, uint32_t times, bool active, struct err *e)
{
	uint64_t off = v & OFFSET_MASK, cs = c->q->cluster;
	bool bad = !off || (off & (cs - 1));

	if (c->phase == PH_COUNT) {
		if ((v & L1_RESERVED) || !off)
			found(c, F_L1_RESERVED, times, v);
		if (off & (cs - 1))
			found(c, F_L1_ALIGN, times, off);
		if (bad || !claim(c, off, cs, USE_L2, times, NULL)) {
			c->hidden = true;
			return 0;
		}
	} else {
		if (c->phase == PH_FLAGS && off && l1_flag(c, i, v, e) < 0)
			return e->code;
		if (bad || off >= c->q->dev->size)
			return 0;
	}
	return tab_add(c, off, times, active, e);
}

static int l1_walk(struct chk *c, uint64_t off, uint64_t n, uint32_t times, bool active, struct err *e)
{
	if (n * 8 > c->l1_left) {
		found(c, F_TANGLED, 1);
		c->hidden = true;
		return 0;
	}
	c->l1_left -= n * 8;
	for (uint64_t at = 0; at < n; at += L1_CHUNK) {
		uint64_t step = n - at < L1_CHUNK ? n - at : L1_CHUNK;

		if (q_read(c->q, off + 8 * at, c->l1, step * 8, e) < 0)
			return err_at(e, "cannot read an L1 table");
		for (uint64_t i = 0; i < step; i++)
			if (c->l1[i] && l1_entry(c, at + i, BE64(c->l1[i]), times, active, e) < 0)
				return e->code;
	}
	return 0;
}

/* ---- snapshots ---- */

struct l1ref {
	uint64_t off;
	uint32_t n;
};

static int by_l1(const void *pa, const void *pb)
{
	const struct l1ref *a = pa, *b = pb;

	return a->off != b->off ? (a->off > b->off) - (a->off < b->off) : (a->n > b->n) - (a->n < b->n);
}

/* Judge an entry of the snapshot table and count its L1 table. False: there is nothing to walk. */
static bool snap_entry(struct chk *c, unsigned i)
{
	const struct qcow2_snap *s = &c->q->snaps[i];

	if (c->q->h.version > 2 && s->extra_len < 16)
		found(c, F_SNAP_SHORT, 1, (uint64_t)i);
	if (s->extra_len > MAX_SNAP_EXTRA)
		found(c, F_SNAP_LONG, 1, (uint64_t)i, (uint64_t)s->extra_len);
	if (s->l1_off & (c->q->cluster - 1))
		found(c, F_SNAP_ALIGN, 1, s->id, s->name, s->l1_off);
	else if (s->l1_size > MAX_L1_BYTES / 8)
		found(c, F_SNAP_LARGE, 1, s->id, s->name, (uint64_t)s->l1_size);
	else if (!s->l1_size)
		return false;
	else if (claim(c, s->l1_off, s->l1_size * 8ull, USE_META, 1, NULL))
		return true;
	c->hidden = true;
	return false;
}

/* Snapshots that share an L1 table (they must not) are walked together, or few bytes could keep us busy for hours. */
static int snaps_walk(struct chk *c, struct err *e)
{
	unsigned n = 0, total = c->q->h.n_snaps;
	auto_free struct l1ref *t = malloc((total ? total : 1) * sizeof *t);

	if (!t)
		return q_nomem(e);
	for (unsigned i = 0; i < total; i++)
		if (c->phase != PH_COUNT || snap_entry(c, i))
			t[n++] = (struct l1ref){ c->q->snaps[i].l1_off, c->q->snaps[i].l1_size };
	qsort(t, n, sizeof *t, by_l1);
	for (unsigned i = 0, k; i < n; i = k) {
		for (k = i + 1; k < n && !by_l1(&t[i], &t[k]); k++)
			;
		if (t[i].n <= MAX_L1_BYTES / 8 && l1_walk(c, t[i].off, t[i].n, k - i, false, e) < 0)
			return e->code;
	}
	return 0;
}

/* ---- everything ---- */

int check_tables(struct chk *c, struct err *e)
{
	struct qhdr *h = &c->q->h;

	c->n_tab = 0;
	c->l1_left = 4 * (c->q->dev->size < 1ull << 60 ? c->q->dev->size : 0) + 16 * MIB;
	if (c->phase == PH_COUNT && !claim(c, h->l1_off, h->l1_size * 8ull, USE_META, 1, NULL))
		c->hidden = true;
	if (l1_walk(c, h->l1_off, h->l1_size, 1, true, e) < 0 || (c->phase != PH_FLAGS && snaps_walk(c, e) < 0))
		return e->code;
	return tab_flush(c, e);
}

/* Walk everything and count it into the window. */
static int walk(struct chk *c, struct err *e)
{
	const struct qext *x = ext_find(c->q, EXT_CRYPTO);
	struct qhdr *h = &c->q->h;

	c->phase = PH_COUNT;
	claim(c, 0, c->q->cluster, USE_META, 1, NULL);
	if (h->n_snaps && (h->incompat & QCOW2_INCOMPAT_DATA_FILE))
		found(c, F_SNAP_DATA_FILE, 1, (uint64_t)h->n_snaps);
	if (check_tables(c, e) < 0)
		return e->code;
	if (!h->n_snaps && ((h->snap_off & (c->q->cluster - 1)) || h->snap_off > INT64_MAX))
		found(c, F_SNAP_PLACE, 1, h->snap_off);
	if (h->n_snaps)
		claim(c, h->snap_off, c->q->snap_bytes, USE_META, 1, NULL);
	if (x)
		claim(c, get_be64(x->data), get_be64(x->data + 8), USE_META, 1, NULL);
	return check_bitmaps(c, e) < 0 || check_refblocks(c, e) < 0 ? e->code : 0;
}

/* Count one window, with wider cells if need be. */
static int window(struct chk *c, uint64_t first, uint64_t total, struct err *e)
{
	bool mute = c->mute;

	if (cells_window(&c->cells, first, total, e) < 0 || walk(c, e) < 0)
		return e->code;
	while (c->cells.full) {
		if (c->cells.width == 4)
			return err_set(e, -EFBIG, "a cluster is referenced more than 2^30 times");
		c->cells.width *= 2;
		c->mute = true; /* all has been said but the sums */
		if (cells_window(&c->cells, first, total, e) < 0 || walk(c, e) < 0)
			return e->code;
		c->mute = mute;
	}
	return 0;
}

int check_windows(struct chk *c, struct err *e)
{
	uint64_t total = c->n_clusters + 1; /* a region may end in the cluster after the last */

	if (c->apply && c->n_past > total)
		total = c->n_past;
	c->later = false;
	for (uint64_t at = 0; at < total; at += c->cells.n) {
		if (window(c, at, total, e) < 0 || check_compare(c, e) < 0)
			return e->code;
		c->phase = PH_FLAGS;
		if (!c->apply && check_tables(c, e) < 0)
			return e->code;
		c->later = true;
	}
	return 0;
}
