/*
 * Repairs through every cut and fault: each state that is left behind can be repaired to the same sound image, and no
 * content is lost on the way. Damage is to what repair can mend without losing anything: refcounts, COPIED flags,
 * the dirty mark.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/endian.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"
#include "tests/harness/allocfail.h"
#include "tests/harness/campaign.h"
#include "tests/harness/crash.h"
#include "tests/harness/guest.h"
#include "tests/harness/judge.h"
#include "tests/harness/logdev.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"
#include "tests/harness/zoo.h"

struct patient {
	const char *name;
	uint8_t *img, *backing;
	size_t n, backing_n;
	struct guest_state healthy;
	uint64_t n_states, n_faults;
};

static int repair(struct logdev *d, struct qcow2_check *c, struct err *e)
{
	struct qcow2 *q = NULL;
	int r = qcow2_open_dev(&d->dev, QCOW2_RW | QCOW2_CHECK, &q, e);

	memset(c, 0, sizeof(*c));
	if (!r)
		r = qcow2_check(q, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, NULL, NULL, c, e);
	qcow2_close(q);
	return r;
}

/* The content is all there, and a repair makes the image sound. */
static void assert_mendable(struct patient *p, const uint8_t *bytes, uint64_t n, const char *when)
{
	auto_logdev struct logdev *d = logdev_new(bytes, n);
	struct guest_img g = { bytes, n, p->backing, p->backing_n };
	struct guest_state s;
	struct qcow2_check c;
	struct judge j;
	struct err e = { 0 };
	char why[200] = "";

	if (guest_state(&g, &s) < 0 || !guest_same(&p->healthy, &s, why))
		fail_msg("%s, %s: %s%s", p->name, when, s.why, why);
	if (repair(d, &c, &e) < 0 || c.corruptions || c.leaks)
		fail_msg("%s, %s: not mended: %s", p->name, when, e.msg);
	judge_image(d->bytes, d->dev.size, &j);
	if (j.bad || j.flags || j.leaks)
		fail_msg("%s, %s: mended to: %s %s, %llu leaks", p->name, when, j.first_bad, j.first_flag,
			 (unsigned long long)j.leaks);
	g = (struct guest_img){ d->bytes, d->dev.size, p->backing, p->backing_n };
	if (guest_state(&g, &s) < 0 || !guest_same(&p->healthy, &s, why))
		fail_msg("%s, %s: mending changed: %s%s", p->name, when, s.why, why);
}

static int visit(const struct crash_state *s, void *ctx)
{
	char when[400];

	crash_describe(s, when, sizeof(when));
	assert_mendable(ctx, s->bytes, s->size, when);
	((struct patient *)ctx)->n_states++;
	return 0;
}

static void all_cuts(struct patient *p, struct logdev *d)
{
	struct crash_opts o = { .seed = rand_seed(1), .budget = campaign_soaking() ? 2000 : 100, .all_subsets = 7 };
	struct qcow2_check c;
	struct err e = { 0 };
	size_t last;

	logdev_record(d);
	if (repair(d, &c, &e) < 0)
		fail_msg("%s: %s", p->name, e.msg);
	for (last = d->n_ops; last && d->ops[last - 1].kind == LOG_ZERO;)
		last--; /* holes where nothing is any more may come after all is safe */
	assert_true(!last || d->ops[last - 1].kind == LOG_FLUSH);
	crash_states(d, &o, visit, p, NULL);
}

static void all_faults(struct patient *p, struct logdev *d)
{
	for (int how = 0; how < 3; how++)
		for (uint64_t at = 0;; at++) {
			struct qcow2_check c;
			struct err e = { 0 };
			bool hit;
			int r;

			logdev_rewind(d);
			if (how == 2)
				alloc_fail(at, at & 1);
			else
				logdev_fail(d, how ? LOG_CHANGES : LOG_ANY, at, how ? ENOSPC : EIO, at & 1);
			r = repair(d, &c, &e);
			hit = alloc_normal();
			hit = how == 2 ? hit : d->hit;
			logdev_fail(d, 0, LOG_NEVER, 0, false);
			assert_true(r == 0 || e.msg[0]);
			if (!hit)
				break;
			p->n_faults++;
			if (crash_hash(d->bytes, d->dev.size) != crash_hash(d->base, d->base_size))
				assert_mendable(p, d->bytes, d->dev.size, "after a fault");
		}
}

/* ---- damage ---- */

static void refcounts(struct logdev *d, uint64_t *rnd)
{
	uint64_t rt = get_be64(d->bytes + 48), block = get_be64(d->bytes + rt), cs = 1ull << get_be32(d->bytes + 20);

	for (int i = 0; i < 6; i++)
		d->bytes[block + rand_below(rnd, cs)] ^= (uint8_t)(1u << rand_below(rnd, 8));
}

static void no_refcounts(struct logdev *d, uint64_t *rnd)
{
	uint64_t rt = get_be64(d->bytes + 48), cs = 1ull << get_be32(d->bytes + 20);

	(void)rnd;
	memset(d->bytes + get_be64(d->bytes + rt), 0, cs);
}

static void flags(struct logdev *d, uint64_t *rnd)
{
	uint64_t l1 = get_be64(d->bytes + 40), n = get_be32(d->bytes + 36), cs = 1ull << get_be32(d->bytes + 20);

	for (uint64_t i = 0; i < n; i++) {
		uint64_t l2 = get_be64(d->bytes + l1 + 8 * i) & 0xfffffffffffe00;

		if (l2 && rand_below(rnd, 2))
			d->bytes[l1 + 8 * i] ^= 0x80;
		for (uint64_t k = 0; l2 && k < cs; k += get_be32(d->bytes + 4) > 2 && get_be64(d->bytes + 72) & 16 ? 16 : 8)
			if (!(d->bytes[l2 + k] & 0x40) && get_be64(d->bytes + l2 + k) & 0xfffffffffffe00 && !rand_below(rnd, 3))
				d->bytes[l2 + k] ^= 0x80;
	}
}

static void everything(struct logdev *d, uint64_t *rnd)
{
	refcounts(d, rnd);
	flags(d, rnd);
	if (get_be32(d->bytes + 4) > 2)
		d->bytes[79] |= 1; /* dirty */
}

static void with_damage(void (*damage)(struct logdev *d, uint64_t *rnd))
{
	const char *only = getenv("FERMATA_ZOO");
	uint64_t n_states = 0, n_faults = 0;

	for (size_t i = 0; i < zoo_n; i++) {
		struct patient p = { .name = zoo[i].name };
		auto_logdev struct logdev *d = NULL;
		uint64_t rnd = rand_seed(1) + i;

		if (zoo[i].fill_to || zoo[i].n_snaps > 10 || (only && strcmp(only, zoo[i].name)))
			continue;
		p.img = zoo_make(&zoo[i], 1, &p.n, &p.backing, &p.backing_n);
		d = logdev_new(p.img, p.n);
		assert_int_equal(guest_state(&(struct guest_img){ p.img, p.n, p.backing, p.backing_n }, &p.healthy), 0);
		damage(d, &rnd);
		all_cuts(&p, d);
		all_faults(&p, d);
		n_states += p.n_states;
		n_faults += p.n_faults;
		free(p.img);
		free(p.backing);
	}
	print_message("# %llu states, %llu faults\n", (unsigned long long)n_states, (unsigned long long)n_faults);
}

static void t_refcounts(void **state)
{
	(void)state;
	with_damage(refcounts);
}

static void t_no_refcounts(void **state)
{
	(void)state;
	with_damage(no_refcounts);
}

static void t_flags(void **state)
{
	(void)state;
	with_damage(flags);
}

static void t_everything(void **state)
{
	(void)state;
	with_damage(everything);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_refcounts),
		cmocka_unit_test(t_no_refcounts),
		cmocka_unit_test(t_flags),
		cmocka_unit_test(t_everything),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
