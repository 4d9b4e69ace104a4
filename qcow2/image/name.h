/*
 * What people, scripts and overlays call an image: a path; "file:PATH", in which a colon is none of a protocol;
 * "json:{...}", a block node as QEMU describes one; or the same as "KEY=VALUE,...". Only local files can be meant.
 */
#ifndef QCOW2_IMAGE_NAME_H
#define QCOW2_IMAGE_NAME_H

#include <stdbool.h>

#include "lib/err.h"

struct image_name {
	char *path;                 /* for open(2) */
	const char *format;         /* "qcow2" or "raw"; NULL: not said */
	bool share;                 /* whoever uses it may go on: force-share, or no locking */
	bool read_only;             /* is not to be changed */
	bool alone;                 /* nothing is below it, whatever it records */
	struct image_name *backing; /* is below it instead of what it records; NULL: none said */
};

/*
 * Read a name that stands where a path may stand. -EOPNOTSUPP: not a local file, or a node that we cannot be, the part
 * that is to blame named; -EINVAL: says nothing.
 */
int image_name_read(const char *name, struct image_name **out, struct err *e) MUST_CHECK;

/* Read a node's options "driver=qcow2,file.filename=PATH"; a comma inside a value is doubled. */
int image_name_options(const char *options, struct image_name **out, struct err *e) MUST_CHECK;

void image_name_free(struct image_name *n); /* NULL is fine */

static inline void image_name_freep(struct image_name **n)
{
	image_name_free(*n);
}
#define auto_name __attribute__((cleanup(image_name_freep)))

/* Is @name a "protocol:..." of QEMU's rather than a file? */
bool image_is_remote(const char *name);

#endif
