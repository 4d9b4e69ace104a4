/* A device: bytes at offsets, with a barrier. A file in the product, memory or a fault injector in tests. */
#ifndef LIB_DEV_H
#define LIB_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct dev;

struct dev_ops {
	int (*read)(struct dev *d, uint64_t off, void *buf, size_t n, struct err *e);
	int (*write)(struct dev *d, uint64_t off, const void *buf, size_t n, struct err *e);
	int (*flush)(struct dev *d, struct err *e);
	int (*truncate)(struct dev *d, uint64_t size, struct err *e);
	int (*zero)(struct dev *d, uint64_t off, uint64_t n, struct err *e);
	void (*discard)(struct dev *d, uint64_t off, uint64_t n); /* NULL: cannot */
	void (*close)(struct dev *d);
};

/* Embedded as the first member of what implements it. @size follows writes and truncations. */
struct dev {
	const struct dev_ops *ops;
	const char *name; /* for messages: the path as the user typed it; borrowed */
	uint64_t size;    /* bytes */
	bool writable;
	bool fixed;       /* cannot change its size, as a block device: writing past it is -ENOSPC */
};

/* Read exactly @n bytes at @off. -ENODATA if the device ends before that: never a short count. */
int dev_read(struct dev *d, uint64_t off, void *buf, size_t n, struct err *e) MUST_CHECK;

/* Write exactly @n bytes at @off, growing the device if needed. Not durable before dev_flush(). -ENOSPC, -EROFS. */
int dev_write(struct dev *d, uint64_t off, const void *buf, size_t n, struct err *e) MUST_CHECK;

/* A barrier: everything written before survives a power cut once this returns 0 (fdatasync). */
int dev_flush(struct dev *d, struct err *e) MUST_CHECK;

/* Set the size in bytes. The added part reads as zeros. Shrinking a device of fixed size does nothing. */
int dev_truncate(struct dev *d, uint64_t size, struct err *e) MUST_CHECK;

/* Make [@off, @off + @n) read as zeros, as a hole where the file system can. */
int dev_zero(struct dev *d, uint64_t off, uint64_t n, struct err *e) MUST_CHECK;

/*
 * Release the storage of [@off, @off + @n) if possible; its content is undefined afterwards. Best effort: nothing
 * depends on it, so there is no error.
 */
void dev_discard(struct dev *d, uint64_t off, uint64_t n);

/* Close and free. NULL is allowed. Errors of earlier unflushed writes are lost: flush first. */
void dev_close(struct dev *d);

/*
 * A file as a device.
 *
 * @path:  borrowed for the device's life
 * @flags: open(2)'s access mode, plus O_CREAT | O_EXCL with mode 0600 if wanted; O_CLOEXEC is added
 *
 * Regular files and block devices. A short read, EINTR and a zero-byte write are handled here.
 */
int dev_open(const char *path, int flags, struct dev **out, struct err *e) MUST_CHECK;

/* The descriptor behind a file device (for locks and seeking holes), or -1 if it is none. Borrowed. */
int dev_fd(const struct dev *d);

#endif
