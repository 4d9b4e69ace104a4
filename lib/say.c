#include "lib/say.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"

static struct buf kept;

/*
 * The same terminal or pipe, opened once more: that it does not block is then our affair alone, not that of all who share
 * it. -1: there is none, or it cannot be opened.
 */
static int reopened(void)
{
	static int fd = -2;
	struct stat st;

	if (fd == -2)
		fd = fstat(STDERR_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(STDERR_FILENO)) ?
			open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
	return fd;
}

/* How much of it went. What cannot be written at all counts as gone: there is nobody to hear it. */
static size_t write_free(const char *p, size_t n)
{
	struct pollfd w = { .fd = STDERR_FILENO, .events = POLLOUT };
	int fd = reopened();
	ssize_t r;

	if (poll(&w, 1, 0) == 0)
		return 0;
	/* Without one of our own: what poll() has called free takes a short line. */
	r = write(fd >= 0 ? fd : STDERR_FILENO, p, n);
	return r >= 0 ? (size_t)r : errno == EAGAIN || errno == EINTR ? 0 : n;
}

void say_if_free(const char *p, size_t n)
{
	if (!kept.n)
		write_free(p, n);
}

static void drop_said(size_t n)
{
	struct buf rest = { 0 };

	if (n < kept.n)
		buf_add(&rest, kept.p + n, kept.n - n);
	buf_done(&kept);
	kept = rest;
}

void say(const char *p, size_t n)
{
	buf_add(&kept, p, n);
	if (kept.n)
		drop_said(write_free(kept.p, kept.n));
}

void say_rest(void)
{
	struct pollfd w = { .fd = STDERR_FILENO, .events = POLLOUT };

	while (kept.n) {
		size_t n = write_free(kept.p, kept.n);

		drop_said(n);
		if (!n)
			poll(&w, 1, 100);
	}
}
