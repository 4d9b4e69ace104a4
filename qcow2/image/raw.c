#include "qcow2/image/raw.h"

#include <fcntl.h>
#include <inttypes.h>

#include "qcow2/internal.h"
#include "qcow2/lock.h"

int raw_resize(struct dev *d, uint64_t size, bool shrink, enum qcow2_prealloc how, struct err *e)
{
	struct qcow2 q = { .dev = d };
	uint64_t old = d->size;
	int r;

	if (how == QCOW2_PREALLOC_METADATA)
		return err_set(e, -EINVAL, "raw images have no metadata to preallocate: off, falloc and full are known");
	if (size < old && !shrink)
		return err_set(e, -EINVAL, "shrinking deletes all data beyond the image's new end: it has to be asked for");
	if (size <= old || how == QCOW2_PREALLOC_OFF)
		return dev_truncate(d, size, e) < 0 ? e->code : dev_flush(d, e);
	r = prealloc_area(&q, old, size - old, how, e);
	if (r >= 0)
		return dev_flush(d, e);
	if (dev_truncate(d, old, &(struct err){ 0 }) < 0)
		err_also(e, "and could not give the file its old size");
	return e->code;
}

/* A block device has its size: it may be larger than the disk, and is not emptied by being opened. */
static int check_room(const struct dev *d, uint64_t size, struct err *e)
{
	return size <= d->size ? 0 :
		err_set(e, -ENOSPC, "%s has %" PRIu64 " bytes, the disk %" PRIu64, d->name, d->size, size);
}

int raw_create(const char *path, uint64_t size, enum qcow2_prealloc how, struct err *e)
{
	struct dev *d;
	int r;

	if (dev_open(path, O_RDWR | O_CREAT, &d, e) < 0)
		return e->code;
	r = image_lock(dev_fd(d), path, true, e);
	if (r >= 0 && d->fixed) {
		r = check_room(d, size, e);
	} else if (r >= 0) {
		r = dev_truncate(d, 0, e);
		if (r >= 0)
			r = raw_resize(d, size, false, how, e);
	}
	dev_close(d);
	return r;
}
