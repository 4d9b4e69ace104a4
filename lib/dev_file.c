#include "lib/dev.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/own.h"

struct dev_file {
	struct dev dev;
	int fd;
};

static struct dev_file *dev_file_of(struct dev *d)
{
	return (struct dev_file *)d;
}

static int dev_file_read(struct dev *d, uint64_t off, void *buf, size_t n, struct err *e)
{
	char *p = buf;

	while (n) {
		ssize_t got = pread(dev_file_of(d)->fd, p, n, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_sys(e, errno, "cannot read %s at %" PRIu64, d->name, off);
		if (!got)
			return err_set(e, -ENODATA, "cannot read %s: it ends at %" PRIu64 ", %zu more bytes were wanted",
				d->name, off, n);
		p += got;
		off += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

static int dev_file_write(struct dev *d, uint64_t off, const void *buf, size_t n, struct err *e)
{
	const char *p = buf;

	while (n) {
		ssize_t put = pwrite(dev_file_of(d)->fd, p, n, (off_t)off);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return err_sys(e, put ? errno : ENOSPC, "cannot write %s at %" PRIu64, d->name, off);
		p += put;
		off += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
}

static int dev_file_flush(struct dev *d, struct err *e)
{
	return fdatasync(dev_file_of(d)->fd) < 0 ? err_sys(e, errno, "cannot flush %s", d->name) : 0;
}

static int dev_file_truncate(struct dev *d, uint64_t size, struct err *e)
{
	return ftruncate(dev_file_of(d)->fd, (off_t)size) < 0
		       ? err_sys(e, errno, "cannot resize %s to %" PRIu64 " bytes", d->name, size) : 0;
}

static int dev_file_zero(struct dev *d, uint64_t off, uint64_t n, struct err *e)
{
	static char zeros[65536]; /* never written; not const, or it would take 64 KiB of the binary */

	if (!fallocate(dev_file_of(d)->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)n)) {
		/* FALLOC_FL_KEEP_SIZE: punching a hole does not extend the file. */
		return off + n <= d->size ? 0 : dev_file_truncate(d, off + n, e);
	}
	for (; n; off += sizeof zeros) {
		size_t step = n < sizeof zeros ? (size_t)n : sizeof zeros;

		if (dev_file_write(d, off, zeros, step, e) < 0)
			return e->code;
		n -= step;
	}
	return 0;
}

static void dev_file_close(struct dev *d)
{
	close(dev_file_of(d)->fd);
	free(d);
}

static void dev_file_discard(struct dev *d, uint64_t off, uint64_t n)
{
	if (!d->fixed)
		(void)fallocate(dev_file_of(d)->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)n);
}

static const struct dev_ops file_ops = {
	.read = dev_file_read, .write = dev_file_write, .flush = dev_file_flush,
	.truncate = dev_file_truncate, .zero = dev_file_zero, .discard = dev_file_discard, .close = dev_file_close,
};

static int fd_size(int fd, const char *path, uint64_t *size, bool *block, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "cannot stat %s", path);
	*block = S_ISBLK(st.st_mode);
	if (*block)
		return ioctl(fd, BLKGETSIZE64, size) < 0 ? err_sys(e, errno, "cannot get the size of %s", path) : 0;
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "cannot open %s: it is neither a regular file nor a block device", path);
	*size = (uint64_t)st.st_size;
	return 0;
}

int dev_open(const char *path, int flags, struct dev **out, struct err *e)
{
	/* O_NONBLOCK: opening a FIFO must not block. Regular files ignore it. */
	auto_fd int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	struct dev_file *f;
	uint64_t size = 0;
	bool block = false;

	if (fd < 0)
		return err_sys(e, errno, "cannot open %s", path);
	if (fd_size(fd, path, &size, &block, e) < 0)
		return e->code;
	f = calloc(1, sizeof *f);
	if (!f)
		return err_nomem(e, "open an image");
	f->dev = (struct dev){ &file_ops, path, size, (flags & O_ACCMODE) != O_RDONLY, block };
	f->fd = take_fd(&fd);
	*out = &f->dev;
	return 0;
}

int dev_fd(const struct dev *d)
{
	return d->ops == &file_ops ? ((const struct dev_file *)d)->fd : -1;
}
