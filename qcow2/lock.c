#include "qcow2/lock.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/own.h"
#include "lib/text.h"

/* Permissions, by bit: consistent read 0, write 1, write unchanged 2, resize 3. */
#define USES_BASE   100
#define DENIES_BASE 200
#define PERM_READ   (1u << 0)
#define PERM_WRITE  (1u << 1)
#define PERM_RESIZE (1u << 3)
#define N_PERMS     4

/* 1 if somebody else holds one of @bits' bytes above @base; *@at is that byte. */
static int held(int fd, unsigned base, unsigned bits, off_t *at)
{
	for (unsigned i = 0; i < N_PERMS; i++) {
		struct flock f = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = base + i, .l_len = 1 };

		if (!(bits & 1u << i))
			continue;
		if (fcntl(fd, F_OFD_GETLK, &f) < 0)
			return -errno;
		if (f.l_type != F_UNLCK) {
			*at = base + i;
			return 1;
		}
	}
	return 0;
}

static int hold(int fd, unsigned base, unsigned bits)
{
	for (unsigned i = 0; i < N_PERMS; i++) {
		struct flock f = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = base + i, .l_len = 1 };

		if ((bits & 1u << i) && fcntl(fd, F_OFD_SETLK, &f) < 0)
			return -errno;
	}
	return 0;
}

/* Does /proc/PID/fdinfo/FD list a lock on byte @at? Lines read "lock:\t1: OFDLCK ADVISORY READ -1 fe:00:99 201 201". */
static bool fd_holds(const char *pid, const char *fd, off_t at)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%.16s/fdinfo/%.16s", pid, fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		char *p = strstr(line, "OFDLCK");
		uint64_t from, to;

		if (!strncmp(line, "lock:", 5) && p && (p = strrchr(p, ':')) && (p = strchr(p, ' ')) &&
			text_take_num((const char **)&p, 0, &from) && text_take_num((const char **)&p, 0, &to))
			found |= from <= (uint64_t)at && (uint64_t)at <= to;
		else if (!strncmp(line, "lock:", 5) && strstr(line, "OFDLCK") && strstr(line, "EOF"))
			found = true;
	}
	if (f)
		fclose(f);
	return found;
}

/* @own: our descriptor, which holds the byte too by now. */
static bool process_holds(const char *pid, const struct stat *want, off_t at, int own)
{
	bool self = atoi(pid) == getpid();
	char path[64];
	struct dirent *d;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%.16s/fd", pid);
	dir = opendir(path);
	while (dir && !found && (d = readdir(dir))) {
		struct stat st;

		if (self && atoi(d->d_name) == own)
			continue;
		if (!fstatat(dirfd(dir), d->d_name, &st, 0) && st.st_dev == want->st_dev && st.st_ino == want->st_ino)
			found = fd_holds(pid, d->d_name, at);
	}
	if (dir)
		closedir(dir);
	return found;
}

/*
 * "process 4711 (qemu-system-x86)" into @out, or "another process". Locks of open file descriptions carry no pid, so
 * every process's descriptors are looked at; other users' only where we may.
 */
static void name_holder(int fd, off_t at, char *out, size_t size)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	struct stat st;

	snprintf(out, size, "another process");
	while (proc && !fstat(fd, &st) && (d = readdir(proc))) {
		char path[64], comm[32] = "";
		FILE *f;

		if (d->d_name[0] < '1' || d->d_name[0] > '9' || !process_holds(d->d_name, &st, at, fd))
			continue;
		snprintf(path, sizeof path, "/proc/%.16s/comm", d->d_name);
		f = fopen(path, "re");
		if (f && fgets(comm, sizeof comm, f))
			comm[strcspn(comm, "\n")] = '\0';
		if (f)
			fclose(f);
		snprintf(out, size, "process %.16s (%s)", d->d_name, comm);
		break;
	}
	if (proc)
		closedir(proc);
}

/* The kernel or file system does not know these locks: QEMU goes on without, and so do we. */
static bool no_locks(int code)
{
	return code == -EINVAL || code == -ENOLCK || code == -EOPNOTSUPP || code == -ENOSYS;
}

static int refuse(int fd, const char *path, bool write, off_t at, struct err *e)
{
	char who[64];

	name_holder(fd, at, who, sizeof who);
	err_set(e, -EBUSY, "cannot open %s for %s: image is in use by %s", path, write ? "writing" : "reading", who);
	return write ? e->code : err_hint(e, "-U reads it all the same, at the risk of seeing a half-made change");
}

int image_lock(int fd, const char *path, bool write, struct err *e)
{
	unsigned uses = PERM_READ | (write ? PERM_WRITE | PERM_RESIZE : 0), denies = PERM_WRITE | PERM_RESIZE;
	off_t at = 0;
	int r = hold(fd, USES_BASE, uses);

	if (!r)
		r = hold(fd, DENIES_BASE, denies);
	if (!r)
		r = held(fd, DENIES_BASE, uses, &at);
	if (!r)
		r = held(fd, USES_BASE, denies, &at);
	if (r > 0)
		return refuse(fd, path, write, at, e);
	if (r == -EAGAIN || r == -EACCES)
		return refuse(fd, path, write, USES_BASE, e);
	return r && !no_locks(r) ? err_sys(e, -r, "cannot lock %s", path) : 0;
}
