#include "tests/harness/mkimg.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/endian.h"
#include "tests/harness/deflate.h"
#include "tests/harness/rand.h"

#define COPIED	   (1ull << 63)
#define COMPRESSED (1ull << 62)
#define ZERO	   1ull
#define OFFSET	   0x00fffffffffffe00ull
#define MAX_PARTS  64

struct ext {
	uint32_t type, n;
	uint8_t data[256];
};

struct part { /* a snapshot's or bitmap's entry in its table, and what it points to */
	uint8_t *entry;
	size_t n;
};

struct mkimg {
	struct mkimg_opts o;
	uint64_t cs;	/* cluster size */
	uint64_t l2_n;	/* entries of an L2 table */
	unsigned esize; /* bytes of one */
	uint8_t *bytes;
	uint64_t *refs; /* by cluster */
	uint64_t n_clusters;
	uint64_t *l1; /* offsets only */
	uint64_t n_l1;
	uint64_t pack_at; /* where the next compressed cluster may start, 0 for none */
	struct part snaps[MAX_PARTS], bitmaps[MAX_PARTS];
	unsigned n_snaps, n_bitmaps, n_exts;
	struct ext exts[8];
};

static void *need(void *p)
{
	assert(p);
	return p;
}

static uint64_t max_ref(const struct mkimg *m)
{
	return m->o.refcount_bits == 64 ? UINT64_MAX : (1ull << m->o.refcount_bits) - 1;
}

void mkimg_fill(uint8_t *buf, size_t n, uint64_t seed, bool packed)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t w = mix64(seed * 0x10001 + (packed ? i % 16 : i) + 1);

		memcpy(buf + i, &w, n - i < 8 ? n - i : 8);
	}
}

/* @n contiguous clusters at the end, each with refcount 1. Returns their offset. */
static uint64_t alloc(struct mkimg *m, uint64_t n)
{
	uint64_t at = m->n_clusters;

	m->n_clusters += n;
	m->bytes = need(realloc(m->bytes, m->n_clusters * m->cs));
	m->refs = need(realloc(m->refs, m->n_clusters * sizeof(*m->refs)));
	memset(m->bytes + at * m->cs, 0, n * m->cs);
	for (uint64_t i = at; i < m->n_clusters; i++)
		m->refs[i] = 1;
	return at * m->cs;
}

static uint64_t clusters(const struct mkimg *m, uint64_t n)
{
	return (n + m->cs - 1) / m->cs;
}

static uint64_t l1_for(const struct mkimg *m, uint64_t size)
{
	return (clusters(m, size) + m->l2_n - 1) / m->l2_n;
}

static void want_l1(struct mkimg *m, uint64_t n)
{
	if (n <= m->n_l1)
		return;
	m->l1 = need(realloc(m->l1, n * sizeof(*m->l1)));
	memset(m->l1 + m->n_l1, 0, (n - m->n_l1) * sizeof(*m->l1));
	m->n_l1 = n;
}

struct mkimg *mkimg_new(const struct mkimg_opts *o)
{
	struct mkimg *m = need(calloc(1, sizeof(*m)));

	m->o = *o;
	m->o.version = o->version ? o->version : 3;
	m->o.cluster_bits = o->cluster_bits ? o->cluster_bits : 9;
	m->o.refcount_bits = o->refcount_bits ? o->refcount_bits : 16;
	m->o.header_length = m->o.version == 2 ? 72 : o->header_length ? o->header_length : 112;
	assert(m->o.version == 3 || m->o.refcount_bits == 16);
	assert(!m->o.ext_l2 || (m->o.version == 3 && m->o.cluster_bits >= 14));
	m->cs = 1ull << m->o.cluster_bits;
	m->esize = m->o.ext_l2 ? 16 : 8;
	m->l2_n = m->cs / m->esize;
	want_l1(m, o->l1_size > l1_for(m, o->size) ? o->l1_size : l1_for(m, o->size));
	alloc(m, 1);
	return m;
}

static void ref_range(struct mkimg *m, uint64_t off, uint64_t n, int64_t delta)
{
	for (uint64_t c = off / m->cs; c <= (off + n - 1) / m->cs; c++) {
		m->refs[c] += (uint64_t)delta;
		assert(m->refs[c] <= max_ref(m));
	}
}

static void ref_entry(struct mkimg *m, uint64_t entry, int64_t delta)
{
	if (entry & COMPRESSED) {
		unsigned x = 62 - (m->o.cluster_bits - 8);
		uint64_t off = entry & ((1ull << x) - 1), sectors = ((entry & (COMPRESSED - 1)) >> x) + 1;

		ref_range(m, off & ~511ull, sectors * 512, delta);
	} else if (entry & OFFSET) {
		ref_range(m, entry & OFFSET, 1, delta);
	}
}

/* The active L2 table that maps @gc, its own: made or copied if it was not. */
static uint8_t *own_l2(struct mkimg *m, uint64_t gc)
{
	uint64_t i = gc / m->l2_n, old, new;

	want_l1(m, i + 1);
	old = m->l1[i];
	if (!old || m->refs[old / m->cs] > 1) {
		new = alloc(m, 1);
		if (old) {
			memcpy(m->bytes + new, m->bytes + old, m->cs);
			m->refs[old / m->cs]--;
		}
		m->l1[i] = new;
	}
	return m->bytes + m->l1[i] + gc % m->l2_n * m->esize;
}

static void set_entry(struct mkimg *m, uint64_t gc, uint64_t entry, uint64_t bitmap)
{
	uint8_t *p = own_l2(m, gc);

	ref_entry(m, get_be64(p), -1);
	put_be64(p, entry);
	if (m->o.ext_l2)
		put_be64(p + 8, bitmap);
}

void mkimg_data(struct mkimg *m, uint64_t gc, uint64_t seed)
{
	uint64_t off = alloc(m, 1);

	mkimg_fill(m->bytes + off, m->cs, seed, false);
	set_entry(m, gc, off, 0xffffffff);
}

void mkimg_zero(struct mkimg *m, uint64_t gc, bool keep)
{
	assert(m->o.version > 2);
	set_entry(m, gc, (keep ? alloc(m, 1) : 0) | (m->o.ext_l2 ? 0 : ZERO), 0xffffffffull << 32);
}

void mkimg_discard(struct mkimg *m, uint64_t gc)
{
	set_entry(m, gc, 0, 0);
}

void mkimg_sub(struct mkimg *m, uint64_t gc, uint32_t own, uint32_t zeros, uint64_t seed)
{
	uint64_t off = alloc(m, 1);

	assert(m->o.ext_l2 && !(own & zeros));
	mkimg_fill(m->bytes + off, m->cs, seed, false);
	set_entry(m, gc, off, (uint64_t)zeros << 32 | own);
}

void mkimg_compressed(struct mkimg *m, uint64_t gc, uint64_t seed)
{
	uint8_t *plain = need(malloc(m->cs)), *packed = need(malloc(m->cs));
	unsigned x = 62 - (m->o.cluster_bits - 8);
	uint64_t off = m->pack_at, end;
	bool beside;
	size_t n;

	mkimg_fill(plain, m->cs, seed, true);
	n = deflate_pack(plain, m->cs, 16, packed, m->cs);
	assert(n);
	/* Behind the one before, and on into a new cluster, if its count leaves room for snapshots. */
	beside = off && max_ref(m) >= 255 &&
		 (off % m->cs + n <= m->cs || off / m->cs == m->n_clusters - 1);
	if (!beside)
		off = alloc(m, 1);
	else if (off % m->cs + n > m->cs)
		alloc(m, 1);
	if (beside)
		m->refs[off / m->cs]++;
	memcpy(m->bytes + off, packed, n);
	end = off + n;
	set_entry(m, gc, COMPRESSED | off | ((end - 1) / 512 - off / 512) << x, 0);
	m->pack_at = end % m->cs ? end : 0;
	free(plain);
	free(packed);
}

static void write_vmstate(struct mkimg *m, const struct mkimg_snap *s)
{
	uint64_t first = l1_for(m, m->o.size) * m->l2_n;

	for (uint64_t i = 0; i < clusters(m, s->vmstate); i++)
		mkimg_data(m, first + i, s->vm_seed + i);
}

static void drop_vmstate(struct mkimg *m, const struct mkimg_snap *s)
{
	uint64_t first = l1_for(m, m->o.size) * m->l2_n;

	for (uint64_t i = 0; i < clusters(m, s->vmstate); i++)
		mkimg_discard(m, first + i);
}

void mkimg_snapshot(struct mkimg *m, const struct mkimg_snap *s)
{
	size_t id_n = strlen(s->id), name_n = strlen(s->name);
	struct part *p = &m->snaps[m->n_snaps++];
	uint64_t at;
	uint8_t *q;

	assert(m->n_snaps <= MAX_PARTS);
	write_vmstate(m, s);
	at = alloc(m, clusters(m, 8 * m->n_l1) + !m->n_l1);
	for (uint64_t i = 0; i < m->n_l1; i++) {
		put_be64(m->bytes + at + 8 * i, m->l1[i]);
		if (!m->l1[i])
			continue;
		ref_range(m, m->l1[i], 1, 1);
		for (uint64_t k = 0; k < m->l2_n; k++)
			ref_entry(m, get_be64(m->bytes + m->l1[i] + k * m->esize), 1);
	}
	p->n = (40 + s->extra_len + id_n + name_n + 7) & ~(size_t)7;
	p->entry = q = need(calloc(1, p->n));
	put_be64(q, at);
	put_be32(q + 8, (uint32_t)m->n_l1);
	put_be16(q + 12, (uint16_t)id_n);
	put_be16(q + 14, (uint16_t)name_n);
	put_be32(q + 16, s->date_s);
	put_be32(q + 20, s->date_ns);
	put_be64(q + 24, s->clock_ns);
	put_be32(q + 32, (uint32_t)s->vmstate);
	put_be32(q + 36, s->extra_len);
	mkimg_fill(q + 40, s->extra_len, m->n_snaps, false);
	if (s->extra_len >= 8)
		put_be64(q + 40, s->vmstate);
	if (s->extra_len >= 16)
		put_be64(q + 48, m->o.size);
	if (s->extra_len >= 24)
		put_be64(q + 56, UINT64_MAX); /* no instruction counter */
	memcpy(q + 40 + s->extra_len, s->id, id_n);
	memcpy(q + 40 + s->extra_len + id_n, s->name, name_n);
	drop_vmstate(m, s);
}

void mkimg_grow(struct mkimg *m, uint64_t size)
{
	assert(size >= m->o.size);
	m->o.size = size;
	want_l1(m, l1_for(m, size));
}

void mkimg_add_bitmap(struct mkimg *m, const struct mkimg_bitmap *b)
{
	uint64_t bits = (m->o.size + (1ull << b->gran_bits) - 1) >> b->gran_bits, n = (bits + 7) / 8;
	uint64_t entries = clusters(m, n), table = alloc(m, entries ? clusters(m, 8 * entries) : 1);
	struct part *p = &m->bitmaps[m->n_bitmaps++];
	size_t name_n = strlen(b->name);
	uint8_t *q;

	for (uint64_t i = 0; i < entries; i++) {
		uint64_t here = n - i * m->cs < m->cs ? n - i * m->cs : m->cs, off = 0;

		if ((b->seed + i) % 3 == 0) {
			off = alloc(m, 1);
			mkimg_fill(m->bytes + off, here, b->seed + i, false);
			if (i == entries - 1 && bits % 8)
				m->bytes[off + here - 1] &= (uint8_t)((1u << bits % 8) - 1);
		}
		put_be64(m->bytes + table + 8 * i, off ? off : (b->seed + i) % 3 == 1);
	}
	p->n = (24 + b->extra_len + name_n + 7) & ~(size_t)7;
	p->entry = q = need(calloc(1, p->n));
	put_be64(q, table);
	put_be32(q + 8, (uint32_t)entries);
	put_be32(q + 12, b->flags);
	q[16] = 1;
	q[17] = (uint8_t)b->gran_bits;
	put_be16(q + 18, (uint16_t)name_n);
	put_be32(q + 20, b->extra_len);
	mkimg_fill(q + 24, b->extra_len, b->seed, false);
	memcpy(q + 24 + b->extra_len, b->name, name_n);
}

void mkimg_ext(struct mkimg *m, uint32_t type, const void *data, uint32_t n)
{
	struct ext *x = &m->exts[m->n_exts++];

	assert(m->n_exts <= 8 && n <= sizeof(x->data));
	x->type = type;
	x->n = n;
	if (n)
		memcpy(x->data, data, n);
}

void mkimg_leak(struct mkimg *m, unsigned n)
{
	alloc(m, n);
}

/* The entries of a table one after the other, in clusters of their own; freed. Returns their offset. */
static uint64_t place(struct mkimg *m, struct part *parts, unsigned n, uint64_t *total)
{
	uint64_t at = 0, off;

	for (unsigned i = 0; i < n; i++)
		at += parts[i].n;
	*total = at;
	if (!n)
		return 0;
	off = alloc(m, clusters(m, at));
	at = off;
	for (unsigned i = 0; i < n; i++) {
		memcpy(m->bytes + at, parts[i].entry, parts[i].n);
		at += parts[i].n;
		free(parts[i].entry);
	}
	return off;
}

static void set_copied(struct mkimg *m, uint64_t l1_off)
{
	for (uint64_t i = 0; i < m->n_l1; i++) {
		bool own = m->l1[i] && m->refs[m->l1[i] / m->cs] == 1;

		put_be64(m->bytes + l1_off + 8 * i, m->l1[i] | (own ? COPIED : 0));
		for (uint64_t k = 0; m->l1[i] && k < m->l2_n; k++) {
			uint8_t *p = m->bytes + m->l1[i] + k * m->esize;
			uint64_t e = get_be64(p) & ~COPIED;

			if (!(e & COMPRESSED) && (e & OFFSET) && m->refs[(e & OFFSET) / m->cs] == 1)
				e |= COPIED;
			put_be64(p, e);
		}
	}
}

static void put_ref(const struct mkimg *m, uint8_t *block, uint64_t i, uint64_t v)
{
	unsigned bits = m->o.refcount_bits;

	assert(v <= max_ref(m));
	if (bits < 8)
		block[i * bits / 8] |= (uint8_t)(v << (i * bits % 8));
	else
		for (unsigned b = 0; b < bits / 8; b++)
			block[i * bits / 8 + b] = (uint8_t)(v >> (bits - 8 - 8 * b));
}

/* Refcount blocks and table for all that is there, themselves included. */
static uint64_t place_refcounts(struct mkimg *m, uint64_t *rt_clusters)
{
	uint64_t per = m->cs * 8 / m->o.refcount_bits, n_blocks = 1, rt = 1, at;

	for (;;) {
		uint64_t all = m->n_clusters + n_blocks + rt, want = (all + per - 1) / per, want_rt;

		want_rt = clusters(m, 8 * want);
		want_rt = want_rt > m->o.rt_clusters ? want_rt : m->o.rt_clusters;
		if (want == n_blocks && want_rt == rt)
			break;
		n_blocks = want;
		rt = want_rt;
	}
	at = alloc(m, rt + n_blocks);
	for (uint64_t i = 0; i < n_blocks; i++)
		put_be64(m->bytes + at + 8 * i, at + (rt + i) * m->cs);
	for (uint64_t c = 0; c < m->n_clusters; c++)
		put_ref(m, m->bytes + at + (rt + c / per) * m->cs, c % per, m->refs[c]);
	*rt_clusters = rt;
	return at;
}

static size_t put_ext(uint8_t *p, uint32_t type, const void *data, uint32_t n)
{
	put_be32(p, type);
	put_be32(p + 4, n);
	if (n)
		memcpy(p + 8, data, n);
	return 8 + ((n + 7u) & ~7u);
}

static void put_tail(struct mkimg *m, uint64_t dir, uint64_t dir_n)
{
	uint8_t *p = m->bytes + m->o.header_length, b[24];

	if (m->o.backing_fmt)
		p += put_ext(p, 0xe2792aca, m->o.backing_fmt, (uint32_t)strlen(m->o.backing_fmt));
	if (m->n_bitmaps) {
		put_be32(b, m->n_bitmaps);
		put_be32(b + 4, 0);
		put_be64(b + 8, dir_n);
		put_be64(b + 16, dir);
		p += put_ext(p, 0x23852875, b, 24);
	}
	for (unsigned i = 0; i < m->n_exts; i++)
		p += put_ext(p, m->exts[i].type, m->exts[i].data, m->exts[i].n);
	p += put_ext(p, 0, NULL, 0);
	if (m->o.backing) {
		memcpy(p, m->o.backing, strlen(m->o.backing));
		put_be64(m->bytes + 8, (uint64_t)(p - m->bytes));
		put_be32(m->bytes + 16, (uint32_t)strlen(m->o.backing));
		p += strlen(m->o.backing);
	}
	assert((uint64_t)(p - m->bytes) <= m->cs);
}

uint8_t *mkimg_finish(struct mkimg *m, size_t *n)
{
	uint64_t snaps_n, dir_n, rt_n, l1 = alloc(m, clusters(m, 8 * m->n_l1) + !m->n_l1);
	uint64_t snaps = place(m, m->snaps, m->n_snaps, &snaps_n), dir = place(m, m->bitmaps, m->n_bitmaps, &dir_n);
	uint64_t rt = place_refcounts(m, &rt_n);
	uint8_t *h = m->bytes;

	set_copied(m, l1);
	memcpy(h, "QFI\xfb", 4);
	put_be32(h + 4, m->o.version);
	put_be32(h + 20, m->o.cluster_bits);
	put_be64(h + 24, m->o.size);
	put_be32(h + 36, (uint32_t)m->n_l1);
	put_be64(h + 40, l1);
	put_be64(h + 48, rt);
	put_be32(h + 56, (uint32_t)rt_n);
	put_be32(h + 60, m->n_snaps);
	put_be64(h + 64, snaps);
	if (m->o.version > 2) {
		put_be64(h + 72, m->o.incompatible | (m->o.ext_l2 ? 16 : 0));
		put_be64(h + 80, m->o.compatible);
		put_be64(h + 88, m->o.autoclear | !!m->n_bitmaps);
		put_be32(h + 96, (uint32_t)__builtin_ctz(m->o.refcount_bits));
		put_be32(h + 100, m->o.header_length);
	}
	put_tail(m, dir, dir_n);
	*n = m->n_clusters * m->cs;
	free(m->refs);
	free(m->l1);
	free(m);
	return h;
}
