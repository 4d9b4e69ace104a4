/* A device in memory that records what is done to it, and fails where it is told to. */
#ifndef HARNESS_LOGDEV_H
#define HARNESS_LOGDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/dev.h"

enum log_kind { LOG_READ = 1, LOG_WRITE = 2, LOG_FLUSH = 4, LOG_TRUNC = 8, LOG_ZERO = 16 };
#define LOG_ANY	    (LOG_READ | LOG_WRITE | LOG_FLUSH | LOG_TRUNC | LOG_ZERO)
#define LOG_CHANGES (LOG_WRITE | LOG_FLUSH | LOG_TRUNC | LOG_ZERO)
#define LOG_NEVER   UINT64_MAX

/* One recorded change. Reads are counted, not kept. */
struct log_op {
	enum log_kind kind;
	uint64_t off;	/* LOG_TRUNC: the new size */
	uint64_t n;	/* bytes; 0 for a flush */
	uint8_t *data;	/* LOG_WRITE only */
};

struct logdev {
	struct dev dev;
	uint8_t *bytes; /* the content now, dev.size bytes of it */
	size_t cap;
	uint64_t max_size; /* growing beyond is -ENOSPC */
	bool closed;	   /* dev_close() was called: the device stays readable for the test */

	uint8_t *base; /* the content when recording began */
	uint64_t base_size;
	struct log_op *ops;
	size_t n_ops, cap_ops;
	bool recording;

	/* Which operation fails: the @fail_at-th (from 0) of those in @fail_kinds. */
	unsigned fail_kinds;
	uint64_t fail_at;
	int fail_errno; /* positive; ENODATA on a read is the short read */
	bool fail_stays; /* and all of those kinds after it */
	uint64_t seen;	/* operations of these kinds so far */
	bool hit;	/* the fault has been met */

	uint64_t skip_flush; /* this flush (from 0) says yes and does nothing: a mutation that tests must notice */
	uint64_t n_flush;
	uint64_t n_reads, n_changes; /* since the last logdev_record() */
};

/* A device holding a copy of @n bytes (or empty when @bytes is NULL). Never fails: a test without memory aborts. */
struct logdev *logdev_new(const void *bytes, size_t n);
void logdev_free(struct logdev *d);
static inline void logdev_freep(struct logdev **d)
{
	logdev_free(*d);
}
#define auto_logdev __attribute__((cleanup(logdev_freep)))

/* Start recording from the present content; forgets what was recorded before and re-arms the counters. */
void logdev_record(struct logdev *d);

/* Fail operation @at of @kinds with @errnum, once or for good. LOG_NEVER disarms. Restarts the counting. */
void logdev_fail(struct logdev *d, unsigned kinds, uint64_t at, int errnum, bool stays);

/* Put the content back to what it was when recording began, faults disarmed, open again. */
void logdev_rewind(struct logdev *d);

/* Replace the content. */
void logdev_set(struct logdev *d, const void *bytes, size_t n);

/* Write the content to a file, for a second judge. Aborts on failure. */
void logdev_export(const struct logdev *d, const char *path);
void bytes_export(const void *bytes, size_t n, const char *path);
/* Read a whole file; caller frees. NULL if it is not there. */
uint8_t *bytes_import(const char *path, size_t *n);

#endif
