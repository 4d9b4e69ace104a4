/* Huffman codes for deflate: from how often each symbol is used to its bits. RFC 1951, 3.2.2. */
#ifndef QCOW2_DEFLATE_CODE_H
#define QCOW2_DEFLATE_CODE_H

#include <stdint.h>

#define DEFLATE_MAX_SYMBOLS 288

struct code {
	uint16_t bits[DEFLATE_MAX_SYMBOLS]; /* as written, first bit lowest */
	uint8_t len[DEFLATE_MAX_SYMBOLS];   /* 0: not used */
};

/* Lengths of at most @max bits for @n symbols, the best that there are but for the limit; at least two codes. */
void code_lengths(struct code *c, const uint32_t *freq, unsigned n, unsigned max);

/* The bits that follow from the lengths. */
void code_bits(struct code *c, unsigned n);

#endif
