/* Persistent dirty bitmaps: the directory, and the tables that it names. "Bitmaps". */
#include "qcow2/bitmap.h"

#include <inttypes.h>
#include <string.h>

/* "Bitmaps extension" */
#define BX_COUNT    0
#define BX_DIR_SIZE 8
#define BX_DIR_OFF  16
#define BX_LEN      24
/* "Bitmap directory": an entry */
#define BE_TABLE_OFF  0
#define BE_TABLE_SIZE 8
#define BE_FLAGS      12
#define BE_TYPE       16
#define BE_GRAN       17
#define BE_NAME_LEN   18
#define BE_EXTRA_LEN  20
#define BE_FIXED      24

void bitmap_decode(const uint8_t *p, struct qcow2_bitmap *b)
{
	*b = (struct qcow2_bitmap){
		.table_off = get_be64(p + BE_TABLE_OFF), .table_size = get_be32(p + BE_TABLE_SIZE),
		.flags = get_be32(p + BE_FLAGS), .type = p[BE_TYPE], .gran_bits = p[BE_GRAN],
		.name_len = get_be16(p + BE_NAME_LEN), .extra_len = get_be32(p + BE_EXTRA_LEN),
	};
}

uint64_t bitmap_bytes(const struct qcow2_bitmap *b)
{
	return (BE_FIXED + (uint64_t)b->extra_len + b->name_len + 7) & ~7ull;
}

bool bitmap_formed(const struct qcow2_bitmap *b)
{
	return b->name_len && b->name_len <= MAX_BITMAP_NAME && b->type == 1 && !(b->flags >> 3) && b->table_size &&
		b->gran_bits >= MIN_BITMAP_GRAN && b->gran_bits <= MAX_BITMAP_GRAN;
}

static int bad_dir(const char *what, unsigned i, struct err *e)
{
	return err_set(e, -EUCLEAN, "bitmap directory entry %u: %s", i, what);
}

static int decode_one(struct qcow2 *q, const uint8_t *p, uint64_t left, struct qcow2_bitmap *b, unsigned i, struct err *e)
{
	if (left < BE_FIXED)
		return bad_dir("past the directory's end", i, e);
	bitmap_decode(p, b);
	if (bitmap_bytes(b) > left)
		return bad_dir("past the directory's end", i, e);
	if (!bitmap_formed(b))
		return bad_dir("breaks the format", i, e);
	if (region_check(q, "bitmap table", b->table_off, b->table_size, 8, MAX_BITMAP_TABLE, e) < 0)
		return e->code;
	b->granularity = 1ull << b->gran_bits;
	b->name = calloc(1, b->name_len + 1u); /* whole, for it is written back: it may hold NULs */
	b->extra = malloc(b->extra_len ? b->extra_len : 1);
	if (!b->name || !b->extra)
		return q_nomem(e);
	memcpy(b->name, p + BE_FIXED + b->extra_len, b->name_len);
	memcpy(b->extra, p + BE_FIXED, b->extra_len);
	return 0;
}

static int bitmaps_load(struct qcow2 *q, struct err *e)
{
	const struct qext *x = ext_find(q, EXT_BITMAPS);
	struct bitmaps *b = &q->bitmaps;
	auto_free uint8_t *dir = NULL;
	uint64_t at = 0;
	unsigned n = 0;

	if (b->loaded)
		return 0;
	if (!x || !(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
		b->loaded = true;
		return 0;
	}
	n = get_be32(x->data + BX_COUNT);
	b->dir_bytes = get_be64(x->data + BX_DIR_SIZE);
	b->dir_off = get_be64(x->data + BX_DIR_OFF);
	if (!n || n > MAX_BITMAPS || b->dir_bytes / BE_FIXED < n)
		return err_set(e, -EUCLEAN, "%u bitmaps in a directory of %" PRIu64 " bytes", n, b->dir_bytes);
	if (region_check(q, "bitmap directory", b->dir_off, b->dir_bytes, 1, MAX_BITMAP_DIR, e) < 0)
		return e->code;
	dir = malloc((size_t)b->dir_bytes);
	b->list = calloc(n, sizeof *b->list);
	if (!dir || !b->list)
		return q_nomem(e);
	if (q_read(q, b->dir_off, dir, (size_t)b->dir_bytes, e) < 0)
		return e->code;
	while (b->n < n) {
		struct qcow2_bitmap *one = &b->list[b->n++];

		if (decode_one(q, dir + at, b->dir_bytes - at, one, b->n - 1, e) < 0)
			return e->code;
		at += bitmap_bytes(one);
	}
	b->loaded = true;
	return at == b->dir_bytes ? 0 : err_set(e, -EUCLEAN, "the bitmap directory has %" PRIu64 " bytes too many",
		b->dir_bytes - at);
}

int qcow2_bitmaps(struct qcow2 *q, const struct qcow2_bitmap **list, unsigned *n, struct err *e)
{
	if (bitmaps_load(q, e) < 0) {
		bitmaps_free(&q->bitmaps);
		return e->code;
	}
	*list = q->bitmaps.list;
	*n = q->bitmaps.n;
	return 0;
}

int bitmap_copy_list(struct qcow2 *q, struct qcow2_bitmap **out, unsigned more, struct err *e)
{
	*out = calloc(q->bitmaps.n + more + 1, sizeof **out);
	if (!*out)
		return q_nomem(e);
	if (q->bitmaps.n)
		memcpy(*out, q->bitmaps.list, q->bitmaps.n * sizeof **out);
	return 0;
}

static void encode_one(const struct qcow2_bitmap *b, uint8_t *p)
{
	put_be64(p + BE_TABLE_OFF, b->table_off);
	put_be32(p + BE_TABLE_SIZE, b->table_size);
	put_be32(p + BE_FLAGS, b->flags);
	p[BE_TYPE] = (uint8_t)b->type;
	p[BE_GRAN] = (uint8_t)b->gran_bits;
	put_be16(p + BE_NAME_LEN, b->name_len);
	put_be32(p + BE_EXTRA_LEN, b->extra_len);
	if (b->extra_len)
		memcpy(p + BE_FIXED, b->extra, b->extra_len);
	memcpy(p + BE_FIXED + b->extra_len, b->name, b->name_len);
}

int bitmap_put_dir(struct qcow2 *q, const struct qcow2_bitmap *list, unsigned n, struct head *hd, struct qext *ext,
	uint8_t x[BX_LEN], struct err *e)
{
	auto_free uint8_t *buf = NULL;
	uint64_t bytes = 0, at = 0, off = 0, room;

	for (unsigned i = 0; i < n; i++)
		bytes += bitmap_bytes(&list[i]);
	if (bytes > MAX_BITMAP_DIR)
		return err_set(e, -EFBIG, "the bitmap directory would be larger than the limit of %llu bytes", MAX_BITMAP_DIR);
	if (refs_free(q, q->bitmaps.dir_off, q->bitmaps.dir_bytes, e) < 0)
		return e->code;
	if (!n) {
		hd->h.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
		return txn_head_ext(hd, ext, EXT_BITMAPS, NULL, 0, e);
	}
	room = q_clusters(q, bytes) << q->h.cluster_bits;
	buf = calloc(1, (size_t)room);
	if (!buf)
		return q_nomem(e);
	for (unsigned i = 0; i < n; at += bitmap_bytes(&list[i++]))
		encode_one(&list[i], buf + at);
	if (refs_alloc(q, q_clusters(q, bytes), &off, e) < 0 || txn_write(q, off, buf, (size_t)room, e) < 0)
		return e->code;
	memset(x, 0, BX_LEN);
	put_be32(x + BX_COUNT, n);
	put_be64(x + BX_DIR_SIZE, bytes);
	put_be64(x + BX_DIR_OFF, off);
	hd->h.autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
	return txn_head_ext(hd, ext, EXT_BITMAPS, x, BX_LEN, e);
}

int bitmap_publish(struct qcow2 *q, struct qcow2_bitmap **list, unsigned n, struct qcow2_bitmap *gone, struct err *e)
{
	struct qext ext[MAX_EXT];
	struct bitmaps new = { .loaded = true, .n = n };
	uint8_t x[BX_LEN];
	struct head hd;

	txn_head(q, &hd, ext);
	if (bitmap_put_dir(q, *list, n, &hd, ext, x, e) < 0 || txn_commit_head(q, &hd, e) < 0)
		return txn_abort(q, e);
	if (n) {
		new.dir_off = get_be64(x + BX_DIR_OFF);
		new.dir_bytes = get_be64(x + BX_DIR_SIZE);
	}
	free(q->bitmaps.list);
	new.list = take_ptr(list);
	q->bitmaps = new;
	if (gone) {
		free(gone->name);
		free(gone->extra);
	}
	return 0;
}

uint64_t bitmap_entries(const struct qcow2 *q, const struct qcow2_bitmap *b, uint64_t size)
{
	uint64_t bits = (size >> b->gran_bits) + ((size & (b->granularity - 1)) != 0);

	return q_clusters(q, (bits + 7) / 8);
}

int bitmap_load_table(struct qcow2 *q, const struct qcow2_bitmap *b, uint64_t **t, struct err *e)
{
	if (q_read_table(q, b->table_off, b->table_size, "read a bitmap's table", t, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < b->table_size; i++)
		if (((*t)[i] & OFFSET_MASK) && region_check(q, "bitmap data", (*t)[i] & OFFSET_MASK, 1, q->cluster, q->cluster, e) < 0)
			return e->code;
	return 0;
}

int bitmap_free_table(struct qcow2 *q, const struct qcow2_bitmap *b, const uint64_t *t, uint32_t from, struct err *e)
{
	for (uint32_t i = from; i < b->table_size; i++)
		if ((t[i] & OFFSET_MASK) && refs_free(q, t[i] & OFFSET_MASK, q->cluster, e) < 0)
			return e->code;
	return refs_free(q, b->table_off, b->table_size * 8ull, e);
}

int bitmap_put_table(struct qcow2 *q, struct qcow2_bitmap *b, const uint64_t *t, uint64_t n, struct err *e)
{
	if (n * 8 > MAX_BITMAP_TABLE)
		return err_set(e, -EFBIG, "bitmap '%s' would need more than %llu bytes of table", b->name, MAX_BITMAP_TABLE);
	b->table_size = (uint32_t)n;
	return refs_alloc(q, q_clusters(q, n * 8), &b->table_off, e) < 0 ? e->code
		: txn_write_table(q, b->table_off, t, (size_t)n, e);
}

int bitmap_begin(struct qcow2 *q, const char *what, const char *name, int *at, struct err *e)
{
	const struct qcow2_bitmap *list = NULL;
	unsigned n = 0;

	if (q_may_write(q, what, e) < 0 || qcow2_bitmaps(q, &list, &n, e) < 0)
		return e->code;
	*at = -1;
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(list[i].name, name))
			*at = (int)i;
	return 0;
}

int bitmap_find(struct qcow2 *q, const char *what, const char *name, bool in_use_too, int *at, struct err *e)
{
	if (bitmap_begin(q, what, name, at, e) < 0)
		return e->code;
	if (*at < 0)
		return err_set(e, -ENOENT, "cannot %s: there is no bitmap '%s'", what, name);
	if (!in_use_too && (q->bitmaps.list[*at].flags & QCOW2_BITMAP_IN_USE)) {
		err_set(e, -EBUSY, "cannot %s: bitmap '%s' is in use, or was not saved", what, name);
		return err_hint(e, "it can be removed");
	}
	return 0;
}

int bitmap_fits_disk(struct qcow2 *q, const struct qcow2_bitmap *b, struct err *e)
{
	uint64_t n = bitmap_entries(q, b, q->h.size);

	return b->table_size == n ? 0 : err_set(e, -EUCLEAN, "bitmap '%s' has a table of %u entries, the disk needs %" PRIu64,
		b->name, b->table_size, n);
}
