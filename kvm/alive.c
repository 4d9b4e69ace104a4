/* Whether the QEMU of a run folder is alive: what says so, and what only seems to say that it is not. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "kvm/run_dir.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"

/* Whether this /proc is mounted, and is that of our own PID namespace. */
static bool proc_tells(void)
{
	char self[16], path[24];
	ssize_t n = readlink("/proc/self", self, sizeof self);
	int len = snprintf(path, sizeof path, "%d", (int)getpid());

	return n == len && !memcmp(self, path, (size_t)n);
}

/* One whose first thread has ended looks like a zombie, too; while it has others they have its files open, and may be writing. */
int run_started(pid_t pid, unsigned long long *ticks)
{
	auto_buf struct buf stat = { 0 };
	char path[40], state;
	const char *p;
	uint64_t v = 0, threads = 0;
	struct err e;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (file_read(path, 4096, &stat, &e) < 0)
		return e.code != -ENOENT && e.code != -ESRCH ? e.code : proc_tells() && kill(pid, 0) < 0 && errno == ESRCH ? 0 : -ENOSYS;
	p = strrchr(buf_str(&stat), ')'); /* the name before it may hold anything */
	if (!p || p[1] != ' ' || !p[2])
		return -EPROTO;
	state = p[2];
	p += 3;
	/* Fields 4 to 22; some of them may be negative. */
	for (int field = 4; field <= 22; field++) {
		if (!text_take_num(&p, '-', &v))
			return -EPROTO;
		if (field == 20)
			threads = v;
	}
	*ticks = v;
	return threads > 1 || (state != 'Z' && state != 'X');
}

int run_recorded(const char *run_dir, uint64_t *pid, uint64_t *ticks)
{
	auto_free char *path = str_fmt("%s/" RUN_PID, run_dir);
	auto_buf struct buf text = { 0 };
	const char *p;
	struct err e;

	if (!path)
		return -ENOMEM;
	if (file_read(path, 128, &text, &e) < 0)
		return e.code == -ENOENT ? 0 : e.code;
	p = buf_str(&text);
	return text_take_num(&p, 0, pid) && text_take_num(&p, 0, ticks) && *pid && *pid <= INT_MAX;
}

/*
 * Whether some process has the listening socket of this folder's monitor open, which only QEMU has once it runs: that is known
 * also where no /proc is, or that of other processes. 1, 0; < 0: it cannot be told.
 */
static int socket_held(const char *run_dir)
{
	auto_free char *path = str_fmt("%s/" RUN_QMP, run_dir);
	auto_fd int fd = -1;
	struct err e;

	if (!path)
		return -ENOMEM;
	if (mon_connect(path, deadline_in(0), &fd, &e) == 0 || e.code == -ETIMEDOUT)
		return 1;
	return e.code == -ECONNREFUSED ? 0 : e.code;
}

/* How sure it is that the process on record lives. */
enum life { LIFE_NONE, LIFE_LIKELY, LIFE_SEEN };

static enum life look(const char *run_dir, pid_t *out)
{
	unsigned long long now;
	uint64_t pid, then;
	int rc, tries = 3;

	/* What cannot be read for a moment (no descriptor or memory left) must not make a VM that runs look off. */
	while ((rc = run_recorded(run_dir, &pid, &then)) < 0 && --tries)
		;
	if (rc <= 0)
		return LIFE_NONE;
	*out = (pid_t)pid;
	rc = run_started((pid_t)pid, &now);
	if (rc > 0 && now == then)
		return LIFE_SEEN;
	/* Another has the number now, or it is nobody's: but of whose processes? A container has numbers of its own. */
	switch (socket_held(run_dir)) {
	case 1:
		return LIFE_LIKELY;
	case 0:
		return LIFE_NONE;
	}
	/* Who cannot be looked at is not taken for dead. */
	return rc < 0 && (kill((pid_t)pid, 0) == 0 || errno != ESRCH) ? LIFE_LIKELY : LIFE_NONE;
}

pid_t kvm_pid(const char *run_dir)
{
	pid_t pid;

	return look(run_dir, &pid) == LIFE_NONE ? 0 : pid;
}

bool run_pid_sure(const char *run_dir, pid_t pid)
{
	pid_t now;

	return look(run_dir, &now) == LIFE_SEEN && now == pid;
}
