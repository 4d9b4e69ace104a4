/* Resizing through every cut, fault and refused allocation, on the whole zoo. */
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
#include "tests/harness/expect.h"
#include "tests/harness/guest.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/tour.h"

struct resize {
	uint64_t size;
	enum qcow2_prealloc prealloc;
};

static int op_grow(struct qcow2 *q, void *arg, struct err *e)
{
	const struct resize *r = arg;
	struct qcow2_info info;

	qcow2_get_info(q, &info);
	return qcow2_resize(q, r->size, false, info.backing ? UINT64_MAX : 0, r->prealloc, e);
}

static int op_shrink(struct qcow2 *q, void *arg, struct err *e)
{
	const struct resize *r = arg;

	return qcow2_resize(q, r->size, true, 0, r->prealloc, e);
}

static bool is_grown(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	return expect_grown(before, after, ((const struct resize *)s->arg)->size, why);
}

/* What a smaller disk holds is what the larger one's beginning held. */
static bool is_shrunk(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	uint64_t size = ((const struct resize *)s->arg)->size;
	auto_free uint8_t *copy = malloc(s->n);
	struct guest_img g = { copy, s->n, s->backing, s->backing_n };
	struct guest_state cut, rest = *after;

	(void)before;
	memcpy(copy, s->bytes, s->n);
	put_be64(copy + 24, size);
	if (guest_state(&g, &cut) < 0)
		return snprintf(why, 200, "%s", cut.why), false;
	rest.n_bitmaps = cut.n_bitmaps; /* they have another number of bits */
	memcpy(rest.bitmaps, cut.bitmaps, sizeof(rest.bitmaps));
	return guest_same(&cut, &rest, why);
}

static void try_resize(const struct zoo_animal *a, struct subject *s)
{
	uint64_t size = a->size_kib * 1024ull, cs = 1ull << a->cluster_bits;
	const struct resize grow[] = {
		{ size + cs, QCOW2_PREALLOC_OFF },	{ 3 * size, QCOW2_PREALLOC_OFF },
		{ size + (5 << 20), QCOW2_PREALLOC_OFF }, { 2 * size + cs, QCOW2_PREALLOC_METADATA },
		{ size + 3 * cs, QCOW2_PREALLOC_FALLOC }, { size + 3 * cs, QCOW2_PREALLOC_FULL },
	};
	const struct resize shrink[] = { { size - cs, 0 }, { size / 2 / cs * cs, 0 }, { cs, 0 }, { 0, 0 } };
	bool may_refuse = (a->version == 2 && (a->n_snaps || a->backing)) || a->bitmaps;
	char what[60];

	for (size_t i = 0; i < ARRAY_SIZE(grow); i++) {
		s->op = op_grow;
		s->expect = is_grown;
		s->arg = (void *)(uintptr_t)&grow[i];
		s->refuses = may_refuse || (a->backing && grow[i].prealloc) ? CAMPAIGN_MAY_REFUSE : 0;
		snprintf(what, sizeof(what), "grow to %llu, preallocation %d", (unsigned long long)grow[i].size,
			 grow[i].prealloc);
		tour_try(s, what);
	}
	for (size_t i = 0; i < ARRAY_SIZE(shrink); i++) {
		s->op = op_shrink;
		s->expect = is_shrunk;
		s->arg = (void *)(uintptr_t)&shrink[i];
		s->refuses = may_refuse ? CAMPAIGN_MAY_REFUSE : 0;
		snprintf(what, sizeof(what), "shrink to %llu", (unsigned long long)shrink[i].size);
		tour_try(s, what);
	}
}

static void t_every_cut(void **state)
{
	(void)state;
	tour_cuts(try_resize);
}

static void t_every_flush_matters(void **state)
{
	(void)state;
	tour_flushes(try_resize);
}

static void t_every_fault(void **state)
{
	(void)state;
	tour_faults(try_resize);
}

static void t_every_allocation(void **state)
{
	(void)state;
	tour_allocs(try_resize);
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
