/* Another size for the disk: a new L1 table, and L2 tables only where something must be zeroed, freed or reserved. */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <string.h>

/* What is built beside the image as it stands. */
struct job {
	struct qcow2 *q;
	uint64_t *l1; /* @n entries, owned */
	size_t n;
	uint64_t from, to; /* guest clusters that change */
	uint64_t hide;     /* clusters below this one have to read as zeros, whatever the backing file has */
	uint64_t hoff;     /* where the next preallocated cluster is; 0: no preallocation */
	uint8_t *l2;
};

/* Entry @at of the L2 table at hand, for guest cluster @g of the new part. */
static void entry_grow(struct job *j, uint64_t at, uint64_t g)
{
	struct qcow2 *q = j->q;
	bool hide = g < j->hide, data_file = q->h.incompat & QCOW2_INCOMPAT_DATA_FILE;
	uint64_t v = 0;

	if (j->hoff && data_file) {
		v = g << q->h.cluster_bits | OFLAG_COPIED;
	} else if (j->hoff) {
		v = j->hoff | OFLAG_COPIED;
		j->hoff += q->cluster;
	}
	if (hide && q->l2_step == 8)
		v |= OFLAG_ZERO;
	put_be64(j->l2 + at, v);
	if (q->l2_step == 16)
		put_be64(j->l2 + at + 8, hide ? 0xffffffff00000000ull : 0);
}

/* Entry @at of the L2 table at hand, for a guest cluster that goes. */
static int entry_free(struct job *j, uint64_t at, struct err *e)
{
	uint64_t v = get_be64(j->l2 + at), first, n;

	memset(j->l2 + at, 0, j->q->l2_step);
	l2_refs(j->q, v, &first, &n);
	if (!(v & OFLAG_COMPRESSED) && (v & OFFSET_MASK & (j->q->cluster - 1)))
		return tree_bad_entry(j->q, v, e);
	return n ? refs_add(j->q, first, n, -1, e) : 0;
}

/* The part of [from, to) that L1 entry @i maps: load or make its table, change it, put it to a new place. */
static int job_table(struct job *j, size_t i, bool shrink, struct err *e)
{
	struct qcow2 *q = j->q;
	uint64_t per = 1ull << q->l2_bits, g = i * per > j->from ? i * per : j->from;
	uint64_t end = (i + 1) * per < j->to ? (i + 1) * per : j->to;

	memset(j->l2, 0, q->cluster);
	if ((j->l1[i] & OFFSET_MASK) && tree_read_l2(q, j->l1[i], j->l2, e) < 0)
		return e->code;
	for (; g < end; g++) {
		uint64_t at = (g & (per - 1)) * q->l2_step;

		if (shrink && entry_free(j, at, e) < 0)
			return e->code;
		if (!shrink)
			entry_grow(j, at, g);
	}
	return tree_move_l2(q, &j->l1[i], j->l2, e);
}

/* ---- growing ---- */

/* Would the backing file show behind the old end, @in bytes into a cluster with entry @v and subclusters @bits? */
static bool shows_behind(const struct qcow2 *q, uint64_t v, uint64_t bits, uint64_t in)
{
	if (v & OFLAG_COMPRESSED)
		return false;
	if (q->l2_step == 8)
		return !(v & (OFFSET_MASK | OFLAG_ZERO));
	return (~(bits | bits >> 32) & 0xffffffffull) >> (in / (q->cluster / 32));
}

/* Data cluster @hoff, with zeros from byte @in on, in a new place. */
static int copy_cut(struct qcow2 *q, uint64_t hoff, uint64_t in, uint64_t *new, struct err *e)
{
	auto_free uint8_t *data = malloc(q->cluster);

	if (!data)
		return q_nomem(e);
	if (region_check(q, "data cluster", hoff, 1, q->cluster, q->cluster, e) < 0 || q_read(q, hoff, data, q->cluster, e) < 0)
		return e->code;
	memset(data + in, 0, q->cluster - in);
	if (refs_free(q, hoff, q->cluster, e) < 0 || refs_alloc(q, 1, new, e) < 0)
		return e->code;
	return txn_write(q, *new, data, q->cluster, e);
}

/*
 * The disk's last cluster may end with bytes from before it was shrunk, or with the backing file's: they must not
 * come into view. Data is copied to a new cluster with zeros behind the old end.
 */
static int zero_tail(struct job *j, uint64_t hide_to, struct err *e)
{
	struct qcow2 *q = j->q;
	uint64_t in = q->h.size & (q->cluster - 1), v = 0, bits = 0, new;
	uint64_t at = (q->h.size >> q->h.cluster_bits & ((1ull << q->l2_bits) - 1)) * q->l2_step;
	size_t i = (size_t)(q->h.size >> (q->h.cluster_bits + q->l2_bits));

	if (!in)
		return 0;
	if (j->l1[i] & OFFSET_MASK) {
		if (tree_read_l2(q, j->l1[i], j->l2, e) < 0)
			return e->code;
		v = get_be64(j->l2 + at);
		bits = q->l2_step == 16 ? get_be64(j->l2 + at + 8) : 0;
	}
	if (hide_to > q->h.size && shows_behind(q, v, bits, in))
		return err_set(e, -EOPNOTSUPP, "the disk ends inside a cluster, and the backing file would show behind that end");
	if (v & (OFLAG_COMPRESSED | (q->l2_step == 8 ? OFLAG_ZERO : 0)) || !(v & OFFSET_MASK) ||
		q->h.incompat & QCOW2_INCOMPAT_DATA_FILE)
		return 0;
	if (copy_cut(q, v & OFFSET_MASK, in, &new, e) < 0)
		return e->code;
	put_be64(j->l2 + at, new | OFLAG_COPIED);
	/* The table may be read again: it has to be on the device. */
	return tree_move_l2(q, &j->l1[i], j->l2, e) < 0 ? e->code : txn_write_done(q, e);
}

static int reserve(struct job *j, enum qcow2_prealloc how, struct err *e)
{
	struct qcow2 *q = j->q;
	uint64_t n = j->to - j->from, bytes = n << q->h.cluster_bits;

	if (how == QCOW2_PREALLOC_OFF || !n)
		return 0;
	if (q->h.incompat & QCOW2_INCOMPAT_DATA_FILE) {
		j->hoff = 1; /* any: places follow from the guest's offsets */
		return 0;
	}
	if (refs_alloc(q, n, &j->hoff, e) < 0)
		return e->code;
	/* Free clusters may hold anything. */
	txn_touch(q);
	if (how != QCOW2_PREALLOC_FULL && dev_zero(q->dev, j->hoff, bytes, e) < 0)
		return e->code;
	return how == QCOW2_PREALLOC_METADATA ? 0 : prealloc_area(q, j->hoff, bytes, how, e);
}

static int grow(struct job *j, uint64_t size, uint64_t hide_to, enum qcow2_prealloc how, struct err *e)
{
	struct qcow2 *q = j->q;
	unsigned shift = q->h.cluster_bits + q->l2_bits;

	j->from = q_clusters(q, q->h.size);
	j->to = q_clusters(q, size);
	j->hide = q_clusters(q, hide_to < size ? hide_to : size);
	if (zero_tail(j, hide_to, e) < 0 || reserve(j, how, e) < 0)
		return e->code;
	if (!j->hoff)
		j->to = j->hide > j->from ? j->hide : j->from;
	if (j->hide > j->from && q->h.version < 3)
		return err_set(e, -EOPNOTSUPP, "version 2 cannot hide what the backing file has behind the old end");
	for (uint64_t i = j->from << q->h.cluster_bits >> shift; i < j->n && j->from < j->to && i << q->l2_bits < j->to; i++)
		if (job_table(j, (size_t)i, false, e) < 0)
			return e->code;
	return 0;
}

/* ---- shrinking ---- */

static int shrink_to(struct job *j, uint64_t size, struct err *e)
{
	struct qcow2 *q = j->q;
	size_t keep = (size_t)q_l1_needed(q, size), had = q->h.l1_size;

	/* Whole tables that go, and what VM state lies behind the disk. */
	if (had > keep && tree_count(q, q->l1 + keep, had - keep, NULL, 0, -1, e) < 0)
		return e->code;
	j->from = q_clusters(q, size);
	j->to = (uint64_t)keep << q->l2_bits;
	if (j->from < j->to && (j->l1[keep - 1] & OFFSET_MASK) && job_table(j, keep - 1, true, e) < 0)
		return e->code;
	return 0;
}

/* ---- both ---- */

static int resize_allowed(struct qcow2 *q, uint64_t size, bool shrink, enum qcow2_prealloc how, struct err *e)
{
	if (size & (SECTOR - 1) || size > INT64_MAX)
		return err_set(e, -EINVAL, "its size must be a multiple of 512 bytes, below 8 EiB");
	if (size < q->h.size && !shrink) {
		err_set(e, -EINVAL, "it would lose what is past %" PRIu64 " bytes", size);
		return err_hint(e, "--shrink does it all the same");
	}
	if (size < q->h.size && how != QCOW2_PREALLOC_OFF)
		return err_set(e, -EINVAL, "preallocation is for growing");
	if (q->h.version == 2 && q->h.n_snaps)
		return err_set(e, -EOPNOTSUPP, "snapshots of version 2 do not record its size");
	if (q_l1_needed(q, size) > MAX_L1_BYTES / 8)
		return err_set(e, -EFBIG, "a disk of %" PRIu64 " bytes is too large for clusters of %" PRIu64 " bytes", size, q->cluster);
	return q_load_l1(q, e);
}

static int resize(struct job *j, uint64_t size, uint64_t hide_to, enum qcow2_prealloc how, struct err *e)
{
	struct qcow2 *q = j->q;
	size_t disk = (size_t)q_l1_needed(q, q->h.size), had = q->h.l1_size;
	struct qext ext[MAX_EXT];
	struct head hd;
	uint8_t x[24];

	txn_head(q, &hd, ext);
	hd.h.size = size;
	hd.h.l1_size = (uint32_t)j->n;
	memcpy(j->l1, q->l1, (disk < j->n ? disk : j->n) * 8);
	if (size > q->h.size) {
		/* VM state that nobody names lies where the disk grows to. */
		if (had > disk && tree_count(q, q->l1 + disk, had - disk, NULL, 0, -1, e) < 0)
			return e->code;
		if (grow(j, size, hide_to, how, e) < 0)
			return e->code;
	} else if (shrink_to(j, size, e) < 0) {
		return e->code;
	}
	if (tree_put_l1(q, j->l1, j->n, &hd.h.l1_off, e) < 0 || refs_free(q, q->h.l1_off, had * 8, e) < 0 ||
		bitmaps_refit(q, &hd, ext, x, size, false, e) < 0 || txn_commit_head(q, &hd, e) < 0)
		return e->code;
	bitmaps_free(&q->bitmaps);
	free(q->l1);
	q->l1 = take_ptr(&j->l1);
	return 0;
}

int qcow2_resize(struct qcow2 *q, uint64_t size, bool shrink, uint64_t hide_to, enum qcow2_prealloc prealloc, struct err *e)
{
	struct job j = { .q = q, .n = (size_t)q_l1_needed(q, size) };
	int r;

	if (q_may_write(q, "resize the disk", e) < 0)
		return e->code;
	if (resize_allowed(q, size, shrink, prealloc, e) < 0)
		return err_at(e, "cannot resize the disk");
	if (size == q->h.size)
		return 0;
	j.l1 = calloc(j.n ? j.n : 1, 8);
	j.l2 = malloc(q->cluster);
	r = j.l1 && j.l2 ? resize(&j, size, hide_to, prealloc, e) : q_nomem(e);
	free(j.l1);
	free(j.l2);
	return r < 0 ? txn_abort(q, e) : 0;
}
