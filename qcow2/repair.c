/* Repair: true refcounts and flags beside the wrong ones, then one sector of the header. See txn.c. */
#include "qcow2/check.h"

#include <stdlib.h>

/* What may be wrong while every reference is known and none points to the wrong place. */
static const int harmless[] = { F_RC_HIGH, F_FLAG_L2, F_FLAG_DATA, F_SHARED_L2, F_SHARED_DATA, F_SNAP_SHORT, F_SNAP_LONG, -1 };

static bool all_fixable(const struct chk *c, bool *any)
{
	bool all = true;

	*any = false;
	for (int f = 0; f < N_FINDINGS; f++) {
		bool can = finding_fixable(c, (enum finding)f);

		*any |= c->seen[f] && can;
		all &= !c->seen[f] || can;
	}
	return all;
}

void repair_plan(struct chk *c)
{
	bool any;

	/* Freeing what seems to be leaked is right only if nothing else is wrong, or all of it gets repaired. */
	if (!(c->fix & QCOW2_FIX_ERRORS) && findings_but(c, harmless))
		c->fix = 0;
	if (c->hidden)
		c->fix &= ~(unsigned)QCOW2_FIX_LEAKS;
	/* Mending writes in place: not into a table that is something else besides. */
	if (c->seen[F_OVERLAP])
		c->mend = c->shared = false;
	if (c->seen[F_TANGLED] || c->seen[F_OVERFLOW])
		c->shared = false;
	/* Flags are data to whoever takes something else for a table. */
	if (!all_fixable(c, &any))
		c->flags = false;
}

static int mend(struct chk *c, struct err *e)
{
	if (!c->mend || !(c->seen[F_L2_PREALLOC] + c->seen[F_PACKED_COPIED] + c->seen[F_PACKED_BITMAP]))
		return 0;
	c->phase = PH_MEND;
	return check_tables(c, e); /* durable with the flush before the commit */
}

/* No refcounts yet: everything new goes behind the file's end, where it can hurt nothing. */
static int start_empty(struct qcow2 *q, struct err *e)
{
	refs_done(&q->refs);
	q->refs.table = malloc(8);
	q->refs.blk = malloc(sizeof *q->refs.blk);
	if (!q->refs.table || !q->refs.blk) {
		refs_done(&q->refs);
		return q_nomem(e);
	}
	q->h.rt_clusters = 0; /* the old table is not to be given back */
	return 0;
}

/* Refcounts behind the file's end would be leaks as soon as it grows, which it does now. */
static int clear_tail(struct chk *c, struct err *e)
{
	uint64_t per = refs_per_block(c->q), at = c->n_clusters + 1, rc;

	if (!(c->fix & QCOW2_FIX_LEAKS))
		return 0;
	if (at < c->n_past)
		at = c->n_past;
	if (refs_load(c->q, e) < 0)
		return e->code;
	while (at / per < c->q->refs.n) {
		if (!c->q->refs.table[at / per]) {
			at = (at / per + 1) * per;
			continue;
		}
		if (refs_get(c->q, at, &rc, e) < 0 || (rc && refs_set(c->q, at, 1, 0, e) < 0))
			return e->code;
		at++;
	}
	return 0;
}

/* COPIED flags by the refcounts to be; tables whose flags change move. Entries that name no table are left alone. */
static int fix_flags(struct qcow2 *q, uint64_t *l1, bool *changed, struct err *e)
{
	auto_free uint8_t *buf = malloc(q->cluster);
	struct err bad;
	uint64_t rc;

	if (!buf)
		return q_nomem(e);
	for (size_t i = 0; i < q->h.l1_size; i++) {
		uint64_t off = l1[i] & OFFSET_MASK, v = l1[i];
		bool moves;

		if (!off || region_check(q, "L2 table", off, 1, q->cluster, q->cluster, &bad) < 0)
			continue;
		if (q_read(q, off, buf, q->cluster, e) < 0 || tree_fix_l2(q, buf, &moves, e) < 0 ||
			(moves && tree_move_l2(q, &l1[i], buf, e) < 0))
			return e->code;
		if (!moves) {
			if (refs_get(q, off >> q->h.cluster_bits, &rc, e) < 0)
				return e->code;
			l1[i] = (v & ~OFLAG_COPIED) | (rc == 1 ? OFLAG_COPIED : 0);
		}
		*changed |= l1[i] != v;
	}
	return 0;
}

static int put_l1(struct chk *c, struct qhdr *nh, struct err *e)
{
	struct qcow2 *q = c->q;
	bool changed = false, all, any;

	/* Without the larger consent only those flags change that freeing leaks made wrong. */
	all = all_fixable(c, &any);
	if (c->seen[F_OVERFLOW])
		return 0;
	if (!all && !c->flags)
		return 0;
	if (q_load_l1(q, e) < 0 || fix_flags(q, q->l1, &changed, e) < 0)
		return e->code;
	if (!changed)
		return 0;
	if (tree_put_l1(q, q->l1, nh->l1_size, &nh->l1_off, e) < 0)
		return e->code;
	return refs_free(q, q->h.l1_off, q->h.l1_size * 8ull, e);
}

/*
 * Entries with what version 3 promises, and without what QEMU would not read: it drops that too. Where
 * refcounts cannot say how often a cluster is used no table moves: its old place would seem to be free, and be discarded.
 */
static int put_snaps(struct chk *c, struct qhdr *nh, struct err *e)
{
	struct qcow2 *q = c->q;

	if (!(c->fix & QCOW2_FIX_ERRORS) || c->seen[F_OVERFLOW] || !(c->seen[F_SNAP_SHORT] + c->seen[F_SNAP_LONG]))
		return 0;
	for (unsigned i = 0; i < nh->n_snaps; i++) {
		struct qcow2_snap *s = &q->snaps[i];

		if (s->extra_len > MAX_SNAP_EXTRA)
			s->extra_len = 24; /* all that is defined today */
		if (s->extra_len < 16 && snap_set_extra(s, e) < 0)
			return e->code;
	}
	return snaps_put(q, q->snaps, nh->n_snaps, &nh->snap_off, e);
}

/* All that the shadow commit is to say. */
static int apply_all(struct chk *c, struct qhdr *nh, struct err *e)
{
	struct qcow2 *q = c->q;

	c->mute = c->apply = true;
	if (c->rebuild && start_empty(q, e) < 0)
		return e->code;
	if (check_windows(c, e) < 0 || (!c->rebuild && clear_tail(c, e) < 0))
		return e->code;
	if (findings_but(c, harmless))
		q->refs.hint = c->n_clusters + 1;
	return put_l1(c, nh, e) < 0 || put_snaps(c, nh, e) < 0 || txn_commit(q, nh, e) < 0 ? e->code : 0;
}

/* An entry lies within one sector: what a cut leaves has the flag or has it not, and the refcount is on the disk by now. */
static int clear_copied(struct qcow2 *q, uint64_t at, uint64_t *v, struct err *e)
{
	uint8_t out[8];
	uint64_t rc;

	if (!(*v & OFLAG_COPIED) || !(*v & OFFSET_MASK))
		return 0;
	if (refs_get(q, (*v & OFFSET_MASK) >> q->h.cluster_bits, &rc, e) < 0)
		return e->code;
	if (rc <= 1)
		return 0;
	*v &= ~OFLAG_COPIED;
	put_be64(out, *v);
	return dev_write(q->dev, at, out, sizeof out, e);
}

/*
 * Something stays that nobody can repair, so that no table moves. A shared cluster with the flag cannot wait: the next write
 * to one place of the disk would change the other as well.
 */
static int clear_shared(struct chk *c, struct err *e)
{
	struct qcow2 *q = c->q;
	auto_free uint8_t *buf = malloc(q->cluster);
	struct err bad;

	if (c->flags || !c->shared || !(c->seen[F_SHARED_L2] + c->seen[F_SHARED_DATA] + c->seen[F_RC_LOW]))
		return 0;
	if (!buf)
		return q_nomem(e);
	if (q_load_l1(q, e) < 0)
		return e->code;
	for (size_t i = 0; i < q->h.l1_size; i++) {
		uint64_t off = q->l1[i] & OFFSET_MASK;

		if (!off || region_check(q, "L2 table", off, 1, q->cluster, q->cluster, &bad) < 0)
			continue;
		if (clear_copied(q, q->h.l1_off + 8 * i, &q->l1[i], e) < 0 || q_read(q, off, buf, q->cluster, e) < 0)
			return e->code;
		for (uint64_t at = 0; at < q->cluster && !(q->h.incompat & QCOW2_INCOMPAT_DATA_FILE); at += q->l2_step) {
			uint64_t v = get_be64(buf + at);

			if (!(v & OFLAG_COMPRESSED) && clear_copied(q, off + at, &v, e) < 0)
				return e->code;
		}
	}
	return dev_flush(q->dev, e);
}

int repair(struct chk *c, struct err *e)
{
	const uint64_t marks = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;
	struct qcow2 *q = c->q;
	struct qhdr old = q->h, nh = q->h;
	bool any, all = all_fixable(c, &any);

	if (all && c->fix)
		nh.incompat &= ~marks;
	if (!nh.n_snaps && (c->fix & QCOW2_FIX_ERRORS))
		nh.snap_off = 0;
	if (!c->fix || (!any && nh.incompat == old.incompat && nh.snap_off == old.snap_off)) {
		findings_sum(c, false);
		return 0;
	}
	if (mend(c, e) < 0 || apply_all(c, &nh, e) < 0) {
		q->h = old;
		free(q->l1);
		q->l1 = NULL;
		findings_sum(c, false);
		c->r->check_errors = 1;
		return txn_abort(q, e);
	}
	if (q->h.snap_off != old.snap_off)
		q->snap_bytes = snaps_bytes(q->snaps, q->h.n_snaps);
	if (clear_shared(c, e) < 0) {
		findings_sum(c, false);
		c->r->check_errors = 1;
		return e->code;
	}
	findings_sum(c, true);
	return 0;
}
