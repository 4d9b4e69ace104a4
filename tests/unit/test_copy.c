/* qcow2/image/copy.c: new images, images on a base, images that exist: every cut, fault and refused allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/image/copy.h"
#include "qcow2/internal.h"
#include "tests/harness/campaign.h"
#include "tests/harness/guest.h"
#include "tests/harness/logdev.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/qemu_img.h"

#define SIZE (40 * 1024)
#define HALF (SIZE / 2 + 512)

/* What is copied: a disk in two pieces, with data, zeros, and what the base has too. */
static uint8_t disk[SIZE], base[SIZE];
static struct logdev *pieces[2], *base_dev;

struct scene {
	const char *name;
	unsigned cluster_bits, version;
	bool ext_l2, on_base, exists;
	unsigned base_size;
	bool pack;
};

static const struct scene scenes[] = {
	{ "new", 10, 3, false, false, false, 0, false },
	{ "on a base", 9, 3, false, true, false, SIZE, false },
	{ "on a base, version 2", 9, 2, false, true, false, SIZE, false },
	{ "on a shorter base", 11, 3, false, true, false, SIZE / 4, false },
	{ "on a base, subclusters", 14, 3, true, true, false, SIZE, false },
	{ "packed", 10, 3, false, false, false, 0, true },
	{ "packed, subclusters", 14, 3, true, true, false, SIZE / 4, true },
	{ "packed into an image that exists", 9, 3, false, false, true, 0, true },
	{ "an image that exists", 9, 3, false, false, true, 0, false },
	{ "an image that exists, on a base", 9, 3, false, true, true, SIZE, false },
};

static void raw_image(struct image *img, struct logdev *d, size_t size)
{
	*img = (struct image){ .path = (char *)"part", .format = "raw", .dev = &d->dev, .data = &d->dev, .size = size };
}

static int op_copy(struct qcow2 *q, void *arg, struct err *e)
{
	const struct scene *s = arg;
	struct image from[2], below, to = { .path = (char *)"to", .format = "qcow2", .q = q, .dev = q->dev, .data = q->dev,
		.size = q->h.size };
	struct copy c = { .from = (struct image *[]){ &from[0], &from[1] }, .n_from = 2, .snap = -1, .size = SIZE, .to = &to,
		.fresh = !s->exists, .sparse = 4096, .pack = s->pack };

	raw_image(&from[0], pieces[0], HALF);
	raw_image(&from[1], pieces[1], SIZE - HALF);
	if (s->on_base) {
		raw_image(&below, base_dev, s->base_size);
		below.dev->size = s->base_size;
		to.backing = &below;
	}
	return image_copy(&c, e);
}

/* An independent reader finds the disk. */
static bool is_copied(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	static struct guest_state want;
	struct guest_img g = { .backing = disk, .backing_size = SIZE };
	const struct scene *sc = s->arg;
	struct mkimg_opts o = { .cluster_bits = sc->cluster_bits, .size = SIZE, .backing = "disk", .backing_fmt = "raw" };
	uint8_t *p;
	size_t n;
	bool same;

	(void)before;
	g.bytes = p = mkimg_finish(mkimg_new(&o), &n);
	g.size = n;
	same = guest_state(&g, &want) == 0 && want.content == after->content;
	if (!same)
		snprintf(why, 200, "does not read as the disk");
	free(p);
	return same;
}

static uint8_t *target_of(const struct scene *s, size_t *n)
{
	struct mkimg_opts o = { .version = s->version, .cluster_bits = s->cluster_bits, .size = SIZE, .ext_l2 = s->ext_l2,
		.backing = s->on_base ? "base.raw" : NULL, .backing_fmt = s->on_base ? "raw" : NULL };
	struct mkimg *m = mkimg_new(&o);

	/* All it has a snapshot has, too: nothing is written over. */
	for (uint64_t i = 0; s->exists && i << s->cluster_bits < SIZE; i += 3)
		mkimg_data(m, i, i + 7);
	if (s->exists)
		mkimg_snapshot(m, &(struct mkimg_snap){ .id = "1", .name = "one", .extra_len = 24 });
	return mkimg_finish(m, n);
}

static void each_scene(int (*campaign)(const struct subject *s, char *why))
{
	static char why[600];

	for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
		const struct scene *sc = &scenes[i];
		struct subject s = { .op = op_copy, .arg = (void *)sc, .expect = is_copied };
		uint8_t *p = target_of(sc, &s.n);

		snprintf(s.name, sizeof s.name, "copy: %s", sc->name);
		s.bytes = p;
		s.backing = sc->on_base ? base : NULL;
		s.backing_n = sc->base_size;
		if (campaign(&s, why) < 0)
			fail_msg("%s: %s", s.name, why);
		free(p);
	}
}

static int crash(const struct subject *s, char *why)
{
	return campaign_crash(s, 1, why);
}

static void t_every_cut(void **state)
{
	(void)state;
	each_scene(crash);
}

static void t_every_fault(void **state)
{
	(void)state;
	each_scene(campaign_faults);
}

static void t_every_allocation(void **state)
{
	(void)state;
	each_scene(campaign_allocs);
}

static int read_bad(struct dev *d, uint64_t off, void *buf, size_t n, struct err *e);
static const struct dev_ops bad_ops = { .read = read_bad };

static void count_warning(void *ctx, const char *message)
{
	(void)message;
	++*(unsigned *)ctx;
}

static int read_bad(struct dev *d, uint64_t off, void *buf, size_t n, struct err *e)
{
	if (off < 1536 && off + n > 1024)
		return err_sys(e, EIO, "cannot read %s", d->name);
	memcpy(buf, disk + off, n);
	return 0;
}

/* One sector cannot be read: the rest is there, and it is zeros. Without salvage nothing is. */
static void t_salvage(void **state)
{
	auto_logdev struct logdev *out = logdev_new(NULL, 0);
	struct dev bad = { .ops = &bad_ops, .name = "bad", .size = SIZE };
	struct image to, from = { .path = (char *)"bad", .format = "raw", .dev = &bad, .data = &bad, .size = SIZE };
	unsigned warned = 0;
	struct copy c = { .from = (struct image *[]){ &from }, .n_from = 1, .snap = -1, .size = SIZE, .to = &to, .fresh = true,
		.sparse = 512, .warn = count_warning, .ctx = &warned };
	struct err e = { 0 };

	(void)state;
	raw_image(&to, out, SIZE);
	assert_int_equal(dev_truncate(&out->dev, SIZE, &e), 0);
	assert_int_equal(image_copy(&c, &e), -EIO);
	c.salvage = true;
	assert_int_equal(image_copy(&c, &e), 0);
	assert_int_equal(warned, 1);
	assert_memory_equal(out->bytes, disk, 1024);
	assert_memory_equal(out->bytes + 1536, disk + 1536, SIZE - 1536);
	for (unsigned i = 1024; i < 1536; i++)
		assert_int_equal(out->bytes[i], 0);
}

static int set_up(void **state)
{
	(void)state;
	mkimg_fill(base, SIZE, 3, false);
	memset(base + 8192, 0, 4096);
	memcpy(disk, base, SIZE);
	mkimg_fill(disk + 1024, 3000, 4, false);
	mkimg_fill(disk + 20000, 2000, 5, false);
	memset(disk + 4096 * 3, 0, 6000);
	memset(disk + 30000, 'x', 5000);
	memset(disk + 4096 * 7, 0, 8192);
	pieces[0] = logdev_new(disk, HALF);
	pieces[1] = logdev_new(disk + HALF, SIZE - HALF);
	base_dev = logdev_new(base, SIZE);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_every_cut),
		cmocka_unit_test(t_every_fault),
		cmocka_unit_test(t_every_allocation),
		cmocka_unit_test(t_salvage),
	};

	return cmocka_run_group_tests(tests, set_up, qemu_img_cleanup);
}
