/* See writer.h. "Cluster mapping", "Extended L2 Entries". */
#include "qcow2/image/writer.h"

#include <inttypes.h>
#include <string.h>

#include "qcow2/internal.h"

struct writer {
	struct image *img;
	struct qcow2 *q;     /* NULL: raw */
	uint64_t below;      /* what a hole reads from a backing file, before or after */
	uint64_t unit;       /* bytes: a cluster, or a subcluster */
	uint32_t all;        /* a bit for each unit of a cluster */
	uint64_t *l1;        /* as it will be */
	size_t at;           /* the entry of l1 whose table is in l2; NOWHERE: none */
	uint8_t *l2;
	bool l2_changed, l1_changed;
	uint8_t *bounce;     /* a cluster */
	uint64_t pending;
	uint64_t counted;    /* up to here writer_cost() has counted */
};
#define NOWHERE SIZE_MAX

/* An L2 entry, taken apart. */
struct slot {
	uint64_t v;
	uint32_t alloc, zero; /* units; none of either: holes */
};

int writer_open(struct image *to, uint64_t below, struct writer **out, struct err *e)
{
	auto_writer struct writer *w = calloc(1, sizeof *w);
	struct qcow2 *q = to->q;

	if (!w)
		return q_nomem(e);
	w->img = to;
	w->at = NOWHERE;
	w->below = to->backing && to->backing->size > below ? to->backing->size : below;
	if (!q) {
		*out = take_ptr(&w);
		return 0;
	}
	if (q->h.crypt || (q->h.incompat & QCOW2_INCOMPAT_DATA_FILE))
		return err_set(e, -EOPNOTSUPP, "%s: writing into images with %s is not supported", to->path,
			q->h.crypt ? "encryption" : "an external data file");
	if (q_load_l1(q, e) < 0)
		return e->code;
	w->unit = q->l2_step == 16 ? q->cluster / 32 : q->cluster;
	w->all = q->l2_step == 16 ? UINT32_MAX : 1;
	w->l1 = malloc(q->h.l1_size ? q->h.l1_size * 8ull : 1);
	w->l2 = malloc(q->cluster);
	w->bounce = malloc(q->cluster);
	if (!w->l1 || !w->l2 || !w->bounce)
		return q_nomem(e);
	memcpy(w->l1, q->l1, q->h.l1_size * 8ull);
	w->q = q;
	*out = take_ptr(&w);
	return 0;
}

void writer_close(struct writer *w)
{
	struct err e;

	if (!w)
		return;
	if (w->q && w->pending)
		txn_abort(w->q, &e);
	free(w->l1);
	free(w->l2);
	free(w->bounce);
	free(w);
}

uint64_t writer_pending(const struct writer *w)
{
	return w->pending;
}

/* ---- tables ---- */

static int table_put(struct writer *w, struct err *e)
{
	if (!w->l2_changed)
		return 0;
	w->l2_changed = false;
	w->l1_changed = true;
	return tree_move_l2(w->q, &w->l1[w->at], w->l2, e);
}

/* Have the L2 table for guest offset @goff at hand; one that is not there is all zeros. */
static int table_for(struct writer *w, uint64_t goff, struct err *e)
{
	size_t i = (size_t)(goff >> (w->q->h.cluster_bits + w->q->l2_bits));

	if (i == w->at)
		return 0;
	if (table_put(w, e) < 0)
		return e->code;
	w->at = NOWHERE;
	memset(w->l2, 0, w->q->cluster);
	if ((w->l1[i] & OFFSET_MASK) && (txn_write_done(w->q, e) < 0 || tree_read_l2(w->q, w->l1[i], w->l2, e) < 0))
		return e->code;
	w->at = i;
	return 0;
}

static uint8_t *entry_of(const struct writer *w, uint64_t goff)
{
	return w->l2 + (goff >> w->q->h.cluster_bits & ((1ull << w->q->l2_bits) - 1)) * w->q->l2_step;
}

static int slot_get(struct writer *w, uint64_t goff, struct slot *s, struct err *e)
{
	const uint8_t *p = entry_of(w, goff);
	uint64_t host;

	*s = (struct slot){ .v = get_be64(p) };
	host = s->v & OFFSET_MASK;
	if (s->v & OFLAG_COMPRESSED) {
		s->alloc = w->all;
		return 0;
	}
	if (w->q->l2_step == 16) {
		s->alloc = (uint32_t)get_be64(p + 8);
		s->zero = (uint32_t)(get_be64(p + 8) >> 32);
	} else {
		s->zero = s->v & OFLAG_ZERO;
		s->alloc = host && !s->zero;
	}
	if ((host & (w->q->cluster - 1)) || (s->alloc && !host) || (s->alloc & s->zero))
		return tree_bad_entry(w->q, s->v, e);
	return 0;
}

static void slot_put(struct writer *w, uint64_t goff, const struct slot *s)
{
	uint64_t bits = (uint64_t)s->zero << 32 | s->alloc, v = s->v & ~OFLAG_ZERO;
	uint8_t *p = entry_of(w, goff);

	if (w->q->l2_step == 8 && s->zero)
		v |= OFLAG_ZERO;
	if (v == get_be64(p) && (w->q->l2_step == 8 || bits == get_be64(p + 8)))
		return;
	put_be64(p, v);
	if (w->q->l2_step == 16)
		put_be64(p + 8, bits);
	w->l2_changed = true;
}

/* Has the active layer a host cluster there for itself, in which it may write? */
static int slot_own(struct writer *w, const struct slot *s, bool *own, struct err *e)
{
	uint64_t rc;

	*own = false;
	if ((s->v & OFLAG_COMPRESSED) || !(s->v & OFFSET_MASK))
		return 0;
	if (refs_get(w->q, (s->v & OFFSET_MASK) >> w->q->h.cluster_bits, &rc, e) < 0)
		return e->code;
	*own = rc == 1;
	return 0;
}

static int slot_release(struct writer *w, const struct slot *s, struct err *e)
{
	uint64_t first, n;

	l2_refs(w->q, s->v, &first, &n);
	return n ? refs_add(w->q, first, n, -1, e) : 0;
}

/* ---- data ---- */

/* One of the cluster's units as it reads now, into the bounce buffer. @base: the cluster's guest offset. */
static int unit_old(struct writer *w, const struct slot *s, uint64_t base, unsigned u, struct err *e)
{
	uint64_t at = u * w->unit, size = w->img->size, left = base + at < size ? size - (base + at) : 0;
	size_t n = (size_t)(left < w->unit ? left : w->unit);
	struct image_run run = { .goff = base, .len = w->q->cluster, .at = w->img, .data = true };
	uint8_t *p = w->bounce + at;

	memset(p, 0, w->unit);
	if (s->v & OFLAG_COMPRESSED) {
		run.compressed = true;
		l2_compressed(w->q, s->v, &run.hoff, &run.clen);
		return image_read_run(&run, base + at, p, n, e);
	}
	if (s->alloc >> u & 1)
		return q_read(w->q, (s->v & OFFSET_MASK) + at, p, n, e);
	if ((s->zero >> u & 1) || !w->img->backing)
		return 0;
	return image_read(w->img->backing, -1, base + at, p, n, e);
}

/* The units that [@from, @to) of a cluster touches. */
static uint32_t units(const struct writer *w, uint64_t from, uint64_t to)
{
	uint64_t a = from / w->unit, b = (to + w->unit - 1) / w->unit;

	return from < to ? (uint32_t)((1ull << b) - (1ull << a)) : 0;
}

/* Those that it covers. */
static uint32_t covered(const struct writer *w, uint64_t from, uint64_t to)
{
	return units(w, (from + w->unit - 1) / w->unit * w->unit, to / w->unit * w->unit);
}

/* Write a part of a cluster, and what has to come with it: the rest of units that were not there, or of the cluster. */
static int put_part(struct writer *w, uint64_t goff, const uint8_t *buf, size_t n, struct err *e)
{
	struct qcow2 *q = w->q;
	uint64_t in = goff & (q->cluster - 1), base = goff - in, lo = in, hi = in + n, hoff;
	uint32_t touched = units(w, lo, hi), full = covered(w, lo, hi), need;
	struct slot s;
	bool own;

	if (slot_get(w, goff, &s, e) < 0 || slot_own(w, &s, &own, e) < 0)
		return e->code;
	need = own ? touched & ~full & ~s.alloc : (touched | s.alloc) & ~full;
	memset(w->bounce, 0, own ? 0 : q->cluster);
	for (unsigned u = 0; u < 32 && need >> u; u++)
		if ((need >> u & 1) && unit_old(w, &s, base, u, e) < 0)
			return e->code;
	hoff = s.v & OFFSET_MASK;
	if (!own) {
		if (refs_alloc(q, 1, &hoff, e) < 0 || slot_release(w, &s, e) < 0)
			return e->code;
		lo = 0;
		hi = q->cluster;
	} else {
		if (need & units(w, lo, lo + 1))
			lo -= lo % w->unit;
		if (need & units(w, hi - 1, hi))
			hi = (hi + w->unit - 1) / w->unit * w->unit;
	}
	memcpy(w->bounce + in, buf, n);
	s.v = hoff | OFLAG_COPIED;
	s.alloc |= touched;
	s.zero &= ~touched;
	slot_put(w, goff, &s);
	return dev_write(q->dev, hoff + lo, w->bounce + lo, hi - lo, e);
}

/* Write the first of @n whole clusters, and those after it that go with it into one piece of the file. */
static int put_whole(struct writer *w, uint64_t goff, const uint8_t *buf, uint64_t *n, struct err *e)
{
	struct qcow2 *q = w->q;
	uint64_t left = (1ull << q->l2_bits) - (goff >> q->h.cluster_bits & ((1ull << q->l2_bits) - 1)), k, hoff = 0;
	bool own = false, first = false;
	struct slot s;

	if (*n > left)
		*n = left;
	for (k = 0; k < *n; k++) {
		if (slot_get(w, goff + k * q->cluster, &s, e) < 0 || slot_own(w, &s, &own, e) < 0)
			return e->code;
		if (!k) {
			first = own;
			hoff = s.v & OFFSET_MASK;
		} else if (own != first || (own && (s.v & OFFSET_MASK) != hoff + k * q->cluster)) {
			break;
		}
	}
	if (!first && refs_alloc_some(q, 1, &k, &hoff, e) < 0)
		return e->code;
	for (uint64_t i = 0; i < k; i++) {
		if (slot_get(w, goff + i * q->cluster, &s, e) < 0 || (!first && slot_release(w, &s, e) < 0))
			return e->code;
		s = (struct slot){ .v = (hoff + i * q->cluster) | OFLAG_COPIED, .alloc = w->all };
		slot_put(w, goff + i * q->cluster, &s);
	}
	*n = k;
	return dev_write(q->dev, hoff, buf, (size_t)(k * q->cluster), e);
}

static int in_disk(struct writer *w, uint64_t goff, uint64_t n, struct err *e)
{
	if (goff > w->img->size || n > w->img->size - goff)
		return err_set(e, -ERANGE, "%s: cannot write %" PRIu64 " bytes at %" PRIu64 ": past the disk's end", w->img->path, n, goff);
	if (w->q) {
		if (q_may_write(w->q, "write the disk", e) < 0)
			return e->code;
		txn_touch(w->q);
	}
	w->pending += n;
	return 0;
}

static int put_data(struct writer *w, uint64_t goff, const uint8_t *buf, size_t n, struct err *e)
{
	struct qcow2 *q = w->q;

	while (n) {
		uint64_t in = goff & (q->cluster - 1), whole = n >> q->h.cluster_bits, step;

		if (table_for(w, goff, e) < 0)
			return e->code;
		if (in || !whole) {
			step = n < q->cluster - in ? n : q->cluster - in;
			if (put_part(w, goff, buf, (size_t)step, e) < 0)
				return e->code;
		} else {
			if (put_whole(w, goff, buf, &whole, e) < 0)
				return e->code;
			step = whole << q->h.cluster_bits;
		}
		goff += step;
		buf += step;
		n -= (size_t)step;
	}
	return 0;
}

int writer_data(struct writer *w, uint64_t goff, const void *buf, size_t n, struct err *e)
{
	if (in_disk(w, goff, n, e) < 0)
		return e->code;
	return w->q ? put_data(w, goff, buf, n, e) : dev_write(w->img->dev, goff, buf, n, e);
}

int writer_packed(struct writer *w, uint64_t goff, const void *p, size_t n, struct err *e)
{
	struct qcow2 *q = w->q;
	uint64_t left = w->img->size - goff, hoff, v;
	struct slot s;

	if (in_disk(w, goff, left < q->cluster ? left : q->cluster, e) < 0 || table_for(w, goff, e) < 0 || slot_get(w, goff, &s, e) < 0 ||
		refs_alloc_packed(q, n, &hoff, e) < 0 || l2_packed(q, hoff, n, &v, e) < 0 || slot_release(w, &s, e) < 0)
		return e->code;
	put_be64(entry_of(w, goff), v);
	if (q->l2_step == 16)
		put_be64(entry_of(w, goff) + 8, 0);
	w->l2_changed = true;
	return dev_write(q->dev, hoff, p, n, e);
}

/* ---- zeros ---- */

/* The same as data, for what entries cannot say. */
static int zero_bytes(struct writer *w, uint64_t goff, uint64_t n, struct err *e)
{
	auto_free uint8_t *zeros = n ? calloc(1, (size_t)n) : NULL;

	if (n && !zeros)
		return q_nomem(e);
	return n ? put_part(w, goff, zeros, (size_t)n, e) : 0;
}

/* [@from, @to) of the cluster at @base. */
static int zero_cluster(struct writer *w, uint64_t base, uint64_t from, uint64_t to, struct err *e)
{
	uint32_t touched = units(w, from, to), full = covered(w, from, to), are;
	uint64_t first = (from + w->unit - 1) / w->unit * w->unit, last = to / w->unit * w->unit;
	bool hole_is_zero = base >= w->below, whole = full == w->all;
	struct slot s;

	if (slot_get(w, base, &s, e) < 0)
		return e->code;
	are = s.zero | (hole_is_zero ? ~s.alloc : 0);
	if (!(touched & ~are))
		return 0;
	if ((w->q->h.version < 3 && !(whole && hole_is_zero)) || ((s.v & OFLAG_COMPRESSED) && !whole))
		return zero_bytes(w, base + from, to - from, e);
	if (whole && slot_release(w, &s, e) < 0)
		return e->code;
	if (whole)
		s = (struct slot){ 0 };
	s.alloc &= ~full;
	s.zero |= w->q->h.version < 3 ? 0 : full;
	slot_put(w, base, &s);
	/* The ends, inside units that do not read as zeros. */
	if (first > last)
		return touched & ~are ? zero_bytes(w, base + from, to - from, e) : 0;
	if (from < first && (units(w, from, from + 1) & ~are) && zero_bytes(w, base + from, first - from, e) < 0)
		return e->code;
	return to > last && (units(w, to - 1, to) & ~are) ? zero_bytes(w, base + last, to - last, e) : 0;
}

static int put_zero(struct writer *w, uint64_t goff, uint64_t n, struct err *e)
{
	struct qcow2 *q = w->q;
	unsigned shift = q->h.cluster_bits + q->l2_bits;

	while (n) {
		uint64_t in = goff & (q->cluster - 1), step = q->cluster - in, end = goff + n;

		/* The disk's last cluster is whole when there is no more of it. */
		if (step > n)
			step = n;
		if (!(w->l1[goff >> shift] & OFFSET_MASK) && goff >> shift != w->at && goff - in >= w->below) {
			step = (((goff >> shift) + 1) << shift) - goff;
			step = step < n ? step : n;
		} else if (table_for(w, goff, e) < 0 ||
			zero_cluster(w, goff - in, in, end == w->img->size && step == n ? q->cluster : in + step, e) < 0) {
			return e->code;
		}
		goff += step;
		n -= step;
	}
	return 0;
}

int writer_zero(struct writer *w, uint64_t goff, uint64_t n, struct err *e)
{
	if (in_disk(w, goff, n, e) < 0)
		return e->code;
	return w->q ? put_zero(w, goff, n, e) : dev_zero(w->img->dev, goff, n, e);
}

/* ---- the commit ---- */

static int commit_tables(struct writer *w, struct err *e)
{
	struct qcow2 *q = w->q;
	struct qhdr nh = q->h;

	if (table_put(w, e) < 0)
		return e->code;
	if (!w->l1_changed)
		return 0;
	if (tree_put_l1(q, w->l1, q->h.l1_size, &nh.l1_off, e) < 0 || refs_free(q, q->h.l1_off, q->h.l1_size * 8ull, e) < 0 ||
		txn_commit(q, &nh, e) < 0)
		return e->code;
	memcpy(q->l1, w->l1, q->h.l1_size * 8ull);
	w->l1_changed = false;
	return 0;
}

int writer_commit(struct writer *w, struct err *e)
{
	if (!w->q) {
		if (dev_flush(w->img->dev, e) < 0)
			return e->code;
	} else if (w->pending) {
		if (commit_tables(w, e) < 0 || txn_barrier(w->q, e) < 0)
			return e->code;
		w->q->old_size = 0;
	}
	w->pending = 0;
	return 0;
}

/* ---- what it will take ---- */

int writer_cost(struct writer *w, uint64_t goff, uint64_t n, uint64_t *bytes, struct err *e)
{
	uint64_t end = goff + n;
	struct image_run run;
	struct slot s;
	bool own;

	*bytes = 0;
	if (goff < w->counted)
		goff = w->counted;
	for (; goff < end; goff = w->counted) {
		if (!w->q) {
			if (image_map_to(w->img, NULL, -1, goff, end - goff, &run, e) < 0)
				return e->code;
			w->counted = goff + run.len;
			*bytes += run.zero ? run.len : 0;
			continue;
		}
		w->counted = (goff | (w->q->cluster - 1)) + 1;
		if (table_for(w, goff, e) < 0 || slot_get(w, goff, &s, e) < 0 || slot_own(w, &s, &own, e) < 0)
			return e->code;
		*bytes += own ? 0 : w->q->cluster;
	}
	return 0;
}
