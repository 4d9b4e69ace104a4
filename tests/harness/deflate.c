#include "tests/harness/deflate.h"

#include <stdbool.h>
#include <string.h>

static const uint16_t len_base[29] = { 3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,	17,  19,  23, 27,
				       31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258 };
static const uint8_t len_extra[29] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0 };

static unsigned dist_base(unsigned code)
{
	return code < 2 ? code + 1 : (2u + (code & 1)) * (1u << (code / 2 - 1)) + 1;
}

static unsigned dist_extra(unsigned code)
{
	return code < 2 ? 0 : code / 2 - 1;
}

struct bits {
	const uint8_t *in;
	uint8_t *out;
	size_t at, n; /* bits */
	bool over;
};

static void put(struct bits *b, unsigned v, unsigned count)
{
	for (; count--; v >>= 1, b->at++) {
		if (b->at == b->n) {
			b->over = true;
			return;
		}
		if (b->at % 8 == 0)
			b->out[b->at / 8] = 0;
		b->out[b->at / 8] |= (uint8_t)((v & 1) << (b->at % 8));
	}
}

/* Huffman codes go most significant bit first. */
static void put_code(struct bits *b, unsigned code, unsigned count)
{
	while (count--)
		put(b, code >> count & 1, 1);
}

static void put_symbol(struct bits *b, unsigned s)
{
	if (s < 144)
		put_code(b, 0x30 + s, 8);
	else if (s < 256)
		put_code(b, 0x190 + s - 144, 9);
	else if (s < 280)
		put_code(b, s - 256, 7);
	else
		put_code(b, 0xc0 + s - 280, 8);
}

static void put_match(struct bits *b, unsigned len, unsigned dist)
{
	unsigned l = 28, d = 29;

	while (len_base[l] > len)
		l--;
	while (dist_base(d) > dist)
		d--;
	put_symbol(b, 257 + l);
	put(b, len - len_base[l], len_extra[l]);
	put_code(b, d, 5);
	put(b, dist - dist_base(d), dist_extra(d));
}

size_t deflate_pack(const uint8_t *in, size_t n, size_t period, uint8_t *out, size_t cap)
{
	struct bits b = { .out = out, .n = 8 * cap };
	size_t at = 0;

	put(&b, 1, 1); /* the last block */
	put(&b, 1, 2); /* fixed codes */
	while (at < n) {
		size_t len = 0;

		if (at >= period)
			while (len < 258 && at + len < n && in[at + len] == in[at + len - period])
				len++;
		if (len >= 3) {
			put_match(&b, (unsigned)len, (unsigned)period);
			at += len;
		} else {
			put_symbol(&b, in[at++]);
		}
	}
	put_symbol(&b, 256);
	return b.over ? 0 : (b.at + 7) / 8;
}

static unsigned get(struct bits *b, unsigned count)
{
	unsigned v = 0;

	for (unsigned i = 0; i < count; i++, b->at++) {
		if (b->at >= b->n) {
			b->over = true;
			return 0;
		}
		v |= (unsigned)(b->in[b->at / 8] >> (b->at % 8) & 1) << i;
	}
	return v;
}

struct codes {
	uint16_t count[16]; /* symbols of each length */
	uint16_t symbol[288];
};

static void make_codes(struct codes *c, const uint8_t *len, unsigned n)
{
	uint16_t at[16] = { 0 };

	memset(c->count, 0, sizeof(c->count));
	for (unsigned s = 0; s < n; s++)
		c->count[len[s]]++;
	c->count[0] = 0;
	for (unsigned l = 1; l < 15; l++)
		at[l + 1] = (uint16_t)(at[l] + c->count[l]);
	for (unsigned s = 0; s < n; s++)
		if (len[s])
			c->symbol[at[len[s]]++] = (uint16_t)s;
}

/* Canonical codes: those of one length are consecutive, and longer ones follow. */
static int get_symbol(struct bits *b, const struct codes *c)
{
	int code = 0, first = 0, at = 0;

	for (unsigned l = 1; l < 16 && !b->over; l++) {
		code |= (int)get(b, 1);
		if (code >= first && code - first < c->count[l])
			return c->symbol[at + code - first];
		at += c->count[l];
		first = (first + c->count[l]) << 1;
		code <<= 1;
	}
	return -1;
}

static int read_codes(struct bits *b, struct codes *lit, struct codes *dist)
{
	static const uint8_t order[19] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
	unsigned n_lit = get(b, 5) + 257, n_dist = get(b, 5) + 1, n_code = get(b, 4) + 4, n = 0;
	uint8_t len[320] = { 0 };

	for (unsigned i = 0; i < n_code; i++)
		len[order[i]] = (uint8_t)get(b, 3);
	make_codes(lit, len, 19);
	memset(len, 0, sizeof(len));
	if (n_lit > 286 || n_dist > 30)
		return -1;
	while (n < n_lit + n_dist) {
		int s = get_symbol(b, lit);
		unsigned times = 1;

		if (s < 0 || (s == 16 && !n))
			return -1;
		if (s >= 16) {
			times = s == 16 ? 3 + get(b, 2) : s == 17 ? 3 + get(b, 3) : 11 + get(b, 7);
			s = s == 16 ? len[n - 1] : 0;
		}
		if (n + times > n_lit + n_dist)
			return -1;
		memset(len + n, s, times);
		n += times;
	}
	make_codes(lit, len, n_lit);
	make_codes(dist, len + n_lit, n_dist);
	return b->over ? -1 : 0;
}

static void fixed_codes(struct codes *lit, struct codes *dist)
{
	uint8_t len[288];

	for (unsigned s = 0; s < 288; s++)
		len[s] = s < 144 ? 8 : s < 256 ? 9 : s < 280 ? 7 : 8;
	make_codes(lit, len, 288);
	memset(len, 5, 30);
	make_codes(dist, len, 30);
}

static int unpack_block(struct bits *b, const struct codes *lit, const struct codes *dist, uint8_t *out, size_t *at,
			size_t n)
{
	while (*at < n) {
		int s = get_symbol(b, lit);
		unsigned len, back;

		if (s < 0)
			return -1;
		if (s < 256) {
			out[(*at)++] = (uint8_t)s;
			continue;
		}
		if (s == 256)
			return 0;
		if (s > 285)
			return -1;
		len = len_base[s - 257] + get(b, len_extra[s - 257]);
		if ((s = get_symbol(b, dist)) < 0)
			return -1;
		back = dist_base((unsigned)s) + get(b, dist_extra((unsigned)s));
		if (b->over || back > *at)
			return -1;
		for (; len && *at < n; len--, (*at)++)
			out[*at] = out[*at - back];
	}
	return 0;
}

int deflate_unpack(const uint8_t *in, size_t n_in, uint8_t *out, size_t n)
{
	struct bits b = { .in = in, .n = 8 * n_in };
	struct codes lit, dist;
	size_t at = 0;
	bool last = false;

	while (at < n) {
		if (last || b.over)
			return -1;
		last = get(&b, 1);
		switch (get(&b, 2)) {
		case 0: {
			size_t len;

			b.at = (b.at + 7) & ~(size_t)7;
			len = get(&b, 16);
			get(&b, 16);
			for (; len && at < n; len--)
				out[at++] = (uint8_t)get(&b, 8);
			break;
		}
		case 1:
			fixed_codes(&lit, &dist);
			if (unpack_block(&b, &lit, &dist, out, &at, n) < 0)
				return -1;
			break;
		case 2:
			if (read_codes(&b, &lit, &dist) < 0 || unpack_block(&b, &lit, &dist, out, &at, n) < 0)
				return -1;
			break;
		default:
			return -1;
		}
	}
	return b.over ? -1 : 0;
}
