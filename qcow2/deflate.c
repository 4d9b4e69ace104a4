/* RFC 1951; section numbers are its. Chains of what has the same three bytes, and a look at the next byte before a match is taken. */
#include "qcow2/deflate.h"

#include <endian.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/deflate_code.h"

#define HASH_BITS  15
#define MIN_MATCH  3u
#define MAX_MATCH  258u
#define GOOD_MATCH 8u   /* with one of these at hand the next byte's is looked for less hard */
#define LAZY_MATCH 16u  /* and with one of these not at all */
#define NICE_MATCH 128u /* the search ends with it */
#define CHAIN      128u /* places that are compared */
#define MAX_TOKENS 16384u
#define N_LITERALS 286u
#define N_DISTANCES 30u
#define N_LENGTHS  19u  /* codes of code lengths */
#define END        256u

struct deflate {
	uint32_t head[1u << HASH_BITS]; /* the last place that has this hash, counted from @base; 0: none */
	uint32_t prev[DEFLATE_WINDOW];  /* the one before a place */
	uint32_t base;
	const uint8_t *in;
	size_t n;

	uint32_t tokens[MAX_TOKENS];    /* distance << 16 | length or literal */
	unsigned n_tokens;
	size_t from;                    /* where in the input they begin */
	uint32_t lit_freq[N_LITERALS], dist_freq[N_DISTANCES];

	uint8_t *out, *end;
	uint64_t acc;                   /* bits to come, first lowest */
	unsigned n_acc;
	bool full;
};

struct deflate *deflate_new(void)
{
	return calloc(1, sizeof(struct deflate));
}

/* ---- bits ---- */

/* @n: 16 at most */
static void put_bits(struct deflate *d, unsigned v, unsigned n)
{
	d->acc |= (uint64_t)v << d->n_acc;
	d->n_acc += n;
	for (; d->n_acc >= 8; d->acc >>= 8, d->n_acc -= 8) {
		if (d->out < d->end)
			*d->out++ = (uint8_t)d->acc;
		else
			d->full = true;
	}
}

static void align(struct deflate *d)
{
	put_bits(d, 0, -d->n_acc & 7);
}

static void put_code(struct deflate *d, const struct code *c, unsigned symbol)
{
	put_bits(d, c->bits[symbol], c->len[symbol]);
}

/* ---- symbols: 3.2.5 ---- */

static const struct {
	uint16_t base;
	uint8_t bits;
} length_codes[] = { { 3, 0 }, { 4, 0 }, { 5, 0 }, { 6, 0 }, { 7, 0 }, { 8, 0 }, { 9, 0 }, { 10, 0 }, { 11, 1 }, { 13, 1 }, { 15, 1 },
	{ 17, 1 }, { 19, 2 }, { 23, 2 }, { 27, 2 }, { 31, 2 }, { 35, 3 }, { 43, 3 }, { 51, 3 }, { 59, 3 }, { 67, 4 }, { 83, 4 },
	{ 99, 4 }, { 115, 4 }, { 131, 5 }, { 163, 5 }, { 195, 5 }, { 227, 5 }, { 258, 0 } };

static unsigned length_code(unsigned len)
{
	unsigned bits;

	if (len < 11)
		return len - 3;
	if (len == MAX_MATCH)
		return 28;
	bits = 29u - (unsigned)__builtin_clz(len - 3);
	return 4 * bits + ((len - 3) >> bits);
}

static unsigned distance_bits(unsigned dist)
{
	return dist < 5 ? 0 : 30u - (unsigned)__builtin_clz(dist - 1);
}

static unsigned distance_code(unsigned dist)
{
	unsigned bits = distance_bits(dist);

	return 2 * bits + ((dist - 1) >> bits);
}

/* ---- blocks: 3.2.3 ---- */

static void put_tokens(struct deflate *d, const struct code *lit, const struct code *dist)
{
	for (unsigned i = 0; i < d->n_tokens; i++) {
		unsigned far = d->tokens[i] >> 16, len = d->tokens[i] & 0xffff, c;

		if (!far) {
			put_code(d, lit, len);
			continue;
		}
		c = length_code(len);
		put_code(d, lit, 257 + c);
		put_bits(d, len - length_codes[c].base, length_codes[c].bits);
		c = distance_code(far);
		put_code(d, dist, c);
		put_bits(d, (far - 1) & ((1u << distance_bits(far)) - 1), distance_bits(far));
	}
	put_code(d, lit, END);
}

/* Bits of the symbols themselves, and of what comes behind lengths and distances. */
static uint64_t cost_of(const struct deflate *d, const struct code *lit, const struct code *dist)
{
	uint64_t bits = 0;

	for (unsigned s = 0; s < N_LITERALS; s++)
		bits += (uint64_t)d->lit_freq[s] * (lit->len[s] + (s > END ? length_codes[s - 257].bits : 0u));
	for (unsigned s = 0; s < N_DISTANCES; s++)
		bits += (uint64_t)d->dist_freq[s] * (dist->len[s] + (s > 3 ? s / 2 - 1 : 0u));
	return bits;
}

/* Both codes' lengths in a row, runs of the same shortened: 3.2.7. */
struct lengths {
	uint8_t symbol[N_LITERALS + N_DISTANCES], extra[N_LITERALS + N_DISTANCES];
	unsigned n, n_lit, n_dist, n_order;
	uint32_t freq[N_LENGTHS];
	struct code code;
};
static const uint8_t order[N_LENGTHS] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };

static unsigned extra_bits(unsigned symbol)
{
	return symbol == 16 ? 2 : symbol == 17 ? 3 : symbol == 18 ? 7 : 0;
}

static void add_length(struct lengths *l, unsigned symbol, unsigned extra)
{
	l->symbol[l->n] = (uint8_t)symbol;
	l->extra[l->n++] = (uint8_t)extra;
	l->freq[symbol]++;
}

static void add_run(struct lengths *l, unsigned v, unsigned n)
{
	while (n) {
		unsigned step = 1;

		if (!v && n >= 11) {
			step = n < 138 ? n : 138;
			add_length(l, 18, step - 11);
		} else if (!v && n >= 3) {
			step = n;
			add_length(l, 17, step - 3);
		} else {
			add_length(l, v, 0);
			/* What is repeated is the one before. */
			while (v && n - step >= 3) {
				unsigned more = n - step < 6 ? n - step : 6;

				add_length(l, 16, more - 3);
				step += more;
			}
		}
		n -= step;
	}
}

static uint64_t describe(struct lengths *l, const struct code *lit, const struct code *dist)
{
	uint8_t all[N_LITERALS + N_DISTANCES];
	unsigned n, run;
	uint64_t bits;

	memset(l, 0, sizeof *l);
	for (l->n_lit = N_LITERALS; !lit->len[l->n_lit - 1]; l->n_lit--)
		;
	for (l->n_dist = N_DISTANCES; !dist->len[l->n_dist - 1]; l->n_dist--)
		;
	memcpy(all, lit->len, l->n_lit);
	memcpy(all + l->n_lit, dist->len, l->n_dist);
	n = l->n_lit + l->n_dist;
	for (unsigned i = 0; i < n; i += run) {
		for (run = 1; i + run < n && all[i + run] == all[i]; run++)
			;
		add_run(l, all[i], run);
	}
	code_lengths(&l->code, l->freq, N_LENGTHS, 7);
	code_bits(&l->code, N_LENGTHS);
	for (l->n_order = N_LENGTHS; l->n_order > 4 && !l->code.len[order[l->n_order - 1]]; l->n_order--)
		;
	bits = 14 + 3 * l->n_order;
	for (unsigned s = 0; s < N_LENGTHS; s++)
		bits += (uint64_t)l->freq[s] * (l->code.len[s] + extra_bits(s));
	return bits;
}

static void put_description(struct deflate *d, const struct lengths *l)
{
	put_bits(d, l->n_lit - 257, 5);
	put_bits(d, l->n_dist - 1, 5);
	put_bits(d, l->n_order - 4, 4);
	for (unsigned i = 0; i < l->n_order; i++)
		put_bits(d, l->code.len[order[i]], 3);
	for (unsigned i = 0; i < l->n; i++) {
		put_code(d, &l->code, l->symbol[i]);
		put_bits(d, l->extra[i], extra_bits(l->symbol[i]));
	}
}

/* As they are, at most 65535 bytes a block. */
static void put_stored(struct deflate *d, size_t to, bool last)
{
	while (d->from < to && !d->full) {
		size_t n = to - d->from < 65535 ? to - d->from : 65535;

		put_bits(d, last && d->from + n == to, 1);
		put_bits(d, 0, 2);
		align(d);
		put_bits(d, (unsigned)n, 16);
		put_bits(d, (unsigned)n ^ 0xffff, 16);
		if ((size_t)(d->end - d->out) < n) {
			d->full = true;
			return;
		}
		memcpy(d->out, d->in + d->from, n);
		d->out += n;
		d->from += n;
	}
}

static void fixed_codes(struct code *lit, struct code *dist)
{
	for (unsigned s = 0; s < DEFLATE_MAX_SYMBOLS; s++) {
		lit->len[s] = s < 144 ? 8 : s < 256 ? 9 : s < 280 ? 7 : 8;
		dist->len[s] = s < 30 ? 5 : 0;
	}
	code_bits(lit, DEFLATE_MAX_SYMBOLS);
	code_bits(dist, 30);
}

/* What is in tokens, the input up to @to, in the way that takes least. */
static void put_block(struct deflate *d, size_t to, bool last)
{
	struct code lit, dist, fixed_lit, fixed_dist;
	uint64_t coded, fixed, stored = (uint64_t)(to - d->from + 5 + (to - d->from) / 65535 * 5) * 8;
	struct lengths l;

	d->lit_freq[END] = 1;
	code_lengths(&lit, d->lit_freq, N_LITERALS, 15);
	code_lengths(&dist, d->dist_freq, N_DISTANCES, 15);
	fixed_codes(&fixed_lit, &fixed_dist);
	coded = describe(&l, &lit, &dist) + cost_of(d, &lit, &dist);
	fixed = cost_of(d, &fixed_lit, &fixed_dist);
	if (stored < coded && stored < fixed && to > d->from) {
		put_stored(d, to, last);
	} else if (fixed <= coded) {
		put_bits(d, last | 1 << 1, 3);
		put_tokens(d, &fixed_lit, &fixed_dist);
	} else {
		code_bits(&lit, N_LITERALS);
		code_bits(&dist, N_DISTANCES);
		put_bits(d, last | 2 << 1, 3);
		put_description(d, &l);
		put_tokens(d, &lit, &dist);
	}
	d->n_tokens = 0;
	d->from = to;
	memset(d->lit_freq, 0, sizeof d->lit_freq);
	memset(d->dist_freq, 0, sizeof d->dist_freq);
}

/* ---- matches ---- */

struct match {
	unsigned len, dist;
};

/* @at: where the input goes on behind this. */
static void add_token(struct deflate *d, unsigned v, unsigned dist, size_t at)
{
	d->tokens[d->n_tokens++] = dist << 16 | v;
	if (dist) {
		d->lit_freq[257 + length_code(v)]++;
		d->dist_freq[distance_code(dist)]++;
	} else {
		d->lit_freq[v]++;
	}
	if (d->n_tokens == MAX_TOKENS && at < d->n)
		put_block(d, at, false);
}

static unsigned hash_at(const struct deflate *d, size_t at)
{
	uint32_t v = (uint32_t)d->in[at] | (uint32_t)d->in[at + 1] << 8 | (uint32_t)d->in[at + 2] << 16;

	return v * 0x9e3779b1u >> (32 - HASH_BITS);
}

static void note(struct deflate *d, size_t at)
{
	unsigned h;

	if (at + MIN_MATCH > d->n)
		return;
	h = hash_at(d, at);
	d->prev[at % DEFLATE_WINDOW] = d->head[h];
	d->head[h] = d->base + (uint32_t)at + 1;
}

static unsigned same_bytes(const uint8_t *a, const uint8_t *b, unsigned max)
{
	unsigned n = 0;
	uint64_t x, y;

	for (; n + 8 <= max; n += 8) {
		memcpy(&x, a + n, 8);
		memcpy(&y, b + n, 8);
		if (x != y)
			return n + (unsigned)__builtin_ctzll(le64toh(x ^ y)) / 8;
	}
	while (n < max && a[n] == b[n])
		n++;
	return n;
}

/* A longer match than @had at @at, or @had's length and no distance. */
static struct match find(const struct deflate *d, size_t at, unsigned had)
{
	unsigned left = had >= GOOD_MATCH ? CHAIN / 4 : CHAIN, max = d->n - at < MAX_MATCH ? (unsigned)(d->n - at) : MAX_MATCH;
	struct match m = { had, 0 };
	uint32_t here = d->base + (uint32_t)at + 1, c;

	if (max < MIN_MATCH || max <= had)
		return m;
	/* A place that is not lower than the last one is of a later round through the window. */
	for (c = d->head[hash_at(d, at)]; left && c > d->base && c < here && d->base + (uint32_t)at + 1 - c <= DEFLATE_WINDOW; left--) {
		const uint8_t *p = d->in + (c - d->base - 1);
		unsigned len;

		here = c;
		if (p[m.len] == d->in[at + m.len]) {
			len = same_bytes(p, d->in + at, max);
			if (len > m.len) {
				m = (struct match){ len, d->base + (uint32_t)at + 1 - c };
				if (len >= NICE_MATCH || len == max)
					break;
			}
		}
		c = d->prev[(c - d->base - 1) % DEFLATE_WINDOW];
	}
	return m;
}

static void compress(struct deflate *d)
{
	struct match had = { MIN_MATCH - 1, 0 }, m;
	bool pending = false; /* the byte before @at is not said yet */
	size_t at = 0;

	while (at < d->n && !d->full) {
		m = had.len < LAZY_MATCH ? find(d, at, had.len) : (struct match){ had.len, 0 };
		note(d, at);
		if (had.dist && !m.dist) {
			size_t end = at - 1 + had.len;

			while (++at < end)
				note(d, at);
			add_token(d, had.len, had.dist, end);
			had = (struct match){ MIN_MATCH - 1, 0 };
			pending = false;
			continue;
		}
		if (pending)
			add_token(d, d->in[at - 1], 0, at);
		had = m.dist ? m : (struct match){ MIN_MATCH - 1, 0 };
		pending = true;
		at++;
	}
	if (pending && had.dist)
		add_token(d, had.len, had.dist, d->n);
	else if (pending)
		add_token(d, d->in[d->n - 1], 0, d->n);
}

size_t deflate_cluster(struct deflate *d, const uint8_t *in, size_t n, uint8_t *out, size_t cap)
{
	const uint8_t *first = out;

	if (d->base > UINT32_MAX / 2) {
		memset(d->head, 0, sizeof d->head);
		d->base = 0;
	}
	d->in = in;
	d->n = n;
	d->out = out;
	d->end = out + cap;
	d->n_tokens = d->n_acc = 0;
	d->acc = 0;
	d->from = 0;
	d->full = false;
	memset(d->lit_freq, 0, sizeof d->lit_freq);
	memset(d->dist_freq, 0, sizeof d->dist_freq);
	compress(d);
	if (!d->full)
		put_block(d, n, true);
	align(d);
	d->base += (uint32_t)n;
	return d->full ? 0 : (size_t)(d->out - first);
}
