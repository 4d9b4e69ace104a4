/* CONFIG_PACKED: the calls in x86 code, made to look alike before it is packed and put back afterwards. */
#ifndef INIT_PACKED_H
#define INIT_PACKED_H

#include <stddef.h>
#include <stdint.h>

#define PACKED_BSS_MAX (1ul << 20) /* what the program may need in memory beyond the size of its file */

/*
 * A call says how far away its target is, so that no two calls of one function look the same. With the target's place
 * in the code instead they do, and pack: 16 KB of 268. The range of distances that lead into the code from @at, -at to
 * size - at, changes places with what stands for them, 0 to size; so each number has another one of its own to become.
 */
static inline int32_t call_absolute(int32_t v, int32_t at, int32_t size)
{
	int32_t there = v >= -at && v < size - at ? v + at : v;

	return v >= size - at && v < size ? v - size : there;
}

/* Without a jump: what only looks like a call comes as it likes. */
static inline int32_t call_relative(int32_t v, int32_t at, int32_t size)
{
	int32_t there = (uint32_t)v < (uint32_t)size ? v - at : v;

	return (uint32_t)v + (uint32_t)at < (uint32_t)at ? v + size : there;
}

/* @turn the operand of what looks like a call (E8), wherever it stands in @code. Both ways find the same ones. */
static inline __attribute__((always_inline)) void each_call(uint8_t *code, size_t size,
	int32_t (*turn)(int32_t v, int32_t at, int32_t size))
{
	const uint64_t ones = 0x0101010101010101;
	size_t i = 0;

	while (i + 8 <= size) {
		uint64_t w;
		int32_t v;

		/* Eight bytes at a time: the first that is E8. */
		__builtin_memcpy(&w, code + i, sizeof w);
		w ^= 0xe8 * ones;
		w = (w - ones) & ~w & 0x80 * ones;
		if (!w) {
			i += 8;
			continue;
		}
		i += (size_t)__builtin_ctzll(w) / 8;
		if (i + 5 > size)
			break;
		__builtin_memcpy(&v, code + i + 1, sizeof v);
		v = turn(v, (int32_t)i, (int32_t)size);
		__builtin_memcpy(code + i + 1, &v, sizeof v);
		i += 5;
	}
}

#endif
