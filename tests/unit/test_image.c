/* qcow2/image/image.c: what is read through a chain is what the independent reader reads, of every kind of cluster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qcow2/image/image.h"
#include "tests/harness/guest.h"
#include "tests/harness/logdev.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/rand.h"

static char dir[] = "/tmp/fermata-image.XXXXXX";

struct made {
	uint8_t *p;
	size_t n;
	uint64_t size;
};

/* 100 clusters of all kinds, two snapshots, of which the first is of a smaller disk. */
static struct made make(unsigned bits, bool ext_l2, unsigned version, const char *backing, uint64_t *seed)
{
	struct mkimg_opts o = { .version = version, .cluster_bits = bits, .ext_l2 = ext_l2, .size = 70ull << bits,
		.backing = backing, .backing_fmt = backing ? "raw" : NULL };
	struct mkimg_snap s1 = { .id = "1", .name = "one", .extra_len = 16 }, s2 = { .id = "2", .name = "two", .extra_len = 24 };
	struct mkimg *m = mkimg_new(&o);
	struct made img = { .size = 100ull << bits };

	for (unsigned round = 0; round < 3; round++) {
		for (uint64_t gc = 0; gc < (round ? 100 : 70); gc++)
			switch (rand_below(seed, 8)) {
			case 0:
			case 1:
				mkimg_data(m, gc, rand_next(seed));
				break;
			case 2:
				/* Subclusters and compression do not mix in one cluster; version 2 has no zero clusters. */
				mkimg_compressed(m, gc, rand_next(seed));
				break;
			case 3:
				if (version == 3 && !ext_l2)
					mkimg_zero(m, gc, rand_below(seed, 2));
				else
					mkimg_discard(m, gc);
				break;
			case 4:
				if (ext_l2)
					mkimg_sub(m, gc, 0x00ff00f1, 0xff00ff00, rand_next(seed));
				break;
			case 5:
				mkimg_discard(m, gc);
				break;
			default:
				break;
			}
		if (round < 2)
			mkimg_snapshot(m, round ? &s2 : &s1);
		if (!round)
			mkimg_grow(m, img.size);
	}
	img.p = mkimg_finish(m, &img.n);
	return img;
}

static void read_all(struct image *img, const struct guest_img *g, int snap, uint64_t size, uint64_t *seed)
{
	uint8_t *mine = malloc(300000), *theirs = malloc(300000);

	for (unsigned i = 0; i < 150; i++) {
		uint64_t off = rand_below(seed, size), n = 1 + rand_below(seed, i % 3 ? 3000 : 300000);
		struct image_run run;
		struct err e = { 0 };
		char why[200];

		if (n > size - off)
			n = size - off;
		if (image_read(img, snap, off, mine, n, &e) < 0)
			fail_msg("%s", e.msg);
		if (guest_read(g, snap, off, theirs, n, why) < 0)
			fail_msg("%s", why);
		assert_memory_equal(mine, theirs, n);
		/* What a run promises holds for all of it. */
		assert_int_equal(image_map(img, snap, off, n, &run, &e), 0);
		assert_true(run.len > 0 && run.len <= n);
		for (uint64_t k = 0; k < run.len && (run.zero || !run.data); k++)
			assert_int_equal(theirs[k], 0);
		off += run.len / 2;
		assert_int_equal(image_read_run(&run, off, mine, 1, &e), 0);
		assert_int_equal(mine[0], theirs[run.len / 2]);
	}
	/* Behind the end there are zeros, not VM state. */
	memset(mine, 1, 600);
	assert_int_equal(image_read(img, snap, size - 100, mine, 600, &(struct err){ 0 }), 0);
	for (unsigned i = 100; i < 600; i++)
		assert_int_equal(mine[i], 0);
	free(mine);
	free(theirs);
}

static void check_one(unsigned bits, bool ext_l2, unsigned version, uint64_t backing_size, uint64_t *seed)
{
	struct made made = make(bits, ext_l2, version, backing_size ? "base.raw" : NULL, seed);
	struct guest_img g = { made.p, made.n, NULL, 0 };
	uint8_t *base = malloc(backing_size + 1);
	auto_image struct image *img = NULL;
	struct err e = { 0 };
	char path[64];

	for (uint64_t i = 0; i < backing_size; i++)
		base[i] = (uint8_t)rand_next(seed);
	if (backing_size) {
		g.backing = base;
		g.backing_size = backing_size;
		snprintf(path, sizeof path, "%s/base.raw", dir);
		bytes_export(base, backing_size, path);
	}
	snprintf(path, sizeof path, "%s/top.qcow2", dir);
	bytes_export(made.p, made.n, path);
	if (image_open_chain(path, NULL, 0, &img, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(img->size, made.size);
	for (int snap = -1; snap < 2; snap++)
		read_all(img, &g, snap, snap == 0 ? 70ull << bits : made.size, seed);
	free(base);
	free(made.p);
}

static void t_reads(void **state)
{
	uint64_t seed = rand_seed(3);

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		check_one(9, false, 3, 0, &seed);
		check_one(9, false, 2, 20000, &seed);
		check_one(12, false, 3, 20480, &seed);
		check_one(16, false, 3, 1000000, &seed);
		check_one(14, true, 3, 0, &seed);
		check_one(14, true, 3, 400000, &seed);
	}
}

static void t_names(void **state)
{
	static const struct {
		const char *image, *backing, *want;
	} names[] = {
		{ "a.qcow2", "b.qcow2", "b.qcow2" }, { "x/a.qcow2", "b.qcow2", "x/b.qcow2" },
		{ "x/a.qcow2", "../b", "x/../b" }, { "/x/a", "b", "/x/b" }, { "x/a", "/b", "/b" }, { "x/a", "nbd:b", "nbd:b" },
		{ "x/a", "file:b", "file:b" }, { "/a", "b", "/b" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char *got = image_backing_path(names[i].image, names[i].backing);

		assert_string_equal(got, names[i].want);
		free(got);
	}
	assert_true(image_is_remote("nbd:localhost:10809"));
	assert_true(image_is_remote("json:{}"));
	assert_true(image_is_remote("nbd+unix:///x"));
	assert_false(image_is_remote("file:a.qcow2"));
	assert_false(image_is_remote("./a:b"));
	assert_false(image_is_remote("a"));
	assert_false(image_is_remote(":a"));
}

static int begin(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int end(void **state)
{
	char path[64];

	(void)state;
	snprintf(path, sizeof path, "%s/base.raw", dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/top.qcow2", dir);
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_reads),
		cmocka_unit_test(t_names),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
