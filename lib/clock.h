/* Deadlines on the monotonic clock, and dates as people read them. */
#ifndef LIB_CLOCK_H
#define LIB_CLOCK_H

#include <stdint.h>
#include <stddef.h>

/* Milliseconds and nanoseconds since some fixed point; never goes back. */
uint64_t clock_mono_ms(void);
uint64_t clock_mono_ns(void);

/* A point in time by which a wait must have ended. */
struct deadline {
	uint64_t at_ms; /* on the monotonic clock; UINT64_MAX: never */
};

struct deadline deadline_in(uint64_t ms);
struct deadline deadline_never(void);

/* What poll() takes: milliseconds left, rounded up; 0 when passed, -1 for never. */
int deadline_left_ms(struct deadline d);

/* "2026-11-21 00:36:12 +0000" in local time, as virsh prints a snapshot's creation time. @out: 32 bytes. */
#define CLOCK_DATE_MAX 32
void clock_fmt_date(int64_t epoch_s, char out[CLOCK_DATE_MAX]);

#endif
