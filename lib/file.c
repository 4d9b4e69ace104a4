/* See file.h. */
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"

int io_read_full(int fd, void *p, size_t n, const char *what, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, (char *)p + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_sys(e, errno, "cannot read %s", what);
		if (r == 0)
			return err_set(e, -ENODATA, "cannot read %s: it ends after %zu of %zu bytes", what, done, n);
		done += (size_t)r;
	}
	return 0;
}

int io_write_full(int fd, const void *p, size_t n, const char *what, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = write(fd, (const char *)p + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return err_sys(e, r ? errno : ENOSPC, "cannot write %s", what);
		done += (size_t)r;
	}
	return 0;
}

int file_read(const char *path, size_t max, struct buf *b, struct err *e)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t start = b->n;

	if (fd < 0)
		return err_sys(e, errno, "cannot open %s", path);
	for (;;) {
		char *p = buf_room(b, 4096);
		ssize_t r;

		if (!p)
			return err_nomem(e, "read a file");
		r = read(fd, p, 4096);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_sys(e, errno, "cannot read %s", path);
		if (r == 0)
			return 0;
		buf_grew(b, (size_t)r);
		if (b->n - start > max)
			return err_set(e, -EFBIG, "cannot read %s: longer than %zu bytes", path, max);
	}
}

/* The directory part of @path; "." for a bare name. Caller frees. */
static char *dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

int dir_flush(const char *dir, struct err *e)
{
	auto_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* EINVAL: the file system cannot fsync() a directory and needs none. */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		return err_sys(e, errno, "cannot flush directory %s", dir);
	return 0;
}

int file_flush_name(const char *path, struct err *e)
{
	auto_free char *dir = dir_of(path);

	return dir ? dir_flush(dir, e) : err_nomem(e, "flush a directory");
}

int file_flush(const char *path, struct err *e)
{
	/* O_NONBLOCK: opening a FIFO must not block. */
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	/* EINVAL: not a file that can be flushed, a pipe for example. */
	return fd < 0 || (fsync(fd) < 0 && errno != EINVAL) ? err_sys(e, errno, "cannot flush %s", path) : 0;
}

int file_place(const char *tmp, const char *path, struct err *e)
{
	return rename(tmp, path) < 0 ? err_sys(e, errno, "cannot create %s", path) : file_flush_name(path, e);
}

int file_place_new(const char *tmp, const char *path, struct err *e)
{
	/* The system call itself: not every libc wraps it. */
	if (syscall(SYS_renameat2, AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return err_sys(e, errno, "cannot create %s", path);
	/* A file system without RENAME_NOREPLACE: link(2) does not replace either. */
	if (link(tmp, path) == 0)
		return unlink(tmp) < 0 ? err_sys(e, errno, "cannot remove %s", tmp) : 0;
	if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
		return err_sys(e, errno, "cannot create %s", path);
	/* No hard links either: check first, and accept the race. */
	if (file_exists(path))
		return err_sys(e, EEXIST, "cannot create %s", path);
	return rename(tmp, path) < 0 ? err_sys(e, errno, "cannot create %s", path) : 0;
}

static int write_and_flush(const char *path, const void *data, size_t n, mode_t mode, struct err *e)
{
	auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

	if (fd < 0)
		return err_sys(e, errno, "cannot create %s", path);
	if (io_write_full(fd, data, n, path, e) < 0)
		return e->code;
	if (fdatasync(fd) < 0)
		return err_sys(e, errno, "cannot flush %s", path);
	return 0;
}

/* Undo a rename that cannot be made durable: restore the content of @old (-1: there was no file, so remove @path). */
static int restore_old_file(int old, const char *path, const char *tmp, mode_t mode, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct stat st;
	struct err also;
	int rc;

	if (old < 0) {
		rc = unlink(path) < 0 ? err_sys(&also, errno, "cannot remove %s", path) : file_flush_name(path, &also);
	} else {
		char *p = fstat(old, &st) == 0 ? buf_room(&b, (size_t)st.st_size + 1) : NULL;

		rc = !p ? err_nomem(&also, "replace a file") : io_read_full(old, p, (size_t)st.st_size, path, &also);
		if (rc == 0 && (rc = write_and_flush(tmp, p, (size_t)st.st_size, mode, &also)) == 0)
			rc = rename(tmp, path) < 0 ? err_sys(&also, errno, "cannot replace %s", path) : file_flush_name(path, &also);
	}
	if (rc == 0)
		return e->code;
	unlink(tmp);
	err_also(e, "and could not undo it: %s", also.msg);
	e->code = -EINPROGRESS;
	return e->code;
}

int file_replace(const char *path, const void *data, size_t n, mode_t mode, struct err *e)
{
	auto_free char *tmp = str_fmt("%s.new", path);
	auto_fd int old = open(path, O_RDONLY | O_CLOEXEC);

	if (!tmp)
		return err_nomem(e, "replace a file");
	if (old < 0 && errno != ENOENT && errno != ENOTDIR)
		return err_sys(e, errno, "cannot open %s", path);
	if (write_and_flush(tmp, data, n, mode, e) < 0) {
		unlink(tmp);
		return e->code;
	}
	if (rename(tmp, path) < 0) {
		err_sys(e, errno, "cannot replace %s", path);
		unlink(tmp);
		return e->code;
	}
	return file_flush_name(path, e) < 0 ? restore_old_file(old, path, tmp, mode, e) : 0;
}

int dir_make(const char *path, mode_t mode, struct err *e)
{
	auto_free char *p = strdup(path);

	if (!p)
		return err_nomem(e, "create a directory");
	for (char *s = p + 1;; s++) {
		char c = *s;

		if (c != '/' && c != '\0')
			continue;
		*s = '\0';
		/* Missing parents are shared: readable for everybody. */
		if (mkdir(p, c ? mode | 0755 : mode) < 0 && errno != EEXIST)
			return err_sys(e, errno, "cannot create directory %s", p);
		*s = c;
		if (!c)
			return 0;
	}
}

bool file_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static bool block_device_size(const char *path, uint64_t *size)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd >= 0 && ioctl(fd, BLKGETSIZE64, size) == 0;
}

bool file_measure(const char *path, uint64_t *size, uint64_t *allocated)
{
	uint64_t has[2] = { 0, 0 };
	struct stat st;
	bool ok = stat(path, &st) == 0;

	if (ok && S_ISBLK(st.st_mode)) {
		ok = block_device_size(path, &has[0]);
		has[1] = has[0];
	} else if (ok) {
		has[0] = (uint64_t)st.st_size;
		has[1] = (uint64_t)st.st_blocks * 512;
	}
	if (size)
		*size = has[0];
	if (allocated)
		*allocated = has[1];
	return ok;
}

int file_free_space(const char *path, uint64_t *bytes, struct err *e)
{
	struct statvfs s;

	if (statvfs(path, &s) < 0)
		return err_sys(e, errno, "cannot get the free space at %s", path);
	if (__builtin_mul_overflow((uint64_t)s.f_bavail, (uint64_t)s.f_frsize, bytes))
		*bytes = UINT64_MAX;
	return 0;
}

char *path_beside(const char *file, const char *path)
{
	const char *slash = strrchr(file, '/');
	int n = slash ? (int)(slash - file) : 0;
	char cwd[PATH_MAX];

	if (*path == '/')
		return strdup(path);
	if (*file == '/')
		return str_fmt("%.*s/%s", n, file, path);
	if (!getcwd(cwd, sizeof cwd))
		return NULL;
	if (!strcmp(cwd, "/"))
		cwd[0] = '\0';
	return str_fmt("%s/%.*s%s%s", cwd, n, file, n ? "/" : "", path);
}

int path_typed(const char *typed, char **out, struct err *e)
{
	*out = path_beside("", typed);
	if (!*out)
		return err_nomem(e, "name a file");
	return text_is_utf8(*out) ? 0 : err_set(e, -EINVAL, "the path '%s' is not UTF-8", *out);
}

bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
