/* What a guest would read of one image, or of several in a row, written into another: convert. */
#ifndef QCOW2_IMAGE_COPY_H
#define QCOW2_IMAGE_COPY_H

#include "qcow2/image/image.h"

struct copy {
	struct image *const *from; /* chains of image_open_chain(); where there are several, one disk behind the other */
	unsigned n_from;
	int snap;                  /* of the only one: an internal snapshot's index, or -1 */
	uint64_t size;             /* of all of it: copy_size() */
	struct image *to;          /* open for changes, with its backing files if it has any; as large, or larger */
	bool fresh;                /* has nothing yet: reads as its backing file, or as zeros */
	uint64_t sparse;           /* zeros of this length need not be data; 0: all is written */
	bool pack;                 /* write compressed clusters, where that makes them smaller */
	bool salvage;              /* what cannot be read becomes zeros, and warn() is told */
	uint64_t rate;             /* bytes a second at most; 0: as fast as can be */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void (*warn)(void *ctx, const char *message);
	void *ctx;
};

/* What the disks add up to. */
uint64_t copy_size(struct image *const *from, unsigned n, int snap);

/*
 * Afterwards, durable, [0, size) of the target reads as the sources do. What its backing file has at the same place, or
 * with the same content, is not written. A new qcow2 image gets its content by qcow2_fill_end(), others by the writer's
 * commits (writer.h), so a cut leaves parts of both.
 */
int image_copy(const struct copy *c, struct err *e) MUST_CHECK;

#endif
