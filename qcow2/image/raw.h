/* Raw images: a file that is the disk. */
#ifndef QCOW2_IMAGE_RAW_H
#define QCOW2_IMAGE_RAW_H

#include "qcow2/qcow2.h"

/*
 * Make a raw image of zeros; what the file held is lost. A new file has mode 0600. -EBUSY: in use by somebody;
 * -EINVAL: raw images have no metadata to preallocate.
 */
int raw_create(const char *path, uint64_t size, enum qcow2_prealloc how, struct err *e) MUST_CHECK;

/* Give it another size; what is added is preallocated as @how says. Shrinking only if @shrink. Flushed. */
int raw_resize(struct dev *d, uint64_t size, bool shrink, enum qcow2_prealloc how, struct err *e) MUST_CHECK;

#endif
