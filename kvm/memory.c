/* The memory and the threads of a QEMU process, seen and helped from outside. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kvm/run_dir.h"
#include "lib/file.h"
#include "lib/own.h"

#define NR_process_madvise 440 /* the same number on every architecture */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define COLLAPSE_MIN (32u << 20)  /* bytes: what is smaller is no guest's memory */
#define COLLAPSE_STEP (1ul << 30) /* bytes: the kernel cuts what one call asks for at 2 GiB - 4 KiB, and says nothing */
#define HUGE_PAGE     (2ul << 20)

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

/* A host may have its reasons to have none. */
static bool huge_pages_allowed(void)
{
	auto_buf struct buf text = { 0 };
	struct err ignored;

	return file_read("/sys/kernel/mm/transparent_hugepage/enabled", 256, &text, &ignored) == 0 && !strstr(buf_str(&text), "[never]");
}

/*
 * A call ends at the first place where nothing has been touched or a huge page cannot be had, and does not say how far it came:
 * what fails is halved, down to one huge page. Asked for again, what is huge costs nothing.
 */
static void collapse_piece(int pidfd, unsigned long from, unsigned long to)
{
	struct iovec range = { .iov_base = (void *)from, .iov_len = to - from };
	unsigned long half = from + ((to - from) / 2 + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;

	if (syscall(NR_process_madvise, pidfd, &range, 1UL, MADV_COLLAPSE, 0) >= 0 || half >= to)
		return;
	collapse_piece(pidfd, from, half);
	collapse_piece(pidfd, half, to);
}

static void collapse_range(int pidfd, unsigned long from, unsigned long to)
{
	/* A huge page lies within one piece. */
	for (unsigned long next; from < to; from = next) {
		next = (from / COLLAPSE_STEP + 1) * COLLAPSE_STEP;
		if (next > to)
			next = to;
		collapse_piece(pidfd, from, next);
	}
}

void kvm_collapse(pid_t pid, uint64_t memory)
{
	auto_buf struct buf maps = { 0 };
	auto_fd int pidfd = -1;
	struct err ignored;
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	if (!huge_pages_allowed() || file_read(path, 16u << 20, &maps, &ignored) < 0 || (pidfd = (int)syscall(NR_pidfd_open, pid, 0)) < 0)
		return;
	/* FROM-TO MODE OFFSET DEVICE INODE */
	for (const char *line = buf_str(&maps); *line; line += strcspn(line, "\n"), line += *line == '\n') {
		char *at;
		unsigned long from = strtoul(line, &at, 16), to = *at == '-' ? strtoul(at + 1, &at, 16) : 0;

		/* What is much larger is address space that nobody uses. */
		if (to > from && to - from >= COLLAPSE_MIN && (to - from) / 2 <= memory && !strncmp(at, " rw-p 00000000 00:00 0", 22))
			collapse_range(pidfd, from, to);
	}
}
