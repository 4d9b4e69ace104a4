#include "lib/clock.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t clock_mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000u;
}

struct deadline deadline_in(uint64_t ms)
{
	struct deadline d;

	if (__builtin_add_overflow(clock_mono_ms(), ms, &d.at_ms))
		d.at_ms = UINT64_MAX;
	return d;
}

struct deadline deadline_never(void)
{
	return (struct deadline){ UINT64_MAX };
}

int deadline_left_ms(struct deadline d)
{
	uint64_t now;

	if (d.at_ms == UINT64_MAX)
		return -1;
	now = clock_mono_ms();
	if (now >= d.at_ms)
		return 0;
	return d.at_ms - now > INT_MAX ? INT_MAX : (int)(d.at_ms - now);
}

void clock_fmt_date(int64_t epoch_s, char out[CLOCK_DATE_MAX])
{
	time_t t = (time_t)epoch_s;
	struct tm tm;

	if (!localtime_r(&t, &tm)) {
		snprintf(out, CLOCK_DATE_MAX, "%lld", (long long)epoch_s);
		return;
	}
	/* Not strftime: its locales are three KiB. */
	snprintf(out, CLOCK_DATE_MAX, "%d-%02u-%02u %02u:%02u:%02u %c%02u%02u", tm.tm_year % 8100 + 1900, tm.tm_mon + 1u,
		tm.tm_mday % 100u, tm.tm_hour % 100u, tm.tm_min % 100u, tm.tm_sec % 100u, tm.tm_gmtoff < 0 ? '-' : '+',
		(unsigned)labs(tm.tm_gmtoff) / 3600 % 100, (unsigned)labs(tm.tm_gmtoff) / 60 % 60);
}
