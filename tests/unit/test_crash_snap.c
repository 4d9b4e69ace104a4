/* Snapshots through every power cut, every failing operation and every refused allocation, on the whole zoo. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/harness/expect.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/tour.h"

static int op_create(struct qcow2 *q, void *arg, struct err *e)
{
	struct qcow2_snap_new s = { .name = arg, .date_s = 1800000000, .date_ns = 7, .icount = QCOW2_NO_ICOUNT };

	return qcow2_snap_create(q, &s, e);
}

static int op_apply(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_snap_apply(q, *(unsigned *)arg, e);
}

static int op_delete(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_snap_delete(q, *(unsigned *)arg, e);
}

static bool is_created(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	(void)s;
	return expect_create(before, after, why);
}

static bool is_applied(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	return expect_apply(before, after, *(unsigned *)s->arg, why);
}

static bool is_deleted(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	return expect_delete(before, after, *(unsigned *)s->arg, why);
}

/*
 * What all snapshots and the active layer share is counted n + 1 times. One more has to fit: for a create, and while
 * an apply has both the new active layer and the old one.
 */
static bool fits(const struct zoo_animal *a)
{
	return a->refcount_bits > 5 || a->n_snaps + 2u <= (1u << a->refcount_bits) - 1;
}

static void try_snapshots(const struct zoo_animal *a, struct subject *s)
{
	char name[80] = "new";

	memset(name + 3, '_', a->name_len);
	s->op = op_create;
	s->expect = is_created;
	s->arg = name;
	s->refuses = fits(a) ? 0 : -EFBIG;
	tour_try(s, "create");
	for (unsigned i = 0; i < a->n_snaps; i++) {
		char what[20];

		if (i && i != a->n_snaps / 2 && i != a->n_snaps - 1 && !campaign_soaking())
			continue;
		s->arg = &i;
		s->op = op_apply;
		s->expect = is_applied;
		s->refuses = fits(a) ? 0 : -EFBIG;
		snprintf(what, sizeof(what), "apply %u", i);
		tour_try(s, what);
		s->op = op_delete;
		s->expect = is_deleted;
		s->refuses = 0;
		snprintf(what, sizeof(what), "delete %u", i);
		tour_try(s, what);
	}
}

static void t_every_cut(void **state)
{
	(void)state;
	tour_cuts(try_snapshots);
}

static void t_every_flush_matters(void **state)
{
	(void)state;
	tour_flushes(try_snapshots);
}

static void t_every_fault(void **state)
{
	(void)state;
	tour_faults(try_snapshots);
}

static void t_every_allocation(void **state)
{
	(void)state;
	tour_allocs(try_snapshots);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_every_cut),
		cmocka_unit_test(t_every_flush_matters),
		cmocka_unit_test(t_every_fault),
		cmocka_unit_test(t_every_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
