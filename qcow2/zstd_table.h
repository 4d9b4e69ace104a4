/* The two codes of Zstandard, from their descriptions to tables, and the streams that are read with them. */
#ifndef QCOW2_ZSTD_TABLE_H
#define QCOW2_ZSTD_TABLE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FSE_MAX_LOG     9
#define FSE_MAX_SYMBOLS 53
#define HUF_MAX_BITS    11

/* A state of FSE decoding: its symbol; the next state is @base and the next @bits bits. */
struct fse_state {
	uint16_t base;
	uint8_t symbol, bits;
};

struct fse {
	unsigned log; /* states: 1 << log */
	bool there;
	struct fse_state state[1 << FSE_MAX_LOG];
};

/* By the next @bits bits of the stream: symbol and length. */
struct huf {
	unsigned bits; /* 0: none yet */
	struct {
		uint8_t symbol, bits;
	} code[1 << HUF_MAX_BITS];
};

/* A stream that is read from its end: @left bits of it are to come, the next ones highest. */
struct back {
	const uint8_t *p, *end;
	size_t left;
	bool over; /* more was wanted than there was: it read as zeros */
};

/* The highest bit set of the last byte says where the stream begins. False: there is none. */
bool back_open(struct back *b, const uint8_t *p, size_t n);

/* Eight bytes from bit @at on, shifted so that it comes first; 57 bits of them are good. */
static inline uint64_t back_word(const struct back *b, size_t at)
{
	const uint8_t *p = b->p + at / 8;
	uint64_t w = 0;

	if (b->end - p >= 8)
		memcpy(&w, p, 8);
	else
		memcpy(&w, p, (size_t)(b->end - p));
	return le64toh(w) >> at % 8;
}

/* @n: 32 at most. */
static inline uint32_t back_take(struct back *b, unsigned n)
{
	uint64_t mask = (1ull << n) - 1;

	if (b->left >= n) {
		b->left -= n;
		return (uint32_t)(back_word(b, b->left) & mask);
	}
	n -= (unsigned)b->left;
	mask = (1ull << b->left) - 1;
	b->left = 0;
	b->over = true;
	return (uint32_t)((back_word(b, 0) & mask) << n);
}

/*
 * Read a distribution at @in (4.1.1) of symbols below @n_symbols with a log of at most @max_log, and make its table. How
 * many bytes it takes; 0: damaged.
 */
size_t fse_read(struct fse *t, const uint8_t *in, size_t n, unsigned max_log, unsigned n_symbols);

/* The table of a distribution whose counts add up to 1 << @log, -1 being less than one. */
bool fse_build(struct fse *t, const int16_t *counts, unsigned n_symbols, unsigned log);

/* The table that has one symbol, for which no bits are read. */
void fse_single(struct fse *t, uint8_t symbol);

/* Read a Huffman tree's description (4.2.1). How many bytes it takes; 0: damaged. */
size_t huf_read(struct huf *t, const uint8_t *in, size_t n);

/* Decode exactly @size symbols out of all of the @n bytes at @in. */
bool huf_decode(const struct huf *t, const uint8_t *in, size_t n, uint8_t *out, size_t size);

#endif
