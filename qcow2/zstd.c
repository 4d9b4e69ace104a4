/* RFC 8878; section numbers are its. All that a frame says is held against what is there and against the limits here. */
#include "qcow2/zstd.h"

#include <stdlib.h>

#include "lib/xxh64.h"
#include "qcow2/zstd_table.h"

#define MAGIC           0xfd2fb528u
#define SKIPPABLE       0x184d2a50u /* and the 15 after it */
#define MAX_BLOCK       (128u << 10)
#define MAX_LL          36 /* codes of literal lengths, match lengths, offsets */
#define MAX_ML          53
#define MAX_OF          32
#define OF_MAX_LOG      8

struct zstd {
	uint8_t *out;      /* of this frame */
	size_t at, size;   /* written of it, and how much there may be */
	uint32_t rep[3];   /* the last offsets: 3.1.1.5 */
	struct fse ll, of, ml;
	struct huf huf;
	const uint8_t *lit; /* the block's literals, here or in the input */
	size_t n_lit;
	uint8_t literals[MAX_BLOCK];
};

/* What is left of the input. */
struct in {
	const uint8_t *p;
	size_t n;
};

struct zstd *zstd_new(void)
{
	return malloc(sizeof(struct zstd));
}

static bool skip(struct in *in, size_t n)
{
	if (n > in->n)
		return false;
	in->p += n;
	in->n -= n;
	return true;
}

static uint64_t get_le(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

static bool take_le(struct in *in, unsigned n, uint64_t *v)
{
	if (n > in->n)
		return false;
	*v = get_le(in->p, n);
	return skip(in, n);
}

/* ---- literals: 3.1.1.3.1 ---- */

static bool raw_literals(struct zstd *z, struct in *in, bool rle)
{
	static const unsigned lens[] = { 1, 2, 1, 3 }, shifts[] = { 3, 4, 3, 4 };
	unsigned format = *in->p >> 2 & 3;
	uint64_t v;

	if (!take_le(in, lens[format], &v))
		return false;
	z->n_lit = (size_t)(v >> shifts[format]);
	if (z->n_lit > MAX_BLOCK)
		return false;
	if (!rle) {
		z->lit = in->p;
		return skip(in, z->n_lit);
	}
	if (!in->n)
		return false;
	memset(z->literals, *in->p, z->n_lit);
	return skip(in, 1);
}

/* Four streams, of which all but the last give the same, behind a table of the lengths of those. */
static bool four_streams(struct zstd *z, const uint8_t *p, size_t n)
{
	size_t each = (z->n_lit + 3) / 4, at = 0, len;

	if (n < 6 || 3 * each > z->n_lit)
		return false;
	for (unsigned i = 0; i < 4; i++, at += len) {
		len = i < 3 ? get_le(p + 2 * i, 2) : n - 6 - at;
		if (len > n - 6 - at ||
			!huf_decode(&z->huf, p + 6 + at, len, z->literals + i * each, i < 3 ? each : z->n_lit - 3 * each))
			return false;
	}
	return true;
}

static bool coded_literals(struct zstd *z, struct in *in, bool treeless)
{
	static const unsigned lens[] = { 3, 3, 4, 5 }, bits[] = { 10, 10, 14, 18 };
	unsigned format = *in->p >> 2 & 3;
	size_t n, tree = 0;
	const uint8_t *p;
	uint64_t v;

	if (!take_le(in, lens[format], &v))
		return false;
	v >>= 4;
	z->n_lit = (size_t)(v & ((1u << bits[format]) - 1));
	n = (size_t)(v >> bits[format]);
	p = in->p;
	if (z->n_lit > MAX_BLOCK || !skip(in, n))
		return false;
	if (!treeless) {
		tree = huf_read(&z->huf, p, n);
		if (!tree)
			return false;
	}
	return format ? four_streams(z, p + tree, n - tree)
		      : huf_decode(&z->huf, p + tree, n - tree, z->literals, z->n_lit);
}

static bool read_literals(struct zstd *z, struct in *in)
{
	if (!in->n)
		return false;
	z->lit = z->literals;
	switch (*in->p & 3) {
	case 0:
	case 1: return raw_literals(z, in, *in->p & 1);
	default: return coded_literals(z, in, *in->p & 1);
	}
}

/* ---- sequences: 3.1.1.3.2 ---- */

static const struct code {
	uint32_t base;
	uint8_t bits;
} ll_codes[MAX_LL] = {
	{ 0, 0 }, { 1, 0 }, { 2, 0 }, { 3, 0 }, { 4, 0 }, { 5, 0 }, { 6, 0 }, { 7, 0 }, { 8, 0 }, { 9, 0 }, { 10, 0 }, { 11, 0 },
	{ 12, 0 }, { 13, 0 }, { 14, 0 }, { 15, 0 }, { 16, 1 }, { 18, 1 }, { 20, 1 }, { 22, 1 }, { 24, 2 }, { 28, 2 }, { 32, 3 },
	{ 40, 3 }, { 48, 4 }, { 64, 6 }, { 128, 7 }, { 256, 8 }, { 512, 9 }, { 1024, 10 }, { 2048, 11 }, { 4096, 12 },
	{ 8192, 13 }, { 16384, 14 }, { 32768, 15 }, { 65536, 16 },
}, ml_codes[MAX_ML] = {
	{ 3, 0 }, { 4, 0 }, { 5, 0 }, { 6, 0 }, { 7, 0 }, { 8, 0 }, { 9, 0 }, { 10, 0 }, { 11, 0 }, { 12, 0 }, { 13, 0 }, { 14, 0 },
	{ 15, 0 }, { 16, 0 }, { 17, 0 }, { 18, 0 }, { 19, 0 }, { 20, 0 }, { 21, 0 }, { 22, 0 }, { 23, 0 }, { 24, 0 }, { 25, 0 },
	{ 26, 0 }, { 27, 0 }, { 28, 0 }, { 29, 0 }, { 30, 0 }, { 31, 0 }, { 32, 0 }, { 33, 0 }, { 34, 0 }, { 35, 1 }, { 37, 1 },
	{ 39, 1 }, { 41, 1 }, { 43, 2 }, { 47, 2 }, { 51, 3 }, { 59, 3 }, { 67, 4 }, { 83, 4 }, { 99, 5 }, { 131, 7 }, { 259, 8 },
	{ 515, 9 }, { 1027, 10 }, { 2051, 11 }, { 4099, 12 }, { 8195, 13 }, { 16387, 14 }, { 32771, 15 }, { 65539, 16 },
};

/* The distributions that need not be told: 3.1.1.3.2.2. */
static const int16_t ll_default[MAX_LL] = { 4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1,
	1, 1, 1, 1, -1, -1, -1, -1 };
static const int16_t ml_default[MAX_ML] = { 1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
	1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1 };
static const int16_t of_default[29] = { 1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1,
	-1 };

struct kind {
	unsigned max_log, n_symbols, n_default, default_log;
	const int16_t *dflt;
};
static const struct kind ll_kind = { FSE_MAX_LOG, MAX_LL, MAX_LL, 6, ll_default };
static const struct kind ml_kind = { FSE_MAX_LOG, MAX_ML, MAX_ML, 6, ml_default };
static const struct kind of_kind = { OF_MAX_LOG, MAX_OF, 29, 5, of_default };

static bool read_table(struct fse *t, const struct kind *k, unsigned mode, struct in *in)
{
	size_t n;

	switch (mode) {
	case 0: return fse_build(t, k->dflt, k->n_default, k->default_log);
	case 1:
		if (!in->n || *in->p >= k->n_symbols)
			return false;
		fse_single(t, *in->p);
		return skip(in, 1);
	case 2:
		n = fse_read(t, in->p, in->n, k->max_log, k->n_symbols);
		return n && skip(in, n);
	default: return t->there;
	}
}

static bool put_literals(struct zstd *z, size_t n)
{
	if (n > z->n_lit || n > z->size - z->at)
		return false;
	memcpy(z->out + z->at, z->lit, n);
	z->lit += n;
	z->n_lit -= n;
	z->at += n;
	return true;
}

static bool put_match(struct zstd *z, size_t offset, size_t n)
{
	uint8_t *to = z->out + z->at;
	const uint8_t *from;

	if (!offset || offset > z->at || n > z->size - z->at)
		return false;
	from = to - offset;
	z->at += n;
	if (offset >= n)
		memcpy(to, from, n);
	else if (offset == 1)
		memset(to, *from, n);
	else
		while (n--)
			*to++ = *from++;
	return true;
}

/* The offset that @value stands for; 1 to 3 are earlier ones, counted from the second if there are no literals. 3.1.1.5 */
static uint32_t offset_of(struct zstd *z, uint64_t value, bool literals)
{
	uint32_t *rep = z->rep, v;
	unsigned i;

	if (value > 3) {
		v = (uint32_t)(value - 3);
		i = 2;
	} else {
		i = (unsigned)value - literals;
		v = i < 3 ? rep[i] : rep[0] - 1;
		i = i < 3 ? i : 2;
	}
	if (i == 2)
		rep[2] = rep[1];
	if (i >= 1)
		rep[1] = rep[0];
	rep[0] = v;
	return v;
}

static bool run_sequences(struct zstd *z, struct in *in, unsigned n)
{
	unsigned ll, of, ml;
	struct back b;

	if (!back_open(&b, in->p, in->n))
		return false;
	ll = back_take(&b, z->ll.log);
	of = back_take(&b, z->of.log);
	ml = back_take(&b, z->ml.log);
	while (n--) {
		const struct fse_state *l = &z->ll.state[ll], *o = &z->of.state[of], *m = &z->ml.state[ml];
		uint64_t value = (1ull << o->symbol) + back_take(&b, o->symbol);
		size_t match = ml_codes[m->symbol].base + back_take(&b, ml_codes[m->symbol].bits);
		size_t literals = ll_codes[l->symbol].base + back_take(&b, ll_codes[l->symbol].bits);

		if (b.over || !put_literals(z, literals) || !put_match(z, offset_of(z, value, literals), match))
			return false;
		if (!n)
			break;
		ll = l->base + back_take(&b, l->bits);
		ml = m->base + back_take(&b, m->bits);
		of = o->base + back_take(&b, o->bits);
	}
	return !b.over && !b.left;
}

static bool read_sequences(struct zstd *z, struct in *in)
{
	unsigned n, modes;
	uint64_t v;

	if (!take_le(in, 1, &v))
		return false;
	n = (unsigned)v;
	if (!n)
		return !in->n;
	if (n == 255) {
		if (!take_le(in, 2, &v))
			return false;
		n = (unsigned)v + 0x7f00;
	} else if (n > 127) {
		if (!take_le(in, 1, &v))
			return false;
		n = (n - 128) << 8 | (unsigned)v;
	}
	if (!take_le(in, 1, &v))
		return false;
	modes = (unsigned)v;
	return !(modes & 3) && read_table(&z->ll, &ll_kind, modes >> 6, in) && read_table(&z->of, &of_kind, modes >> 4 & 3, in) &&
		read_table(&z->ml, &ml_kind, modes >> 2 & 3, in) && run_sequences(z, in, n);
}

/* ---- blocks and frames: 3.1.1 ---- */

static bool compressed_block(struct zstd *z, struct in in)
{
	size_t limit = z->size;
	bool ok;

	if (z->size - z->at > MAX_BLOCK)
		z->size = z->at + MAX_BLOCK;
	ok = read_literals(z, &in) && read_sequences(z, &in) && put_literals(z, z->n_lit);
	z->size = limit;
	return ok;
}

static bool read_block(struct zstd *z, struct in *in, bool *last)
{
	uint64_t head;
	struct in body;
	size_t n;

	if (!take_le(in, 3, &head))
		return false;
	*last = head & 1;
	n = (size_t)(head >> 3);
	body = (struct in){ in->p, head >> 1 & 3 ? n : 0 };
	if (n > MAX_BLOCK)
		return false;
	switch (head >> 1 & 3) {
	case 0:
		if (n > z->size - z->at || !skip(in, n))
			return false;
		memcpy(z->out + z->at, body.p, n);
		z->at += n;
		return true;
	case 1:
		if (n > z->size - z->at || !skip(in, 1))
			return false;
		memset(z->out + z->at, *body.p, n);
		z->at += n;
		return true;
	case 2: return skip(in, n) && compressed_block(z, body);
	default: return false;
	}
}

/* A frame's header: 3.1.1.1. @size: what it says its content's size is, UINT64_MAX if it does not. */
static bool read_header(struct in *in, uint64_t *size, bool *checksum)
{
	static const unsigned id_lens[] = { 0, 1, 2, 4 };
	unsigned flags, len;
	uint64_t v;

	if (!take_le(in, 1, &v) || v & 8)
		return false;
	flags = (unsigned)v;
	*checksum = flags & 4;
	*size = UINT64_MAX;
	/* A window larger than the cluster is only room that is not used. */
	if (!(flags & 32) && !skip(in, 1))
		return false;
	if (!take_le(in, id_lens[flags & 3], &v) || ((flags & 3) && v))
		return false;
	len = flags >> 6 ? 1u << (flags >> 6) : flags >> 5 & 1;
	return !len || (take_le(in, len, size) && (*size += len == 2 ? 256 : 0, true));
}

static bool read_frame(struct zstd *z, struct in *in)
{
	uint64_t size, sum;
	bool checksum, last = false;

	z->at = 0;
	z->rep[0] = 1;
	z->rep[1] = 4;
	z->rep[2] = 8;
	z->ll.there = z->of.there = z->ml.there = false;
	z->huf.bits = 0;
	if (!read_header(in, &size, &checksum) || (size != UINT64_MAX && size > z->size))
		return false;
	while (!last)
		if (!read_block(z, in, &last))
			return false;
	if (size != UINT64_MAX && size != z->at)
		return false;
	return !checksum || (take_le(in, 4, &sum) && sum == (uint32_t)xxh64(z->out, z->at));
}

bool zstd_exactly(struct zstd *z, const uint8_t *in, size_t n, uint8_t *out, size_t size)
{
	struct in rest = { in, n };
	uint64_t magic, len;

	z->out = out;
	z->size = size;
	while (z->size) {
		if (!take_le(&rest, 4, &magic))
			return false;
		if ((magic & ~15ull) == SKIPPABLE) {
			if (!take_le(&rest, 4, &len) || !skip(&rest, (size_t)len))
				return false;
			continue;
		}
		if (magic != MAGIC || !read_frame(z, &rest))
			return false;
		z->out += z->at;
		z->size -= z->at;
	}
	return true;
}
