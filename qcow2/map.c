/* Where guest offsets live. "Cluster mapping", "L2 table entry", "Extended L2 Entries". */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <string.h>

/* Have the L1 table of @snap at hand. */
static int view_for(struct qcow2 *q, int snap, struct err *e)
{
	struct view *v = q->view;

	if (v && v->snap == snap)
		return 0;
	map_forget(q);
	v = q->view = calloc(1, sizeof *v);
	if (!v || !(v->l2 = malloc(q->cluster))) {
		map_forget(q);
		return q_nomem(e);
	}
	v->snap = -1;
	if (snap < 0)
		return q_load_l1(q, e);
	if (snap_load_l1(q, &q->snaps[snap], &v->l1, e) < 0)
		return e->code;
	v->n = q->snaps[snap].l1_size;
	v->snap = snap;
	return 0;
}

/* One entry as a run from byte @in of its cluster. */
static int decode(struct qcow2 *q, uint64_t v, uint64_t bits, uint64_t in, struct qcow2_run *r, struct err *e)
{
	uint64_t sub = q->cluster / 32;

	*r = (struct qcow2_run){ .goff = r->goff, .len = q->cluster - in, .kind = QCOW2_HOLE };
	if (v & OFLAG_COMPRESSED) {
		r->kind = QCOW2_COMPRESSED;
		r->has_hoff = true;
		l2_compressed(q, v, &r->hoff, &r->clen);
		return 0;
	}
	/* With a data file, offset 0 is a place like any other when COPIED is set. */
	r->has_hoff = (v & OFFSET_MASK) || ((v & OFLAG_COPIED) && (q->h.incompat & QCOW2_INCOMPAT_DATA_FILE));
	r->hoff = (v & OFFSET_MASK) + in;
	if ((v & OFFSET_MASK) & (q->cluster - 1))
		return tree_bad_entry(q, v, e);
	if (q->l2_step == 8) {
		r->kind = v & OFLAG_ZERO ? QCOW2_ZEROS : r->has_hoff ? QCOW2_DATA : QCOW2_HOLE;
	} else {
		uint64_t at = in / sub, mask = 0x100000001ull << at, kind = bits & mask;

		r->kind = bits >> at & 1 ? QCOW2_DATA : bits >> (at + 32) & 1 ? QCOW2_ZEROS : QCOW2_HOLE;
		if (r->kind == QCOW2_DATA && !r->has_hoff)
			return err_set(e, -EUCLEAN, "L2 entry %#" PRIx64 " has subclusters but no cluster", v);
		r->len = sub - in % sub;
		for (at++, kind >>= at - 1; at < 32 && (bits >> at & 0x100000001ull) == kind; at++)
			r->len += sub;
	}
	return 0;
}

static bool joins(const struct qcow2_run *a, const struct qcow2_run *b)
{
	return a->kind == b->kind && a->kind != QCOW2_COMPRESSED && a->has_hoff == b->has_hoff &&
	       (!a->has_hoff || a->hoff + a->len == b->hoff);
}

static int map_l2(struct qcow2 *q, uint64_t goff, struct qcow2_run *run, struct err *e)
{
	const uint8_t *l2 = q->view->l2;
	uint64_t entries = q->cluster / q->l2_step, at = goff;
	struct qcow2_run r = { 0 };

	for (uint64_t i = (goff >> q->h.cluster_bits) & (entries - 1); i < entries;) {
		const uint8_t *p = l2 + i * q->l2_step;

		if (decode(q, get_be64(p), q->l2_step == 16 ? get_be64(p + 8) : 0, at & (q->cluster - 1), &r, e) < 0)
			return e->code;
		r.goff = at;
		if (at == goff)
			*run = r;
		else if (!joins(run, &r))
			return 0;
		else
			run->len += r.len;
		at += r.len;
		i += !(at & (q->cluster - 1));
	}
	return 0;
}

/* No L2 table: nothing is allocated as far as that goes. */
static void map_nothing(struct qcow2 *q, const uint64_t *l1, size_t n, uint64_t i, uint64_t goff, struct qcow2_run *run)
{
	unsigned shift = q->h.cluster_bits + q->l2_bits;
	uint64_t to = i + 1;

	while (to < n && !(l1[to] & OFFSET_MASK))
		to++;
	*run = (struct qcow2_run){ .goff = goff, .len = to >= n ? UINT64_MAX - goff : (to << shift) - goff };
}

/* @size: where what is mapped ends. */
static int map(struct qcow2 *q, int snap, uint64_t goff, uint64_t size, struct qcow2_run *run, struct err *e)
{
	uint64_t i = goff >> (q->h.cluster_bits + q->l2_bits);
	const uint64_t *l1;
	size_t n;

	if (goff >= size)
		return err_set(e, -ERANGE, "offset %" PRIu64 " is past the disk's end at %" PRIu64, goff, size);
	if (view_for(q, snap, e) < 0)
		return e->code;
	l1 = snap < 0 ? q->l1 : q->view->l1;
	n = snap < 0 ? q->h.l1_size : q->view->n;
	if (i >= n || !(l1[i] & OFFSET_MASK)) {
		map_nothing(q, l1, n, i, goff, run);
	} else {
		if (q->view->l2_off != (l1[i] & OFFSET_MASK) && tree_read_l2(q, l1[i], q->view->l2, e) < 0) {
			q->view->l2_off = 0;
			return e->code;
		}
		q->view->l2_off = l1[i] & OFFSET_MASK;
		if (map_l2(q, goff, run, e) < 0)
			return e->code;
	}
	if (run->len > size - goff)
		run->len = size - goff;
	return 0;
}

int qcow2_map(struct qcow2 *q, int snap, uint64_t goff, struct qcow2_run *run, struct err *e)
{
	return map(q, snap, goff, snap < 0 ? q->h.size : q->snaps[snap].disk_size, run, e);
}

int qcow2_vm_state_map(struct qcow2 *q, unsigned index, uint64_t off, struct qcow2_run *run, struct err *e)
{
	const struct qcow2_snap *s = &q->snaps[index];
	uint64_t start = q_l1_needed(q, s->disk_size) << (q->h.cluster_bits + q->l2_bits), end;

	if (__builtin_add_overflow(start, s->vm_state_size, &end) || off >= s->vm_state_size)
		return err_set(e, -ERANGE, "VM state offset %" PRIu64 " is past its end at %" PRIu64, off, s->vm_state_size);
	if (map(q, (int)index, start + off, end, run, e) < 0)
		return e->code;
	run->goff = off;
	return 0;
}
