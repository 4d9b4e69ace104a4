/* Whole files: read, written, replaced, made durable; the lock file of a VM. */
#ifndef LIB_FILE_H
#define LIB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/buf.h"
#include "lib/err.h"

/* Read or write exactly @n bytes, retrying EINTR and short counts. -ENODATA: the file ends before. @what: for the message. */
int io_read_full(int fd, void *p, size_t n, const char *what, struct err *e) MUST_CHECK;
int io_write_full(int fd, const void *p, size_t n, const char *what, struct err *e) MUST_CHECK;

/* Append the whole of @path to @b. -EFBIG if it is longer than @max bytes, -ENOENT if it is not there. */
int file_read(const char *path, size_t max, struct buf *b, struct err *e) MUST_CHECK;

/*
 * Replace @path by @n bytes of @data, with @mode. A power cut at any point leaves the old file or the new one, whole:
 * a temporary file beside it is written, flushed and renamed over it, then the directory is flushed.
 * Commit point: the rename. A failure leaves the old file and removes the temporary one; if the directory cannot be
 * flushed, the rename is undone. -EINPROGRESS: the undo failed too, and either file may be there, now or after a cut.
 */
int file_replace(const char *path, const void *data, size_t n, mode_t mode, struct err *e) MUST_CHECK;

/* Make a rename or an unlink in @dir durable. */
int dir_flush(const char *dir, struct err *e) MUST_CHECK;

/* Make the name of @path durable: flush the directory that holds it. */
int file_flush_name(const char *path, struct err *e) MUST_CHECK;

/*
 * Make everything that any process wrote to @path durable: data, size and times of a file, the cache of a block
 * device. -ENOENT.
 */
int file_flush(const char *path, struct err *e) MUST_CHECK;

/* Rename @tmp to @path and make the name durable. The content of @tmp must be flushed already. */
int file_place(const char *tmp, const char *path, struct err *e) MUST_CHECK;

/* Rename @tmp to @path, but replace nothing: -EEXIST if @path exists. The name is not durable yet. */
int file_place_new(const char *tmp, const char *path, struct err *e) MUST_CHECK;

/* Create the directory @path and its missing parents, with @mode. Existing directories are left as they are. */
int dir_make(const char *path, mode_t mode, struct err *e) MUST_CHECK;

bool file_exists(const char *path);

/*
 * @path as an absolute path. A relative @path is relative to the directory of @file ("" or a bare name: the working
 * directory). Symlinks and ".." are not resolved. Caller frees; NULL: no memory, or the working directory was removed.
 */
char *path_beside(const char *file, const char *path);

/*
 * What a user has typed, made absolute, for QEMU or a record, which cannot express every path. *@out: caller frees.
 * -EINVAL: it is not UTF-8, which a working directory may bring in.
 */
int path_typed(const char *typed, char **out, struct err *e) MUST_CHECK;

/*
 * The size of @path and the bytes allocated to it. For a block device both are the device's size: stat(2) describes
 * only its node in /dev. False and both 0: it does not exist, or cannot be examined. Either may be NULL.
 */
bool file_measure(const char *path, uint64_t *size, uint64_t *allocated);

/* Bytes that an unprivileged user can still write in the file system that holds @path. */
int file_free_space(const char *path, uint64_t *bytes, struct err *e) MUST_CHECK;

/*
 * Take a lock that ends with the process: flock() on @path, created with mode 0600 if missing.
 *
 * @what:    written into the file for others to read ("4711 snapshot-create-as")
 * @wait_ms: how long to wait for the holder
 * @fd:      out; closing it releases the lock
 *
 * -EBUSY, naming the holder's pid and what it does.
 */
int lock_take(const char *path, const char *what, uint64_t wait_ms, int *fd, struct err *e) MUST_CHECK;

/* The current holder of the lock, "snapshot-create-as (process 4711)", into @out; false if nobody holds it. */
bool lock_holder(const char *path, char *out, size_t size);

/* Do both exist, and are they the same file (device and inode)? */
bool same_file(const char *a, const char *b);

#endif
