/* Every image that a power cut could leave behind. */
#ifndef HARNESS_CRASH_H
#define HARNESS_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/logdev.h"

/*
 * A cut leaves all that was done before the last completed flush, and any subset of what came after it. Order
 * among what survives is kept (the page cache keeps it too); a write survives whole, not at all, or torn at the
 * 512-byte boundaries of the device; truncations and clearings are as such. A file may also have grown without
 * the data that made it grow.
 */
struct crash_opts {
	unsigned all_subsets; /* every subset of up to this many units; 0: 10 */
	unsigned budget;      /* about how many sampled states for a larger stretch between flushes; 0: 400 */
	uint64_t seed;	      /* of the sampled ones */
};

struct crash_epoch; /* private: what can be lost at this point */

struct crash_state {
	const uint8_t *bytes; /* borrowed until the visitor returns; not to be changed */
	uint64_t size;
	unsigned n_flushed; /* flushes completed before the cut */
	bool complete;	    /* nothing lost: the content after the last recorded operation */
	bool durable;	    /* complete, and the last recorded operation was a flush */
	const struct crash_epoch *epoch;
};

struct crash_stats {
	uint64_t n_built, n_distinct;
	unsigned n_epochs;
	size_t n_ops;
};

/* Return nonzero to stop. */
typedef int crash_visit(const struct crash_state *s, void *ctx);

/*
 * Visit each distinct image that a cut during the recording of @d could leave, the first being the content at
 * its start.
 *
 * @stats: out, may be NULL
 *
 * Returns what the visitor stopped with, or 0. The device itself is not touched. Aborts without memory.
 */
int crash_states(const struct logdev *d, const struct crash_opts *o, crash_visit *visit, void *ctx,
		 struct crash_stats *stats);

/* Say which operations a state has and lacks, for the message of a failing test. */
void crash_describe(const struct crash_state *s, char *out, size_t n);

/* A hash of an image's content and size that equal images share. */
uint64_t crash_hash(const uint8_t *bytes, uint64_t size);

#endif
