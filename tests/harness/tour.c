#include "tests/harness/tour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/own.h"
#include "tests/harness/rand.h"

static int (*trial)(const struct subject *s, uint64_t seed, char *why);
static const struct zoo_animal *animal;
static unsigned failures;

static int faults(const struct subject *s, uint64_t seed, char *why)
{
	(void)seed;
	return campaign_faults(s, why);
}

static int allocs(const struct subject *s, uint64_t seed, char *why)
{
	(void)seed;
	return campaign_allocs(s, why);
}

void tour_try(struct subject *s, const char *what)
{
	uint64_t seed = rand_seed(1);
	char why[600] = "";

	snprintf(s->name, sizeof(s->name), "%s: %s", animal->name, what);
	campaign_stats.n_subjects++;
	if (trial(s, seed, why) == 0)
		return;
	failures++;
	print_error("%s (seed %llu): %s\n", s->name, (unsigned long long)seed, why);
}

static void visit_all(tour_ops *ops)
{
	const char *only = getenv("FERMATA_ZOO");

	failures = 0;
	memset(&campaign_stats, 0, sizeof(campaign_stats));
	for (size_t i = 0; i < zoo_n; i++) {
		size_t n, backing_n;
		auto_free uint8_t *backing = NULL, *img = NULL;
		struct subject s = { 0 };

		if (only && strcmp(only, zoo[i].name))
			continue;
		animal = &zoo[i];
		img = zoo_make(animal, 1, &n, &backing, &backing_n);
		s.bytes = img;
		s.n = n;
		s.backing = backing;
		s.backing_n = backing_n;
		s.leaks_stay = animal->fill_to != 0;
		ops(animal, &s);
	}
	print_message("# %llu operations, %llu refused\n", (unsigned long long)campaign_stats.n_subjects,
		      (unsigned long long)campaign_stats.n_refused);
}

void tour_cuts(tour_ops *ops)
{
	trial = campaign_crash;
	visit_all(ops);
	print_message("# %llu states, %llu distinct (%llu leak), %llu asked of qemu-img\n",
		      (unsigned long long)campaign_stats.n_states, (unsigned long long)campaign_stats.n_distinct,
		      (unsigned long long)campaign_stats.n_leaky, (unsigned long long)campaign_stats.n_qemu);
	assert_int_equal(failures, 0);
}

void tour_flushes(tour_ops *ops)
{
	trial = campaign_mutations;
	visit_all(ops);
	assert_int_equal(failures, 0);
}

void tour_faults(tour_ops *ops)
{
	trial = faults;
	visit_all(ops);
	print_message("# %llu faults\n", (unsigned long long)campaign_stats.n_faults);
	assert_int_equal(failures, 0);
}

void tour_allocs(tour_ops *ops)
{
	trial = allocs;
	visit_all(ops);
	print_message("# %llu refused allocations\n", (unsigned long long)campaign_stats.n_allocs);
	assert_int_equal(failures, 0);
}
