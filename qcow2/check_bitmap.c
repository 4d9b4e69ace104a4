/* Bitmaps under check: directory, tables, data clusters. "Bitmaps extension", "Bitmap directory", "Bitmap table". */
#include "qcow2/check.h"

#define BMX_N        0 /* in the extension */
#define BMX_DIR_SIZE 8
#define BMX_DIR_OFF  16

#define BM_FIXED      24
#define BME_RESERVED  0xff000000000001feull
#define BME_ONES      1ull

static bool bitmap_good(const struct chk *c, const struct qcow2_bitmap *b)
{
	uint64_t bits = ((uint64_t)b->table_size << c->q->h.cluster_bits) * 8;

	if (!bitmap_formed(b) || !b->table_off || (b->table_off & (c->q->cluster - 1)) || b->table_size > MAX_BITMAP_TABLE / 8)
		return false;
	/* A table in use may be of another disk size than now. */
	return (b->flags & QCOW2_BITMAP_IN_USE) || c->q->h.size >> b->gran_bits <= bits;
}

static int table(struct chk *c, const struct qcow2_bitmap *b, struct err *e)
{
	auto_free uint64_t *t = NULL;

	if (!claim(c, b->table_off, b->table_size * 8ull, USE_META, 1, NULL)) {
		c->hidden = true;
		return 0;
	}
	if (q_read_table(c->q, b->table_off, b->table_size, "read a bitmap's table", &t, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < b->table_size; i++) {
		uint64_t off = t[i] & OFFSET_MASK;

		if ((t[i] & BME_RESERVED) || (off & (c->q->cluster - 1)) || (off && (t[i] & BME_ONES)))
			found(c, F_BM_ENTRY, 1, t[i]);
		else if (off)
			claim(c, off, c->q->cluster, USE_META, 1, NULL);
	}
	return 0;
}

static int directory(struct chk *c, const uint8_t *p, uint64_t size, uint64_t n, struct err *e)
{
	uint64_t at = 0, i;
	struct qcow2_bitmap b;

	for (i = 0; i < n && size - at >= BM_FIXED; i++) {
		bitmap_decode(p + at, &b);
		if (bitmap_bytes(&b) > size - at)
			break;
		at += bitmap_bytes(&b);
		if (!bitmap_good(c, &b)) {
			found(c, F_BM_DIR, 1, i);
			c->hidden = true;
		} else if (table(c, &b, e) < 0) {
			return e->code;
		}
	}
	if (i < n || at != size) {
		found(c, F_BM_DIR, 1, i);
		c->hidden = true;
	}
	return 0;
}

int check_bitmaps(struct chk *c, struct err *e)
{
	const struct qext *x = ext_find(c->q, EXT_BITMAPS);
	uint64_t n, size, off;
	auto_free uint8_t *p = NULL;

	if (!x || x->len < 24 || !(c->q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	n = get_be32(x->data + BMX_N);
	size = get_be64(x->data + BMX_DIR_SIZE);
	off = get_be64(x->data + BMX_DIR_OFF);
	if (!n || n > MAX_BITMAPS || size > MAX_BITMAP_DIR || (off & (c->q->cluster - 1)) || off >= c->q->dev->size ||
		!claim(c, off, size, USE_META, 1, NULL)) {
		found(c, F_BM_TABLE, 1, off, size);
		c->hidden = true;
		return 0;
	}
	p = malloc(size ? size : 1);
	if (!p)
		return q_nomem(e);
	if (q_read(c->q, off, p, size, e) < 0)
		return err_at(e, "cannot read the bitmap directory");
	return directory(c, p, size, n, e);
}
