/* What an L2 entry refers to. "L2 table entry", "Standard Cluster Descriptor", "Compressed Clusters Descriptor". */
#include "qcow2/internal.h"

void l2_compressed(const struct qcow2 *q, uint64_t v, uint64_t *hoff, uint64_t *len)
{
	unsigned x = 62 - (q->h.cluster_bits - 8);
	uint64_t sectors = ((v & (OFLAG_COMPRESSED - 1)) >> x) + 1;

	*hoff = v & ((1ull << x) - 1);
	*len = sectors * SECTOR - (*hoff & (SECTOR - 1));
}

int l2_packed(const struct qcow2 *q, uint64_t hoff, uint64_t len, uint64_t *v, struct err *e)
{
	unsigned x = 62 - (q->h.cluster_bits - 8);
	uint64_t more = ((hoff + len - 1) / SECTOR) - hoff / SECTOR;

	if (hoff >> x || more >> (62 - x))
		return err_set(e, -EFBIG, "the file is too large for compressed clusters at its end");
	*v = OFLAG_COMPRESSED | more << x | hoff;
	return 0;
}

void l2_refs(const struct qcow2 *q, uint64_t v, uint64_t *first, uint64_t *n)
{
	uint64_t hoff, len;

	*first = *n = 0;
	if (v & OFLAG_COMPRESSED) {
		l2_compressed(q, v, &hoff, &len);
		*first = hoff >> q->h.cluster_bits;
		*n = ((hoff + len - 1) >> q->h.cluster_bits) - *first + 1;
	} else if ((v & OFFSET_MASK) && !(q->h.incompat & QCOW2_INCOMPAT_DATA_FILE)) {
		*first = (v & OFFSET_MASK) >> q->h.cluster_bits;
		*n = 1;
	}
}
