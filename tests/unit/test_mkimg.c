/* The image builder, the independent reader and the refcount judge: against each other and against qemu-img. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "lib/endian.h"
#include "lib/own.h"
#include "tests/harness/deflate.h"
#include "tests/harness/guest.h"
#include "tests/harness/judge.h"
#include "tests/harness/logdev.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"

static void t_deflate(void **state)
{
	static uint8_t in[4096], packed[4096], out[4096];

	(void)state;
	for (size_t n = 1; n <= sizeof(in); n += 1 + n / 7) {
		size_t k;

		mkimg_fill(in, n, n, true);
		k = deflate_pack(in, n, 16, packed, sizeof(packed));
		assert_true(k && (n < 64 || k < n));
		memset(out, 0, sizeof(out));
		assert_int_equal(deflate_unpack(packed, k, out, n), 0);
		assert_memory_equal(in, out, n);
		assert_int_equal(deflate_unpack(packed, k / 2, out, n), -1);
	}
}

/* What the picture below holds at guest cluster @gc: the table that made it, and then judges it. */
enum kind { NONE, DATA, PACKED, ZEROS, KEPT, GONE, SUB };
static enum kind kind_of(const struct mkimg_opts *o, uint64_t gc, unsigned gen)
{
	uint64_t r = mix64(gc * 131 + gen * 7 + 5) % 10;

	if (gen && r % 3)
		return NONE; /* as it was */
	switch (r) {
	case 0:
	case 1:
	case 2:
	case 3:
		return DATA;
	case 4:
	case 5:
		return PACKED;
	case 6:
		return o->version == 2 ? DATA : ZEROS;
	case 7:
		return o->version == 2 ? DATA : KEPT;
	case 8:
		return o->ext_l2 ? SUB : GONE;
	default:
		return NONE;
	}
}

static void paint(struct mkimg *m, const struct mkimg_opts *o, unsigned gen)
{
	uint64_t n = (o->size + (1ull << o->cluster_bits) - 1) >> o->cluster_bits;

	for (uint64_t gc = 0; gc < n; gc++)
		switch (kind_of(o, gc, gen)) {
		case NONE:
			break;
		case DATA:
			mkimg_data(m, gc, gen * 1000 + gc);
			break;
		case PACKED:
			mkimg_compressed(m, gc, gen * 1000 + gc);
			break;
		case ZEROS:
		case KEPT:
			mkimg_zero(m, gc, kind_of(o, gc, gen) == KEPT);
			break;
		case GONE:
			mkimg_discard(m, gc);
			break;
		case SUB:
			mkimg_sub(m, gc, 0x00ff00f3, 0xf000ff00, gen * 1000 + gc);
			break;
		}
}

/* One cluster as generation @gen painted it, or as an older one left it. */
static void painted(const struct mkimg_opts *o, const uint8_t *backing, uint64_t gc, unsigned gen, uint8_t *buf)
{
	size_t cs = 1u << o->cluster_bits;
	enum kind k = kind_of(o, gc, gen);

	while (k == NONE && gen)
		k = kind_of(o, gc, --gen);
	memset(buf, 0, cs);
	if (k == DATA || k == SUB)
		mkimg_fill(buf, cs, gen * 1000 + gc, false);
	if (k == PACKED)
		mkimg_fill(buf, cs, gen * 1000 + gc, true);
	for (unsigned s = 0; k == SUB && s < 32; s++)
		if (!(0x00ff00f3u >> s & 1))
			memset(buf + s * cs / 32, 0, cs / 32);
	if (!backing)
		return;
	if (k == NONE || k == GONE)
		memcpy(buf, backing + gc * cs, cs);
	for (unsigned s = 0; k == SUB && s < 32; s++)
		if (!((0x00ff00f3u | 0xf000ff00u) >> s & 1))
			memcpy(buf + s * cs / 32, backing + gc * cs + s * cs / 32, cs / 32);
}

static void check_picture(const struct guest_img *g, const struct mkimg_opts *o, int snap, unsigned gen)
{
	size_t cs = 1u << o->cluster_bits;
	auto_free uint8_t *want = malloc(cs), *got = malloc(cs);
	char why[200] = "";

	for (uint64_t gc = 0; gc < o->size / cs; gc++) {
		painted(o, g->backing, gc, gen, want);
		if (guest_read(g, snap, gc * cs, got, cs, why) < 0)
			fail_msg("snapshot %d, cluster %llu: %s", snap, (unsigned long long)gc, why);
		if (memcmp(want, got, cs))
			fail_msg("snapshot %d, cluster %llu differs", snap, (unsigned long long)gc);
	}
}

static const struct mkimg_opts shapes[] = {
	{ .version = 3, .cluster_bits = 9, .refcount_bits = 16, .size = 60 << 10 },
	{ .version = 2, .cluster_bits = 9, .refcount_bits = 16, .size = 100 << 10 },
	{ .version = 3, .cluster_bits = 10, .refcount_bits = 1, .size = 64 << 10 },
	{ .version = 3, .cluster_bits = 9, .refcount_bits = 2, .size = 40 << 10 },
	{ .version = 3, .cluster_bits = 9, .refcount_bits = 4, .size = 40 << 10, .header_length = 104 },
	{ .version = 3, .cluster_bits = 12, .refcount_bits = 8, .size = 400 << 10 },
	{ .version = 3, .cluster_bits = 9, .refcount_bits = 32, .size = 64 << 10, .l1_size = 70 },
	{ .version = 3, .cluster_bits = 9, .refcount_bits = 64, .size = 64 << 10, .rt_clusters = 3 },
	{ .version = 3, .cluster_bits = 14, .refcount_bits = 16, .size = 512 << 10, .ext_l2 = true },
	{ .version = 3, .cluster_bits = 16, .refcount_bits = 16, .size = 1 << 20 },
	{ .version = 3, .cluster_bits = 9, .refcount_bits = 16, .size = 32 << 10, .backing = "base.raw", .backing_fmt = "raw" },
	{ .version = 3, .cluster_bits = 14, .refcount_bits = 16, .size = 512 << 10, .ext_l2 = true, .backing = "base.raw",
	  .backing_fmt = "raw" },
};

static uint8_t *make_picture(const struct mkimg_opts *o, unsigned n_snaps, size_t *n)
{
	static const unsigned extras[] = { 24, 16, 37, 16, 51 };
	struct mkimg *m = mkimg_new(o);
	char name[32], id[8];

	for (unsigned i = 0; i <= n_snaps; i++) {
		paint(m, o, i);
		if (i == n_snaps)
			break;
		snprintf(id, sizeof(id), "%u", i + 1);
		snprintf(name, sizeof(name), "snap-%u", i);
		mkimg_snapshot(m, &(struct mkimg_snap){ .id = id, .name = name, .extra_len = extras[i % 5],
			.date_s = 1700000000 + i, .clock_ns = 5000000000ull * i, .vmstate = i % 2 ? 5000 : 0, .vm_seed = i });
	}
	if (o->version > 2 && !o->backing)
		mkimg_ext(m, 0x12345678, "some unknown words", 18);
	if (o->version > 2 && !o->backing)
		mkimg_add_bitmap(m, &(struct mkimg_bitmap){ .name = "b0", .gran_bits = 9, .flags = 2, .seed = 4 });
	return mkimg_finish(m, n);
}

static void one_shape(const struct mkimg_opts *o)
{
	unsigned n_snaps = o->refcount_bits == 1 ? 0 : o->refcount_bits == 2 ? 2 : 4;
	struct guest_img g = { 0 };
	struct guest_state s;
	struct judge j;
	size_t n;
	auto_free uint8_t *img = make_picture(o, n_snaps, &n), *backing = NULL;

	if (o->backing) {
		backing = malloc(o->size);
		mkimg_fill(backing, o->size, 99, false);
	}
	g = (struct guest_img){ img, n, backing, backing ? o->size : 0 };
	for (unsigned i = 0; i < n_snaps; i++)
		check_picture(&g, o, (int)i, i);
	check_picture(&g, o, -1, n_snaps);
	if (guest_state(&g, &s) < 0)
		fail_msg("%s", s.why);
	assert_int_equal(s.n_snaps, n_snaps);
	if (n_snaps) {
		assert_string_equal(s.snaps[1].name, "snap-1");
		assert_int_equal(s.snaps[1].vmstate, 5000);
	}
	judge_image(img, n, &j);
	if (j.bad || j.flags || j.leaks)
		fail_msg("judge: %s %s", j.first_bad, j.first_flag);
	if (!qemu_img_there())
		return;
	bytes_export(img, n, qemu_img_path("img"));
	if (backing)
		bytes_export(backing, o->size, qemu_img_path("base.raw"));
	assert_int_equal(qemu_img_check(img, n), 0);
	for (int snap = -1; snap < (int)n_snaps; snap++) {
		auto_free uint8_t *theirs = NULL, *ours = malloc(o->size);
		char name[24], why[200];
		size_t got = 0;

		snprintf(name, sizeof(name), "snap-%d", snap);
		theirs = qemu_img_content(img, n, snap < 0 ? NULL : name, &got);
		assert_non_null(theirs);
		assert_int_equal(got, o->size);
		assert_int_equal(guest_read(&g, snap, 0, ours, o->size, why), 0);
		assert_memory_equal(ours, theirs, o->size);
	}
}

static void t_shapes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		one_shape(&shapes[i]);
}

/* The judge has to see what is planted. */
static void t_judge_sees(void **state)
{
	struct mkimg *m = mkimg_new(&shapes[0]);
	struct guest_state s;
	struct judge j;
	size_t n;
	uint64_t l1, l2;

	(void)state;
	mkimg_data(m, 0, 1);
	mkimg_data(m, 1, 1);
	mkimg_leak(m, 3);
	auto_free uint8_t *img = mkimg_finish(m, &n);
	judge_image(img, n, &j);
	assert_int_equal(j.bad + j.flags, 0);
	assert_int_equal(j.leaks, 3);
	assert_true(!qemu_img_there() || qemu_img_check(img, n) == 3);
	l1 = get_be64(img + 40);
	l2 = get_be64(img + l1) & 0xfffffffffffe00;
	img[l2] &= 0x7f; /* COPIED off: harmless */
	judge_image(img, n, &j);
	assert_int_equal(j.flags, 1);
	assert_int_equal(j.bad, 0);
	assert_true(!qemu_img_there() || qemu_img_check(img, n) == 2);
	memcpy(img + l2, img + l2 + 8, 8); /* two users of one cluster, both COPIED */
	judge_image(img, n, &j);
	assert_true(j.bad >= 2);
	assert_true(!qemu_img_there() || qemu_img_check(img, n) == 2);
	put_be64(img + l2, 1ull << 63 | n); /* past the end */
	judge_image(img, n, &j);
	assert_true(j.bad >= 1);
	assert_int_equal(guest_state(&(struct guest_img){ img, n, NULL, 0 }, &s), -1);
	put_be64(img + l2, 1ull << 63); /* the header as data */
	put_be64(img + l2, 1ull << 63 | l1);
	judge_image(img, n, &j);
	assert_true(j.bad >= 1);
	put_be64(img + 48, 0);
	judge_image(img, n, &j);
	assert_true(j.bad >= 1);
}

static void t_states_differ(void **state)
{
	struct guest_state a, b;
	char why[200];
	size_t n;
	auto_free uint8_t *img = make_picture(&shapes[0], 3, &n), *other = malloc(n);
	struct guest_img g = { img, n, NULL, 0 }, h = { other, n, NULL, 0 };

	(void)state;
	assert_int_equal(guest_state(&g, &a), 0);
	for (size_t at = 64; at < n; at += 512) {
		memcpy(other, img, n);
		other[at] ^= 0x40;
		if (guest_state(&h, &b) == 0 && !guest_same(&a, &b, why))
			assert_true(why[0]);
	}
	memcpy(other, img, n);
	assert_int_equal(guest_state(&h, &b), 0);
	assert_true(guest_same(&a, &b, why));
	other[get_be64(img + 64) + 30] ^= 1; /* a snapshot's clock */
	assert_int_equal(guest_state(&h, &b), 0);
	assert_false(guest_same(&a, &b, why));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_deflate),
		cmocka_unit_test(t_shapes),
		cmocka_unit_test(t_judge_sees),
		cmocka_unit_test(t_states_differ),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
