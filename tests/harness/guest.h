/* What a guest sees in a qcow2 image, read straight from the bytes; shares nothing with the code under test. */
#ifndef HARNESS_GUEST_H
#define HARNESS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_MAX_SNAPS	  96
#define GUEST_MAX_BITMAPS 16

/* An image, and the raw content of its backing file if it has one. Borrowed. */
struct guest_img {
	const uint8_t *bytes;
	uint64_t size;
	const uint8_t *backing;
	uint64_t backing_size;
};

struct guest_snap {
	char id[16], name[64];
	uint64_t vmstate, disk_size;
	uint64_t meta;	  /* hash of dates, clock, sizes, and extra data past the known fields */
	uint64_t content; /* hash of the disk's and the VM state's content */
};

struct guest_bitmap {
	char name[32];
	uint32_t flags;
	unsigned gran_bits;
	uint64_t content; /* hash of the bits and the extra data */
	bool ones_end; /* its last entry says "all ones" */
};

/* All that an operation is about, as hashes: equal images have equal states. */
struct guest_state {
	char why[200]; /* "" or what makes the image unreadable */
	unsigned version, cluster_bits, refcount_bits;
	uint64_t incompatible, compatible, autoclear;
	uint64_t size;
	uint64_t backing; /* hash of name and format */
	uint64_t exts;	  /* hash of the extensions that are nobody's business */
	uint64_t content; /* of the active disk */
	unsigned n_snaps, n_bitmaps;
	struct guest_snap snaps[GUEST_MAX_SNAPS];
	struct guest_bitmap bitmaps[GUEST_MAX_BITMAPS];
};

/*
 * Read @n bytes of the guest's disk at @off.
 *
 * @snap: index in the snapshot table, or -1 for the active disk
 * @why:  out, 200 bytes: what is wrong, when -1 is returned
 *
 * Behind the disk's end the VM state is read. Raw encryption and external data files are not known.
 */
int guest_read(const struct guest_img *g, int snap, uint64_t off, void *buf, size_t n, char *why);

/* Read everything. Returns 0, or -1 with s->why set. */
int guest_state(const struct guest_img *g, struct guest_state *s);

/* Are two states the same in all but feature bits? If not, @why (200 bytes) says where they differ. */
bool guest_same(const struct guest_state *a, const struct guest_state *b, char *why);

#endif
