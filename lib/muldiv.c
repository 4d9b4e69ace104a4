#include "lib/muldiv.h"

#include <stdbool.h>
#include <stddef.h>

/* @a * @b in two halves, by 32-bit digits. */
static void multiply(uint64_t a, uint64_t b, uint64_t *high, uint64_t *low)
{
	uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
	uint64_t mid = ah * bl + (al * bl >> 32), mid2 = al * bh + (uint32_t)mid;

	*high = ah * bh + (mid >> 32) + (mid2 >> 32);
	*low = a * b;
}

uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c, uint64_t *rest)
{
	uint64_t left, low, q = 0;

	multiply(a, b, &left, &low);
	if (left >= c) {
		if (rest)
			*rest = 0;
		return UINT64_MAX;
	}
	/* Long division, a bit at a time. */
	for (int i = 63; i >= 0; i--) {
		bool over = left >> 63;

		left = left << 1 | (low >> i & 1);
		q <<= 1;
		if (over || left >= c) {
			left -= c;
			q |= 1;
		}
	}
	if (rest)
		*rest = left;
	return q;
}
