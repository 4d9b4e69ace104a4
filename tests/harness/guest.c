#include "tests/harness/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/endian.h"
#include "tests/harness/deflate.h"
#include "tests/harness/rand.h"

#define WHY 200
#define OFFSET 0x00fffffffffffe00ull
#define BAD(...) (snprintf(why, WHY, __VA_ARGS__), -1)

struct disk { /* one L1 table's view */
	const struct guest_img *g;
	uint64_t cs, l2_n;
	unsigned cbits, esize;
	uint64_t l1, l1_n; /* offset, entries */
	uint64_t size;	   /* of the virtual disk: what lies behind never reads from the backing file */
	char *why;
};

static uint64_t hash(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t w;

	for (size_t i = 0; i < n; i += 8) {
		w = 0;
		memcpy(&w, b + i, n - i < 8 ? n - i : 8);
		h = (h ^ w) * 0x9fb21c651e98df25ull;
		h ^= h >> 29;
	}
	return mix64(h + n);
}

static bool inside(const struct guest_img *g, uint64_t off, uint64_t n)
{
	return off <= g->size && n <= g->size - off;
}

static bool is_v3(const struct guest_img *g)
{
	return get_be32(g->bytes + 4) >= 3;
}

static uint64_t features(const struct guest_img *g, unsigned at)
{
	return is_v3(g) ? get_be64(g->bytes + at) : 0;
}

static int check_header(const struct guest_img *g, char *why)
{
	const uint8_t *h = g->bytes;

	if (g->size < 72 || memcmp(h, "QFI\xfb", 4))
		return BAD("no qcow2 header");
	if (get_be32(h + 4) < 2 || get_be32(h + 4) > 3 || (is_v3(g) && g->size < 104))
		return BAD("version %u", get_be32(h + 4));
	if (get_be32(h + 20) < 9 || get_be32(h + 20) > 21)
		return BAD("cluster_bits %u", get_be32(h + 20));
	if (features(g, 72) & ~0x1bull)
		return BAD("incompatible features 0x%llx", (unsigned long long)features(g, 72));
	if (is_v3(g) && get_be32(h + 96) > 6)
		return BAD("refcount_order %u", get_be32(h + 96));
	return 0;
}

/* Offset of the entry number @i of the snapshot table, or 0. */
static uint64_t snap_entry(const struct guest_img *g, unsigned i)
{
	uint64_t at = get_be64(g->bytes + 64);

	for (unsigned k = 0;; k++) {
		const uint8_t *p = g->bytes + at;
		uint64_t n;

		if (!inside(g, at, 40))
			return 0;
		n = 40ull + get_be32(p + 36) + get_be16(p + 12) + get_be16(p + 14);
		if (!inside(g, at, n))
			return 0;
		if (k == i)
			return at;
		at += (n + 7) & ~7ull;
	}
}

static int open_disk(struct disk *d, const struct guest_img *g, int snap, char *why)
{
	const uint8_t *h = g->bytes;

	d->g = g;
	d->why = why;
	d->cbits = get_be32(h + 20);
	d->cs = 1ull << d->cbits;
	d->esize = features(g, 72) & 16 ? 16 : 8;
	d->l2_n = d->cs / d->esize;
	d->l1 = get_be64(h + 40);
	d->l1_n = get_be32(h + 36);
	d->size = get_be64(h + 24);
	if (snap >= 0) {
		uint64_t at = snap_entry(g, (unsigned)snap);

		if (!at)
			return BAD("snapshot entry %d is outside the file", snap);
		d->l1 = get_be64(h + at);
		d->l1_n = get_be32(h + at + 8);
		if (get_be32(h + at + 36) >= 16)
			d->size = get_be64(h + at + 48);
	}
	if (d->l1_n && (d->l1 % d->cs || !inside(g, d->l1, 8 * d->l1_n)))
		return BAD("L1 table of %d at 0x%llx", snap, (unsigned long long)d->l1);
	if ((d->size + d->cs - 1) / d->cs > d->l1_n * d->l2_n)
		return BAD("L1 table of %d too short for the disk", snap);
	return 0;
}

static int find_entry(const struct disk *d, uint64_t gc, uint64_t *entry, uint64_t *bitmap)
{
	uint64_t i = gc / d->l2_n, l2;
	const uint8_t *p;
	char *why = d->why;

	*entry = *bitmap = 0;
	if (i >= d->l1_n)
		return 0;
	l2 = get_be64(d->g->bytes + d->l1 + 8 * i);
	if (l2 & 0x7f000000000001ffull || (l2 & OFFSET) % d->cs)
		return BAD("L1 entry %llu is 0x%llx", (unsigned long long)i, (unsigned long long)l2);
	l2 &= OFFSET;
	if (!l2)
		return 0;
	if (!inside(d->g, l2, d->cs))
		return BAD("L2 table at 0x%llx is outside the file", (unsigned long long)l2);
	p = d->g->bytes + l2 + gc % d->l2_n * d->esize;
	*entry = get_be64(p);
	if (d->esize == 16)
		*bitmap = get_be64(p + 8);
	else if (!(*entry & 1ull << 62) && *entry & 1 && is_v3(d->g))
		*bitmap = 0xffffffffull << 32;
	else if (*entry & OFFSET)
		*bitmap = 0xffffffff;
	return 0;
}

static void read_backing(const struct disk *d, uint64_t off, uint8_t *buf, size_t n)
{
	uint64_t end = d->size < d->g->backing_size ? d->size : d->g->backing_size;
	size_t have = off >= end ? 0 : end - off < n ? end - off : n;

	if (have && d->g->backing)
		memcpy(buf, d->g->backing + off, have);
	else
		have = 0;
	memset(buf + have, 0, n - have);
}

static int read_packed(const struct disk *d, uint64_t entry, uint8_t *buf)
{
	unsigned x = 62 - (d->cbits - 8);
	uint64_t off = entry & ((1ull << x) - 1), n = ((entry & ((1ull << 62) - 1)) >> x) + 1;
	char *why = d->why;

	if (off >= d->g->size)
		return BAD("compressed cluster at 0x%llx is outside the file", (unsigned long long)off);
	n = n * 512 - off % 512;
	if (n > d->g->size - off)
		n = d->g->size - off; /* the last sector need not be there */
	if (deflate_unpack(d->g->bytes + off, n, buf, d->cs) < 0)
		return BAD("compressed cluster at 0x%llx does not unpack", (unsigned long long)off);
	return 0;
}

static int read_plain(const struct disk *d, uint64_t gc, uint64_t off, uint64_t bitmap, uint8_t *buf)
{
	size_t sub = d->esize == 16 ? d->cs / 32 : d->cs;
	char *why = d->why;

	for (unsigned s = 0; s < d->cs / sub; s++) {
		uint8_t *to = buf + s * sub;

		if (bitmap >> (32 + s) & 1) {
			memset(to, 0, sub);
		} else if (!(bitmap >> s & 1)) {
			read_backing(d, gc * d->cs + s * sub, to, sub);
		} else {
			if (off % d->cs || !inside(d->g, off + s * sub, sub))
				return BAD("data cluster at 0x%llx is outside the file", (unsigned long long)off);
			memcpy(to, d->g->bytes + off + s * sub, sub);
		}
	}
	return 0;
}

static int read_cluster(const struct disk *d, uint64_t gc, uint8_t *buf)
{
	uint64_t entry, bitmap;
	char *why = d->why;

	if (find_entry(d, gc, &entry, &bitmap) < 0)
		return -1;
	if (entry & 1ull << 62)
		return read_packed(d, entry, buf);
	if (entry & 0x3f000000000001feull || (entry & 1 && (d->esize == 16 || !is_v3(d->g))))
		return BAD("L2 entry of cluster %llu is 0x%llx", (unsigned long long)gc, (unsigned long long)entry);
	return read_plain(d, gc, entry & OFFSET, bitmap, buf);
}

int guest_read(const struct guest_img *g, int snap, uint64_t off, void *buf, size_t n, char *why)
{
	struct disk d;
	uint8_t *c, *to = buf;
	int r = 0;

	if (check_header(g, why) < 0 || open_disk(&d, g, snap, why) < 0)
		return -1;
	if (!(c = malloc(d.cs)))
		abort();
	while (n && !r) {
		size_t in = off % d.cs, here = d.cs - in < n ? d.cs - in : n;

		if (!(r = read_cluster(&d, off / d.cs, c))) {
			memcpy(to, c + in, here);
			to += here;
			off += here;
			n -= here;
		}
	}
	free(c);
	return r;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

/* Hash of @n bytes at cluster @gc; zeros count for nothing, so holes cost nothing. */
static int range_content(const struct disk *d, uint64_t gc, uint64_t n, uint64_t *sum)
{
	uint8_t *c = malloc(d->cs);
	int r = 0;

	if (!c)
		abort();
	while (n && !r) {
		uint64_t here = n < d->cs ? n : d->cs, i = gc / d->l2_n;
		bool has_l2 = i < d->l1_n && get_be64(d->g->bytes + d->l1 + 8 * i) != 0;

		if (has_l2 || (d->g->backing && gc * d->cs < d->size && gc * d->cs < d->g->backing_size)) {
			r = read_cluster(d, gc, c);
			if (!r && !all_zero(c, here))
				*sum += hash(gc + 1, c, here);
		} else if (gc % d->l2_n == 0 && n > d->l2_n * d->cs) {
			here = d->l2_n * d->cs;
		}
		gc += (here + d->cs - 1) / d->cs;
		n -= here;
	}
	free(c);
	return r;
}

/* All of one disk, and @vmstate bytes behind it. */
static int disk_content(const struct guest_img *g, int snap, uint64_t vmstate, uint64_t *out, char *why)
{
	struct disk d;
	uint64_t vm_at, most;

	*out = 0;
	if (open_disk(&d, g, snap, why) < 0)
		return -1;
	vm_at = (d.size + d.cs * d.l2_n - 1) / (d.cs * d.l2_n) * d.l2_n;
	most = d.l1_n * d.l2_n * d.cs - vm_at * d.cs;
	if (vmstate > most)
		return BAD("L1 table of %d too short for the VM state", snap);
	if (range_content(&d, 0, d.size, out) < 0)
		return -1;
	return range_content(&d, vm_at, vmstate, out);
}

static void name_copy(char *out, size_t cap, const uint8_t *p, size_t n)
{
	n = n < cap ? n : cap - 1;
	memcpy(out, p, n);
	out[n] = '\0';
}

static int read_snap(const struct guest_img *g, unsigned i, struct guest_snap *s, char *why)
{
	uint64_t at = snap_entry(g, i);
	const uint8_t *p = g->bytes + at;
	uint64_t icount;
	uint32_t extra;

	if (!at)
		return BAD("snapshot entry %u is outside the file", i);
	extra = get_be32(p + 36);
	name_copy(s->id, sizeof(s->id), p + 40 + extra, get_be16(p + 12));
	name_copy(s->name, sizeof(s->name), p + 40 + extra + get_be16(p + 12), get_be16(p + 14));
	s->vmstate = extra >= 8 ? get_be64(p + 40) : get_be32(p + 32);
	s->disk_size = extra >= 16 ? get_be64(p + 48) : get_be64(g->bytes + 24);
	s->meta = hash(1, p + 16, 16);
	s->meta = hash(s->meta, &s->vmstate, 8);
	s->meta = hash(s->meta, p + 40 + extra, get_be16(p + 12));
	s->meta = hash(s->meta, p + 40 + extra + get_be16(p + 12), get_be16(p + 14));
	icount = extra >= 24 ? get_be64(p + 56) : UINT64_MAX; /* not there: not on */
	s->meta = hash(s->meta, &icount, 8);
	if (extra > 24)
		s->meta = hash(s->meta, p + 64, extra - 24);
	return disk_content(g, (int)i, s->vmstate, &s->content, why);
}

/* Hash of cluster @i of a bitmap of @bits: the bits alone, however they are stored. */
static uint64_t bits_content(uint64_t i, const uint8_t *p, bool ones, uint64_t cs, uint64_t bits)
{
	uint64_t first = i * cs * 8, have = bits > first ? bits - first : 0, h;
	uint8_t *c = calloc(1, cs);

	if (!c)
		abort();
	have = have < cs * 8 ? have : cs * 8;
	if (p)
		memcpy(c, p, (have + 7) / 8);
	else if (ones)
		memset(c, 0xff, (have + 7) / 8);
	if (have % 8)
		c[have / 8] &= (uint8_t)((1u << have % 8) - 1);
	h = all_zero(c, cs) ? 0 : hash(i + 1, c, cs);
	free(c);
	return h;
}

static int read_bitmap(const struct guest_img *g, uint64_t at, struct guest_bitmap *b, uint64_t *len, char *why)
{
	const uint8_t *p = g->bytes + at;
	uint64_t cs = 1ull << get_be32(g->bytes + 20), table, n, extra, bits;

	if (!inside(g, at, 24))
		return BAD("bitmap directory ends early");
	extra = get_be32(p + 20);
	*len = (24 + extra + get_be16(p + 18) + 7) & ~7ull;
	table = get_be64(p);
	n = get_be32(p + 8);
	if (!inside(g, at, *len) || table % cs || !inside(g, table, 8 * n) || p[17] > 63)
		return BAD("bitmap entry at 0x%llx", (unsigned long long)at);
	b->flags = get_be32(p + 12);
	b->gran_bits = p[17];
	name_copy(b->name, sizeof(b->name), p + 24 + extra, get_be16(p + 18));
	b->content = hash(1, p + 24, extra);
	bits = (get_be64(g->bytes + 24) + (1ull << b->gran_bits) - 1) >> b->gran_bits;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t e = get_be64(g->bytes + table + 8 * i);

		if (e & OFFSET && (e & ~OFFSET || e % cs || !inside(g, e, cs)))
			return BAD("bitmap entry 0x%llx", (unsigned long long)e);
		b->content += bits_content(i, e & OFFSET ? g->bytes + e : NULL, e & 1, cs, bits);
		b->ones_end = !(e & OFFSET) && e & 1;
	}
	return 0;
}

static int read_bitmaps(const struct guest_img *g, const uint8_t *ext, struct guest_state *s)
{
	uint64_t at = get_be64(ext + 16), len;

	s->n_bitmaps = get_be32(ext);
	if (s->n_bitmaps > GUEST_MAX_BITMAPS)
		return snprintf(s->why, WHY, "%u bitmaps", s->n_bitmaps), -1;
	for (unsigned i = 0; i < s->n_bitmaps; i++, at += len)
		if (read_bitmap(g, at, &s->bitmaps[i], &len, s->why) < 0)
			return -1;
	return 0;
}

static int read_exts(const struct guest_img *g, struct guest_state *s)
{
	const uint8_t *h = g->bytes;
	uint64_t cs = 1ull << s->cluster_bits, at = is_v3(g) ? get_be32(h + 100) : 72, backing = get_be64(h + 8);

	s->backing = 1;
	if (backing && (get_be32(h + 16) > 1023 || backing > cs - get_be32(h + 16) || !inside(g, backing, get_be32(h + 16))))
		return snprintf(s->why, WHY, "backing name outside the first cluster"), -1;
	if (backing)
		s->backing = hash(2, h + backing, get_be32(h + 16));
	while (at + 8 <= cs && at + 8 <= g->size && (!backing || at < backing)) {
		uint32_t type = get_be32(h + at), n = get_be32(h + at + 4);

		if (!type)
			break;
		if (!inside(g, at + 8, n) || n > cs)
			return snprintf(s->why, WHY, "extension 0x%x of %u bytes", type, n), -1;
		if (type == 0x23852875 && n == 24 && s->autoclear & 1) {
			if (read_bitmaps(g, h + at + 8, s) < 0)
				return -1;
		} else if (type == 0xe2792aca) {
			s->backing = hash(s->backing, h + at + 8, n);
		} else if (type != 0x23852875 && type != 0x6803f857) {
			s->exts += hash(type, h + at + 8, n);
		}
		at += 8 + ((n + 7ull) & ~7ull);
	}
	return 0;
}

int guest_state(const struct guest_img *g, struct guest_state *s)
{
	const uint8_t *h = g->bytes;

	memset(s, 0, sizeof(*s));
	if (check_header(g, s->why) < 0)
		return -1;
	s->version = get_be32(h + 4);
	s->cluster_bits = get_be32(h + 20);
	s->refcount_bits = is_v3(g) ? 1u << get_be32(h + 96) : 16;
	s->incompatible = features(g, 72);
	s->compatible = features(g, 80);
	s->autoclear = features(g, 88);
	s->size = get_be64(h + 24);
	s->n_snaps = get_be32(h + 60);
	if (s->n_snaps > GUEST_MAX_SNAPS)
		return snprintf(s->why, WHY, "%u snapshots", s->n_snaps), -1;
	if (read_exts(g, s) < 0 || disk_content(g, -1, 0, &s->content, s->why) < 0)
		return -1;
	for (unsigned i = 0; i < s->n_snaps; i++)
		if (read_snap(g, i, &s->snaps[i], s->why) < 0)
			return -1;
	return 0;
}

#define DIFFER(...) return snprintf(why, WHY, __VA_ARGS__), false

bool guest_same(const struct guest_state *a, const struct guest_state *b, char *why)
{
	if (a->size != b->size)
		DIFFER("size %llu, %llu", (unsigned long long)a->size, (unsigned long long)b->size);
	if (a->version != b->version || a->cluster_bits != b->cluster_bits || a->refcount_bits != b->refcount_bits)
		DIFFER("version or geometry");
	if (a->content != b->content)
		DIFFER("the active disk's content");
	if (a->backing != b->backing)
		DIFFER("the backing file's name or format");
	if (a->exts != b->exts)
		DIFFER("unknown extensions");
	if (a->n_snaps != b->n_snaps)
		DIFFER("%u snapshots, %u", a->n_snaps, b->n_snaps);
	for (unsigned i = 0; i < a->n_snaps; i++) {
		const struct guest_snap *x = &a->snaps[i], *y = &b->snaps[i];

		if (x->meta != y->meta || x->disk_size != y->disk_size)
			DIFFER("snapshot %s (%s), %s (%s): their entries", x->id, x->name, y->id, y->name);
		if (x->content != y->content)
			DIFFER("snapshot %s (%s): its content", x->id, x->name);
	}
	if (a->n_bitmaps != b->n_bitmaps)
		DIFFER("%u bitmaps, %u", a->n_bitmaps, b->n_bitmaps);
	for (unsigned i = 0; i < a->n_bitmaps; i++) {
		const struct guest_bitmap *x = &a->bitmaps[i], *y = &b->bitmaps[i];

		if (strcmp(x->name, y->name) || x->flags != y->flags || x->gran_bits != y->gran_bits ||
		    x->content != y->content)
			DIFFER("bitmap %s, %s", x->name, y->name);
	}
	return true;
}
