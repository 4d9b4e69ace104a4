/* lib/clock.c: deadlines, and dates in the zone of who reads them. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/own.h"

static void deadlines(void **state)
{
	uint64_t a = clock_mono_ms();
	struct deadline d = deadline_in(100000);
	int left = deadline_left_ms(d);

	(void)state;
	assert_in_range(left, 1, 100000);
	assert_in_range(d.at_ms, a + 100000, clock_mono_ms() + 100000);
	assert_int_equal(deadline_left_ms(deadline_in(0)), 0);
	assert_int_equal(deadline_left_ms((struct deadline){ 0 }), 0); /* long past */
	assert_int_equal(deadline_left_ms(deadline_never()), -1);
	assert_int_equal(deadline_left_ms(deadline_in(UINT64_MAX)), -1);
	assert_int_equal(deadline_left_ms(deadline_in(1ull << 40)), INT_MAX);
}

static void goes_on(void **state)
{
	uint64_t a = clock_mono_ns(), b, ms;

	(void)state;
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	b = clock_mono_ns();
	ms = clock_mono_ms();
	assert_true(b - a >= 2000000);
	assert_in_range(ms, b / 1000000, clock_mono_ns() / 1000000); /* both tell the same time */
}

static void dates(void **state)
{
	static const struct {
		const char *zone;
		int64_t t;
		const char *s;
	} t[] = {
		{ "UTC0", 0, "1970-01-01 00:00:00 +0000" },
		{ "UTC0", 1795223772, "2026-11-21 01:16:12 +0000" },
		{ "EST5", 1795223772, "2026-11-20 20:16:12 -0500" },
		{ "IST-5:30", 1795223772, "2026-11-21 06:46:12 +0530" },
		{ "NST3:30", 1795223772, "2026-11-20 21:46:12 -0330" },
		{ "UTC0", -1, "1969-12-31 23:59:59 +0000" },
	};
	char s[CLOCK_DATE_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		setenv("TZ", t[i].zone, 1);
		tzset();
		clock_fmt_date(t[i].t, s);
		assert_string_equal(s, t[i].s);
	}
	clock_fmt_date(INT64_MAX, s); /* no such year: the number itself, and nothing worse */
	assert_string_equal(s, "9223372036854775807");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(deadlines), cmocka_unit_test(goes_on), cmocka_unit_test(dates) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
