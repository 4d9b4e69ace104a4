#include "tests/harness/logdev.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness/allocfail.h"

#define die(what) (perror(what), abort())

static struct logdev *self(struct dev *d)
{
	return (struct logdev *)(void *)d;
}

/* Memory of the harness is never the memory under test. */
static void *grow(void *p, size_t n)
{
	alloc_pause();
	p = realloc(p, n ? n : 1);
	alloc_resume();
	if (!p)
		die("harness: realloc");
	return p;
}

static int fault(struct logdev *d, enum log_kind kind, uint64_t off, struct err *e)
{
	static const char *const words[] = { [LOG_READ] = "read", [LOG_WRITE] = "write", [LOG_FLUSH] = "flush",
					     [LOG_TRUNC] = "resize", [LOG_ZERO] = "clear" };

	if (kind == LOG_READ)
		d->n_reads++;
	else
		d->n_changes++;
	if (!(d->fail_kinds & kind))
		return 0;
	if (d->seen++ != d->fail_at && !(d->fail_stays && d->hit))
		return 0;
	d->hit = true;
	return err_sys(e, d->fail_errno, "%s: cannot %s at %llu", d->dev.name, words[kind], (unsigned long long)off);
}

static void record(struct logdev *d, enum log_kind kind, uint64_t off, uint64_t n, const void *data)
{
	struct log_op *op;

	if (!d->recording)
		return;
	if (d->n_ops == d->cap_ops) {
		d->cap_ops = d->cap_ops ? 2 * d->cap_ops : 64;
		d->ops = grow(d->ops, d->cap_ops * sizeof(*d->ops));
	}
	op = &d->ops[d->n_ops++];
	*op = (struct log_op){ .kind = kind, .off = off, .n = n };
	if (data) {
		op->data = grow(NULL, n);
		memcpy(op->data, data, n);
	}
}

static int set_size(struct logdev *d, uint64_t size, struct err *e)
{
	if (size > d->max_size)
		return err_sys(e, ENOSPC, "%s: cannot grow to %llu bytes", d->dev.name, (unsigned long long)size);
	if (size > d->cap) {
		d->cap = size + size / 2;
		d->bytes = grow(d->bytes, d->cap);
	}
	if (size > d->dev.size)
		memset(d->bytes + d->dev.size, 0, size - d->dev.size);
	d->dev.size = size;
	return 0;
}

static int log_read(struct dev *dev, uint64_t off, void *buf, size_t n, struct err *e)
{
	struct logdev *d = self(dev);

	if (fault(d, LOG_READ, off, e) < 0)
		return e->code;
	if (off > dev->size || n > dev->size - off)
		return err_set(e, -ENODATA, "%s: ends at %llu, before %llu", dev->name, (unsigned long long)dev->size,
			       (unsigned long long)(off + n));
	memcpy(buf, d->bytes + off, n);
	return 0;
}

static int log_write(struct dev *dev, uint64_t off, const void *buf, size_t n, struct err *e)
{
	struct logdev *d = self(dev);
	uint64_t end;

	if (fault(d, LOG_WRITE, off, e) < 0)
		return e->code;
	if (__builtin_add_overflow(off, n, &end))
		return err_sys(e, EFBIG, "%s: cannot write", dev->name);
	if (end > dev->size && set_size(d, end, e) < 0)
		return e->code;
	memcpy(d->bytes + off, buf, n);
	record(d, LOG_WRITE, off, n, buf);
	return 0;
}

static int log_flush(struct dev *dev, struct err *e)
{
	struct logdev *d = self(dev);

	if (fault(d, LOG_FLUSH, dev->size, e) < 0)
		return e->code;
	if (d->n_flush++ != d->skip_flush)
		record(d, LOG_FLUSH, 0, 0, NULL);
	return 0;
}

static int log_truncate(struct dev *dev, uint64_t size, struct err *e)
{
	struct logdev *d = self(dev);

	if (fault(d, LOG_TRUNC, size, e) < 0 || set_size(d, size, e) < 0)
		return e->code;
	record(d, LOG_TRUNC, size, 0, NULL);
	return 0;
}

static int log_zero(struct dev *dev, uint64_t off, uint64_t n, struct err *e)
{
	struct logdev *d = self(dev);
	uint64_t end;

	if (fault(d, LOG_ZERO, off, e) < 0)
		return e->code;
	if (__builtin_add_overflow(off, n, &end))
		return err_sys(e, EFBIG, "%s: cannot clear", dev->name);
	if (end > dev->size && set_size(d, end, e) < 0)
		return e->code;
	memset(d->bytes + off, 0, n);
	record(d, LOG_ZERO, off, n, NULL);
	return 0;
}

static void log_close(struct dev *dev)
{
	self(dev)->closed = true;
}

/* The worst that a discard may do: all is lost there, now or after any cut. It never fails, so there is no fault. */
static void log_discard(struct dev *dev, uint64_t off, uint64_t n)
{
	struct logdev *d = self(dev);

	memset(d->bytes + off, 0, n);
	record(d, LOG_ZERO, off, n, NULL);
}

static const struct dev_ops log_ops = {
	.read = log_read,
	.write = log_write,
	.flush = log_flush,
	.truncate = log_truncate,
	.zero = log_zero,
	.discard = log_discard,
	.close = log_close,
};

struct logdev *logdev_new(const void *bytes, size_t n)
{
	struct logdev *d = grow(NULL, sizeof(*d));

	*d = (struct logdev){
		.dev = { .ops = &log_ops, .name = "test.img", .writable = true },
		.max_size = 1u << 28,
		.fail_at = LOG_NEVER,
		.skip_flush = LOG_NEVER,
	};
	logdev_set(d, bytes, n);
	return d;
}

static void forget(struct logdev *d)
{
	for (size_t i = 0; i < d->n_ops; i++)
		free(d->ops[i].data);
	d->n_ops = 0;
	d->n_flush = d->n_reads = d->n_changes = 0;
}

void logdev_free(struct logdev *d)
{
	if (!d)
		return;
	forget(d);
	free(d->ops);
	free(d->base);
	free(d->bytes);
	free(d);
}

void logdev_set(struct logdev *d, const void *bytes, size_t n)
{
	if (n > d->cap) {
		d->bytes = grow(d->bytes, n);
		d->cap = n;
	}
	if (n && bytes)
		memcpy(d->bytes, bytes, n);
	d->dev.size = n;
	d->closed = false;
}

void logdev_record(struct logdev *d)
{
	forget(d);
	d->base = grow(d->base, d->dev.size);
	if (d->dev.size)
		memcpy(d->base, d->bytes, d->dev.size);
	d->base_size = d->dev.size;
	d->recording = true;
	d->seen = 0;
	d->hit = false;
}

void logdev_fail(struct logdev *d, unsigned kinds, uint64_t at, int errnum, bool stays)
{
	d->fail_kinds = at == LOG_NEVER ? 0 : kinds;
	d->fail_at = at;
	d->fail_errno = errnum;
	d->fail_stays = stays;
	d->seen = 0;
	d->hit = false;
}

void logdev_rewind(struct logdev *d)
{
	logdev_fail(d, 0, LOG_NEVER, 0, false);
	logdev_set(d, d->base, d->base_size);
	forget(d);
}

void bytes_export(const void *bytes, size_t n, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const char *p = bytes;
	ssize_t got;

	if (fd < 0)
		die(path);
	for (; n; p += got, n -= (size_t)got)
		if ((got = write(fd, p, n)) <= 0)
			die(path);
	if (close(fd) < 0)
		die(path);
}

void logdev_export(const struct logdev *d, const char *path)
{
	bytes_export(d->bytes, d->dev.size, path);
}

uint8_t *bytes_import(const char *path, size_t *n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *p;
	ssize_t got;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0)
		die(path);
	p = grow(NULL, (size_t)st.st_size);
	*n = 0;
	while ((got = read(fd, p + *n, (size_t)st.st_size - *n)) > 0)
		*n += (size_t)got;
	close(fd);
	return p;
}
