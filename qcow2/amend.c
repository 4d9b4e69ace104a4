/* What the header says besides tables: backing file, version, feature bits, the refcounts' width. */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <string.h>

int qcow2_set_backing(struct qcow2 *q, const char *backing, const char *fmt, struct err *e)
{
	struct qext ext[MAX_EXT];
	struct head hd;

	if (q_may_write(q, "change the backing file", e) < 0)
		return e->code;
	if (backing && (q->h.autoclear & QCOW2_AUTOCLEAR_DATA_RAW))
		return err_set(e, -EINVAL, "a backing file and data_file_raw cannot be used together");
	if (fmt && strlen(fmt) >= 16)
		return err_set(e, -EINVAL, "'%s' is no image format", fmt);
	txn_head(q, &hd, ext);
	hd.backing = backing && *backing ? backing : NULL;
	if (!hd.backing)
		fmt = NULL;
	if (txn_head_ext(&hd, ext, EXT_BACKING_FMT, fmt, fmt ? strlen(fmt) : 0, e) < 0 || txn_commit_head(q, &hd, e) < 0)
		return txn_abort(q, e);
	return 0;
}

/* ---- version ---- */

/* Snapshots as version 3 wants them: with the disk's size in the extra data. */
static int snaps_upgrade(struct qcow2 *q, struct qhdr *nh, struct err *e)
{
	bool need = false;

	/* Longer extra data says the same in either version: growing it in memory first harms nothing. */
	for (unsigned i = 0; i < q->h.n_snaps; i++)
		if (q->snaps[i].extra_len < 16) {
			need = true;
			if (snap_set_extra(&q->snaps[i], e) < 0)
				return e->code;
		}
	return need ? snaps_put(q, q->snaps, q->h.n_snaps, &nh->snap_off, e) : 0;
}

static int upgrade(struct qcow2 *q, struct head *hd, struct err *e)
{
	hd->h.version = 3;
	hd->h.len = HDR_FULL_LEN;
	hd->features = true;
	return snaps_upgrade(q, &hd->h, e);
}

/* Why version 2 cannot say what this image is; NULL if it can. */
static const char *not_in_v2(const struct qcow2 *q, const struct qhdr *nh)
{
	if (nh->refcount_order != 4)
		return "refcounts of another width than 16 bits";
	if (nh->incompat & QCOW2_INCOMPAT_DATA_FILE)
		return "an external data file";
	if (nh->incompat & QCOW2_INCOMPAT_EXT_L2)
		return "extended L2 entries";
	if (nh->incompat & QCOW2_INCOMPAT_COMPRESSION)
		return "this compression type";
	if (ext_find(q, EXT_BITMAPS))
		return "bitmaps";
	if (q->h.crypt == 2)
		return "LUKS";
	for (unsigned i = 0; i < q->h.n_snaps; i++)
		if (q->snaps[i].vm_state_size > UINT32_MAX || q->snaps[i].disk_size != q->h.size)
			return "a snapshot of another disk size, or with more than 4 GiB of VM state,";
	return NULL;
}

/*
 * Version 2 has no entry for "reads as zeros". Without a backing file an unallocated one reads the same; with one
 * the cluster has to be there, with zeros in it.
 */
static int expand_entry(struct qcow2 *q, uint64_t *v, struct err *e)
{
	uint64_t hoff = *v & OFFSET_MASK, rc = 0;

	*v = 0;
	if (!q->backing)
		return hoff ? refs_free(q, hoff, q->cluster, e) : 0;
	/*
	 * A preallocated cluster may hold anything, and the old image does not look at it: it is zeroed where it is,
	 * unless it is somebody else's too.
	 */
	if (hoff && refs_get(q, hoff >> q->h.cluster_bits, &rc, e) < 0)
		return e->code;
	if (rc > 1 && refs_free(q, hoff, q->cluster, e) < 0)
		return e->code;
	if (rc != 1 && refs_alloc(q, 1, &hoff, e) < 0)
		return e->code;
	txn_touch(q);
	*v = hoff;
	return dev_zero(q->dev, hoff, q->cluster, e);
}

static int expand_l2(struct qcow2 *q, uint64_t *entry, uint8_t *l2, struct err *e)
{
	bool changed = false;

	if (tree_read_l2(q, *entry, l2, e) < 0)
		return e->code;
	for (uint64_t at = 0; at < q->cluster; at += 8) {
		uint64_t v = get_be64(l2 + at);

		if ((v & OFLAG_COMPRESSED) || !(v & OFLAG_ZERO))
			continue;
		if (expand_entry(q, &v, e) < 0)
			return e->code;
		put_be64(l2 + at, v);
		changed = true;
	}
	return changed ? tree_move_l2(q, entry, l2, e) : 0;
}

/*
 * An L1 table without zero clusters, in a new place at *@off. A table that was shared becomes its own where that
 * changes it; who owns what is clear at the end, when the active layer's flags are set.
 */
static int expand_zeros(struct qcow2 *q, uint64_t *l1, size_t n, bool active, uint64_t *off, struct err *e)
{
	auto_free uint8_t *l2 = malloc(q->cluster);

	if (!l2)
		return q_nomem(e);
	for (size_t i = 0; i < n; i++) {
		if ((l1[i] & OFFSET_MASK) && expand_l2(q, &l1[i], l2, e) < 0)
			return e->code;
		l1[i] &= OFFSET_MASK;
	}
	if (active && (txn_write_done(q, e) < 0 || tree_fix_flags(q, l1, n, e) < 0))
		return e->code;
	return refs_free(q, *off, n * 8ull, e) < 0 ? e->code : tree_put_l1(q, l1, n, off, e);
}

static int downgrade(struct qcow2 *q, struct head *hd, struct qcow2_snap *snaps, struct err *e)
{
	const char *why = not_in_v2(q, &hd->h);

	if (why)
		return err_set(e, -EOPNOTSUPP, "version 2 cannot hold %s", why);
	for (struct qcow2_snap *s = snaps; s < snaps + q->h.n_snaps; s++) {
		auto_free uint64_t *l1 = NULL;

		if (snap_load_l1(q, s, &l1, e) < 0 || expand_zeros(q, l1, s->l1_size, false, &s->l1_off, e) < 0)
			return e->code;
	}
	if (q_load_l1(q, e) < 0 || expand_zeros(q, q->l1, q->h.l1_size, true, &hd->h.l1_off, e) < 0 ||
		(q->h.n_snaps && snaps_put(q, snaps, q->h.n_snaps, &hd->h.snap_off, e) < 0))
		return e->code;
	hd->h.version = 2;
	hd->h.len = HDR_V2_LEN;
	hd->h.incompat = hd->h.compat = hd->h.autoclear = 0;
	return 0;
}

/* ---- the refcounts' width ---- */

/* Refill the engine's memory with the same counts in blocks of another width, all new. */
static int convert_blocks(struct qcow2 *q, struct refs *old, unsigned from, struct err *e)
{
	uint64_t per = q->cluster << 3 >> from;

	for (size_t i = 0; i < old->n; i++)
		for (uint64_t k = 0; old->blk[i].data && k < per; k++) {
			uint64_t v = refblock_get(old->blk[i].data, from, k);

			if (v && refs_set(q, i * per + k, 1, v, e) < 0)
				return e->code;
		}
	for (size_t i = 0; i < old->n; i++)
		if (old->table[i] && refs_free(q, old->table[i], q->cluster, e) < 0)
			return e->code;
	return 0;
}

static int widen(struct qcow2 *q, unsigned order, struct err *e)
{
	struct refs old;
	const uint8_t *p;
	unsigned from = q->h.refcount_order;
	int r = refs_load(q, e);

	for (size_t i = 0; r >= 0 && i < q->refs.n; i++)
		r = refs_block(q, i, &p, e);
	if (r < 0)
		return r;
	old = q->refs;
	q->refs = (struct refs){ .table = calloc(1, 8), .blk = calloc(1, sizeof *old.blk) };
	q->h.refcount_order = order;
	r = q->refs.table && q->refs.blk ? convert_blocks(q, &old, from, e) : q_nomem(e);
	refs_done(&old);
	return r;
}

static int check_amend(struct qcow2 *q, const struct qcow2_amend *a, const struct qhdr *nh, struct err *e)
{
	unsigned bits = (unsigned)a->refcount_bits;

	if (a->version != -1 && a->version != 2 && a->version != 3)
		return err_set(e, -EINVAL, "qcow2 version %d is not supported", a->version);
	if (a->refcount_bits != -1 && (!bits || bits > 64 || bits & (bits - 1)))
		return err_set(e, -EINVAL, "the refcount width must be a power of two, 64 bits at most");
	if (a->lazy_refcounts == 1 && nh->version == 2)
		return err_set(e, -EINVAL, "lazy_refcounts needs compat=1.1 (version 3)");
	if (a->refcount_bits != -1 && bits != 16 && nh->version == 2)
		return err_set(e, -EINVAL, "a refcount width other than 16 needs compat=1.1 (version 3)");
	if ((a->data_file || a->data_file_raw == 1) && !(q->h.incompat & QCOW2_INCOMPAT_DATA_FILE))
		return err_set(e, -EINVAL, "the image has no external data file");
	if (a->data_file_raw == 1 && !(q->h.autoclear & QCOW2_AUTOCLEAR_DATA_RAW))
		return err_set(e, -EINVAL, "data_file_raw cannot be set on an image that was made without it");
	return 0;
}

/* @snaps: a copy of the handle's, to be changed. */
static int amend(struct qcow2 *q, const struct qcow2_amend *a, struct head *hd, struct qext *ext, unsigned order,
	struct qcow2_snap *snaps, struct err *e)
{
	/* First, because it starts the engine's memory anew. */
	if (order != q->h.refcount_order) {
		hd->h.refcount_order = order;
		if (widen(q, order, e) < 0)
			return e->code;
	}
	if (a->version == 3 && q->h.version == 2 && upgrade(q, hd, e) < 0)
		return e->code;
	if (a->version == 2 && q->h.version == 3 && downgrade(q, hd, snaps, e) < 0)
		return e->code;
	if (a->lazy_refcounts >= 0)
		hd->h.compat = (hd->h.compat & ~QCOW2_COMPAT_LAZY) | (a->lazy_refcounts ? QCOW2_COMPAT_LAZY : 0);
	if (a->data_file_raw == 0)
		hd->h.autoclear &= ~QCOW2_AUTOCLEAR_DATA_RAW;
	if (a->data_file && txn_head_ext(hd, ext, EXT_DATA_FILE, a->data_file, strlen(a->data_file), e) < 0)
		return e->code;
	return txn_commit_head(q, hd, e);
}

int qcow2_amend(struct qcow2 *q, const struct qcow2_amend *a, struct err *e)
{
	struct qext ext[MAX_EXT];
	struct head hd;
	auto_free struct qcow2_snap *snaps = NULL;
	unsigned order = q->h.refcount_order, had = order;

	if (q_may_write(q, "amend the image", e) < 0)
		return e->code;
	txn_head(q, &hd, ext);
	if (a->version > 0)
		hd.h.version = (unsigned)a->version;
	if (check_amend(q, a, &hd.h, e) < 0)
		return e->code;
	hd.h.version = q->h.version;
	if (a->refcount_bits > 0)
		order = (unsigned)__builtin_ctz((unsigned)a->refcount_bits);
	if (!(snaps = calloc(q->h.n_snaps + 1, sizeof *snaps)))
		return q_nomem(e);
	if (q->h.n_snaps)
		memcpy(snaps, q->snaps, q->h.n_snaps * sizeof *snaps);
	if (amend(q, a, &hd, ext, order, snaps, e) < 0) {
		if (!q->lost)
			q->h.refcount_order = had;
		free(take_ptr(&q->l1)); /* downgrade() works on it */
		return txn_abort(q, e);
	}
	for (unsigned i = 0; i < q->h.n_snaps; i++)
		q->snaps[i].l1_off = snaps[i].l1_off;
	q->snap_bytes = snaps_bytes(q->snaps, q->h.n_snaps);
	return 0;
}
