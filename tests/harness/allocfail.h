/* Running out of memory on demand. Needs the test linked with --wrap for the functions in allocfail.c. */
#ifndef HARNESS_ALLOCFAIL_H
#define HARNESS_ALLOCFAIL_H

#include <stdbool.h>
#include <stdint.h>

/* Fail the @at-th allocation from now (from 0), once or from there on. */
void alloc_fail(uint64_t at, bool stays);

/* Back to normal; returns whether an allocation was refused since alloc_fail(). */
bool alloc_normal(void);

/* How many allocations were counted since alloc_fail(). */
uint64_t alloc_count(void);

/* Between these two, allocations are the test's own: not counted, never refused. Nests. */
void alloc_pause(void);
void alloc_resume(void);

#endif
