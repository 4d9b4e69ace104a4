/* What the files of engine/archive/ share: private to the room. */
#ifndef ENGINE_ARCHIVE_INTERNAL_H
#define ENGINE_ARCHIVE_INTERNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/archive/archive.h"
#include "lib/buf.h"
#include "lib/err.h"

struct json;
struct json_doc;

#define ARCHIVE_PAGE      4096u
#define ARCHIVE_CHUNK     65536u /* bytes of data in one record, at most */
#define ARCHIVE_PARTS_MAX 40     /* more than a VM can have disks */

enum archive_role {
	ARCHIVE_DISK,
	ARCHIVE_NVRAM,  /* the firmware's variables */
	ARCHIVE_RAM,    /* of an instant checkpoint: the guest's memory as it is */
	ARCHIVE_MEMORY, /* QEMU's stream */
};

struct archive_part {
	enum archive_role role;
	const char *name; /* of a disk; else "" */
	uint64_t size;    /* bytes; what no record has of them reads as zeros */
	uint64_t data;    /* bytes that records have, at most */
};

/* One that is being written, or read. */
struct archive {
	int fd;
	const char *name;                    /* for messages; borrowed */
	const volatile sig_atomic_t *cancel; /* looked at between records; NULL: nothing to look at */
	uint8_t *buf;                        /* what is not written yet, or not taken yet */
	size_t at, n;
	uint64_t off;                        /* of the next record, in bytes from the start */
	uint64_t chain;                      /* the last record's own checksum */
	const struct archive_part *part;     /* reading: the one whose records come */
	uint64_t next, left;                 /* ... where its next data may begin, and how much there may be */
};

/* ---- archive.c ---- */

/* Begin with @manifest (JSON). @fd, @name: borrowed. archive_done(), also when this fails. -EFBIG: too long a manifest. */
int archive_create(struct archive *a, int fd, const char *name, const struct buf *manifest, struct err *e) MUST_CHECK;

/*
 * The next part's bytes: @n of them (at most ARCHIVE_CHUNK) from its byte @at on, each time further on than before. Of
 * memory all, without a gap; of ram whole pages; else whole chunks, where the last one ends with the part.
 */
int archive_put(struct archive *a, uint64_t at, const void *data, size_t n, struct err *e) MUST_CHECK;

/* The part is complete. */
int archive_put_end(struct archive *a, struct err *e) MUST_CHECK;

/* All parts are: write what is left. Not durable before an fsync(). */
int archive_finish(struct archive *a, struct err *e) MUST_CHECK;

/* Whether the file at @path begins as an archive does. */
bool archive_is(const char *path);

/* Begin to read. @manifest: out. -EUCLEAN: no archive. -EOPNOTSUPP: of another version. */
int archive_open(struct archive *a, int fd, const char *name, struct json_doc **manifest, struct err *e) MUST_CHECK;

/* What a manifest says of its parts. @parts: room for ARCHIVE_PARTS_MAX. Names are borrowed from @manifest. */
int archive_parts(const struct archive *a, const struct json *manifest, struct archive_part *parts, size_t *n, struct err *e)
	MUST_CHECK;

/* Whether @s may be shown on a terminal. */
bool archive_plain(const char *s);

/* From here on read @p, in the manifest's order. Borrowed until its end. */
void archive_part(struct archive *a, const struct archive_part *p);

/*
 * Its next piece of data: @n bytes for byte @at, further on than the last one and within the part; borrowed until the next
 * call. @n is 0 at the part's end.
 */
int archive_get(struct archive *a, uint64_t *at, const uint8_t **data, size_t *n, struct err *e) MUST_CHECK;

/* Behind the last part: nothing is missing, and nothing follows (in a file or a pipe; a device may be longer). */
int archive_end(struct archive *a, struct err *e) MUST_CHECK;

/* All zero is fine. The descriptor stays open. */
void archive_done(struct archive *a);
#define auto_archive __attribute__((cleanup(archive_done)))
extern const char *const archive_roles[];  /* the format's words for enum archive_role */
extern const char *const archive_states[]; /* ... and for enum fermata_snap_state */

#endif
