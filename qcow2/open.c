/* Opening: raw bytes, decoded header, checked image. After q_open() the struct is trusted. */
#include "qcow2/internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "qcow2/lock.h"

/* Read @n bytes of the first cluster, or what the file has of them. @want: out; not 0 if that was not enough. */
static int open_first(struct qcow2 *q, size_t n, size_t *want, struct err *e)
{
	if (n > q->dev->size)
		n = (size_t)q->dev->size;
	free(q->first);
	q->first = malloc(n ? n : 1);
	if (!q->first)
		return q_nomem(e);
	q->first_len = n;
	return dev_read(q->dev, 0, q->first, n, e) < 0 || q_parse_first(q, want, e) < 0 ? e->code : 0;
}

static int open_exts(struct qcow2 *q, struct err *e)
{
	const struct qext *x = ext_find(q, EXT_CRYPTO);

	if (x && x->len != 16)
		return err_set(e, -EUCLEAN, "the encryption header's extension has %u bytes, not 16", x->len);
	if (x && q->h.crypt != 2)
		return err_set(e, -EUCLEAN, "an encryption header without LUKS");
	if (!x && q->h.crypt == 2)
		return err_set(e, -EUCLEAN, "LUKS without its encryption header");
	x = ext_find(q, EXT_BITMAPS);
	if (x && x->len != 24 && (q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return err_set(e, -EUCLEAN, "the bitmaps extension has %u bytes, not 24", x->len);
	return 0;
}

/* Every region that the header names. The tables themselves are read when needed. */
static int open_regions(struct qcow2 *q, struct err *e)
{
	struct qhdr *h = &q->h;

	if (h->size > INT64_MAX || q_l1_needed(q, h->size) > INT32_MAX)
		return err_set(e, -EFBIG, "a disk of %" PRIu64 " bytes is too large", h->size);
	if (h->l1_size < q_l1_needed(q, h->size))
		return err_set(e, -EUCLEAN, "the L1 table has %u entries, the disk needs %" PRIu64, h->l1_size,
			q_l1_needed(q, h->size));
	if (region_check(q, "L1 table", h->l1_off, h->l1_size, 8, MAX_L1_BYTES, e) < 0)
		return e->code;
	if (!h->rt_clusters && !q->check)
		return err_set(e, -EUCLEAN, "the image has no refcount table");
	if (!q->check && region_check(q, "refcount table", h->rt_off, h->rt_clusters, q->cluster, MAX_RT_BYTES, e) < 0)
		return e->code;
	if (h->n_snaps > MAX_SNAPSHOTS)
		return err_set(e, -EFBIG, "%u snapshots are more than the limit of %d", h->n_snaps, MAX_SNAPSHOTS);
	return 0;
}

static int open_all(struct qcow2 *q, struct err *e)
{
	size_t want = 0;

	if (open_first(q, 4096, &want, e) < 0 || (want && open_first(q, want, &want, e) < 0))
		return e->code;
	if (want)
		return err_set(e, -ENODATA, "the file ends inside the header");
	if (hdr_check_features(&q->h, ext_find(q, EXT_FEATURES), e) < 0)
		return e->code;
	q->l2_step = q->h.incompat & QCOW2_INCOMPAT_EXT_L2 ? 16 : 8;
	q->l2_bits = q->h.cluster_bits - (q->l2_step == 16 ? 4 : 3);
	if (open_regions(q, e) < 0 || open_exts(q, e) < 0)
		return e->code;
	return snaps_load(q, e);
}

static int open_on(struct qcow2 *q, struct qcow2 **out, struct err *e)
{
	if (open_all(q, e) < 0) {
		qcow2_close(q);
		return e->code;
	}
	*out = q;
	return 0;
}

static struct qcow2 *handle_new(struct dev *d, unsigned flags)
{
	struct qcow2 *q = calloc(1, sizeof *q);

	if (q) {
		q->dev = d;
		q->rw = flags & QCOW2_RW;
		q->check = flags & QCOW2_CHECK;
	}
	return q;
}

int qcow2_open_dev(struct dev *d, unsigned flags, struct qcow2 **out, struct err *e)
{
	struct qcow2 *q = handle_new(d, flags);

	return q ? open_on(q, out, e) : q_nomem(e);
}

int qcow2_open(const char *path, unsigned flags, struct qcow2 **out, struct err *e)
{
	struct qcow2 *q;
	struct dev *d;

	if (dev_open(path, flags & QCOW2_RW ? O_RDWR : O_RDONLY, &d, e) < 0)
		return e->code;
	if (!(flags & QCOW2_SHARE) && image_lock(dev_fd(d), path, flags & QCOW2_RW, e) < 0) {
		dev_close(d);
		return e->code;
	}
	q = handle_new(d, flags);
	if (!q) {
		dev_close(d);
		return q_nomem(e);
	}
	q->own_dev = true;
	return open_on(q, out, e);
}

static unsigned count_bitmaps(const struct qcow2 *q)
{
	const struct qext *x = ext_find(q, EXT_BITMAPS);

	return x && x->len >= 4 && (q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS) ? get_be32(x->data) : 0;
}

void qcow2_get_info(const struct qcow2 *q, struct qcow2_info *out)
{
	const struct qext *mark = ext_find(q, EXT_MARK);

	*out = (struct qcow2_info){
		.version = q->h.version,
		.cluster_bits = q->h.cluster_bits,
		.refcount_bits = 1u << q->h.refcount_order,
		.crypt = q->h.crypt,
		.compression = q->h.compression,
		.size = q->h.size,
		.file_size = q->dev->size,
		.incompat = q->h.incompat,
		.compat = q->h.compat,
		.autoclear = q->h.autoclear,
		.backing = q->backing,
		.backing_fmt = q->backing_fmt,
		.data_file = q->data_file,
		.n_snaps = q->h.n_snaps,
		.n_bitmaps = count_bitmaps(q),
		.mark = mark && mark->len == 8 ? get_be64(mark->data) : 0,
	};
}
