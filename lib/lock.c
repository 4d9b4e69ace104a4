/* The lock of lib/file.h. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"

/* Parse the holder's note, "4711 snapshot-create-as". False if it is not (completely) written yet. */
static bool read_lock_holder(int fd, char *out, size_t size)
{
	char text[80];
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	const char *p = text;
	uint64_t pid;

	if (n <= 0)
		return false;
	text[n] = '\0';
	if (!text_take_num(&p, 0, &pid) || *p != ' ')
		return false;
	snprintf(out, size, "%.*s (process %u)", (int)strcspn(p + 1, "\n"), p + 1, (unsigned)pid);
	return true;
}

int lock_take(const char *path, const char *what, uint64_t wait_ms, int *fd, struct err *e)
{
	struct deadline d = deadline_in(wait_ms);
	auto_fd int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	char who[100], text[80];
	int n;

	if (lock < 0)
		return err_sys(e, errno, "cannot open the lock %s", path);
	while (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(e, errno, "cannot lock %s", path);
		if (deadline_left_ms(d) == 0)
			return err_set(e, -EBUSY, "busy with %s",
				read_lock_holder(lock, who, sizeof who) ? who : "another command");
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	n = snprintf(text, sizeof text, "%d %s\n", (int)getpid(), what);
	if (ftruncate(lock, 0) < 0 || pwrite(lock, text, (size_t)n, 0) != n)
		return err_sys(e, errno, "cannot write the lock %s", path);
	*fd = take_fd(&lock);
	return 0;
}

bool lock_holder(const char *path, char *out, size_t size)
{
	auto_fd int lock = open(path, O_RDONLY | O_CLOEXEC);

	if (lock < 0 || flock(lock, LOCK_SH | LOCK_NB) == 0)
		return false;
	if (!read_lock_holder(lock, out, size))
		snprintf(out, size, "another command");
	return true;
}
