#include "lib/say.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"

static struct buf queue; /* not written yet */

/*
 * stderr opened again through /proc: O_NONBLOCK is a property of the open file, and fd 2 may be shared with other
 * processes. -1: no terminal or pipe, or it cannot be opened.
 */
static int stderr_nonblocking(void)
{
	static int fd = -2;
	struct stat st;

	if (fd == -2)
		fd = fstat(STDERR_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(STDERR_FILENO)) ?
			open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
	return fd;
}

/* Write what fits now and return its length. An error counts as written: nobody can read it. */
static size_t write_nonblocking(const char *p, size_t n)
{
	struct pollfd w = { .fd = STDERR_FILENO, .events = POLLOUT };
	int fd = stderr_nonblocking();
	ssize_t r;

	if (poll(&w, 1, 0) == 0)
		return 0;
	/* Without a non-blocking descriptor: after POLLOUT a short line does not block. */
	r = write(fd >= 0 ? fd : STDERR_FILENO, p, n);
	return r >= 0 ? (size_t)r : errno == EAGAIN || errno == EINTR ? 0 : n;
}

void say_if_free(const char *p, size_t n)
{
	if (!queue.n)
		write_nonblocking(p, n);
}

static void queue_drop(size_t n)
{
	struct buf rest = { 0 };

	if (n < queue.n)
		buf_add(&rest, queue.p + n, queue.n - n);
	buf_done(&queue);
	queue = rest;
}

void say(const char *p, size_t n)
{
	buf_add(&queue, p, n);
	if (queue.n)
		queue_drop(write_nonblocking(queue.p, queue.n));
}

void say_rest(void)
{
	struct pollfd w = { .fd = STDERR_FILENO, .events = POLLOUT };

	while (queue.n) {
		size_t n = write_nonblocking(queue.p, queue.n);

		queue_drop(n);
		if (!n)
			poll(&w, 1, 100);
	}
}
