/* qcow2/inflate.c: all three kinds of blocks, and streams that are no such thing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qcow2/inflate.h"
#include "tests/harness/deflate.h"
#include "tests/harness/rand.h"

#define SIZE 1536

/* zlib's level 9, window 12, of what expected() says: dynamic codes. */
static const uint8_t dynamic[] = {
	0xed, 0xd0, 0xd1, 0x51, 0xc4, 0x30, 0x14, 0x43, 0x51, 0x4a, 0x71, 0x01, 0x74, 0x40, 0x35, 0x92, 0x70, 0xd6,
	0x4c, 0xbc, 0x71, 0xc6, 0x71, 0xe2, 0xa5, 0x7b, 0x9e, 0x86, 0x1a, 0xf8, 0x22, 0xfe, 0xd6, 0xbb, 0x67, 0xc6,
	0x28, 0x4b, 0x3f, 0x35, 0xaf, 0xba, 0x73, 0x8c, 0x75, 0xc7, 0x35, 0xdb, 0xa9, 0xa5, 0xa0, 0xb0, 0x9f, 0x6d,
	0xa2, 0xee, 0xeb, 0xd0, 0xba, 0xd7, 0x8b, 0xed, 0xec, 0x0b, 0x10, 0x6b, 0xb5, 0x58, 0x73, 0x8d, 0x35, 0x6a,
	0xac, 0xd5, 0x63, 0xcd, 0x88, 0x34, 0x44, 0x64, 0x55, 0x44, 0x2a, 0x23, 0xd2, 0x11, 0x91, 0x45, 0x11, 0xb9,
	0x18, 0x91, 0x81, 0x88, 0x4c, 0x45, 0xa4, 0xd0, 0x24, 0x4c, 0xca, 0x24, 0x4d, 0xc2, 0xa4, 0x4c, 0xd2, 0x24,
	0x4c, 0xca, 0x24, 0x4d, 0xc2, 0xa4, 0x4c, 0xd2, 0x24, 0x4c, 0xca, 0x24, 0x4d, 0xc2, 0xa4, 0x4c, 0xd2, 0x24,
	0x4c, 0xca, 0x24, 0x4d, 0xc2, 0xa4, 0x4c, 0xd2, 0x24, 0x4c, 0xca, 0x24, 0x4d, 0xc2, 0xa4, 0x4c, 0xd2, 0x24,
	0x4c, 0xca, 0x24, 0x4d, 0xc2, 0xa4, 0x4c, 0xd2, 0x24, 0x4c, 0xca, 0x24, 0x4d, 0xc2, 0xa4, 0x4c, 0xd2, 0x24,
	0x4c, 0xca, 0x24, 0x4d, 0xe2, 0x7f, 0x7f, 0xec, 0x92, 0xfb, 0x13, 0x03, 0x69, 0x94, 0x9c, 0xb6, 0x36, 0x72,
	0x3a, 0x46, 0xdb, 0x8f, 0xf7, 0x84, 0xed, 0x33, 0x3d, 0x5a, 0x3e, 0x52, 0xdb, 0x52, 0x7e, 0x41, 0xa3, 0x7e,
	0xa7, 0x59, 0x72, 0xcf, 0xe9, 0x6b, 0xa4, 0x89, 0xe3, 0x23, 0xdd, 0x97, 0xf7, 0xe5, 0xef, 0xe5, 0xdb, 0xfd,
	0xfe, 0xfc, 0xfd, 0x00,
};

static void expected(uint8_t *out)
{
	static const char words[] = "fermata the note stops, and goes on exactly where it was; ";
	unsigned i = 0;

	memset(out, 0, SIZE);
	for (; i < 600; i++)
		out[i] = (uint8_t)('a' + (i % 5 ? i * i * 7 % 23 : i % 3));
	for (unsigned k = 0; k < 10 * (sizeof words - 1); k++)
		out[i++] = (uint8_t)words[k % (sizeof words - 1)];
}

static void test_dynamic(void **state)
{
	uint8_t want[SIZE], got[SIZE];

	(void)state;
	expected(want);
	assert_true(inflate_exactly(dynamic, sizeof dynamic, got, SIZE));
	assert_memory_equal(got, want, SIZE);
	/* A reader may want less than all, never more. */
	assert_true(inflate_exactly(dynamic, sizeof dynamic, got, 700));
	assert_false(inflate_exactly(dynamic, sizeof dynamic, (uint8_t[SIZE + 1]){ 0 }, SIZE + 1));
}

static void test_stored(void **state)
{
	static const uint8_t two[] = { 0x00, 3, 0, 0xfc, 0xff, 'a', 'b', 'c', 0x01, 2, 0, 0xfd, 0xff, 'd', 'e', 0, 0 };
	uint8_t bad[sizeof two], got[5];

	(void)state;
	assert_true(inflate_exactly(two, sizeof two, got, 5));
	assert_memory_equal(got, "abcde", 5);
	memcpy(bad, two, sizeof two);
	bad[3] ^= 1;
	assert_false(inflate_exactly(bad, sizeof bad, got, 5));
	assert_false(inflate_exactly(two, 12, got, 5));
	assert_false(inflate_exactly((const uint8_t[]){ 0x07 }, 1, got, 5));
}

static void test_fixed(void **state)
{
	static uint8_t in[65536], packed[2 * sizeof in], got[sizeof in];

	(void)state;
	for (size_t period = 1; period <= 32768; period += 1 + period / 3) {
		size_t n;

		for (size_t i = 0; i < sizeof in; i++)
			in[i] = i < period ? (uint8_t)(i * i >> 3 ^ period) : in[i - period];
		n = deflate_pack(in, sizeof in, period, packed, sizeof packed);
		assert_true(n > 0);
		assert_true(inflate_exactly(packed, n, got, sizeof got));
		assert_memory_equal(got, in, sizeof in);
	}
}

static void put_bits(uint8_t *p, size_t *at, unsigned v, unsigned n)
{
	for (; n; n--, v >>= 1, ++*at)
		p[*at / 8] = (uint8_t)((p[*at / 8] & ~(1u << *at % 8)) | (v & 1) << *at % 8);
}

/* Empty fixed blocks, a dynamic one, a fixed one: each is read by its own codes. Where the second one ends is tried out. */
static void test_mixed(void **state)
{
	enum { EMPTY = 400000 };
	static uint8_t in[EMPTY * 10 / 8 + sizeof dynamic + 8];
	uint8_t want[SIZE + 1], got[SIZE + 1];
	unsigned found = 0;

	(void)state;
	expected(want);
	want[SIZE] = 'A';
	for (size_t end = 8 * sizeof dynamic - 24; end <= 8 * sizeof dynamic; end++) {
		size_t at = 0;

		for (unsigned i = 0; i < EMPTY; i++)
			put_bits(in, &at, 2, 10);
		memcpy(in + at / 8, dynamic, sizeof dynamic);
		in[at / 8] &= 0xfe; /* not the last one */
		at += end;
		put_bits(in, &at, 3, 3);
		put_bits(in, &at, 0x8e, 8); /* 'A' is 01110001, highest bit first */
		put_bits(in, &at, 0, 7);
		found += inflate_exactly(in, (at + 7) / 8, got, sizeof got) && !memcmp(got, want, sizeof got);
	}
	assert_int_equal(found, 1);
}

/* What gzip makes of @in, less its header and trailer (RFC 1952: 10 bytes without a name, and 8). Returns its length. */
static size_t gzipped(const uint8_t *in, size_t n, uint8_t *out, size_t cap)
{
	char path[] = "/tmp/test_inflate.XXXXXX", command[80];
	int fd = mkstemp(path);
	size_t got;
	FILE *f;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, in, n), (ssize_t)n);
	close(fd);
	snprintf(command, sizeof command, "gzip -9 -n < %s", path);
	f = popen(command, "r");
	assert_non_null(f);
	got = fread(out, 1, cap, f);
	assert_int_equal(pclose(f), 0);
	unlink(path);
	assert_in_range(got, 18, cap - 1);
	memmove(out, out + 10, got - 18);
	return got - 18;
}

/* Another one's streams, of many blocks: codes of up to 15 bits, of one bit, none but literals, stored ones between. */
static void test_gzip(void **state)
{
	static uint8_t in[400000], packed[2 * sizeof in], got[sizeof in + 8];
	uint64_t r = 5;

	(void)state;
	for (unsigned kind = 0; kind < 5; kind++) {
		size_t n;

		for (size_t i = 0; i < sizeof in; i++) {
			uint64_t v = rand_below(&r, 1u << 30);

			in[i] = kind == 0 ? (uint8_t)__builtin_ctzll(v | 1u << 29) /* each value half as often as the one before */
				: kind == 1 ? (uint8_t)v
				: kind == 2 ? (uint8_t)(i / 70000 % 2 ? v : (uint64_t)"fermata "[i % 8])
				: kind == 3 ? (uint8_t)(v % 1000 ? 'a' + i % (3 + i / 40000) : v >> 10)
					    : 0;
		}
		n = gzipped(in, sizeof in, packed, sizeof packed);
		for (size_t want = sizeof in; want > sizeof in - 20; want--) {
			memset(got + want, 0xee, 8);
			assert_true(inflate_exactly(packed, n, got, want));
			assert_memory_equal(got, in, want);
			for (unsigned k = 0; k < 8; k++)
				assert_int_equal(got[want + k], 0xee);
		}
		assert_false(inflate_exactly(packed, n, got, sizeof in + 1));
		assert_false(inflate_exactly(packed, n - 6, got, sizeof in));
	}
}

/* Whatever the bytes are, nothing outside the buffers is touched (ASan watches), and a cut stream is not whole. */
static void test_damaged(void **state)
{
	uint64_t r = 11;

	(void)state;
	for (size_t n = 0; n + 1 < sizeof dynamic; n++) {
		uint8_t *in = malloc(n + !n), *out = malloc(SIZE);

		memcpy(in, dynamic, n);
		assert_false(inflate_exactly(in, n, out, SIZE));
		free(in);
		free(out);
	}
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t in[sizeof dynamic], *out = malloc(SIZE);

		memcpy(in, dynamic, sizeof in);
		for (unsigned k = 0; k < 1 + i % 3; k++)
			in[rand_below(&r, i % 2 ? 40 : sizeof in)] ^= (uint8_t)(1u << rand_below(&r, 8));
		inflate_exactly(in, sizeof in, out, SIZE);
		free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dynamic),
		cmocka_unit_test(test_stored),
		cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_gzip),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
