/* Opening: raw bytes, decoded header, checked image. After q_open() the struct is trusted. */
#include "qcow2/internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "qcow2/lock.h"

int region_check(const struct qcow2 *q, const char *what, uint64_t off, uint64_t n, uint64_t unit, uint64_t cap,
	struct err *e)
{
	uint64_t len, end;

	if (!n)
		return 0;
	if (__builtin_mul_overflow(n, unit, &len) || len > cap)
		return err_set(e, -EFBIG, "%s of %" PRIu64 " entries is larger than the limit of %" PRIu64 " bytes", what, n, cap);
	if (off & (q->cluster - 1))
		return err_set(e, -EUCLEAN, "%s at %#" PRIx64 " does not start at a cluster of %" PRIu64 " bytes", what, off,
			q->cluster);
	if (__builtin_add_overflow(off, len, &end) || end > INT64_MAX || off >= q->dev->size ||
		(end > q->dev->size && end - q->dev->size >= q->cluster))
		return err_set(e, -EUCLEAN, "%s at %#" PRIx64 ", %" PRIu64 " bytes, reaches past the file's end at %#" PRIx64, what,
			off, len, q->dev->size);
	return 0;
}

int q_hint_check(const struct qcow2 *q, struct err *e)
{
	return err_hint(e, "run 'fermata img check -r all %s'", q->dev->name);
}

int q_nomem(struct err *e)
{
	return err_nomem(e, "work on the image");
}

int q_read(struct qcow2 *q, uint64_t off, void *buf, size_t n, struct err *e)
{
	uint64_t left = off < q->dev->size ? q->dev->size - off : 0;
	size_t have = n < left ? n : (size_t)left;

	memset((char *)buf + have, 0, n - have);
	return dev_read(q->dev, off, buf, have, e);
}

int q_read_table(struct qcow2 *q, uint64_t off, size_t n, const char *what, uint64_t **out, struct err *e)
{
	auto_free uint64_t *t = malloc(n ? n * 8 : 1);

	if (!t)
		return q_nomem(e);
	if (n && q_read(q, off, t, n * 8, e) < 0)
		return err_at(e, "%s", what);
	for (size_t i = 0; i < n; i++)
		t[i] = BE64(t[i]);
	*out = take_ptr(&t);
	return 0;
}

int q_read_l1(struct qcow2 *q, uint64_t off, uint64_t n, uint64_t **out, struct err *e)
{
	return region_check(q, "L1 table", off, n, 8, MAX_L1_BYTES, e) < 0 ? e->code
		: q_read_table(q, off, n, "read an L1 table", out, e);
}

int q_load_l1(struct qcow2 *q, struct err *e)
{
	return q->l1 ? 0 : q_read_l1(q, q->h.l1_off, q->h.l1_size, &q->l1, e);
}

int q_may_write(struct qcow2 *q, const char *what, struct err *e)
{
	if (!q->rw)
		return err_set(e, -EROFS, "cannot %s: the image is open for reading only", what);
	if (q->lost)
		return err_set(e, -EIO, "cannot %s: an earlier write failed, the image has to be opened again", what);
	if (q->h.incompat & (QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY)) {
		err_set(e, -EUCLEAN, "cannot %s: the image is marked %s", what,
			q->h.incompat & QCOW2_INCOMPAT_CORRUPT ? "corrupt" : "dirty (its refcounts may be stale)");
		return q_hint_check(q, e);
	}
	return 0;
}

/* A string extension or backing name as a C string. An inner NUL ends it, as it would for any user of the name. */
static int copy_name(const uint8_t *p, size_t n, char **out, struct err *e)
{
	*out = strndup((const char *)p, n);
	return *out ? 0 : q_nomem(e);
}

static int open_names(struct qcow2 *q, struct err *e)
{
	const struct qext *fmt = ext_find(q, EXT_BACKING_FMT), *data = ext_find(q, EXT_DATA_FILE);

	if (fmt && fmt->len >= 16)
		return err_set(e, -EUCLEAN, "the backing format's name has %u bytes, more than any format's", fmt->len);
	if (fmt && copy_name(fmt->data, fmt->len, &q->backing_fmt, e) < 0)
		return e->code;
	if (data && (q->h.incompat & QCOW2_INCOMPAT_DATA_FILE) &&
		copy_name(data->data, data->len, &q->data_file, e) < 0)
		return e->code;
	if (!q->h.backing_off)
		return 0;
	if (q->h.backing_len > MAX_BACKING_NAME || q->h.backing_len > q->cluster - q->h.backing_off)
		return err_set(e, -EUCLEAN, "the backing file's name of %u bytes is too long", q->h.backing_len);
	if (q->h.backing_off + q->h.backing_len > q->first_len)
		return err_set(e, -ENODATA, "the file ends inside the backing file's name");
	return copy_name(q->first + q->h.backing_off, q->h.backing_len, &q->backing, e);
}

int q_parse_first(struct qcow2 *q, size_t *want, struct err *e)
{
	uint64_t end;

	if (hdr_decode(q->first, q->first_len, &q->h, e) < 0)
		return e->code;
	q->cluster = 1ull << q->h.cluster_bits;
	if (q->first_len > q->cluster)
		q->first_len = (size_t)q->cluster; /* what was read past the first cluster is no header */
	end = q->h.backing_off ? q->h.backing_off : q->cluster;
	if (end > q->cluster)
		return err_set(e, -EUCLEAN, "the backing file's name at %#" PRIx64 " is outside the first cluster", end);
	/* The file may end inside its first cluster: nothing follows there. */
	if (end > q->dev->size)
		end = q->dev->size;
	if (ext_parse(q->first, q->first_len, q->h.len, end, q->ext, &q->n_ext, want, e) < 0)
		return e->code;
	if (!*want && q->h.backing_off + q->h.backing_len > q->first_len)
		*want = q->cluster;
	return *want ? 0 : open_names(q, e);
}

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

void qcow2_close(struct qcow2 *q)
{
	if (!q)
		return;
	snaps_free(q->snaps, q->h.n_snaps);
	refs_done(&q->refs);
	map_forget(q);
	bitmaps_free(&q->bitmaps);
	free(q->wbuf.p);
	free(q->l1);
	free(q->first);
	free(q->backing);
	free(q->backing_fmt);
	free(q->data_file);
	if (q->own_dev)
		dev_close(q->dev);
	free(q);
}

static unsigned count_bitmaps(const struct qcow2 *q)
{
	const struct qext *x = ext_find(q, EXT_BITMAPS);

	return x && x->len >= 4 && (q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS) ? get_be32(x->data) : 0;
}

void qcow2_get_info(const struct qcow2 *q, struct qcow2_info *out)
{
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
	};
}
