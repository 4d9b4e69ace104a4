/* The images that every operation is tried on: small, and each with something that the others have not. */
#ifndef HARNESS_ZOO_H
#define HARNESS_ZOO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/guest.h"

struct zoo_animal {
	const char *name;
	unsigned version, cluster_bits, refcount_bits;
	unsigned size_kib;
	unsigned n_snaps;
	unsigned l1_size, rt_clusters;
	bool ext_l2, backing, packed, vmstate, bitmaps, odd_extra, unknown;
	bool backing_long;  /* the backing file goes on behind this disk's end */
	bool stale;	    /* the active layer has VM state left behind its end */
	bool grown;	    /* the disk was smaller when the first snapshot was taken */
	unsigned name_len;  /* snapshots' names are padded to this */
	unsigned dirty_pct; /* how much of the disk is rewritten between snapshots; 0: 30 */
	unsigned fill_to;   /* leaked clusters up to this number of clusters: what comes next grows a table */
};

extern const struct zoo_animal zoo[];
extern const size_t zoo_n;

/* Build one; the caller frees the bytes. @backing: out, its backing file's raw content or NULL; freed too. */
uint8_t *zoo_make(const struct zoo_animal *a, uint64_t seed, size_t *n, uint8_t **backing, size_t *backing_n);

#endif
