/* qcow2/fill.c: a new image gets its content by one commit, or none; and is no larger than it has to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/fill.h"
#include "tests/harness/campaign.h"
#include "tests/harness/guest.h"
#include "tests/harness/logdev.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/qemu_img.h"

/* Guest clusters to fill: neighbours, gaps, and, with small clusters, three L2 tables. */
static const uint64_t places[] = { 0, 1, 2, 9, 63, 64, 70, 149 };
#define N_PLACES 8
#define N_CLUSTERS 150

struct shape {
	const char *name;
	struct qcow2_create o;
	unsigned dense; /* the first clusters, so many: refcount blocks behind the first come to be */
};

static const struct shape shapes[] = {
	{ "512-byte clusters", { .cluster_bits = 9 }, 0 },
	{ "1-bit refcounts", { .cluster_bits = 9, .refcount_bits = 1 }, 0 },
	{ "64-bit refcounts", { .cluster_bits = 9, .refcount_bits = 64 }, 0 },
	{ "version 2", { .cluster_bits = 9, .version = 2 }, 0 },
	{ "subclusters", { .cluster_bits = 14, .ext_l2 = true }, 0 },
	{ "in place", { .cluster_bits = 9, .whole = true }, 0 },
	{ "in place, version 2", { .cluster_bits = 9, .version = 2, .whole = true }, 0 },
	{ "in place, 64-bit refcounts", { .cluster_bits = 9, .refcount_bits = 64, .whole = true }, 70 },
	{ "in place, subclusters", { .cluster_bits = 14, .ext_l2 = true, .whole = true }, 0 },
};

static unsigned n_places(const struct shape *s)
{
	return s->dense ? s->dense : N_PLACES;
}

static uint64_t place(const struct shape *s, unsigned i)
{
	return s->dense ? i : places[i];
}

static int op_fill(struct qcow2 *q, void *arg, struct err *e)
{
	const struct shape *s = arg;
	size_t size = 1u << s->o.cluster_bits;
	uint8_t *buf = malloc(size);
	struct qcow2_fill *f;
	int r = qcow2_fill_begin(q, &f, e);

	for (unsigned i = 0; i < n_places(s) && r >= 0 && buf; i++) {
		mkimg_fill(buf, size, i + 1, false);
		if (qcow2_fill_put(f, place(s, i), buf, e) < 0)
			r = qcow2_fill_abort(f, e);
	}
	if (r >= 0)
		r = buf ? qcow2_fill_end(f, e) : qcow2_fill_abort(f, (err_nomem(e, "test"), e));
	free(buf);
	return r;
}

/* The same disk, made by somebody else. */
static bool is_filled(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	const struct shape *shape = s->arg;
	struct mkimg_opts o = { .cluster_bits = shape->o.cluster_bits, .size = before->size };
	struct mkimg *m = mkimg_new(&o);
	static struct guest_state want;
	struct guest_img g = { 0 };
	uint8_t *p;
	size_t n;
	bool same;

	for (unsigned i = 0; i < n_places(shape); i++)
		mkimg_data(m, place(shape, i), i + 1);
	p = mkimg_finish(m, &n);
	g.bytes = p;
	g.size = n;
	same = guest_state(&g, &want) == 0 && want.content == after->content && want.content != before->content;
	if (!same)
		snprintf(why, 200, "is not filled with what was given");
	free(p);
	return same;
}

static void each_shape(int (*campaign)(const struct subject *s, char *why))
{
	static char why[600];

	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		struct qcow2_create o = shapes[i].o;
		struct subject s = { .op = op_fill, .arg = (void *)&shapes[i], .expect = is_filled };
		auto_logdev struct logdev *d = logdev_new(NULL, 0);
		struct err e = { 0 };

		o.size = (uint64_t)N_CLUSTERS << o.cluster_bits;
		assert_int_equal(qcow2_create_dev(&d->dev, &o, &e), 0);
		snprintf(s.name, sizeof s.name, "fill: %s", shapes[i].name);
		s.bytes = d->bytes;
		s.n = d->dev.size;
		if (campaign(&s, why) < 0)
			fail_msg("%s: %s", s.name, why);
	}
}

static int crash(const struct subject *s, char *why)
{
	return campaign_crash(s, 1, why);
}

static int mutations(const struct subject *s, char *why)
{
	return campaign_mutations(s, 1, why);
}

static void t_every_cut(void **state)
{
	(void)state;
	each_shape(crash);
}

static void t_every_flush_matters(void **state)
{
	(void)state;
	each_shape(mutations);
}

static void t_every_fault(void **state)
{
	(void)state;
	each_shape(campaign_faults);
}

static void t_every_allocation(void **state)
{
	(void)state;
	each_shape(campaign_allocs);
}

static void t_refused(void **state)
{
	struct qcow2_create o = { .size = 1 << 20, .prealloc = QCOW2_PREALLOC_METADATA };
	auto_logdev struct logdev *d = logdev_new(NULL, 0);
	auto_qcow2 struct qcow2 *q = NULL;
	static uint8_t cluster[65536];
	struct qcow2_fill *f;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(qcow2_create_dev(&d->dev, &o, &e), 0);
	assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_RW, &q, &e), 0);
	assert_int_equal(qcow2_fill_begin(q, &f, &e), -EOPNOTSUPP);
	qcow2_close(q);
	q = NULL;
	o.prealloc = QCOW2_PREALLOC_OFF;
	assert_int_equal(qcow2_create_dev(&d->dev, &o, &e), 0);
	assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_RW, &q, &e), 0);
	assert_int_equal(qcow2_fill_begin(q, &f, &e), 0);
	assert_int_equal(qcow2_fill_put(f, 8192, cluster, &e), -EINVAL); /* past the only L2 table */
	qcow2_fill_abort(f, &e);
}

/* As img measure has it: what a full image takes, less the clusters that have no data. */
static void fits(const struct qcow2_create *o, unsigned every)
{
	uint64_t n = o->size >> o->cluster_bits, data = 0, full;
	auto_logdev struct logdev *d = logdev_new(NULL, 0);
	auto_qcow2 struct qcow2 *q = NULL;
	static uint8_t cluster[1 << 21] = { 1 };
	struct qcow2_check c;
	struct qcow2_fill *f;
	struct err e = { 0 };

	assert_int_equal(qcow2_full_size(o, &full, &e), 0);
	assert_int_equal(qcow2_create_dev(&d->dev, o, &e), 0);
	assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_RW, &q, &e), 0);
	assert_int_equal(qcow2_fill_begin(q, &f, &e), 0);
	for (uint64_t i = 0; i < n; i += every, data++)
		assert_int_equal(qcow2_fill_put(f, i, cluster, &e), 0);
	assert_int_equal(qcow2_fill_end(f, &e), 0);
	if (d->dev.size > full - o->size + (data << o->cluster_bits))
		fail_msg("version %u, %u bits a cluster, %u a refcount%s: %llu bytes with %llu of %llu clusters", o->version, o->cluster_bits,
			o->refcount_bits, o->ext_l2 ? ", subclusters" : "", (unsigned long long)d->dev.size, (unsigned long long)data,
			(unsigned long long)n);
	assert_int_equal(qcow2_check(q, 0, NULL, NULL, &c, &e), 0);
	assert_int_equal(c.leaks + c.corruptions + c.check_errors, 0);
}

static void t_no_larger_than_measured(void **state)
{
	(void)state;
	for (unsigned bits = 9; bits <= 17; bits += 4)
		for (unsigned width = 1; width <= 64; width *= 4)
			for (unsigned every = 1; every < 300; every *= 17) {
				struct qcow2_create o = { .cluster_bits = bits, .refcount_bits = width, .version = 3, .whole = true };

				o.size = (bits > 15 ? 40ull : bits > 12 ? 700 : 2000) << bits;
				fits(&o, every);
				o.ext_l2 = bits > 14;
				fits(&o, every);
				o.ext_l2 = false;
				o.version = width == 16 ? 2 : 3;
				fits(&o, every);
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_every_cut),
		cmocka_unit_test(t_every_flush_matters),
		cmocka_unit_test(t_every_fault),
		cmocka_unit_test(t_every_allocation),
		cmocka_unit_test(t_refused),
		cmocka_unit_test(t_no_larger_than_measured),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
