/* qcow2/fill.c: a new image gets its content by one commit, or none. */
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
};

static const struct shape shapes[] = {
	{ "512-byte clusters", { .cluster_bits = 9 } },
	{ "1-bit refcounts", { .cluster_bits = 9, .refcount_bits = 1 } },
	{ "64-bit refcounts", { .cluster_bits = 9, .refcount_bits = 64 } },
	{ "version 2", { .cluster_bits = 9, .version = 2 } },
	{ "subclusters", { .cluster_bits = 14, .ext_l2 = true } },
};

static int op_fill(struct qcow2 *q, void *arg, struct err *e)
{
	const struct shape *s = arg;
	size_t size = 1u << s->o.cluster_bits;
	uint8_t *buf = malloc(size);
	struct qcow2_fill *f;
	int r = qcow2_fill_begin(q, &f, e);

	for (unsigned i = 0; i < N_PLACES && r >= 0 && buf; i++) {
		mkimg_fill(buf, size, i + 1, false);
		if (qcow2_fill_put(f, places[i], buf, e) < 0)
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

	for (unsigned i = 0; i < N_PLACES; i++)
		mkimg_data(m, places[i], i + 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_every_cut),
		cmocka_unit_test(t_every_flush_matters),
		cmocka_unit_test(t_every_fault),
		cmocka_unit_test(t_every_allocation),
		cmocka_unit_test(t_refused),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
