/* Files: read whole, written whole, replaced whole. */
#ifndef LIB_FILE_H
#define LIB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/buf.h"
#include "lib/err.h"

/* All of @n bytes, through EINTR and short counts. -ENODATA if the end comes first. @what: for the message. */
int io_read_full(int fd, void *p, size_t n, const char *what, struct err *e) MUST_CHECK;
int io_write_full(int fd, const void *p, size_t n, const char *what, struct err *e) MUST_CHECK;

/* Append the whole of @path to @b. -EFBIG if it is longer than @max bytes, -ENOENT if it is not there. */
int file_read(const char *path, size_t max, struct buf *b, struct err *e) MUST_CHECK;

/*
 * Replace @path by @n bytes of @data, with @mode: after a cut at any point there is the old file or the new one,
 * whole. A temporary file beside it is written and flushed, renamed over it, and the folder is flushed.
 * Commit point: the rename. On failure the old file is there as before and the temporary one is gone; a rename that cannot
 * be flushed is taken back. -EINPROGRESS: that failed too, and what is there, or will be after a cut, may be either.
 */
int file_replace(const char *path, const void *data, size_t n, mode_t mode, struct err *e) MUST_CHECK;

/* Make a rename or an unlink in @dir durable. */
int dir_flush(const char *dir, struct err *e) MUST_CHECK;

/* Make the name of @path durable: flush the folder that holds it. */
int file_flush_name(const char *path, struct err *e) MUST_CHECK;

/*
 * Make all that was written to @path durable, by whoever: data, size and times of a file, the cache of a block device.
 * -ENOENT.
 */
int file_flush(const char *path, struct err *e) MUST_CHECK;

/* Rename @tmp, which is flushed already, to @path, and make that durable. */
int file_place(const char *tmp, const char *path, struct err *e) MUST_CHECK;

/* The same where nothing may be replaced: -EEXIST if @path is there. Its name is not durable yet. */
int file_place_new(const char *tmp, const char *path, struct err *e) MUST_CHECK;

/* Make @path and what is missing above it, with @mode. Existing folders are left as they are. */
int dir_make(const char *path, mode_t mode, struct err *e) MUST_CHECK;

bool file_exists(const char *path);

/*
 * @path as a name that holds in any working folder: absolute, where a relative @path counts from the folder of
 * @file ("" or a bare name: the working folder). Nothing is resolved or looked at. Caller frees; NULL: no memory, or
 * the working folder is gone.
 */
char *path_beside(const char *file, const char *path);

/*
 * How many bytes @path has, and how many of them its file system has given it. A block device has all of its bytes: what
 * stat(2) says of one is of its node in /dev. False: it is not there, or cannot be asked; both are 0 then. Either may be NULL.
 */
bool file_measure(const char *path, uint64_t *size, uint64_t *allocated);

/* Free bytes for an ordinary user in the file system that holds @path. */
int file_free_space(const char *path, uint64_t *bytes, struct err *e) MUST_CHECK;

/*
 * The lock that belongs to a live process and dies with it: flock() on @path, created 0600 when missing.
 *
 * @what:    written into the file for others to read ("4711 snapshot-create-as")
 * @wait_ms: how long to wait for the holder
 * @fd:      out; closing it gives the lock back
 *
 * -EBUSY, naming the holder's pid and what it does.
 */
int lock_take(const char *path, const char *what, uint64_t wait_ms, int *fd, struct err *e) MUST_CHECK;

/* Who holds the lock now: "snapshot-create-as (process 4711)" into @out, or false when it is free. */
bool lock_holder(const char *path, char *out, size_t size);

/* Whether both are there and are the same file. */
bool same_file(const char *a, const char *b);

#endif
