/* VM state, which lies behind the end of the virtual disk. "Snapshots", "Snapshot table entry": VM state. */
#include "qcow2/internal.h"

#include <inttypes.h>

/* Does the entry at @p hold the first @n bytes of its cluster, in this file? "Extended L2 Entries" */
static bool entry_whole(const struct qcow2 *q, const uint8_t *p, uint64_t n)
{
	uint64_t v = get_be64(p), sub, hoff, len, need;

	if (v & OFLAG_COMPRESSED) {
		l2_compressed(q, v, &hoff, &len);
		return hoff < q->dev->size && hoff + len < q->dev->size + q->cluster;
	}
	hoff = v & OFFSET_MASK;
	if (q->l2_step == 16) {
		sub = get_be64(p + 8);
		need = (1ull << ((n - 1) / (q->cluster / 32))) * 2 - 1;
		return ((sub | sub >> 32) & need) == need && (!(sub & need) || (hoff && hoff < q->dev->size));
	}
	return (v & OFLAG_ZERO) || (hoff && hoff < q->dev->size && q->dev->size - hoff >= n);
}

/* The part of the VM state that one L2 table maps: @left bytes of it, or all it can. */
static int table_whole(struct qcow2 *q, uint64_t entry, uint8_t *buf, uint64_t left, bool *whole, struct err *e)
{
	uint64_t off = entry & OFFSET_MASK;

	if (!off || region_check(q, "L2 table", off, 1, q->cluster, q->cluster, e) < 0) {
		*whole = false;
		return 0;
	}
	if (q_read(q, off, buf, q->cluster, e) < 0)
		return e->code;
	for (uint64_t at = 0; at < q->cluster && left && *whole; at += q->l2_step) {
		uint64_t n = left < q->cluster ? left : q->cluster;

		*whole = entry_whole(q, buf + at, n);
		left -= n;
	}
	return 0;
}

int qcow2_vm_state_whole(struct qcow2 *q, unsigned index, bool *whole, struct err *e)
{
	unsigned shift = q->h.cluster_bits + q->l2_bits;
	const struct qcow2_snap *s;
	auto_free uint8_t *buf = NULL;
	auto_free uint64_t *l1 = NULL;
	uint64_t i, left;

	if (index >= q->h.n_snaps)
		return err_set(e, -ENOENT, "cannot look at VM state: there is no snapshot %u", index);
	s = &q->snaps[index];
	*whole = false;
	left = s->vm_state_size;
	i = q_l1_needed(q, s->disk_size);
	if (i > s->l1_size || left > (s->l1_size - i) << shift)
		return 0;
	buf = malloc(q->cluster);
	if (!buf)
		return q_nomem(e);
	if (snap_load_l1(q, s, &l1, e) < 0)
		return e->code;
	*whole = true;
	for (; left && *whole; i++) {
		uint64_t n = left < 1ull << shift ? left : 1ull << shift;

		if (table_whole(q, l1[i], buf, n, whole, e) < 0)
			return e->code;
		left -= n;
	}
	return 0;
}

/* Free what the active layer's L1 entries from @first on refer to. */
static int drop_from(struct qcow2 *q, uint64_t first, struct err *e)
{
	auto_free uint64_t *l1 = NULL;
	struct qhdr nh = q->h;
	size_t i;

	for (i = first; i < nh.l1_size && !q->l1[i]; i++)
		;
	if (i >= nh.l1_size)
		return 0;
	l1 = calloc(nh.l1_size, 8);
	if (!l1)
		return q_nomem(e);
	memcpy(l1, q->l1, first * 8);
	if (tree_count(q, q->l1 + first, nh.l1_size - first, NULL, 0, -1, e) < 0 ||
		tree_put_l1(q, l1, nh.l1_size, &nh.l1_off, e) < 0 || refs_free(q, q->h.l1_off, q->h.l1_size * 8ull, e) < 0 ||
		txn_commit(q, &nh, e) < 0)
		return txn_abort(q, e);
	free(q->l1);
	q->l1 = take_ptr(&l1);
	return 0;
}

int qcow2_vm_state_drop(struct qcow2 *q, struct err *e)
{
	if (q_may_write(q, "drop VM state", e) < 0 || q_load_l1(q, e) < 0)
		return e->code;
	return drop_from(q, q_l1_needed(q, q->h.size), e);
}

int qcow2_make_empty(struct qcow2 *q, struct err *e)
{
	if (q_may_write(q, "empty the image", e) < 0 || q_load_l1(q, e) < 0)
		return e->code;
	if (q->h.incompat & QCOW2_INCOMPAT_DATA_FILE)
		return err_set(e, -EOPNOTSUPP, "cannot empty an image with an external data file");
	return drop_from(q, 0, e);
}
