/* Changing bitmaps through every cut, fault and refused allocation, on the whole zoo. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/harness/expect.h"
#include "tests/harness/guest.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/tour.h"

static int op_add(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_bitmap_add(q, arg, 512, false, e);
}

static int op_add_disabled(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_bitmap_add(q, arg, 0, true, e);
}

static int op_remove(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_bitmap_remove(q, arg, e);
}

static int op_clear(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_bitmap_clear(q, arg, e);
}

static int op_enable(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_bitmap_enable(q, arg, true, e);
}

static int op_disable(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_bitmap_enable(q, arg, false, e);
}

static int op_merge(struct qcow2 *q, void *arg, struct err *e)
{
	return qcow2_bitmap_merge(q, arg, q, "daily", e);
}

static const struct guest_bitmap *find(const struct guest_state *s, const char *name)
{
	for (unsigned i = 0; i < s->n_bitmaps; i++)
		if (!strcmp(s->bitmaps[i].name, name))
			return &s->bitmaps[i];
	return NULL;
}

/* All other bitmaps, and all that is no bitmap, are as they were. */
static bool only(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	for (unsigned i = 0; i < before->n_bitmaps; i++) {
		const struct guest_bitmap *b = &before->bitmaps[i], *a = find(after, b->name);

		if (strcmp(b->name, s->arg) && (!a || memcmp(a, b, sizeof(*a))))
			return snprintf(why, 200, "bitmap %s changed too", b->name), false;
	}
	return expect_bitmaps(before, after, why);
}

static bool is_there(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	const struct guest_bitmap *b = find(after, s->arg);

	if (!b || (b->flags != 0 && b->flags != 2) || after->n_bitmaps != before->n_bitmaps + !find(before, s->arg))
		return snprintf(why, 200, "bitmap %s is not there", (const char *)s->arg), false;
	return only(s, before, after, why);
}

static bool is_gone(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	if (find(after, s->arg) || after->n_bitmaps + 1 != before->n_bitmaps)
		return snprintf(why, 200, "bitmap %s is still there", (const char *)s->arg), false;
	return only(s, before, after, why);
}

static bool is_cleared(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	const struct guest_bitmap *b = find(after, s->arg);

	if (!b || b->content == find(before, s->arg)->content)
		return snprintf(why, 200, "bitmap %s was not cleared", (const char *)s->arg), false;
	return only(s, before, after, why);
}

static bool is_on(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	const struct guest_bitmap *b = find(after, s->arg);

	if (!b || b->flags != 2 || b->content != find(before, s->arg)->content)
		return snprintf(why, 200, "bitmap %s was not enabled", (const char *)s->arg), false;
	return only(s, before, after, why);
}

static bool is_off(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why)
{
	const struct guest_bitmap *b = find(after, s->arg);

	if (!b || b->flags != 0 || b->content != find(before, s->arg)->content)
		return snprintf(why, 200, "bitmap %s was not disabled", (const char *)s->arg), false;
	return only(s, before, after, why);
}

static const struct {
	const char *what, *name;
	int (*op)(struct qcow2 *q, void *arg, struct err *e);
	bool (*expect)(const struct subject *s, const struct guest_state *before, const struct guest_state *after, char *why);
	int empty; /* what comes of it on an image without bitmaps */
} trials[] = {
	{ "add", "fresh", op_add, is_there, 0 },
	{ "add disabled", "fresh", op_add_disabled, is_there, 0 },
	{ "add again", "off", op_add, is_there, 0 },
	{ "remove", "daily", op_remove, is_gone, -ENOENT },
	{ "remove", "off", op_remove, is_gone, -ENOENT },
	{ "clear", "daily", op_clear, is_cleared, -ENOENT },
	{ "enable", "off", op_enable, is_on, -ENOENT },
	{ "disable", "daily", op_disable, is_off, -ENOENT },
	{ "merge", "off", op_merge, is_there, -ENOENT },
};

static void try_bitmaps(const struct zoo_animal *a, struct subject *s)
{
	for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
		char what[60];

		if (!a->bitmaps && i > 0 && i != 3)
			continue;
		s->op = trials[i].op;
		s->expect = trials[i].expect;
		s->arg = (void *)(uintptr_t)trials[i].name;
		s->refuses = a->version == 2 ? CAMPAIGN_MAY_REFUSE : a->bitmaps ? 0 : trials[i].empty;
		if (a->bitmaps && i == 2)
			s->refuses = -EEXIST;
		snprintf(what, sizeof(what), "%s %s", trials[i].what, trials[i].name);
		tour_try(s, what);
	}
}

static void t_every_cut(void **state)
{
	(void)state;
	tour_cuts(try_bitmaps);
}

static void t_every_flush_matters(void **state)
{
	(void)state;
	tour_flushes(try_bitmaps);
}

static void t_every_fault(void **state)
{
	(void)state;
	tour_faults(try_bitmaps);
}

static void t_every_allocation(void **state)
{
	(void)state;
	tour_allocs(try_bitmaps);
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
