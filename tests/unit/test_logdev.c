/* The harness itself: a judge that cannot be wrong unnoticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/own.h"
#include "tests/harness/allocfail.h"
#include "tests/harness/crash.h"
#include "tests/harness/logdev.h"
#include "tests/harness/rand.h"

static struct err e;

static void t_reads_what_was_written(void **state)
{
	auto_logdev struct logdev *d = logdev_new("hello", 5);
	char buf[8] = "";

	(void)state;
	assert_int_equal(dev_read(&d->dev, 0, buf, 5, &e), 0);
	assert_string_equal(buf, "hello");
	assert_int_equal(dev_read(&d->dev, 1, buf, 5, &e), -ENODATA);
	assert_int_equal(dev_write(&d->dev, 8, "x", 1, &e), 0);
	assert_int_equal(d->dev.size, 9);
	assert_int_equal(dev_read(&d->dev, 4, buf, 5, &e), 0);
	assert_memory_equal(buf, "o\0\0\0x", 5);
	assert_int_equal(dev_zero(&d->dev, 0, 3, &e), 0);
	assert_int_equal(dev_truncate(&d->dev, 4, &e), 0);
	assert_memory_equal(d->bytes, "\0\0\0l", 4);
}

static void t_fails_the_nth(void **state)
{
	auto_logdev struct logdev *d = logdev_new(NULL, 0);

	(void)state;
	logdev_fail(d, LOG_WRITE, 1, ENOSPC, false);
	assert_int_equal(dev_write(&d->dev, 0, "a", 1, &e), 0);
	assert_int_equal(dev_flush(&d->dev, &e), 0);
	assert_int_equal(dev_write(&d->dev, 1, "b", 1, &e), -ENOSPC);
	assert_true(d->hit && e.msg[0]);
	assert_int_equal(d->dev.size, 1);
	assert_int_equal(dev_write(&d->dev, 1, "c", 1, &e), 0);
	logdev_fail(d, LOG_ANY, 2, EIO, true);
	assert_int_equal(dev_flush(&d->dev, &e), 0);
	assert_int_equal(dev_truncate(&d->dev, 9, &e), 0);
	assert_int_equal(dev_flush(&d->dev, &e), -EIO);
	assert_int_equal(dev_zero(&d->dev, 0, 1, &e), -EIO);
	logdev_fail(d, LOG_READ, 0, ENODATA, false);
	char c;
	assert_int_equal(dev_read(&d->dev, 0, &c, 1, &e), -ENODATA);
	logdev_fail(d, 0, LOG_NEVER, 0, false);
	assert_int_equal(dev_read(&d->dev, 0, &c, 1, &e), 0);
	assert_int_equal(c, 'a');
}

static void t_rewinds(void **state)
{
	auto_logdev struct logdev *d = logdev_new("abc", 3);

	(void)state;
	logdev_record(d);
	assert_int_equal(dev_write(&d->dev, 1, "XYZ", 3, &e), 0);
	assert_int_equal(d->n_ops, 1);
	dev_close(&d->dev);
	assert_true(d->closed);
	logdev_rewind(d);
	assert_int_equal(d->n_ops, 0);
	assert_int_equal(d->dev.size, 3);
	assert_memory_equal(d->bytes, "abc", 3);
}

static void t_allocations_fail_on_demand(void **state)
{
	void *volatile p;

	(void)state;
	alloc_fail(1, false);
	free(p = malloc(1));
	assert_non_null(p);
	free(p = calloc(1, 1));
	assert_null(p);
	free(p = strdup("x"));
	assert_non_null(p);
	assert_int_equal(alloc_count(), 3);
	assert_true(alloc_normal());
	alloc_fail(0, true);
	free(p = malloc(1));
	assert_null(p);
	free(p = strndup("x", 1));
	assert_null(p);
	alloc_pause();
	free(p = malloc(1));
	assert_non_null(p);
	alloc_resume();
	assert_true(alloc_normal());
	alloc_fail(9, true);
	assert_false(alloc_normal());
}

/* A visitor that keeps what it saw. */
struct seen {
	uint64_t hash[1 << 14];
	size_t n;
	unsigned n_complete, n_durable;
	bool wrong_hash;
};

static int keep(const struct crash_state *s, void *ctx)
{
	struct seen *seen = ctx;

	assert_true(seen->n < ARRAY_SIZE(seen->hash));
	seen->hash[seen->n++] = crash_hash(s->bytes, s->size);
	seen->n_complete += s->complete;
	seen->n_durable += s->durable;
	return 0;
}

static bool saw(const struct seen *seen, const void *bytes, size_t n)
{
	uint64_t h = crash_hash(bytes, n);

	for (size_t i = 0; i < seen->n; i++)
		if (seen->hash[i] == h)
			return true;
	return false;
}

static void t_every_subset_in_order(void **state)
{
	auto_logdev struct logdev *d = logdev_new("....", 4);
	auto_free struct seen *seen = calloc(1, sizeof(*seen));

	(void)state;
	logdev_record(d);
	assert_int_equal(dev_write(&d->dev, 0, "ab", 2, &e), 0);
	assert_int_equal(dev_write(&d->dev, 1, "cd", 2, &e), 0);
	assert_int_equal(dev_flush(&d->dev, &e), 0);
	assert_int_equal(dev_write(&d->dev, 3, "e", 1, &e), 0);
	crash_states(d, NULL, keep, seen, NULL);
	assert_true(saw(seen, "....", 4));
	assert_true(saw(seen, "ab..", 4));
	assert_true(saw(seen, ".cd.", 4));
	assert_true(saw(seen, "acd.", 4));
	assert_true(saw(seen, "acde", 4));
	assert_false(saw(seen, "...e", 4)); /* the flush */
	assert_false(saw(seen, "abd.", 4)); /* the order */
	assert_int_equal(seen->n, 5);
	assert_int_equal(seen->n_complete, 1);
	assert_int_equal(seen->n_durable, 0);
	/* Without the flush all of them are possible. */
	logdev_rewind(d);
	d->skip_flush = 0;
	assert_int_equal(dev_write(&d->dev, 0, "ab", 2, &e), 0);
	assert_int_equal(dev_flush(&d->dev, &e), 0);
	assert_int_equal(dev_write(&d->dev, 3, "e", 1, &e), 0);
	seen->n = 0;
	crash_states(d, NULL, keep, seen, NULL);
	assert_true(saw(seen, "...e", 4));
}

static void t_torn_at_sectors_and_grown(void **state)
{
	uint8_t buf[1536], want[2048] = { 0 };
	auto_logdev struct logdev *d = logdev_new("x", 1);
	auto_free struct seen *seen = calloc(1, sizeof(*seen));

	(void)state;
	memset(buf, 'w', sizeof(buf));
	want[0] = 'x';
	logdev_record(d);
	assert_int_equal(dev_write(&d->dev, 256, buf, sizeof(buf), &e), 0);
	assert_int_equal(dev_flush(&d->dev, &e), 0);
	crash_states(d, NULL, keep, seen, NULL);
	/* Four sectors are touched: 256..511, then whole ones, then 1536..1791. */
	assert_int_equal(seen->n, 16 + 1); /* every subset, and the file grown with none of it */
	assert_int_equal(seen->n_durable, 1);
	assert_true(saw(seen, want, 1792)); /* grown without data */
	assert_true(saw(seen, want, 1));
	memset(want + 512, 'w', 512);
	assert_true(saw(seen, want, 1024));
	memset(want + 256, 'w', 100);
	assert_false(saw(seen, want, 1024));
}

static void t_truncation_and_clearing(void **state)
{
	auto_logdev struct logdev *d = logdev_new("abcdef", 6);
	auto_free struct seen *seen = calloc(1, sizeof(*seen));

	(void)state;
	logdev_record(d);
	assert_int_equal(dev_zero(&d->dev, 1, 2, &e), 0);
	assert_int_equal(dev_truncate(&d->dev, 4, &e), 0);
	assert_int_equal(dev_write(&d->dev, 6, "g", 1, &e), 0);
	crash_states(d, NULL, keep, seen, NULL);
	assert_true(saw(seen, "a\0\0d", 4));
	assert_true(saw(seen, "abcd", 4));
	assert_true(saw(seen, "abcdefg", 7));
	assert_true(saw(seen, "abcd\0\0g", 7));
	assert_int_equal(seen->n, 8);
}

static int build_again(const struct crash_state *s, void *ctx)
{
	(void)ctx;
	assert_int_equal(s->bytes[0], 'B'); /* what was flushed first is always there */
	return 0;
}

/* Many operations: sampled, bounded, repeatable, and the incremental hash agrees with the plain one. */
static void t_large_stretch_is_sampled(void **state)
{
	static uint8_t buf[4096];
	auto_logdev struct logdev *d = logdev_new(buf, sizeof(buf));
	auto_free struct seen *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
	struct crash_opts o = { .seed = 7, .budget = 200 };
	struct crash_stats st;
	uint64_t rnd = 1;

	(void)state;
	assert_int_equal(dev_write(&d->dev, 0, "B", 1, &e), 0);
	logdev_record(d);
	for (int i = 0; i < 40; i++) {
		size_t n = 1 + rand_below(&rnd, sizeof(buf));

		memset(buf, 1 + i, n);
		assert_int_equal(dev_write(&d->dev, 1 + rand_below(&rnd, 30000), buf, n, &e), 0);
	}
	assert_int_equal(dev_flush(&d->dev, &e), 0);
	crash_states(d, &o, keep, a, &st);
	crash_states(d, &o, keep, b, NULL);
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->hash, b->hash, a->n * sizeof(a->hash[0]));
	assert_true(st.n_distinct >= 200 && st.n_built <= 800);
	for (size_t i = 0; i < a->n; i++)
		for (size_t k = 0; k < i; k++)
			assert_true(a->hash[i] != a->hash[k] || i + 1 == a->n || a->n_complete);
	assert_true(saw(a, d->bytes, d->dev.size));
	assert_true(saw(a, d->base, d->base_size));
	crash_states(d, &o, build_again, NULL, NULL);
}

static int stop_at_third(const struct crash_state *s, void *ctx)
{
	char words[200];

	crash_describe(s, words, sizeof(words));
	assert_non_null(strstr(words, "cut after 0 flushes"));
	return ++*(int *)ctx == 3 ? 42 : 0;
}

static void t_visitor_stops(void **state)
{
	auto_logdev struct logdev *d = logdev_new("....", 4);
	int n = 0;

	(void)state;
	logdev_record(d);
	assert_int_equal(dev_write(&d->dev, 0, "a", 1, &e), 0);
	assert_int_equal(dev_write(&d->dev, 1, "b", 1, &e), 0);
	assert_int_equal(crash_states(d, NULL, stop_at_third, &n, NULL), 42);
	assert_int_equal(n, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_reads_what_was_written), cmocka_unit_test(t_fails_the_nth),
		cmocka_unit_test(t_rewinds), cmocka_unit_test(t_allocations_fail_on_demand),
		cmocka_unit_test(t_every_subset_in_order), cmocka_unit_test(t_torn_at_sectors_and_grown),
		cmocka_unit_test(t_truncation_and_clearing), cmocka_unit_test(t_large_stretch_is_sampled),
		cmocka_unit_test(t_visitor_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
