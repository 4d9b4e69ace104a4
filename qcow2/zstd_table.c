/* RFC 8878; section numbers are its. */
#include "qcow2/zstd_table.h"

#define HUF_WEIGHT_LOG  6   /* 4.2.1.2 */
#define HUF_MAX_WEIGHTS 255 /* told; one more follows from them */

static unsigned high_bit(uint32_t v)
{
	return 31u - (unsigned)__builtin_clz(v);
}

bool back_open(struct back *b, const uint8_t *p, size_t n)
{
	if (!n || !p[n - 1])
		return false;
	*b = (struct back){ .p = p, .end = p + n, .left = (n - 1) * 8 + high_bit(p[n - 1]) };
	return true;
}

/* ---- finite state entropy: 4.1 ---- */

/* A stream that is read from its beginning, lowest bits first. Behind its end there are zeros, and used says so. */
struct front {
	const uint8_t *p;
	size_t n, used; /* bytes; bits */
};

static uint32_t front_take(struct front *f, unsigned n)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < n; i++, f->used++)
		if (f->used / 8 < f->n)
			v |= (uint32_t)(f->p[f->used / 8] >> f->used % 8 & 1) << i;
	return v;
}

/* A count of at most @left, plus one: small values take a bit less where the range is no power of two. */
static uint32_t take_count(struct front *f, uint32_t left)
{
	unsigned bits = high_bit(left + 1) + 1;
	uint32_t spare = (1u << bits) - 1 - (left + 1), v = front_take(f, bits - 1);

	if (v < spare)
		return v;
	if (front_take(f, 1))
		v += (1u << (bits - 1)) - spare;
	return v;
}

size_t fse_read(struct fse *t, const uint8_t *in, size_t n, unsigned max_log, unsigned n_symbols)
{
	struct front f = { in, n, 0 };
	int16_t counts[FSE_MAX_SYMBOLS];
	unsigned log = front_take(&f, 4) + 5, k = 0, zeros;
	uint32_t left = 1u << log;

	if (log > max_log)
		return 0;
	while (left && k < n_symbols) {
		int count = (int)take_count(&f, left) - 1;

		left -= (uint32_t)(count < 0 ? 1 : count);
		counts[k++] = (int16_t)count;
		if (count)
			continue;
		do {
			zeros = front_take(&f, 2);
			for (unsigned i = 0; i < zeros; i++) {
				if (k == n_symbols)
					return 0;
				counts[k++] = 0;
			}
		} while (zeros == 3);
	}
	if (left || (f.used + 7) / 8 > n || !fse_build(t, counts, k, log))
		return 0;
	return (f.used + 7) / 8;
}

/* Every symbol's states are spread over the table; those of less than one are at its end. 4.1.1 */
bool fse_build(struct fse *t, const int16_t *counts, unsigned n_symbols, unsigned log)
{
	uint32_t size = 1u << log, high = size, at = 0, step = (size >> 1) + (size >> 3) + 3;
	uint16_t next[FSE_MAX_SYMBOLS];

	t->there = false;
	for (unsigned s = 0; s < n_symbols; s++) {
		next[s] = (uint16_t)(counts[s] < 0 ? 1 : counts[s]);
		if (counts[s] < 0)
			t->state[--high].symbol = (uint8_t)s;
	}
	for (unsigned s = 0; s < n_symbols; s++)
		for (int i = 0; i < counts[s]; i++) {
			t->state[at].symbol = (uint8_t)s;
			do {
				at = (at + step) & (size - 1);
			} while (at >= high && high);
		}
	if (at && high)
		return false;
	for (uint32_t i = 0; i < size; i++) {
		struct fse_state *s = &t->state[i];
		uint32_t v = next[s->symbol]++;

		s->bits = (uint8_t)(log - high_bit(v));
		s->base = (uint16_t)((v << s->bits) - size);
	}
	t->log = log;
	t->there = true;
	return true;
}

void fse_single(struct fse *t, uint8_t symbol)
{
	t->log = 0;
	t->state[0] = (struct fse_state){ .symbol = symbol };
	t->there = true;
}

/* ---- Huffman codes: 4.2 ---- */

/* Weights coded by FSE, two states in turn until the bits have run out: 4.2.1.2. How many; 0: damaged. */
static unsigned coded_weights(const uint8_t *in, size_t n, uint8_t w[HUF_MAX_WEIGHTS])
{
	struct fse t;
	size_t used = fse_read(&t, in, n, HUF_WEIGHT_LOG, HUF_MAX_BITS + 1);
	unsigned k = 0, state[2];
	struct back b;

	if (!used || !back_open(&b, in + used, n - used))
		return 0;
	state[0] = back_take(&b, t.log);
	state[1] = back_take(&b, t.log);
	if (b.over)
		return 0;
	for (unsigned i = 0;; i ^= 1) {
		const struct fse_state *s = &t.state[state[i]];

		if (k + 2 > HUF_MAX_WEIGHTS)
			return 0;
		w[k++] = s->symbol;
		state[i] = s->base + back_take(&b, s->bits);
		if (b.over) {
			w[k++] = t.state[state[i ^ 1]].symbol;
			return k;
		}
	}
}

/* The code from the weights: shorter codes have larger ones. The last weight is what is missing to a power of two. */
static bool huf_build(struct huf *t, uint8_t w[HUF_MAX_WEIGHTS + 1], unsigned n)
{
	uint32_t sum = 0, left, at = 0;
	unsigned bits, ones = 0;

	t->bits = 0;
	for (unsigned i = 0; i < n; i++) {
		if (w[i] > HUF_MAX_BITS)
			return false;
		sum += 1u << w[i] >> 1;
	}
	if (!sum)
		return false;
	bits = high_bit(sum) + 1;
	left = (1u << bits) - sum;
	if (bits > HUF_MAX_BITS || left & (left - 1))
		return false;
	w[n++] = (uint8_t)(high_bit(left) + 1);
	for (unsigned i = 0; i < n; i++)
		ones += w[i] == 1;
	if (ones < 2)
		return false;
	for (unsigned weight = 1; weight <= bits; weight++)
		for (unsigned s = 0; s < n; s++)
			for (unsigned k = 0; w[s] == weight && k < 1u << weight >> 1; k++, at++) {
				t->code[at].symbol = (uint8_t)s;
				t->code[at].bits = (uint8_t)(bits + 1 - weight);
			}
	t->bits = bits;
	return true;
}

size_t huf_read(struct huf *t, const uint8_t *in, size_t n)
{
	uint8_t w[HUF_MAX_WEIGHTS + 1];
	unsigned k;
	size_t len;

	if (!n)
		return 0;
	if (*in < 128) {
		len = *in;
		if (len > n - 1)
			return 0;
		k = coded_weights(in + 1, len, w);
	} else {
		k = *in - 127u;
		len = (k + 1) / 2;
		if (len > n - 1)
			return 0;
		for (unsigned i = 0; i < k; i++)
			w[i] = i & 1 ? in[1 + i / 2] & 15 : in[1 + i / 2] >> 4;
	}
	return k && huf_build(t, w, k) ? 1 + len : 0;
}

bool huf_decode(const struct huf *t, const uint8_t *in, size_t n, uint8_t *out, size_t size)
{
	unsigned shift = 64 - t->bits;
	uint8_t *end = out + size;
	struct back b;

	if (!t->bits || !back_open(&b, in, n))
		return false;
	/* Four codes take 44 bits at most. */
	while (end - out >= 4 && b.left >= 56) {
		uint64_t w = back_word(&b, b.left - 56) << 8;

		for (unsigned i = 0; i < 4; i++) {
			unsigned c = (unsigned)(w >> shift);

			*out++ = t->code[c].symbol;
			w <<= t->code[c].bits;
			b.left -= t->code[c].bits;
		}
	}
	for (; out < end; out++) {
		size_t have = b.left < t->bits ? b.left : t->bits;
		uint64_t w = back_word(&b, b.left - have) & ((1ull << have) - 1);
		unsigned c = (unsigned)(w << (t->bits - have));

		if (t->code[c].bits > b.left)
			return false;
		*out = t->code[c].symbol;
		b.left -= t->code[c].bits;
	}
	return !b.left;
}
