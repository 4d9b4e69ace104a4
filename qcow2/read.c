/* What every file of the room reads by: regions that are checked first, tables, and the first cluster decoded. */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <string.h>

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
