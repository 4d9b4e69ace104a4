/* lib/muldiv: against what is known of each quotient, as no wider numbers may be there to compare with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/muldiv.h"

#define MAX UINT64_MAX

static void muldiv_edges(void **state)
{
	static const struct { uint64_t a, b, c, q, rest; } t[] = {
		{ 0, 0, 1, 0, 0 }, { 0, MAX, MAX, 0, 0 }, { 1, 1, 2, 0, 1 }, { 7, 3, 4, 5, 1 }, { MAX, 1, 1, MAX, 0 }, { MAX, MAX, MAX, MAX, 0 },
		{ MAX, 2, 1, MAX, 0 }, { MAX, MAX, 1, MAX, 0 }, { MAX, 2, 2, MAX, 0 }, { MAX, 3, 4, 13835058055282163711ull, 1 },
		{ 1ull << 63, 2, 1ull << 63, 2, 0 }, { MAX, MAX - 1, MAX, MAX - 1, 0 }, { MAX - 1, MAX - 1, MAX, MAX - 2, 1 },
		{ 1ull << 32, 1ull << 32, 1ull << 32, 1ull << 32, 0 }, { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0 },
		{ 0x123456789abcdef0, 10000, 0x123456789abcdef0, 10000, 0 }, { 1ull << 60, 1000000000, 7, MAX, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
		uint64_t rest = 5;

		assert_true(mul_div(t[i].a, t[i].b, t[i].c, &rest) == t[i].q && rest == t[i].rest);
		assert_true(mul_div(t[i].b, t[i].a, t[i].c, NULL) == t[i].q);
	}
}

/* q * c + rest is the product, modulo 2^64, and rest is less than c: for quotients that fit, there is no other such pair. */
static void muldiv_random(void **state)
{
	uint64_t x = 88172645463325252ull, v[3], rest;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		for (int k = 0; k < 3; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			v[k] = x >> (x >> 58);
		}
		v[2] += !v[2];
		/* At most as large as the divisor: the quotient fits. */
		v[0] = v[0] > v[2] ? v[2] : v[0];
		uint64_t q = mul_div(v[0], v[1], v[2], &rest);

		assert_true(rest < v[2] && q * v[2] + rest == v[0] * v[1] && q <= v[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(muldiv_edges), cmocka_unit_test(muldiv_random) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
