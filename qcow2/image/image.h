/*
 * Images of either format, qcow2 or raw, alone or on top of their chain: for who reads what a guest would read.
 *
 * A relative backing name counts from its image's folder, a relative data file's name from the working folder, as
 * QEMU has both.
 */
#ifndef QCOW2_IMAGE_IMAGE_H
#define QCOW2_IMAGE_IMAGE_H

#include <sys/types.h>

#include "qcow2/image/name.h"
#include "qcow2/qcow2.h"

struct image {
	char *path;            /* as typed, or as the overlay names it */
	const char *format;    /* "qcow2" or "raw", or what qcow2_probe() has found if @foreign */
	struct qcow2 *q;       /* NULL: raw */
	struct dev *dev;       /* the file */
	dev_t st_dev;          /* what the file is; st_ino 0: not known */
	ino_t st_ino;
	struct dev *data;      /* where guest data lies: @dev or the data file. NULL until image_open_chain() */
	uint64_t size;         /* of the virtual disk: whole sectors */
	bool probed;           /* the format was found out, not given */
	bool foreign;          /* and is one that cannot be read: see QCOW2_FOREIGN. @size is the file's */
	bool sparse;           /* its data clusters may be holes of the file: metadata was preallocated */
	struct image *backing; /* NULL: none, or the chain was not asked for */
	struct {
		uint64_t from, to;
		bool data;
	} extent;              /* of @data's file, looked at last: asking costs time that grows with its length */
	uint8_t *inflated;     /* the compressed cluster read last */
	uint64_t inflated_at;  /* its place in @data */
	struct zstd *zstd;     /* what that takes, once it was needed */
};

/*
 * Open one image and lock it as QEMU does (not with QCOW2_SHARE).
 *
 * @format: "qcow2", "raw" or NULL: look at the first bytes
 * @flags:  enum qcow2_open_flags
 * @out:    image_close()
 */
int image_open(const char *path, const char *format, unsigned flags, struct image **out, struct err *e) MUST_CHECK;

/*
 * The same for reading guest data: the data file and all backing files too, read-only.
 *
 * A backing format that is not recorded is found out, but a file found to be qcow2 like that may not name further files:
 * a guest that once wrote to it as a raw disk could have it name any file of the host.
 * -EOPNOTSUPP: encryption, a backing file that is not a local file; -EUCLEAN: the chain comes back to itself.
 */
int image_open_chain(const char *path, const char *format, unsigned flags, struct image **out, struct err *e) MUST_CHECK;

/*
 * Open the image behind @img into *@out; NULL if there is none. No data file and nothing further is opened.
 */
int image_open_backing(const struct image *img, unsigned flags, struct image **out, struct err *e) MUST_CHECK;

/* What is missing of the chain below an image that image_open() has opened, and its data. */
int image_open_below(struct image *img, unsigned flags, struct err *e) MUST_CHECK;

/* Are these the same file? */
bool image_same(const struct image *a, const struct image *b);

/* -EUCLEAN if @next, about to become the lowest image of @top's chain, is in it already; -EFBIG: too deep. */
int image_check_loop(const struct image *top, const struct image *next, struct err *e) MUST_CHECK;

/*
 * Change over to writing, with QEMU's locks for that: what was read of the image before is read afresh. After a failure
 * the chain can only be closed.
 */
int image_reopen_rw(struct image *img, struct err *e) MUST_CHECK;

void image_close(struct image *img); /* with its backing files; NULL is fine */

static inline void image_closep(struct image **img)
{
	image_close(*img);
}
#define auto_image __attribute__((cleanup(image_closep)))

/* The path that @image's backing name stands for. Caller frees; NULL: no memory. */
char *image_backing_path(const char *image, const char *backing);

struct image_run {
	uint64_t goff, len;
	unsigned depth;         /* how many images below the top one */
	const struct image *at; /* the image that decided */
	bool present, data, zero, compressed, has_hoff;
	uint64_t hoff;          /* into at->data */
	uint64_t clen;          /* of compressed data there */
};

/*
 * What a reader of the chain finds at @goff, for at most @len bytes.
 * @snap: of the top image; -1: its active layer. Not data and not zero cannot be: what nobody has reads as zeros.
 */
int image_map(struct image *top, int snap, uint64_t goff, uint64_t len, struct image_run *run, struct err *e) MUST_CHECK;

/* The same, as far as the images above @stop decide: @run->at is @stop where they do not, and nothing else is known then. */
int image_map_to(struct image *top, const struct image *stop, int snap, uint64_t goff, uint64_t len, struct image_run *run,
	struct err *e) MUST_CHECK;

/* Bytes of the disk that lie in this file itself. */
int image_allocated(struct image *img, uint64_t *bytes, struct err *e) MUST_CHECK;

/* Read guest data; what lies past the disk's end reads as zeros. */
int image_read(struct image *top, int snap, uint64_t goff, void *buf, size_t n, struct err *e) MUST_CHECK;

/* Read VM state of a snapshot of @img itself, within its size. -ENODATA: a part of it is not there. */
int image_read_vm_state(struct image *img, unsigned index, uint64_t off, void *buf, size_t n, struct err *e) MUST_CHECK;

/* The same as image_read() when image_map() has told already: [@goff, @goff + @n) lies within @run. */
int image_read_run(const struct image_run *run, uint64_t goff, void *buf, size_t n, struct err *e) MUST_CHECK;

#endif
