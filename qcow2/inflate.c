/* RFC 1951; section numbers are its. */
#include "qcow2/inflate.h"

#include <endian.h>
#include <string.h>

#define MAX_CODE_BITS 15
#define FAST_BITS     10 /* longer codes are rare, and found bit by bit */
#define MAX_LITERALS  288
#define MAX_DISTANCES 32

struct stream {
	const uint8_t *in, *end;
	uint8_t *out;
	size_t at, size;
	uint64_t bits; /* not yet used, the next one lowest; above n_bits a part of what comes next, or zeros */
	unsigned n_bits;
	bool bad;      /* read past the end */
};

/* A canonical code (3.2.2): how many codes each length has, and the symbols by length, then value. */
struct code {
	uint16_t count[MAX_CODE_BITS + 1];
	uint16_t symbol[MAX_LITERALS];
	uint16_t fast[1 << FAST_BITS]; /* by the next bits: symbol * 16 + length; 0: longer, or none */
};

/* At least 56 bits, or all that is left. */
static void fill(struct stream *s)
{
	if (s->end - s->in >= 8) {
		uint64_t w;

		memcpy(&w, s->in, sizeof w);
		s->bits |= le64toh(w) << s->n_bits;
		s->in += (63 - s->n_bits) / 8;
		s->n_bits |= 56;
	}
	for (; s->n_bits <= 56 && s->in < s->end; s->n_bits += 8)
		s->bits |= (uint64_t)*s->in++ << s->n_bits;
}

static void drop(struct stream *s, unsigned n)
{
	s->bad |= n > s->n_bits;
	s->bits >>= n;
	s->n_bits = s->bad ? 0 : s->n_bits - n;
}

/* @n: 16 at most */
static unsigned take(struct stream *s, unsigned n)
{
	unsigned v;

	if (s->n_bits < n)
		fill(s);
	v = (unsigned)s->bits & ((1u << n) - 1);
	drop(s, n);
	return v;
}

/* Every continuation of each short code: their bits come highest first, other numbers' lowest first (3.1.1). */
static void make_fast(struct code *c)
{
	unsigned code = 0, at = 0;

	memset(c->fast, 0, sizeof c->fast);
	for (unsigned b = 1; b <= FAST_BITS; b++, code <<= 1)
		for (unsigned k = c->count[b]; k; k--, code++, at++) {
			unsigned turned = 0;

			for (unsigned i = 0; i < b; i++)
				turned |= (code >> i & 1) << (b - 1 - i);
			for (; turned < 1 << FAST_BITS; turned += 1u << b)
				c->fast[turned] = (uint16_t)(c->symbol[at] << 4 | b);
		}
}

/* False if the lengths claim more codes than there are. */
static bool make_code(struct code *c, const uint8_t *len, unsigned n)
{
	uint16_t next[MAX_CODE_BITS + 2] = { 0 };
	int left = 1;

	memset(c->count, 0, sizeof c->count);
	for (unsigned i = 0; i < n; i++)
		c->count[len[i]]++;
	c->count[0] = 0;
	for (unsigned b = 1; b <= MAX_CODE_BITS; b++) {
		left = left * 2 - c->count[b];
		if (left < 0)
			return false;
		next[b + 1] = (uint16_t)(next[b] + c->count[b]);
	}
	for (unsigned i = 0; i < n; i++)
		if (len[i])
			c->symbol[next[len[i]]++] = (uint16_t)i;
	return true;
}

/* Codes of one length are consecutive numbers, after twice those of the length before. */
static int decode_slowly(struct stream *s, const struct code *c)
{
	int code = 0, first = 0, index = 0;

	if (s->n_bits < MAX_CODE_BITS)
		fill(s);
	for (unsigned b = 1; b <= MAX_CODE_BITS; b++) {
		code |= (int)(s->bits >> (b - 1) & 1);
		if (code - first < c->count[b]) {
			drop(s, b);
			return c->symbol[index + code - first];
		}
		index += c->count[b];
		first = (first + c->count[b]) << 1;
		code <<= 1;
	}
	return -1;
}

/* The next symbol, or -1. */
static int decode(struct stream *s, const struct code *c)
{
	unsigned f;

	if (s->n_bits < MAX_CODE_BITS)
		fill(s);
	f = c->fast[s->bits & ((1 << FAST_BITS) - 1)];
	if (!f)
		return decode_slowly(s, c);
	drop(s, f & 15);
	return (int)(f >> 4);
}

/* 3.2.4 */
static bool stored(struct stream *s)
{
	unsigned len, check;
	size_t n;

	take(s, s->n_bits & 7);
	len = take(s, 16);
	check = take(s, 16);
	if (s->bad || len != (check ^ 0xffff))
		return false;
	s->in -= s->n_bits / 8;
	s->bits = s->n_bits = 0;
	if ((size_t)(s->end - s->in) < len)
		return false;
	n = len < s->size - s->at ? len : s->size - s->at;
	memcpy(s->out + s->at, s->in, n);
	s->in += len;
	s->at += n;
	return true;
}

/* 3.2.5: a base and extra bits, four lengths (two distances) to each number of bits. */
static unsigned length_of(struct stream *s, unsigned sym)
{
	unsigned i = sym - 257, extra = i < 8 ? 0 : (i - 4) / 4;

	if (i == 28)
		return 258;
	return 3 + (i < 8 ? i : (4 + (i & 3)) << extra) + take(s, extra);
}

static unsigned distance_of(struct stream *s, unsigned sym)
{
	unsigned extra = sym < 4 ? 0 : (sym - 2) / 2;

	return 1 + (sym < 4 ? sym : (2 + (sym & 1)) << extra) + take(s, extra);
}

/* @len bytes from @back bytes ago, which may be among those that this writes; up to the end of what is wanted. */
static void repeat(struct stream *s, size_t len, size_t back)
{
	uint8_t *to = s->out + s->at;
	const uint8_t *from = to - back;

	if (len > s->size - s->at)
		len = s->size - s->at;
	s->at += len;
	/* Eight at a time, and up to seven too many, over which the next ones write. */
	if (back >= 8 && s->size - s->at >= 8) {
		for (uint8_t *end = to + len; to < end; to += 8, from += 8)
			memcpy(to, from, 8);
		return;
	}
	while (len--)
		*to++ = *from++;
}

static bool compressed(struct stream *s, const struct code *lit, const struct code *dist)
{
	while (s->at < s->size) {
		int sym = decode(s, lit), d;
		size_t len, back;

		if (sym < 0 || sym > 285)
			return false;
		if (sym < 256) {
			s->out[s->at++] = (uint8_t)sym;
			continue;
		}
		if (sym == 256)
			return true;
		len = length_of(s, (unsigned)sym);
		d = decode(s, dist);
		if (d < 0 || d > 29)
			return false;
		back = distance_of(s, (unsigned)d);
		if (s->bad || back > s->at)
			return false;
		repeat(s, len, back);
	}
	return true;
}

/* 3.2.6 */
static bool fixed_codes(struct code *lit, struct code *dist)
{
	uint8_t len[MAX_LITERALS];

	memset(len, 8, 144);
	memset(len + 144, 9, 112);
	memset(len + 256, 7, 24);
	memset(len + 280, 8, 8);
	if (!make_code(lit, len, MAX_LITERALS))
		return false;
	memset(len, 5, MAX_DISTANCES);
	if (!make_code(dist, len, MAX_DISTANCES))
		return false;
	make_fast(lit);
	make_fast(dist);
	return true;
}

/* 3.2.7 */
static bool dynamic_codes(struct stream *s, struct code *lit, struct code *dist)
{
	static const uint8_t order[19] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
	unsigned n_lit = 257 + take(s, 5), n_dist = 1 + take(s, 5), n = 4 + take(s, 4), i = 0;
	uint8_t len[MAX_LITERALS + MAX_DISTANCES] = { 0 };

	if (n_lit > 286)
		return false;
	for (unsigned k = 0; k < n; k++)
		len[order[k]] = (uint8_t)take(s, 3);
	if (!make_code(lit, len, 19))
		return false;
	memset(len, 0, sizeof len);
	while (i < n_lit + n_dist) {
		int sym = decode_slowly(s, lit);
		unsigned times = 1;
		uint8_t v = (uint8_t)sym;

		if (sym < 0 || (sym == 16 && !i))
			return false;
		if (sym >= 16) {
			v = sym == 16 ? len[i - 1] : 0;
			times = sym == 16 ? 3 + take(s, 2) : sym == 17 ? 3 + take(s, 3) : 11 + take(s, 7);
		}
		if (times > n_lit + n_dist - i)
			return false;
		memset(len + i, v, times);
		i += times;
	}
	if (s->bad || !make_code(lit, len, n_lit) || !make_code(dist, len + n_lit, n_dist))
		return false;
	make_fast(lit);
	make_fast(dist);
	return true;
}

bool inflate_exactly(const uint8_t *in, size_t n, uint8_t *out, size_t size)
{
	struct stream s = { .in = in, .end = in + n, .out = out, .size = size };
	struct code lit, dist;
	bool last = false, ok = true, fixed = false;

	while (ok && !last && s.at < size) {
		last = take(&s, 1);
		switch (take(&s, 2)) {
		case 0:
			ok = stored(&s);
			break;
		case 1:
			fixed = fixed || fixed_codes(&lit, &dist); /* once: a block may be empty, and a stream a million of them */
			ok = fixed && compressed(&s, &lit, &dist);
			break;
		case 2:
			fixed = false;
			ok = dynamic_codes(&s, &lit, &dist) && compressed(&s, &lit, &dist);
			break;
		default:
			ok = false;
		}
		ok = ok && !s.bad;
	}
	return ok && s.at == size;
}
