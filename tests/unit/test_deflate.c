/* qcow2/deflate.c: what it makes is read back, by our own reader, and as small as it is to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/deflate.h"
#include "qcow2/inflate.h"
#include "tests/harness/rand.h"

#define MAX (256u << 10)

static uint8_t in[MAX], packed[MAX + MAX / 8 + 64], got[MAX];
static struct deflate *d;

/* Contents that differ in what is good for them: stored, fixed, dynamic blocks, long and short matches, long codes. */
static void paint(unsigned kind, size_t n, uint64_t *r)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v = rand_below(r, 1u << 30);

		in[i] = kind == 0 ? (uint8_t)v
			: kind == 1 ? 0
			: kind == 2 ? (uint8_t)__builtin_ctzll(v | 1u << 29)
			: kind == 3 ? (uint8_t)"fermata, the note stops, "[i % 25]
			: kind == 4 ? (uint8_t)(v % 50 || i < 5000 ? "ab"[v & 1] : in[i - 4096])
			: kind == 5 ? (uint8_t)(i / 9000 % 2 ? v : i / 7)
			: i < 4096 ? (uint8_t)v
				   : in[i - 4096]; /* as far back as may be */
	}
}

static void t_round_trip(void **state)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 4, 257, 258, 259, 512, 4095, 4096, 4097, 65536, MAX };
	uint64_t r = 3;

	(void)state;
	for (unsigned kind = 0; kind < 7; kind++)
		for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
			size_t n = sizes[i], len;
			uint8_t *copy = malloc(n ? n : 1);

			paint(kind, n, &r);
			memcpy(copy, in, n); /* exactly as long, so that a look past its end is seen */
			len = deflate_cluster(d, copy, n, packed, sizeof packed);
			if (!len || !inflate_exactly(packed, len, got, n) || memcmp(got, in, n))
				fail_msg("kind %u, %zu bytes", kind, n);
			/* One byte less is not enough, and nothing is written behind it. */
			packed[len - 1] = 0xee;
			assert_int_equal(deflate_cluster(d, copy, n, packed, len - 1), 0);
			assert_int_equal(packed[len - 1], 0xee);
			free(copy);
		}
}

static void t_small(void **state)
{
	uint64_t r = 4;
	size_t n;

	(void)state;
	paint(1, 65536, &r);
	assert_in_range(deflate_cluster(d, in, 65536, packed, sizeof packed), 1, 120);
	paint(3, 65536, &r);
	assert_in_range(deflate_cluster(d, in, 65536, packed, sizeof packed), 1, 350);
	paint(6, 65536, &r);
	n = deflate_cluster(d, in, 65536, packed, sizeof packed);
	assert_in_range(n, 4096, 5200);
	paint(0, 65536, &r);
	assert_in_range(deflate_cluster(d, in, 65536, packed, sizeof packed), 65536, 65600);
	/* Values each half as often as the one before, two bits each; short matches, which are taken, cost a bit more. */
	paint(2, 65536, &r);
	assert_in_range(deflate_cluster(d, in, 65536, packed, sizeof packed), 1, 21500);
}

static int set_up(void **state)
{
	(void)state;
	d = deflate_new();
	return d ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	free(d);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(t_round_trip), cmocka_unit_test(t_small) };

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
