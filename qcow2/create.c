/* New images: everything has its place computed first, then it is written front to back. */
#include "qcow2/internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "qcow2/lock.h"

/* Where things go, in clusters from the file's start. */
struct layout {
	uint64_t n_rt, n_blocks, n_l1, n_l2, n_data, total; /* clusters */
	uint64_t l1_entries;
};

static unsigned or_default(unsigned v, unsigned dflt)
{
	return v ? v : dflt;
}

static int check_options(const struct qcow2_create *o, struct err *e)
{
	unsigned version = or_default(o->version, 3), bits = or_default(o->refcount_bits, 16);
	unsigned cluster = or_default(o->cluster_bits, 16);

	if (version != 2 && version != 3)
		return err_set(e, -EINVAL, "qcow2 version %u is not supported", version);
	if (cluster < MIN_CLUSTER_BITS || cluster > MAX_CLUSTER_BITS)
		return err_set(e, -EINVAL, "the cluster size must be a power of two between 512 and 2M");
	if (bits > 64 || bits & (bits - 1))
		return err_set(e, -EINVAL, "the refcount width must be a power of two, 64 bits at most");
	if (o->size & (SECTOR - 1) || o->size > INT64_MAX)
		return err_set(e, -EINVAL, "the disk's size must be a multiple of 512 bytes, below 8 EiB");
	if (version == 2 && (bits != 16 || o->lazy_refcounts || o->ext_l2 || o->data_file || o->compression))
		return err_set(e, -EINVAL, "%s needs compat=1.1 (version 3)", bits != 16 ? "a refcount width other than 16"
			: o->lazy_refcounts ? "lazy_refcounts" : o->ext_l2 ? "extended_l2" : o->data_file ? "data_file"
			: "this compression type");
	if (o->compression > 1)
		return err_set(e, -EINVAL, "unknown compression type %u", o->compression);
	if (o->ext_l2 && cluster < 14)
		return err_set(e, -EINVAL, "extended_l2 needs clusters of at least 16 KiB");
	if (o->data_file_raw && !o->data_file)
		return err_set(e, -EINVAL, "data_file_raw needs data_file");
	if (o->data_file_raw && o->backing)
		return err_set(e, -EINVAL, "a backing file and data_file_raw cannot be used together");
	if (o->backing_fmt && !o->backing)
		return err_set(e, -EINVAL, "a backing format without a backing file");
	if (o->backing && o->prealloc != QCOW2_PREALLOC_OFF && !o->ext_l2)
		return err_set(e, -EINVAL, "a backing file and preallocation need extended_l2 to be used together");
	return 0;
}

static void header_for(const struct qcow2_create *o, struct qhdr *h)
{
	*h = (struct qhdr){
		.version = or_default(o->version, 3),
		.cluster_bits = or_default(o->cluster_bits, 16),
		.refcount_order = (unsigned)__builtin_ctz(or_default(o->refcount_bits, 16)),
		.size = o->size,
		.compression = o->compression,
		.len = o->version == 2 ? HDR_V2_LEN : HDR_FULL_LEN,
		.incompat = (o->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0) | (o->ext_l2 ? QCOW2_INCOMPAT_EXT_L2 : 0) |
			(o->compression ? QCOW2_INCOMPAT_COMPRESSION : 0),
		.compat = o->lazy_refcounts ? QCOW2_COMPAT_LAZY : 0,
		.autoclear = o->data_file_raw ? QCOW2_AUTOCLEAR_DATA_RAW : 0,
	};
}

static bool preallocated(const struct qcow2_create *o)
{
	return o->prealloc != QCOW2_PREALLOC_OFF || o->data_file_raw;
}

/* @q has its header, cluster size and L2 shape. Counting blocks takes blocks: repeated until nothing changes. */
static void lay_out(struct qcow2 *q, const struct qcow2_create *o, struct layout *l)
{
	uint64_t clusters = q_clusters(q, q->h.size), per = refs_per_block(q), was;

	*l = (struct layout){ .l1_entries = q_l1_needed(q, q->h.size), .n_rt = 1, .n_blocks = 1 };
	l->n_l1 = q_clusters(q, l->l1_entries * 8);
	if (preallocated(o)) {
		l->n_l2 = l->l1_entries;
		l->n_data = o->data_file ? 0 : clusters;
	}
	do {
		was = l->total;
		l->total = 1 + l->n_rt + l->n_blocks + l->n_l1 + l->n_l2 + l->n_data;
		l->n_blocks = (l->total + per - 1) / per;
		l->n_rt = q_clusters(q, l->n_blocks * 8);
	} while (was != l->total);
}

/* A refcount table that is long enough for all of the disk, as far as the limit lets it. */
static void make_room(struct qcow2 *q, const struct qcow2_create *o, struct layout *l)
{
	struct qcow2_create full = *o;
	struct layout all;
	uint64_t was = l->n_rt, max = MAX_RT_BYTES >> q->h.cluster_bits, per = refs_per_block(q);

	full.prealloc = QCOW2_PREALLOC_METADATA;
	lay_out(q, &full, &all);
	l->n_rt = all.n_rt < max ? all.n_rt : max;
	l->total += l->n_rt - was;
	/* What the longer table takes is counted, and so are the blocks for that. */
	while (l->n_blocks * per < l->total) {
		l->n_blocks++;
		l->total++;
	}
}

static int plan(struct qcow2 *q, const struct qcow2_create *o, struct layout *l, struct err *e)
{
	if (check_options(o, e) < 0)
		return e->code;
	header_for(o, &q->h);
	q->cluster = 1ull << q->h.cluster_bits;
	q->l2_step = o->ext_l2 ? 16 : 8;
	q->l2_bits = q->h.cluster_bits - (o->ext_l2 ? 4 : 3);
	lay_out(q, o, l);
	if (o->whole && !preallocated(o))
		make_room(q, o, l);
	if (l->l1_entries * 8 > MAX_L1_BYTES || l->n_rt << q->h.cluster_bits > MAX_RT_BYTES)
		return err_set(e, -EFBIG, "a disk of %" PRIu64 " bytes is too large for clusters of %" PRIu64 " bytes", o->size,
			q->cluster);
	return 0;
}

/* Runs of consecutive offsets: the refcount table, L1, and L2 tables all look like this. Behind them is zero already. */
static int write_pointers(struct qcow2 *q, uint64_t at, uint64_t n, uint64_t first, uint64_t flags, struct err *e)
{
	uint8_t t[SECTOR];

	for (uint64_t i = 0; i < n; at += sizeof t) {
		for (size_t k = 0; k < sizeof t; k += 8, i++)
			put_be64(t + k, i < n ? (first + (i << q->h.cluster_bits)) | flags : 0);
		if (txn_write(q, at, t, sizeof t, e) < 0)
			return e->code;
	}
	return 0;
}

static int write_blocks(struct qcow2 *q, const struct layout *l, struct err *e)
{
	uint64_t per = refs_per_block(q), at = (1 + l->n_rt) << q->h.cluster_bits;
	auto_free uint8_t *blk = calloc(1, q->cluster);

	if (!blk)
		return q_nomem(e);
	for (uint64_t i = 0; i < l->n_blocks; i++, at += q->cluster) {
		uint64_t used = l->total - i * per < per ? l->total - i * per : per;

		for (uint64_t k = 0; k < used && !i; k++)
			refblock_set(blk, q->h.refcount_order, k, 1);
		/* The last one may be shorter: of its last sector only what is used. */
		for (uint64_t k = used; i && k < per && k << q->h.refcount_order & (SECTOR * 8 - 1); k++)
			refblock_set(blk, q->h.refcount_order, k, 0);
		if (txn_write(q, at, blk, ((used << q->h.refcount_order) + SECTOR * 8 - 1) / (SECTOR * 8) * SECTOR, e) < 0)
			return e->code;
	}
	return 0;
}

static int write_l2(struct qcow2 *q, const struct layout *l, uint64_t at, uint64_t data, struct err *e)
{
	uint64_t clusters = q_clusters(q, q->h.size), g = 0, entries = q->cluster / q->l2_step;
	auto_free uint8_t *l2 = malloc(q->cluster);

	if (!l2)
		return q_nomem(e);
	for (uint64_t i = 0; i < l->n_l2; i++, at += q->cluster) {
		memset(l2, 0, q->cluster);
		/* With subclusters the cluster is there, and none of its parts: a backing file shows through. */
		for (uint64_t k = 0; k < entries && g < clusters; k++, g++)
			put_be64(l2 + k * q->l2_step, (data + (g << q->h.cluster_bits)) | OFLAG_COPIED);
		if (txn_write(q, at, l2, q->cluster, e) < 0)
			return e->code;
	}
	return 0;
}

static int write_tables(struct qcow2 *q, const struct layout *l, struct err *e)
{
	unsigned b = q->h.cluster_bits;
	uint64_t blocks = (1 + l->n_rt) << b, l1 = blocks + (l->n_blocks << b), l2 = l1 + (l->n_l1 << b);
	uint64_t data = q->h.incompat & QCOW2_INCOMPAT_DATA_FILE ? 0 : l2 + (l->n_l2 << b);

	q->h.rt_off = 1ull << b;
	q->h.rt_clusters = (uint32_t)l->n_rt;
	q->h.l1_size = (uint32_t)l->l1_entries;
	q->h.l1_off = l->n_l1 ? l1 : 0;
	/* All of it in a file is a hole until something is written; on a block device, old content goes. */
	if (dev_zero(q->dev, q->h.rt_off, l2 - q->h.rt_off, e) < 0 ||
		write_pointers(q, q->h.rt_off, l->n_blocks, blocks, 0, e) < 0 || write_blocks(q, l, e) < 0 ||
		write_pointers(q, l1, l->n_l2 ? l->l1_entries : 0, l2, OFLAG_COPIED, e) < 0)
		return e->code;
	return write_l2(q, l, l2, data, e) < 0 || txn_write_done(q, e) < 0 ? e->code : 0;
}

int prealloc_area(struct qcow2 *q, uint64_t off, uint64_t n, enum qcow2_prealloc how, struct err *e)
{
	int fd = dev_fd(q->dev);

	if (how == QCOW2_PREALLOC_FULL) {
		auto_free uint8_t *zeros = calloc(1, MIB);

		if (!zeros)
			return q_nomem(e);
		for (uint64_t at = 0; at < n; at += MIB)
			if (dev_write(q->dev, off + at, zeros, n - at < MIB ? n - at : MIB, e) < 0)
				return e->code;
		return 0;
	}
	if (q->dev->size < off + n && dev_truncate(q->dev, off + n, e) < 0)
		return e->code;
	if (how == QCOW2_PREALLOC_FALLOC && fd >= 0 && n && fallocate(fd, 0, (off_t)off, (off_t)n) < 0 &&
		errno != EOPNOTSUPP)
		return err_sys(e, errno, "cannot reserve space in %s", q->dev->name);
	return 0;
}

static int write_header(struct qcow2 *q, const struct qcow2_create *o, struct err *e)
{
	struct head hd = { .h = q->h, .backing = o->backing };
	struct qext ext[3];
	uint8_t mark[8];

	if (o->backing_fmt)
		ext[hd.n_ext++] = (struct qext){ EXT_BACKING_FMT, (uint32_t)strlen(o->backing_fmt), (const uint8_t *)o->backing_fmt };
	if (o->data_file)
		ext[hd.n_ext++] = (struct qext){ EXT_DATA_FILE, (uint32_t)strlen(o->data_file), (const uint8_t *)o->data_file };
	put_be64(mark, o->mark);
	if (o->mark)
		ext[hd.n_ext++] = (struct qext){ EXT_MARK, sizeof mark, mark };
	hd.ext = ext;
	hd.features = true;
	return head_create(q, &hd, e);
}

int qcow2_create_dev(struct dev *d, const struct qcow2_create *o, struct err *e)
{
	struct qcow2 q = { .dev = d, .rw = true };
	struct layout l;
	int r;

	if (plan(&q, o, &l, e) < 0)
		return e->code;
	r = dev_truncate(d, 0, e);
	if (r >= 0)
		r = write_tables(&q, &l, e);
	if (r >= 0 && preallocated(o))
		r = prealloc_area(&q, (l.total - l.n_data) << q.h.cluster_bits, l.n_data << q.h.cluster_bits, o->prealloc, e);
	if (r >= 0)
		r = write_header(&q, o, e);
	free(q.wbuf.p);
	return r < 0 ? err_at(e, "cannot create an image") : 0;
}

int qcow2_create(const char *path, const struct qcow2_create *o, struct err *e)
{
	uint64_t bytes;
	struct dev *d;
	int r;

	/* Before the file is there. */
	if (qcow2_full_size(o, &bytes, e) < 0)
		return e->code;
	if (dev_open(path, O_RDWR | O_CREAT, &d, e) < 0)
		return e->code;
	r = image_lock(dev_fd(d), path, true, e);
	if (r >= 0)
		r = qcow2_create_dev(d, o, e);
	dev_close(d);
	return r;
}

int qcow2_full_size(const struct qcow2_create *o, uint64_t *bytes, struct err *e)
{
	struct qcow2_create full = *o;
	struct qcow2 q = { 0 };
	struct layout l;

	if (plan(&q, o, &l, e) < 0)
		return e->code;
	full.prealloc = QCOW2_PREALLOC_METADATA;
	lay_out(&q, &full, &l);
	*bytes = l.total << q.h.cluster_bits;
	return 0;
}
