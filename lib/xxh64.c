/* Written from its specification, "xxHash fast digest algorithm" 0.1.1; step numbers refer to it. */
#include "lib/xxh64.h"

#include <endian.h>
#include <string.h>

#define PRIME_1 0x9e3779b185ebca87ull
#define PRIME_2 0xc2b2ae3d27d4eb4full
#define PRIME_3 0x165667b19e3779f9ull
#define PRIME_4 0x85ebca77c2b2ae63ull
#define PRIME_5 0x27d4eb2f165667c5ull

static uint64_t rotate_left(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static uint64_t hash_lane(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return le64toh(v);
}

static uint64_t hash_add_round(uint64_t acc, uint64_t in)
{
	return rotate_left(acc + in * PRIME_2, 31) * PRIME_1;
}

/* Steps 1 to 3: process stripes of four lanes. */
static uint64_t hash_stripes(const uint8_t **p, size_t *n)
{
	static const unsigned turns[] = { 1, 7, 12, 18 };
	uint64_t acc[4] = { PRIME_1 + PRIME_2, PRIME_2, 0, 0 - PRIME_1 }, sum = 0;

	for (; *n >= 32; *p += 32, *n -= 32)
		for (unsigned i = 0; i < 4; i++)
			acc[i] = hash_add_round(acc[i], hash_lane(*p + 8 * i));
	for (unsigned i = 0; i < 4; i++)
		sum += rotate_left(acc[i], turns[i]);
	for (unsigned i = 0; i < 4; i++)
		sum = (sum ^ hash_add_round(0, acc[i])) * PRIME_1 + PRIME_4;
	return sum;
}

uint64_t xxh64(const uint8_t *p, size_t n)
{
	uint64_t acc = PRIME_5, len = n;

	if (n >= 32)
		acc = hash_stripes(&p, &n);
	acc += len;
	/* Step 5: the remaining bytes. */
	for (; n >= 8; p += 8, n -= 8)
		acc = rotate_left(acc ^ hash_add_round(0, hash_lane(p)), 27) * PRIME_1 + PRIME_4;
	if (n >= 4) {
		uint32_t half;

		memcpy(&half, p, sizeof half);
		acc = rotate_left(acc ^ le32toh(half) * PRIME_1, 23) * PRIME_2 + PRIME_3;
		p += 4;
		n -= 4;
	}
	for (; n; p++, n--)
		acc = rotate_left(acc ^ *p * PRIME_5, 11) * PRIME_1;
	acc = (acc ^ acc >> 33) * PRIME_2;
	acc = (acc ^ acc >> 29) * PRIME_3;
	return acc ^ acc >> 32;
}
