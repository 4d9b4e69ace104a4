/* What a snapshot takes of its file, and what of that is its own. */
#include "qcow2/internal.h"

struct space {
	uint64_t used, alone; /* clusters */
};

static int count(struct qcow2 *q, struct space *s, uint64_t first, uint64_t n, struct err *e)
{
	for (; n--; first++) {
		uint64_t rc;

		if (refs_get(q, first, &rc, e) < 0)
			return e->code;
		s->used++;
		s->alone += rc == 1;
	}
	return 0;
}

static int count_l2(struct qcow2 *q, struct space *s, const uint8_t *l2, struct err *e)
{
	for (const uint8_t *p = l2, *end = l2 + q->cluster; p < end; p += q->l2_step) {
		uint64_t v = get_be64(p), first, n;

		if (v & OFLAG_COMPRESSED) {
			l2_refs(q, v, &first, &n);
		} else {
			first = (v & OFFSET_MASK) >> q->h.cluster_bits;
			n = first && !(q->h.incompat & QCOW2_INCOMPAT_DATA_FILE);
		}
		if (count(q, s, first, n, e) < 0)
			return e->code;
	}
	return 0;
}

int qcow2_snap_space(struct qcow2 *q, unsigned index, uint64_t *used, uint64_t *alone, struct err *e)
{
	auto_free uint64_t *l1 = NULL;
	auto_free uint8_t *buf = malloc(q->cluster);
	struct space s = { 0, 0 };

	if (!buf)
		return err_nomem(e, "read L2 tables");
	if (index >= q->h.n_snaps)
		return err_set(e, -ENOENT, "there is no snapshot %u", index);
	if (refs_load(q, e) < 0 || snap_load_l1(q, &q->snaps[index], &l1, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < q->snaps[index].l1_size; i++) {
		uint64_t off = l1[i] & OFFSET_MASK;

		if (off && (tree_read_l2(q, off, buf, e) < 0 || count(q, &s, off >> q->h.cluster_bits, 1, e) < 0 ||
			count_l2(q, &s, buf, e) < 0))
			return e->code;
	}
	*used = s.used << q->h.cluster_bits;
	*alone = s.alone << q->h.cluster_bits;
	return 0;
}
