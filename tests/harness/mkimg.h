/* qcow2 images made to measure, in memory; shares nothing with the code under test. */
#ifndef HARNESS_MKIMG_H
#define HARNESS_MKIMG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mkimg_opts {
	unsigned version;	/* 2 or 3; 0: 3 */
	unsigned cluster_bits;	/* 9..21; 0: 9; extended L2 needs 14 */
	unsigned refcount_bits; /* 1..64; 0: 16 */
	unsigned header_length; /* version 3: 104 or more; 0: 112 */
	uint64_t size;		/* bytes of the virtual disk */
	uint64_t incompatible, compatible, autoclear; /* besides what the content asks for */
	unsigned l1_size;	/* entries; 0: as many as the disk needs */
	unsigned rt_clusters;	/* of the refcount table, if more than the file needs */
	bool ext_l2;
	const char *backing, *backing_fmt; /* fmt NULL: not recorded */
};

struct mkimg_snap {
	const char *id, *name;
	unsigned extra_len; /* bytes of extra data; below 16 the sizes go into the old fields; what is past them is seeded */
	uint32_t date_s, date_ns;
	uint64_t clock_ns;
	uint64_t vmstate; /* bytes of VM state, 0 for none */
	uint64_t vm_seed;
};

struct mkimg_bitmap {
	const char *name;
	uint32_t flags; /* bit 0 in use, 1 auto, 2 extra data compatible */
	unsigned gran_bits;
	unsigned extra_len;
	uint64_t seed;
};

struct mkimg; /* an image being made; every function aborts on a mistake of the test */

struct mkimg *mkimg_new(const struct mkimg_opts *o);

/* What guest cluster @gc holds from now on. The content follows from the seed: mkimg_fill(). */
void mkimg_data(struct mkimg *m, uint64_t gc, uint64_t seed);
void mkimg_compressed(struct mkimg *m, uint64_t gc, uint64_t seed);
void mkimg_zero(struct mkimg *m, uint64_t gc, bool keep); /* keep: the host cluster stays, as preallocation */
void mkimg_discard(struct mkimg *m, uint64_t gc);
void mkimg_sub(struct mkimg *m, uint64_t gc, uint32_t alloc, uint32_t zeros, uint64_t seed); /* extended L2 */

/* Freeze what is there. */
void mkimg_snapshot(struct mkimg *m, const struct mkimg_snap *s);

/* Make the virtual disk larger. */
void mkimg_grow(struct mkimg *m, uint64_t size);
void mkimg_add_bitmap(struct mkimg *m, const struct mkimg_bitmap *b);
void mkimg_ext(struct mkimg *m, uint32_t type, const void *data, uint32_t n);

/* Clusters with a refcount that nothing uses. */
void mkimg_leak(struct mkimg *m, unsigned n);

/* The image; frees @m, the caller frees the bytes. */
uint8_t *mkimg_finish(struct mkimg *m, size_t *n);

/* The content of a data cluster (@packed: of a compressed one, which repeats every 16 bytes) made with @seed. */
void mkimg_fill(uint8_t *buf, size_t n, uint64_t seed, bool packed);

#endif
