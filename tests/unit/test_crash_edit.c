/* What changes an image besides snapshots, through every cut, fault and refused allocation, on the whole zoo. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/own.h"
#include "tests/harness/allocfail.h"
#include "tests/harness/crash.h"
#include "tests/harness/expect.h"
#include "tests/harness/guest.h"
#include "tests/harness/judge.h"
#include "tests/harness/logdev.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"
#include "tests/harness/tour.h"

/* ---- amend, rebase -u, dropping VM state ---- */

static int op_amend(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_amend(q, arg, e);
}

static bool is_amended(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	const struct qcow2_amend *a = s->arg;

	if ((a->version > 0 && after->version != (unsigned)a->version) ||
	    (a->refcount_bits > 0 && after->refcount_bits != (unsigned)a->refcount_bits) ||
	    (a->lazy_refcounts >= 0 && (after->compatible & 1) != (unsigned)a->lazy_refcounts))
		return snprintf(why, 200, "was not amended"), false;
	return expect_amended(before, after, why);
}

static void try_amend(const struct zoo_animal *a, struct subject *s)
{
	char what[40];

	s->op = op_amend;
	s->expect = is_amended;
	for (int i = 0; i < 11; i++) {
		struct qcow2_amend o = QCOW2_AMEND_NOTHING;

		s->refuses = CAMPAIGN_MAY_REFUSE;
		if (i < 2) {
			o.version = 2 + i;
			snprintf(what, sizeof(what), "version %d", o.version);
			if (i == 1 || (a->refcount_bits == 16 && !a->ext_l2 && !a->bitmaps && !a->grown && !a->unknown))
				s->refuses = 0;
		} else if (i < 4) {
			o.lazy_refcounts = i - 2;
			snprintf(what, sizeof(what), "lazy refcounts %d", o.lazy_refcounts);
			if (a->version == 3)
				s->refuses = 0;
		} else {
			o.refcount_bits = 1 << (i - 4);
			snprintf(what, sizeof(what), "refcount bits %d", o.refcount_bits);
			if (a->version == 3 && (o.refcount_bits > 7 || (!a->packed && a->n_snaps + 2 < 1u << o.refcount_bits)))
				s->refuses = 0;
		}
		s->arg = &o;
		tour_try(s, what);
	}
}

static int op_rebase(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_set_backing(q, arg, arg ? "raw" : NULL, e);
}

static bool is_rebased(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	(void)s;
	return expect_rebased(before, after, why);
}

static void try_rebase(const struct zoo_animal *a, struct subject *s)
{
	s->op = op_rebase;
	s->expect = is_rebased;
	s->refuses = 0;
	s->arg = (void *)(uintptr_t) "././././././base.raw";
	tour_try(s, "rebase");
	if (a->backing) {
		s->arg = NULL;
		tour_try(s, "rebase to nothing");
	}
}

static int op_drop(struct qcow2 *q, void *arg, struct err *e)
{
	(void)arg;
	return qcow2_vm_state_drop(q, e);
}

static bool is_same(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	(void)s;
	return expect_same(before, after, why);
}

static void try_others(const struct zoo_animal *a, struct subject *s)
{
	try_amend(a, s);
	try_rebase(a, s);
	s->op = op_drop;
	s->expect = is_same;
	s->refuses = 0;
	tour_try(s, "drop VM state");
}

static void t_amend_every_cut(void **state)
{
	(void)state;
	tour_cuts(try_others);
}

static void t_amend_every_flush_matters(void **state)
{
	(void)state;
	tour_flushes(try_others);
}

static void t_amend_every_fault(void **state)
{
	(void)state;
	tour_faults(try_others);
}

static void t_amend_every_allocation(void **state)
{
	(void)state;
	tour_allocs(try_others);
}

/* ---- create: all of an image, or none ---- */

static const struct qcow2_create creations[] = {
	{ .size = 1 << 20, .cluster_bits = 9 },
	{ .size = 1 << 20, .cluster_bits = 9, .version = 2, .backing = "base.raw", .backing_fmt = "raw" },
	{ .size = 300 << 10, .cluster_bits = 9, .refcount_bits = 1, .prealloc = QCOW2_PREALLOC_METADATA },
	{ .size = 512 << 10, .cluster_bits = 10, .refcount_bits = 64, .prealloc = QCOW2_PREALLOC_METADATA },
	{ .size = 512 << 10, .cluster_bits = 14, .ext_l2 = true, .lazy_refcounts = true, .prealloc = QCOW2_PREALLOC_METADATA },
	{ .size = 1ull << 40 },
	{ .size = 0 },
};

struct creation {
	const struct qcow2_create *o;
	unsigned n_images, n_durable;
};

static void assert_created(const struct creation *c, const uint8_t *bytes, uint64_t size)
{
	struct guest_img g = { bytes, size, NULL, 0 };
	struct guest_state s;
	struct judge j;
	struct qcow2 *q = NULL;
	struct err e = { 0 };
	auto_logdev struct logdev *d = logdev_new(bytes, size);

	if (guest_state(&g, &s) < 0)
		fail_msg("%s", s.why);
	assert_int_equal(s.size, c->o->size);
	assert_int_equal(s.content, 0);
	assert_int_equal(s.version, c->o->version ? c->o->version : 3);
	assert_int_equal(s.refcount_bits, c->o->refcount_bits ? c->o->refcount_bits : 16);
	judge_image(bytes, size, &j);
	if (j.bad || j.flags || j.leaks)
		fail_msg("judge: %s %s, %llu leaks", j.first_bad, j.first_flag, (unsigned long long)j.leaks);
	if (qcow2_open_dev(&d->dev, QCOW2_RW, &q, &e) < 0)
		fail_msg("%s", e.msg);
	qcow2_close(q);
}

static int visit_creation(const struct crash_state *s, void *ctx)
{
	struct creation *c = ctx;

	c->n_durable += s->durable;
	if (s->size >= 4 && !memcmp(s->bytes, "QFI\xfb", 4)) {
		c->n_images++;
		assert_created(c, s->bytes, s->size);
	} else {
		assert_false(s->complete);
	}
	return 0;
}

static void t_create_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(creations); i++) {
		auto_logdev struct logdev *d = logdev_new(NULL, 0);
		struct crash_opts o = { .seed = rand_seed(1), .budget = 300 };
		struct creation c = { .o = &creations[i] };
		struct err e = { 0 };

		logdev_record(d);
		if (qcow2_create_dev(&d->dev, c.o, &e) < 0)
			fail_msg("creation %zu: %s", i, e.msg);
		crash_states(d, &o, visit_creation, &c, NULL);
		assert_int_equal(c.n_durable, 1);
		assert_true(!qemu_img_there() || qemu_img_check(d->bytes, d->dev.size) == 0 || c.o->backing);
	}
}

static void t_create_every_fault(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(creations); i++)
		for (int memory = 0; memory < 2; memory++)
			for (uint64_t at = 0;; at++) {
				auto_logdev struct logdev *d = logdev_new(NULL, 0);
				struct creation c = { .o = &creations[i] };
				struct err e = { 0 };
				bool hit;
				int r;

				if (memory)
					alloc_fail(at, at & 1);
				else
					logdev_fail(d, LOG_ANY, at, ENOSPC, at & 1);
				r = qcow2_create_dev(&d->dev, c.o, &e);
				hit = alloc_normal();
				hit = memory ? hit : d->hit;
				if (r == 0)
					assert_created(&c, d->bytes, d->dev.size);
				else
					assert_true(e.msg[0]);
				if (!hit)
					break;
			}
}

/* What images are rebased to: qemu-img opens it when it checks one. */
static int base_there(void **state)
{
	(void)state;
	if (qemu_img_there())
		bytes_export((const uint8_t[512]){ 0 }, 512, qemu_img_path("base.raw"));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_amend_every_cut),
		cmocka_unit_test(t_amend_every_flush_matters),
		cmocka_unit_test(t_amend_every_fault),
		cmocka_unit_test(t_amend_every_allocation),
		cmocka_unit_test(t_create_every_cut),
		cmocka_unit_test(t_create_every_fault),
	};

	return cmocka_run_group_tests(tests, base_there, qemu_img_cleanup);
}
