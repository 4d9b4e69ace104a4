/* qcow2/zstd.c: every kind of block, frames in a row, and bytes that are no such thing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/xxh64.h"
#include "qcow2/zstd.h"
#include "tests/harness/rand.h"

#define CORPUS "tests/fuzz/corpus/zstd"
#define MAX    (2u << 20)

static struct zstd *z;

static int set_up(void **state)
{
	(void)state;
	z = zstd_new();
	return z ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	free(z);
	return 0;
}

static bool is(const uint8_t *in, size_t n, const char *want)
{
	size_t size = strlen(want);
	uint8_t *copy = malloc(n ? n : 1), *out = malloc(size);
	bool ok;

	memcpy(copy, in, n); /* exactly as long, so that a read past its end is seen */
	ok = zstd_exactly(z, copy, n, out, size) && !memcmp(out, want, size);
	free(copy);
	free(out);
	return ok;
}
#define IS(want, ...) is((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), want)
#define M 0x28, 0xb5, 0x2f, 0xfd

static void t_plain_blocks(void **state)
{
	(void)state;
	assert_true(IS("abc", M, 0x00, 0x00, 0x19, 0, 0, 'a', 'b', 'c'));             /* raw, the last, 3 bytes */
	assert_true(IS("abcdd", M, 0x20, 5, 0x18, 0, 0, 'a', 'b', 'c', 0x13, 0, 0, 'd')); /* then one byte twice */
	assert_true(IS("ab", M, 0x00, 0x00, 0x11, 0, 0, 'a', 'b', 0, 0, 0));          /* with padding */
	assert_true(IS("ab", M, 0x00, 0x00, 0x09, 0, 0, 'a', M, 0x20, 1, 0x09, 0, 0, 'b'));
	assert_true(IS("a", 0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2, M, 0x20, 1, 0x09, 0, 0, 'a'));
	assert_true(IS("a", M, 0x21, 0, 1, 0x09, 0, 0, 'a')); /* dictionary 0 is none */
	/* Literals alone: raw, one byte many times. */
	assert_true(IS("abc", M, 0x20, 3, 0x2d, 0, 0, 0x18, 'a', 'b', 'c', 0));
	assert_true(IS("aaa", M, 0x20, 3, 0x1d, 0, 0, 0x19, 'a', 0));
	/* Three literals, and a match of six at offset three, all by codes of one symbol. */
	assert_true(IS("abcabcabc", M, 0x20, 9, 0x55, 0, 0, 0x18, 'a', 'b', 'c', 1, 0x54, 3, 2, 3, 0x06));
}

static void t_refused(void **state)
{
	(void)state;
	assert_false(IS("a", 0));
	assert_false(IS("a", M, 0x08, 0x00, 0x09, 0, 0, 'a'));          /* a reserved bit */
	assert_false(IS("a", M, 0x21, 7, 1, 0x09, 0, 0, 'a'));          /* a dictionary */
	assert_false(IS("a", M, 0x20, 2, 0x09, 0, 0, 'a'));             /* another size than it says */
	assert_false(IS("a", M, 0x00, 0x00, 0x0f, 0, 0, 'a'));          /* a reserved kind of block */
	assert_false(IS("a", M, 0x00, 0x00, 0x11, 0, 0, 'a', 'b'));     /* longer than wanted */
	assert_false(IS("ab", M, 0x00, 0x00, 0x09, 0, 0, 'a'));         /* shorter */
	assert_false(IS("a", M, 0x00, 0x00, 0x08, 0, 0, 'a'));          /* no last block */
	assert_false(IS("a", M, 0x24, 1, 0x09, 0, 0, 'a', 1, 2, 3, 4)); /* another checksum */
	assert_false(IS("abc", M, 0x20, 3, 0x2d, 0, 0, 0x18, 'a', 'b', 'c', 1));
	/* Codes told "as before" where there was nothing before: literals, sequences. */
	assert_false(IS("abc", M, 0x20, 3, 0x2d, 0, 0, 0x33, 0x40, 0, 1, 0));
	assert_false(IS("abcabcabc", M, 0x20, 9, 0x3d, 0, 0, 0x18, 'a', 'b', 'c', 1, 0xfc, 0x06));
	/* An offset in front of the frame; a symbol that there is not; bits that nobody reads. */
	assert_false(IS("abcabcabc", M, 0x20, 9, 0x55, 0, 0, 0x18, 'a', 'b', 'c', 1, 0x54, 3, 2, 3, 0x07));
	assert_false(IS("abcabcabc", M, 0x20, 9, 0x55, 0, 0, 0x18, 'a', 'b', 'c', 1, 0x54, 36, 2, 3, 0x06));
	assert_false(IS("abcabcabc", M, 0x20, 9, 0x55, 0, 0, 0x18, 'a', 'b', 'c', 1, 0x54, 3, 2, 3, 0x0e));
}

static void t_hash(void **state)
{
	static const char text[] = "Nobody inspects the spammish repetition";

	(void)state;
	assert_true(xxh64((const uint8_t *)"", 0) == 0xef46db3751d8e999ull);
	assert_true(xxh64((const uint8_t *)"a", 1) == 0xd24ec4f1a98c6e5bull);
	assert_true(xxh64((const uint8_t *)"abc", 3) == 0x44bc2cf5ad770999ull);
	assert_true(xxh64((const uint8_t *)text, sizeof text - 1) == 0xfbcea83c8a378bf1ull);
}

/* Another one's frames, with checksums (but for "fast"): as long as their first byte says, no more and no less. */
static void each_frame(void (*f)(const char *name, const uint8_t *in, size_t n, size_t size))
{
	static uint8_t in[65536];
	DIR *d = opendir(CORPUS);
	unsigned n_frames = 0;

	if (!d)
		skip();
	for (struct dirent *de; (de = readdir(d));) {
		char path[400];
		FILE *file;
		size_t n;

		if (de->d_name[0] == '.' || !strncmp(de->d_name, "bad", 3))
			continue;
		snprintf(path, sizeof path, CORPUS "/%s", de->d_name);
		file = fopen(path, "rb");
		assert_non_null(file);
		n = fread(in, 1, sizeof in, file);
		fclose(file);
		assert_in_range(n, 2, sizeof in - 1);
		f(de->d_name, in + 1, n - 1, (size_t)512 << in[0]);
		n_frames++;
	}
	closedir(d);
	assert_true(n_frames >= 8);
}

static uint8_t got[MAX + 1], good[MAX + 1];

static void whole(const char *name, const uint8_t *in, size_t n, size_t size)
{
	got[size] = 0xee;
	if (!zstd_exactly(z, in, n, got, size) || got[size] != 0xee)
		fail_msg("%s", name);
	if (zstd_exactly(z, in, n, got, size + 1) || zstd_exactly(z, in, n, got, size - 1))
		fail_msg("%s: another length", name);
}

static void t_frames(void **state)
{
	(void)state;
	each_frame(whole);
}

/* Whatever the bytes are, nothing outside the buffers is touched (ASan watches), and what is taken is what it was. */
static void spoiled(const char *name, const uint8_t *in, size_t n, size_t size)
{
	uint8_t *bad = malloc(n);
	uint64_t r = n;

	assert_true(zstd_exactly(z, in, n, good, size));
	for (unsigned i = 0; i < 1500; i++) {
		memcpy(bad, in, n);
		for (unsigned k = 0; k < 1 + i % 3; k++)
			bad[rand_below(&r, i % 2 ? (n < 60 ? n : 60) : n)] ^= (uint8_t)(1u << rand_below(&r, 8));
		/* A header may be spoiled so that there is no checksum any more. */
		if (zstd_exactly(z, bad, n, got, size) && memcmp(got, good, size) && bad[4] & 4 && strcmp(name, "two_frames"))
			fail_msg("%s: round %u: damage was not seen", name, i);
	}
	free(bad);
	for (size_t k = 0; k < n; k += 1 + n / 300) {
		uint8_t *cut = malloc(k + !k);

		memcpy(cut, in, k);
		if (zstd_exactly(z, cut, k, got, size) && k + 100 < n)
			fail_msg("%s: %zu bytes of %zu were enough", name, k, n);
		free(cut);
	}
}

static void t_damaged(void **state)
{
	(void)state;
	each_frame(spoiled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_plain_blocks), cmocka_unit_test(t_refused), cmocka_unit_test(t_hash),
		cmocka_unit_test(t_frames), cmocka_unit_test(t_damaged),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
