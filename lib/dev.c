#include "lib/dev.h"

#include <inttypes.h>

/* The end of [off, off + n). -EFBIG past 2^63 - 1, the largest off_t. */
static int range_end(struct dev *d, const char *what, uint64_t off, uint64_t n, uint64_t *end, struct err *e)
{
	if (__builtin_add_overflow(off, n, end) || *end > INT64_MAX)
		return err_set(e, -EFBIG, "cannot %s %s: %" PRIu64 " bytes at %" PRIu64 " is past what a file can hold", what,
			d->name, n, off);
	return 0;
}

/* The same for a change: the device must be writable, and large enough if its size is fixed. */
static int writable_range_end(struct dev *d, const char *what, uint64_t off, uint64_t n, uint64_t *end, struct err *e)
{
	if (!d->writable)
		return err_set(e, -EROFS, "cannot %s %s: it is open for reading only", what, d->name);
	if (range_end(d, what, off, n, end, e) < 0)
		return e->code;
	return d->fixed && *end > d->size ? err_set(e, -ENOSPC, "cannot grow %s: it is a block device", d->name) : 0;
}

int dev_read(struct dev *d, uint64_t off, void *buf, size_t n, struct err *e)
{
	uint64_t end;

	if (range_end(d, "read", off, n, &end, e) < 0)
		return e->code;
	if (end > d->size)
		return err_set(e, -ENODATA, "cannot read %s: it ends at %" PRIu64 ", %zu bytes at %" PRIu64 " were wanted",
			d->name, d->size, n, off);
	return n ? d->ops->read(d, off, buf, n, e) : 0;
}

int dev_write(struct dev *d, uint64_t off, const void *buf, size_t n, struct err *e)
{
	uint64_t end;

	if (writable_range_end(d, "write", off, n, &end, e) < 0)
		return e->code;
	if (!n)
		return 0;
	if (d->ops->write(d, off, buf, n, e) < 0)
		return e->code;
	if (end > d->size)
		d->size = end;
	return 0;
}

int dev_flush(struct dev *d, struct err *e)
{
	return d->ops->flush(d, e);
}

int dev_truncate(struct dev *d, uint64_t size, struct err *e)
{
	if (writable_range_end(d, "resize", size, 0, &size, e) < 0)
		return e->code;
	if (d->fixed)
		return 0;
	if (d->ops->truncate(d, size, e) < 0)
		return e->code;
	d->size = size;
	return 0;
}

int dev_zero(struct dev *d, uint64_t off, uint64_t n, struct err *e)
{
	uint64_t end;

	if (writable_range_end(d, "zero", off, n, &end, e) < 0)
		return e->code;
	if (!n)
		return 0;
	if (d->ops->zero(d, off, n, e) < 0)
		return e->code;
	if (end > d->size)
		d->size = end;
	return 0;
}

void dev_discard(struct dev *d, uint64_t off, uint64_t n)
{
	if (d->ops->discard && d->writable && off < d->size)
		d->ops->discard(d, off, n < d->size - off ? n : d->size - off);
}

void dev_close(struct dev *d)
{
	if (d)
		d->ops->close(d);
}
