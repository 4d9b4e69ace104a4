#include "tests/harness/judge.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/endian.h"

#define OFFSET 0x00fffffffffffe00ull

enum use { FREE, HEADER, L1, L2, DATA, PACKED, REFTABLE, REFBLOCK, SNAPTABLE, DIRECTORY, BITTABLE, BITDATA };

struct walk {
	const uint8_t *b;
	uint64_t size, cs, n; /* n: clusters of the file, the last may be short */
	unsigned cbits, esize, ref_bits;
	bool v3;
	uint64_t *want; /* references found, by cluster */
	uint8_t *use;	/* enum use, by cluster */
	struct judge *j;
};

#define BAD(w, ...)                                                                                                    \
	do {                                                                                                           \
		if (!(w)->j->bad++)                                                                                    \
			snprintf((w)->j->first_bad, sizeof((w)->j->first_bad), __VA_ARGS__);                           \
	} while (0)
#define LL(x) ((unsigned long long)(x))

static bool inside(const struct walk *w, uint64_t off, uint64_t n)
{
	return off <= w->size && n <= w->size - off;
}

/* Plain and compressed data may share a cluster: odd, but both read well. */
static bool is_data(unsigned use)
{
	return use == DATA || use == PACKED;
}

/* Count @n bytes at @off, used as @use. False if they are not all there. */
static bool claim(struct walk *w, uint64_t off, uint64_t n, enum use use)
{
	uint64_t c;

	if (!n)
		return true;
	if (off >= w->size || (off + n - 1) / w->cs >= w->n) {
		BAD(w, "use %d at 0x%llx+%llu is outside the file", use, LL(off), LL(n));
		return false;
	}
	for (c = off / w->cs; c <= (off + n - 1) / w->cs; c++) {
		if (w->use[c] != FREE && w->use[c] != use && !(is_data(w->use[c]) && is_data(use)))
			BAD(w, "cluster %llu is used as %d and as %d", LL(c), w->use[c], use);
		if (w->use[c] == use && use != L2 && use != DATA && use != PACKED)
			BAD(w, "cluster %llu is used twice as %d", LL(c), use);
		w->use[c] = (uint8_t)use;
		w->want[c]++;
	}
	return true;
}

static void walk_l2(struct walk *w, uint64_t l2)
{
	for (uint64_t k = 0; k < w->cs / w->esize; k++) {
		uint64_t e = get_be64(w->b + l2 + k * w->esize);

		if (e & 1ull << 62) {
			unsigned x = 62 - (w->cbits - 8);
			uint64_t off = e & ((1ull << x) - 1), n = ((e & ((1ull << 62) - 1)) >> x) + 1;

			if (e >> 63)
				BAD(w, "compressed cluster at 0x%llx is marked COPIED", LL(off));
			claim(w, off & ~511ull, n * 512, PACKED);
		} else {
			if (e & (w->esize == 16 ? 0x3f000000000001ffull : 0x3f000000000001feull) || (e & OFFSET) % w->cs ||
			    (!w->v3 && e & 1))
				BAD(w, "L2 entry 0x%llx", LL(e));
			else if (e & OFFSET)
				claim(w, e & OFFSET, 1, DATA);
		}
		if (w->esize == 16) {
			uint64_t m = get_be64(w->b + l2 + k * 16 + 8);

			if (e & 1ull << 62 ? m != 0 : (m >> 32 & m) || ((uint32_t)m && !(e & OFFSET)))
				BAD(w, "subclusters 0x%llx of L2 entry 0x%llx", LL(m), LL(e));
		}
	}
}

static void walk_l1(struct walk *w, uint64_t l1, uint64_t n)
{
	if (!n)
		return; /* of no entries, anywhere */
	if (l1 % w->cs || !inside(w, l1, 8 * n)) {
		BAD(w, "L1 table at 0x%llx with %llu entries", LL(l1), LL(n));
		return;
	}
	claim(w, l1, 8 * n, L1);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t e = get_be64(w->b + l1 + 8 * i);

		if (e & 0x7f000000000001ffull || (e & OFFSET) % w->cs || (e && !(e & OFFSET)))
			BAD(w, "L1 entry 0x%llx", LL(e));
		else if (e & OFFSET && claim(w, e & OFFSET, w->cs, L2) && inside(w, e & OFFSET, w->cs))
			walk_l2(w, e & OFFSET);
		else if (e & OFFSET)
			BAD(w, "L2 table at 0x%llx is cut off", LL(e & OFFSET));
	}
}

static void walk_snaps(struct walk *w)
{
	uint64_t start = get_be64(w->b + 64), at = start;
	uint32_t n = get_be32(w->b + 60);

	if (n && start % w->cs)
		BAD(w, "snapshot table at 0x%llx", LL(start));
	for (uint32_t i = 0; i < n; i++) {
		uint64_t len;

		if (!inside(w, at, 40)) {
			BAD(w, "snapshot table ends before entry %u", i);
			return;
		}
		len = 40ull + get_be32(w->b + at + 36) + get_be16(w->b + at + 12) + get_be16(w->b + at + 14);
		if (!inside(w, at, len)) {
			BAD(w, "snapshot entry %u has %llu bytes", i, LL(len));
			return;
		}
		if (w->v3 && get_be32(w->b + at + 36) < 16)
			BAD(w, "snapshot entry %u does not say how large the disk was", i);
		walk_l1(w, get_be64(w->b + at), get_be32(w->b + at + 8));
		at += (len + 7) & ~7ull;
	}
	if (n && at > w->size)
		at = w->size; /* the last entry's padding need not be there */
	claim(w, start, at - start, SNAPTABLE);
}

static void walk_bitmaps(struct walk *w, const uint8_t *ext)
{
	uint64_t dir = get_be64(ext + 16), dir_n = get_be64(ext + 8), at = dir;

	if (dir % w->cs || !inside(w, dir, dir_n)) {
		BAD(w, "bitmap directory at 0x%llx+%llu", LL(dir), LL(dir_n));
		return;
	}
	claim(w, dir, dir_n, DIRECTORY);
	for (uint32_t i = 0; i < get_be32(ext); i++) {
		const uint8_t *p = w->b + at;
		uint64_t table, n;

		if (at + 24 > dir + dir_n) {
			BAD(w, "bitmap directory ends before entry %u", i);
			return;
		}
		table = get_be64(p);
		n = get_be32(p + 8);
		if (table % w->cs || !inside(w, table, 8 * n)) {
			BAD(w, "bitmap table at 0x%llx", LL(table));
			return;
		}
		claim(w, table, 8 * n, BITTABLE);
		for (uint64_t k = 0; k < n; k++)
			if (get_be64(w->b + table + 8 * k) & OFFSET)
				claim(w, get_be64(w->b + table + 8 * k) & OFFSET, w->cs, BITDATA);
		at += (24ull + get_be32(p + 20) + get_be16(p + 18) + 7) & ~7ull;
	}
}

static void walk_exts(struct walk *w)
{
	uint64_t at = w->v3 ? get_be32(w->b + 100) : 72, backing = get_be64(w->b + 8);

	while (at + 8 <= w->cs && at + 8 <= w->size && (!backing || at < backing)) {
		uint32_t type = get_be32(w->b + at), n = get_be32(w->b + at + 4);

		if (!type || !inside(w, at + 8, n))
			break;
		if (type == 0x23852875 && n == 24 && w->v3 && get_be64(w->b + 88) & 1)
			walk_bitmaps(w, w->b + at + 8);
		at += 8 + ((n + 7ull) & ~7ull);
	}
}

static void walk_refcounts(struct walk *w)
{
	uint64_t rt = get_be64(w->b + 48), n = (uint64_t)get_be32(w->b + 56) << w->cbits;

	if (rt % w->cs || !n || !inside(w, rt, n)) {
		BAD(w, "refcount table at 0x%llx+%llu", LL(rt), LL(n));
		return;
	}
	claim(w, rt, n, REFTABLE);
	for (uint64_t i = 0; i < n / 8; i++) {
		uint64_t e = get_be64(w->b + rt + 8 * i);

		if (e % w->cs || (e && !inside(w, e, w->cs)))
			BAD(w, "refcount block %llu at 0x%llx", LL(i), LL(e));
		else if (e)
			claim(w, e, w->cs, REFBLOCK);
	}
}

static uint64_t refcount(const struct walk *w, uint64_t c)
{
	uint64_t per = w->cs * 8 / w->ref_bits, rt = get_be64(w->b + 48), v = 0, e, i = c % per;
	uint64_t rt_n = ((uint64_t)get_be32(w->b + 56) << w->cbits) / 8;
	const uint8_t *p;

	if (c / per >= rt_n || !inside(w, rt, 8 * rt_n))
		return 0;
	e = get_be64(w->b + rt + 8 * (c / per));
	if (!e || e % w->cs || !inside(w, e, w->cs))
		return 0;
	p = w->b + e;
	if (w->ref_bits < 8)
		return p[i * w->ref_bits / 8] >> (i * w->ref_bits % 8) & ((1u << w->ref_bits) - 1);
	for (unsigned k = 0; k < w->ref_bits / 8; k++)
		v = v << 8 | p[i * w->ref_bits / 8 + k];
	return v;
}

/* A flag is dangerous only where it lets a shared cluster be written in place. */
static void check_flag(struct walk *w, uint64_t e, const char *what)
{
	uint64_t c = (e & OFFSET) / w->cs, r;

	if (!(e & OFFSET) || c >= w->n)
		return;
	r = refcount(w, c);
	if (e >> 63 && w->want[c] > 1)
		BAD(w, "%s entry 0x%llx is COPIED, but has %llu users", what, LL(e), LL(w->want[c]));
	else if ((e >> 63) != (r == 1) && !w->j->flags++)
		snprintf(w->j->first_flag, sizeof(w->j->first_flag), "%s entry 0x%llx with refcount %llu", what, LL(e), LL(r));
}

static void check_flags(struct walk *w)
{
	uint64_t l1 = get_be64(w->b + 40), n = get_be32(w->b + 36);

	if (!inside(w, l1, 8 * n))
		return;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t e = get_be64(w->b + l1 + 8 * i), l2 = e & OFFSET;

		check_flag(w, e, "L1");
		if (!l2 || l2 % w->cs || !inside(w, l2, w->cs))
			continue;
		for (uint64_t k = 0; k < w->cs / w->esize; k++) {
			uint64_t d = get_be64(w->b + l2 + k * w->esize);

			if (!(d & 1ull << 62))
				check_flag(w, d, "L2");
		}
	}
}

static bool header_ok(const uint8_t *b, uint64_t size)
{
	if (size < 72 || memcmp(b, "QFI\xfb", 4) || get_be32(b + 4) < 2 || get_be32(b + 4) > 3)
		return false;
	if (get_be32(b + 20) < 9 || get_be32(b + 20) > 21)
		return false;
	return get_be32(b + 4) == 2 || (size >= 104 && get_be32(b + 96) <= 6);
}

void judge_image(const uint8_t *b, uint64_t size, struct judge *j)
{
	struct walk w = { .b = b, .size = size, .j = j };

	memset(j, 0, sizeof(*j));
	if (!header_ok(b, size)) {
		BAD(&w, "no qcow2 header");
		return;
	}
	w.cbits = get_be32(b + 20);
	w.cs = 1ull << w.cbits;
	w.n = (size + w.cs - 1) / w.cs;
	w.v3 = get_be32(b + 4) > 2;
	w.esize = w.v3 && get_be64(b + 72) & 16 ? 16 : 8;
	w.ref_bits = w.v3 ? 1u << get_be32(b + 96) : 16;
	w.want = calloc(w.n, sizeof(*w.want));
	w.use = calloc(w.n, 1);
	if (!w.want || !w.use)
		abort();
	claim(&w, 0, w.cs, HEADER);
	walk_l1(&w, get_be64(b + 40), get_be32(b + 36));
	walk_snaps(&w);
	walk_exts(&w);
	walk_refcounts(&w);
	for (uint64_t c = 0; c < w.n; c++) {
		uint64_t r = refcount(&w, c);

		if (r < w.want[c])
			BAD(&w, "cluster %llu (use %d) has refcount %llu and %llu users", LL(c), w.use[c], LL(r), LL(w.want[c]));
		else if (r > w.want[c])
			j->leaks++;
	}
	check_flags(&w);
	free(w.want);
	free(w.use);
}
