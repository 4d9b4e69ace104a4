/*
 * The first cluster as a whole: header, extensions, backing name, laid out so that one sector says it all.
 *
 * A disk writes 512 bytes whole or not at all; the header area is longer. What may change (backing format, bitmaps,
 * data file) stands first, inside the first sector; the feature name table, which nobody needs, stands last and may
 * reach beyond. The backing name goes where the old header uses nothing. So a new header is: what is past the first
 * sector, a flush, the first sector. Where old and new both use the bytes past it, the old header is first shortened
 * to its first sector (by one write of it, leaving only the feature names out).
 */
#include "qcow2/internal.h"

#include <string.h>

/* "Feature name table": what a program that does not know a bit may tell its user. */
static const struct {
	uint8_t kind, bit;
	const char *name;
} features[] = {
	{ 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" }, { 0, 2, "external data file" }, { 0, 3, "compression type" },
	{ 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" }, { 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
};
#define FEATURE_LEN 48
#define FEATURES_LEN (ARRAY_SIZE(features) * FEATURE_LEN)

static void put_features(uint8_t *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++, p += FEATURE_LEN) {
		p[0] = features[i].kind;
		p[1] = features[i].bit;
		memcpy(p + 2, features[i].name, strlen(features[i].name));
	}
}

static size_t put_ext(uint8_t *p, size_t at, size_t cap, uint32_t type, const void *data, size_t len)
{
	size_t end = at + 8 + ((len + 7) & ~(size_t)7);

	if (at > cap || end > cap)
		return cap + 1;
	put_be32(p + at, type);
	put_be32(p + at + 4, (uint32_t)len);
	if (len)
		memcpy(p + at + 8, data, len);
	return end;
}

/* Header and extensions into @p, zeroed, of @cap bytes. Where they end; above @cap if they do not fit. */
static size_t put_exts(const struct head *hd, const uint8_t *old, size_t old_len, uint8_t *p, size_t cap)
{
	uint8_t names[FEATURES_LEN] = { 0 };
	size_t at = hd->h.len;

	/* Fields past those we know are kept as they are. */
	if (at > cap)
		return cap + 1;
	if (old_len)
		memcpy(p, old, old_len < at ? old_len : at);
	for (unsigned i = 0; i < hd->n_ext; i++)
		if (hd->ext[i].type != EXT_FEATURES)
			at = put_ext(p, at, cap, hd->ext[i].type, hd->ext[i].data, hd->ext[i].len);
	put_features(names);
	if (hd->features && hd->h.version >= 3)
		at = put_ext(p, at, cap, EXT_FEATURES, names, sizeof names);
	return put_ext(p, at, cap, EXT_END, NULL, 0);
}

/* A built first cluster. */
struct built {
	uint8_t *p;   /* @end bytes and more, zero behind */
	size_t exts;  /* header and extensions end here */
	size_t name;  /* the backing name begins here; 0: none */
	size_t end;
};

static size_t name_len(const struct head *hd)
{
	return hd->backing ? strlen(hd->backing) : 0;
}

/* Where the header's extensions as they stand end. */
static size_t old_exts_end(const struct qcow2 *q)
{
	const struct qext *last = q->n_ext ? &q->ext[q->n_ext - 1] : NULL;

	if (!q->first)
		return 0;
	return (last ? (size_t)(last->data - q->first) + ((last->len + 7u) & ~7u) : q->h.len) + 8;
}

/* Build @hd with its name from @floor on, but not on the old one. */
static int build(const struct qcow2 *q, const struct head *hd, size_t floor, struct built *b, struct err *e)
{
	size_t cap = q->cluster, len = name_len(hd), room = cap < 16 * KIB ? cap : 16 * KIB;
	size_t taken = q->h.backing_off, taken_end = taken + q->h.backing_len;

	if (q->first_len > room)
		room = q->first_len;
	*b = (struct built){ .p = calloc(1, room) };
	if (!b->p)
		return q_nomem(e);
	b->exts = put_exts(hd, q->first, q->first_len < q->h.len ? q->first_len : q->h.len, b->p, room);
	b->end = b->exts;
	if (hd->backing) {
		b->name = b->exts > floor ? b->exts : floor;
		if (taken && b->name < taken_end && b->name + len > taken)
			b->name = (taken_end + 7) & ~(size_t)7;
		if (b->name + len > room && room == cap)
			b->name = b->exts;
		b->end = b->name + len;
	}
	if (b->end > room) {
		free(b->p);
		b->p = NULL;
		return err_set(e, -ENOSPC, "the header, its extensions and the backing file's name do not fit into the first cluster");
	}
	if (len)
		memcpy(b->p + b->name, hd->backing, len);
	return 0;
}

/* The names of features are the first to go where space is short. */
static int build_fit(const struct qcow2 *q, struct head *hd, size_t floor, struct built *b, struct err *e)
{
	int r = build(q, hd, floor, b, e);

	if (r == -ENOSPC && hd->features) {
		hd->features = false;
		r = build(q, hd, floor, b, e);
	}
	return r;
}

static void finish(const struct head *hd, struct built *b)
{
	struct qhdr h = hd->h;

	h.backing_off = b->name;
	h.backing_len = (uint32_t)name_len(hd);
	hdr_encode(&h, b->p);
}

int head_create(struct qcow2 *q, struct head *hd, struct err *e)
{
	struct built b;
	size_t n;
	int r = -1;

	if (name_len(hd) > MAX_BACKING_NAME)
		return err_set(e, -EINVAL, "the backing file's name is longer than %d bytes", MAX_BACKING_NAME);
	if (build_fit(q, hd, 0, &b, e) < 0)
		return e->code;
	finish(hd, &b);
	n = q->cluster < 4096 ? q->cluster : b.end < 4096 ? 4096 : b.end;
	if ((n <= SECTOR || dev_write(q->dev, SECTOR, b.p + SECTOR, n - SECTOR, e) >= 0) && dev_flush(q->dev, e) >= 0 &&
		dev_write(q->dev, 0, b.p, SECTOR, e) >= 0 && dev_flush(q->dev, e) >= 0)
		r = 0;
	free(b.p);
	return r < 0 ? e->code : 0;
}

/* Would writing [@from, @to) of @b change a byte past the first sector that the header as it stands uses? */
static bool disturbs(const struct qcow2 *q, const struct built *b, size_t from, size_t to)
{
	size_t exts = old_exts_end(q), name = q->h.backing_off, name_end = name + q->h.backing_len;

	for (size_t i = from < SECTOR ? SECTOR : from; i < to; i++) {
		bool used = i < exts || (name && i >= name && i < name_end);

		if (used && (i >= q->first_len || b->p[i] != q->first[i]))
			return true;
	}
	return false;
}

static bool fits_beside(const struct qcow2 *q, const struct built *b)
{
	return !disturbs(q, b, 0, b->exts) && !disturbs(q, b, b->name, b->name ? b->end : 0);
}

/* The part of [@from, @to) past the first sector. (What the handle keeps of it may lack what an old header left there.) */
static int write_tail(struct qcow2 *q, const struct built *b, size_t from, size_t to, struct err *e)
{
	if (from < SECTOR)
		from = SECTOR;
	if (to <= from)
		return 0;
	q->unflushed = true;
	return dev_write(q->dev, from, b->p + from, to - from, e);
}

/* Read what was built as if it were a file's, so that nothing can fail after it is one. */
static int parse_built(const struct qcow2 *q, struct built *b, struct qcow2 **out, struct err *e)
{
	struct qcow2 *n = calloc(1, sizeof *n);
	size_t want;

	*out = n;
	if (!n)
		return q_nomem(e);
	n->dev = q->dev;
	n->cluster = q->cluster;
	n->first_len = b->end;
	n->first = take_ptr(&b->p);
	return q_parse_first(n, &want, e);
}

#define SWAP(a, b)                                                                                 \
	do {                                                                                       \
		__typeof__(a) swap_ = (a);                                                         \
		(a) = (b);                                                                         \
		(b) = swap_;                                                                       \
	} while (0)

/* @n's first cluster becomes the handle's, and the handle's @n's: what is still referred to lives on there. */
static void adopt(struct qcow2 *q, struct qcow2 *n)
{
	q->h = n->h;
	memcpy(q->ext, n->ext, sizeof q->ext);
	q->n_ext = n->n_ext;
	SWAP(q->first, n->first);
	SWAP(q->first_len, n->first_len);
	SWAP(q->backing, n->backing);
	SWAP(q->backing_fmt, n->backing_fmt);
	SWAP(q->data_file, n->data_file);
}

/* What is past the first sector, a flush, the sector, a flush. Takes @b's memory; @old: out, to be closed. */
static int switch_to(struct qcow2 *q, struct built *b, struct qcow2 **old, struct err *e)
{
	if (write_tail(q, b, 0, b->exts, e) < 0 || (b->name && write_tail(q, b, b->name, b->end, e) < 0) ||
		txn_barrier(q, e) < 0 || parse_built(q, b, old, e) < 0)
		return e->code;
	if (txn_put_sector(q, (*old)->first, (*old)->first_len, e) < 0)
		return e->code;
	adopt(q, *old);
	return 0;
}

/* Write the header as it stands into its first sector, without the feature names, its name past @floor. */
static int shorten(struct qcow2 *q, size_t floor, struct qcow2 **old, struct err *e)
{
	struct head hd = { .h = q->h, .ext = q->ext, .n_ext = q->n_ext, .backing = q->backing };
	size_t exts = old_exts_end(q);
	struct built b;
	int r = build(q, &hd, floor > exts ? floor : exts, &b, e);

	if (r >= 0 && (b.exts > SECTOR || !fits_beside(q, &b)))
		r = err_set(e, -EOPNOTSUPP, "the header's extensions are too long to be changed safely");
	if (r >= 0) {
		finish(&hd, &b);
		r = switch_to(q, &b, old, e);
	}
	free(b.p);
	return r;
}

static int switch_shortened(struct qcow2 *q, struct head *hd, struct qcow2 **old, struct err *e)
{
	struct built b = { 0 };
	int r = build_fit(q, hd, old_exts_end(q), &b, e);

	if (r >= 0 && !fits_beside(q, &b))
		r = err_set(e, -EOPNOTSUPP, "the header's extensions are too long to be changed safely");
	if (r >= 0) {
		finish(hd, &b);
		r = switch_to(q, &b, old, e);
	}
	free(b.p);
	return r;
}

int head_switch(struct qcow2 *q, struct head *hd, struct err *e)
{
	struct qcow2 *old[2] = { NULL, NULL };
	struct built b = { 0 };
	int r;

	if (name_len(hd) > MAX_BACKING_NAME)
		return err_set(e, -EINVAL, "the backing file's name is longer than %d bytes", MAX_BACKING_NAME);
	r = build_fit(q, hd, old_exts_end(q), &b, e);
	if (r >= 0 && fits_beside(q, &b)) {
		finish(hd, &b);
		r = switch_to(q, &b, &old[0], e);
	} else if (r >= 0) {
		r = shorten(q, b.exts, &old[0], e);
		if (r >= 0)
			r = switch_shortened(q, hd, &old[1], e);
	}
	free(b.p);
	qcow2_close(old[0]);
	qcow2_close(old[1]);
	return r;
}
