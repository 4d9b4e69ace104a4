/* Numbers that look random and repeat for the same seed. */
#ifndef HARNESS_RAND_H
#define HARNESS_RAND_H

#include <stdint.h>
#include <stdlib.h>

/* One avalanche step: every input bit reaches every output bit. */
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline uint64_t rand_next(uint64_t *state)
{
	return mix64(*state += 0x9e3779b97f4a7c15ull);
}

static inline uint64_t rand_below(uint64_t *state, uint64_t n)
{
	return n ? rand_next(state) % n : 0;
}

/* FERMATA_SEED from the environment, else @fallback: how a failing sampled run is repeated. */
static inline uint64_t rand_seed(uint64_t fallback)
{
	const char *s = getenv("FERMATA_SEED");

	return s && *s ? strtoull(s, NULL, 0) : fallback;
}

#endif
