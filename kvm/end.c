/* The end of a QEMU process: waiting for it, and bringing it about. */
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm/run_dir.h"
#include "lib/file.h"
#include "lib/own.h"

#define KILL_MS 10000 /* for the kernel to take a killed process down, disk writes included */

int kvm_wait_gone(const char *run_dir, pid_t pid, struct deadline d, struct err *e)
{
	auto_fd int pidfd = run_pidfd(run_dir, pid);

	for (;;) {
		int left = deadline_left_ms(d);

		waitpid(pid, NULL, WNOHANG); /* if it is our own child */
		if (kvm_pid(run_dir) != pid) {
			waitpid(pid, NULL, WNOHANG); /* it may have ended in between */
			return 0;
		}
		if (left == 0)
			return err_set(e, -ETIMEDOUT, "QEMU (process %d) did not end", (int)pid);
		if (pidfd < 0)
			nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
		else if (poll(&(struct pollfd){ .fd = pidfd, .events = POLLIN }, 1, left) < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot wait for QEMU");
	}
}

int kvm_destroy(const char *run_dir, uint64_t grace_ms, bool graceful, struct err *e)
{
	pid_t pid = kvm_pid(run_dir);

	if (pid && kill(pid, SIGTERM) < 0 && errno != ESRCH)
		return err_sys(e, errno, "cannot end QEMU (process %d)", (int)pid);
	if (pid && kvm_wait_gone(run_dir, pid, deadline_in(grace_ms), e) < 0) {
		if (e->code != -ETIMEDOUT)
			return e->code;
		if (graceful) {
			err_set(e, -EBUSY, "QEMU (process %d) did not end by itself within %llu ms", (int)pid,
				(unsigned long long)grace_ms);
			return err_hint(e, "without --graceful it is killed");
		}
		if (kill(pid, SIGKILL) < 0 && errno != ESRCH)
			return err_sys(e, errno, "cannot kill QEMU (process %d)", (int)pid);
		if (kvm_wait_gone(run_dir, pid, deadline_in(KILL_MS), e) < 0)
			return e->code;
	}
	kvm_clean(run_dir);
	return 0;
}

int kvm_memory_used(pid_t pid, uint64_t *bytes, struct err *e)
{
	static const char *const parts[] = { "\nRssAnon:", "\nRssShmem:", "\nVmSwap:" };
	auto_buf struct buf text = { 0 };
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	if (file_read(path, 65536, &text, e) < 0)
		return e->code;
	*bytes = 0;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		const char *at = strstr(buf_str(&text), parts[i]);

		if (at)
			*bytes += strtoull(at + strlen(parts[i]), NULL, 10) * 1024;
	}
	return *bytes ? 0 : err_set(e, -ENODATA, "cannot tell the memory of process %d", (int)pid);
}

int kvm_waits_on(pid_t pid, int fd)
{
	struct stat ours, its;
	struct dirent *task;
	char path[64];
	int found = 0;
	DIR *tasks;

	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	if (!tasks || fstat(fd, &ours) < 0)
		found = -errno;
	while (found == 0 && (task = readdir(tasks))) {
		auto_buf struct buf text = { 0 };
		const char *first;
		struct err e;

		if (task->d_name[0] == '.')
			continue;
		/* The call's number and arguments; "running" for one that is in none. */
		snprintf(path, sizeof path, "/proc/%d/task/%.16s/syscall", (int)pid, task->d_name);
		if (file_read(path, 4096, &text, &e) < 0) {
			found = e.code == -ENOENT || e.code == -ESRCH ? 0 : e.code;
		} else if ((first = strchr(buf_str(&text), ' '))) {
			snprintf(path, sizeof path, "/proc/%d/fd/%lu", (int)pid, strtoul(first, NULL, 16));
			found = stat(path, &its) == 0 && its.st_dev == ours.st_dev && its.st_ino == ours.st_ino;
		}
	}
	if (tasks)
		closedir(tasks);
	return found;
}

int kvm_memory_free(uint64_t *bytes, struct err *e)
{
	static const char key[] = "\nMemAvailable:";
	auto_buf struct buf text = { 0 };
	const char *at;

	if (file_read("/proc/meminfo", 65536, &text, e) < 0)
		return e->code;
	at = strstr(buf_str(&text), key);
	*bytes = at ? strtoull(at + sizeof key - 1, NULL, 10) * 1024 : UINT64_MAX;
	return 0;
}
