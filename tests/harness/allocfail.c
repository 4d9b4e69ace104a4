#include "tests/harness/allocfail.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Weak: a program linked without --wrap has none of these, and then never calls what uses them. */
extern void *__real_malloc(size_t n) __attribute__((weak));
extern void *__real_calloc(size_t n, size_t size) __attribute__((weak));
extern void *__real_realloc(void *p, size_t n) __attribute__((weak));

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

static struct {
	bool armed, stays, hit;
	unsigned paused;
	uint64_t at, seen;
} state;

void alloc_fail(uint64_t at, bool stays)
{
	state.armed = true;
	state.stays = stays;
	state.hit = false;
	state.at = at;
	state.seen = 0;
}

bool alloc_normal(void)
{
	state.armed = false;
	return state.hit;
}

uint64_t alloc_count(void)
{
	return state.seen;
}

void alloc_pause(void)
{
	state.paused++;
}

void alloc_resume(void)
{
	state.paused--;
}

static bool refuse(void)
{
	if (!state.armed || state.paused)
		return false;
	if (state.seen++ != state.at && !(state.stays && state.hit))
		return false;
	state.hit = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return refuse() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return refuse() ? NULL : __real_realloc(p, n);
}

/* libc's own strdup() calls its own malloc(), which --wrap does not see. */
char *__wrap_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = __wrap_malloc(len + 1);

	if (p) {
		memcpy(p, s, len);
		p[len] = '\0';
	}
	return p;
}

char *__wrap_strdup(const char *s)
{
	return __wrap_strndup(s, strlen(s));
}
