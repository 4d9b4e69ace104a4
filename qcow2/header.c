/* The header: bytes to a checked struct and back. "Header", "Additional fields", "Header extensions". */
#include "qcow2/internal.h"

#include <inttypes.h>

int hdr_decode(const uint8_t *p, size_t n, struct qhdr *h, struct err *e)
{
	if (n < HDR_V2_LEN || get_be32(p + HDR_MAGIC) != QCOW2_MAGIC)
		return err_set(e, -EINVAL, "this is not a qcow2 image");
	*h = (struct qhdr){
		.version = get_be32(p + HDR_VERSION),
		.cluster_bits = get_be32(p + HDR_CLUSTER),
		.refcount_order = 4,
		.crypt = get_be32(p + HDR_CRYPT),
		.len = HDR_V2_LEN,
		.backing_off = get_be64(p + HDR_BACKING_OFF),
		.backing_len = get_be32(p + HDR_BACKING_LEN),
		.size = get_be64(p + HDR_SIZE),
		.l1_size = get_be32(p + HDR_L1_SIZE),
		.l1_off = get_be64(p + HDR_L1_OFF),
		.rt_off = get_be64(p + HDR_RT_OFF),
		.rt_clusters = get_be32(p + HDR_RT_CLUSTERS),
		.n_snaps = get_be32(p + HDR_N_SNAPS),
		.snap_off = get_be64(p + HDR_SNAP_OFF),
	};
	if (h->version != 2 && h->version != 3)
		return err_set(e, -EOPNOTSUPP, "qcow2 version %u is not supported", h->version);
	if (h->cluster_bits < MIN_CLUSTER_BITS || h->cluster_bits > MAX_CLUSTER_BITS)
		return err_set(e, -EUCLEAN, "cluster size 2^%u is outside 2^%d to 2^%d", h->cluster_bits, MIN_CLUSTER_BITS,
			MAX_CLUSTER_BITS);
	if (h->version == 2)
		return 0;
	if (n < HDR_V3_LEN)
		return err_set(e, -ENODATA, "the header ends after %zu bytes", n);
	h->incompat = get_be64(p + HDR_INCOMPAT);
	h->compat = get_be64(p + HDR_COMPAT);
	h->autoclear = get_be64(p + HDR_AUTOCLEAR);
	h->refcount_order = get_be32(p + HDR_REF_ORDER);
	h->len = get_be32(p + HDR_LEN);
	if (h->len < HDR_V3_LEN || h->len > 1u << h->cluster_bits)
		return err_set(e, -EUCLEAN, "header length %u is outside %d to the cluster size", h->len, HDR_V3_LEN);
	if (h->refcount_order > 6)
		return err_set(e, -EUCLEAN, "refcount order %u is above 6 (64 bits)", h->refcount_order);
	if (h->len > HDR_COMPRESSION && n > HDR_COMPRESSION)
		h->compression = p[HDR_COMPRESSION];
	return 0;
}

void hdr_encode(const struct qhdr *h, uint8_t *p)
{
	put_be32(p + HDR_MAGIC, QCOW2_MAGIC);
	put_be32(p + HDR_VERSION, h->version);
	put_be64(p + HDR_BACKING_OFF, h->backing_off);
	put_be32(p + HDR_BACKING_LEN, h->backing_len);
	put_be32(p + HDR_CLUSTER, h->cluster_bits);
	put_be64(p + HDR_SIZE, h->size);
	put_be32(p + HDR_CRYPT, h->crypt);
	put_be32(p + HDR_L1_SIZE, h->l1_size);
	put_be64(p + HDR_L1_OFF, h->l1_off);
	put_be64(p + HDR_RT_OFF, h->rt_off);
	put_be32(p + HDR_RT_CLUSTERS, h->rt_clusters);
	put_be32(p + HDR_N_SNAPS, h->n_snaps);
	put_be64(p + HDR_SNAP_OFF, h->snap_off);
	if (h->version == 2)
		return;
	put_be64(p + HDR_INCOMPAT, h->incompat);
	put_be64(p + HDR_COMPAT, h->compat);
	put_be64(p + HDR_AUTOCLEAR, h->autoclear);
	put_be32(p + HDR_REF_ORDER, h->refcount_order);
	put_be32(p + HDR_LEN, h->len);
	if (h->len > HDR_COMPRESSION)
		p[HDR_COMPRESSION] = (uint8_t)h->compression;
}

/* The name that the image gives a feature ("Feature name table"), or ours; into @out. */
static void feature_name(const struct qext *t, unsigned bit, char out[48])
{
	out[0] = '\0';
	for (uint32_t at = 0; t && at + 48 <= t->len; at += 48)
		if (t->data[at] == 0 && t->data[at + 1] == bit) {
			memcpy(out, t->data + at + 2, 46);
			out[46] = '\0';
		}
}

int hdr_check_features(const struct qhdr *h, const struct qext *names, struct err *e)
{
	uint64_t unknown = h->incompat & ~KNOWN_INCOMPAT;
	char name[48];

	if (unknown) {
		unsigned bit = (unsigned)__builtin_ctzll(unknown);

		feature_name(names, bit, name);
		return err_set(e, -EOPNOTSUPP, "unknown incompatible feature: bit %u%s%s", bit, *name ? ", " : "", name);
	}
	if (!(h->incompat & QCOW2_INCOMPAT_COMPRESSION) != !h->compression)
		return err_set(e, -EUCLEAN, "compression type %u contradicts its incompatible bit", h->compression);
	if (h->compression > 1)
		return err_set(e, -EOPNOTSUPP, "unknown compression type %u", h->compression);
	if ((h->incompat & QCOW2_INCOMPAT_EXT_L2) && h->cluster_bits < 14)
		return err_set(e, -EUCLEAN, "extended L2 entries need clusters of at least 16 KiB");
	if (h->crypt > 2)
		return err_set(e, -EOPNOTSUPP, "unknown encryption method %u", h->crypt);
	return 0;
}

int ext_parse(const uint8_t *p, size_t n, uint64_t from, uint64_t end, struct qext *ext, unsigned *n_ext, size_t *want,
	struct err *e)
{
	uint64_t at = from;

	*want = 0;
	for (*n_ext = 0; at < end;) {
		struct qext x;

		if (end - at < 8)
			return err_set(e, -EUCLEAN, "a header extension at %" PRIu64 " runs into what follows", at);
		if (at + 8 > n) {
			*want = end;
			return 0;
		}
		x = (struct qext){ get_be32(p + at), get_be32(p + at + 4), p + at + 8 };
		if (x.type == EXT_END)
			return 0;
		at += 8;
		if (x.len > end - at)
			return err_set(e, -EUCLEAN, "header extension %#x at %" PRIu64 ": %u bytes do not fit", x.type, at - 8, x.len);
		if (at + x.len > n) {
			*want = end;
			return 0;
		}
		if (*n_ext == MAX_EXT)
			return err_set(e, -EOPNOTSUPP, "more than %d header extensions", MAX_EXT);
		ext[(*n_ext)++] = x;
		at += (x.len + 7ull) & ~7ull;
	}
	return 0;
}

const struct qext *ext_find(const struct qcow2 *q, uint32_t type)
{
	for (unsigned i = 0; i < q->n_ext; i++)
		if (q->ext[i].type == type)
			return &q->ext[i];
	return NULL;
}
