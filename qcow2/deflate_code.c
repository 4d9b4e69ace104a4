#include "qcow2/deflate_code.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BITS 15

struct leaf {
	uint32_t freq;
	uint16_t symbol;
};

static int by_freq(const void *a, const void *b)
{
	const struct leaf *x = a, *y = b;

	if (x->freq != y->freq)
		return x->freq < y->freq ? -1 : 1;
	return x->symbol < y->symbol ? -1 : 1;
}

/* How many leaves are how deep in the tree of @n leaves that are sorted. Joined nodes come to be in order, too. */
static void count_depths(const struct leaf *leaves, unsigned n, unsigned count[DEFLATE_MAX_SYMBOLS])
{
	uint64_t sum[DEFLATE_MAX_SYMBOLS];
	uint16_t up_leaf[DEFLATE_MAX_SYMBOLS], up[DEFLATE_MAX_SYMBOLS], depth[DEFLATE_MAX_SYMBOLS];
	unsigned leaf = 0, node = 0;

	for (unsigned made = 0; made < n - 1; made++) {
		sum[made] = 0;
		for (unsigned k = 0; k < 2; k++) {
			if (leaf < n && (node == made || leaves[leaf].freq <= sum[node])) {
				sum[made] += leaves[leaf].freq;
				up_leaf[leaf++] = (uint16_t)made;
			} else {
				sum[made] += sum[node];
				up[node++] = (uint16_t)made;
			}
		}
	}
	depth[n - 2] = 0;
	for (unsigned i = n - 2; i--;)
		depth[i] = (uint16_t)(depth[up[i]] + 1);
	for (unsigned i = 0; i < n; i++)
		count[depth[up_leaf[i]] + 1]++;
}

/* Codes that are too long get @max bits; others get longer until there is room for all. */
static void limit(unsigned count[DEFLATE_MAX_SYMBOLS], unsigned max)
{
	uint32_t used = 0;

	for (unsigned i = max + 1; i < DEFLATE_MAX_SYMBOLS; i++) {
		count[max] += count[i];
		count[i] = 0;
	}
	for (unsigned i = 1; i <= max; i++)
		used += (uint32_t)count[i] << (max - i);
	while (used > 1u << max) {
		unsigned i = max - 1;

		while (!count[i])
			i--;
		count[i]--;
		count[i + 1] += 2;
		count[max]--;
		used--;
	}
}

void code_lengths(struct code *c, const uint32_t *freq, unsigned n, unsigned max)
{
	struct leaf leaves[DEFLATE_MAX_SYMBOLS];
	unsigned count[DEFLATE_MAX_SYMBOLS] = { 0 }, k = 0, at = 0;

	memset(c->len, 0, sizeof c->len);
	for (unsigned s = 0; s < n; s++)
		if (freq[s])
			leaves[k++] = (struct leaf){ freq[s], (uint16_t)s };
	/* A code of one symbol is allowed, and not every reader takes it. */
	for (unsigned s = 0; k < 2; s++)
		if (!freq[s])
			leaves[k++] = (struct leaf){ 1, (uint16_t)s };
	qsort(leaves, k, sizeof *leaves, by_freq);
	count_depths(leaves, k, count);
	limit(count, max);
	for (unsigned len = max; len; len--)
		for (unsigned i = 0; i < count[len]; i++)
			c->len[leaves[at++].symbol] = (uint8_t)len;
}

static uint16_t reversed(unsigned v, unsigned n)
{
	unsigned r = 0;

	for (; n; n--, v >>= 1)
		r = r << 1 | (v & 1);
	return (uint16_t)r;
}

void code_bits(struct code *c, unsigned n)
{
	unsigned count[MAX_BITS + 1] = { 0 }, next[MAX_BITS + 2], v = 0;

	for (unsigned s = 0; s < n; s++)
		count[c->len[s]]++;
	count[0] = 0;
	for (unsigned len = 1; len <= MAX_BITS; len++) {
		v = (v + count[len - 1]) << 1;
		next[len] = v;
	}
	for (unsigned s = 0; s < n; s++)
		c->bits[s] = c->len[s] ? reversed(next[c->len[s]]++, c->len[s]) : 0;
}
