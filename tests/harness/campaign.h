/* One operation on one image, through every power cut, every failing device operation, every refused allocation. */
#ifndef HARNESS_CAMPAIGN_H
#define HARNESS_CAMPAIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/dev.h"
#include "qcow2/qcow2.h"

#define CAMPAIGN_MAY_REFUSE 1 /* subject.refuses: any error will do, but nothing may be written */

struct guest_state;

struct subject {
	char name[80];
	const uint8_t *bytes; /* the image before; borrowed */
	size_t n;
	const uint8_t *backing; /* its backing file's raw content, or NULL */
	size_t backing_n;
	int (*op)(struct qcow2 *q, void *arg, struct err *e); /* what is tried on an open handle */
	void *arg;
	unsigned open_flags;	/* besides QCOW2_RW */
	int refuses;		/* the operation has to fail with this (negative errno) and change nothing; 0: succeeds */
	bool leaks_stay;	/* the image leaks to begin with */
	/* Is the outcome what the operation is for? NULL: not asked. @why: 200 bytes. */
	bool (*expect)(const struct subject *s, const struct guest_state *before, const struct guest_state *after,
		       char *why);
};

struct campaign_stats {
	uint64_t n_subjects, n_refused, n_states, n_distinct, n_faults, n_allocs, n_qemu, n_leaky;
};
extern struct campaign_stats campaign_stats;

/*
 * Every state a cut could leave opens, shows the old or the new image to two readers, and has at most leaks; the
 * complete one is new and durable. qemu-img is asked about a sample (all of them when FERMATA_SOAK is set).
 * Returns 0, or -1 with @why (600 bytes) set.
 */
int campaign_crash(const struct subject *s, uint64_t seed, char *why);

/* With each flush in turn left out, campaign_crash() has to find something. Returns 0, or -1 with @why set. */
int campaign_mutations(const struct subject *s, uint64_t seed, char *why);

/* Fail each device operation in turn, once and for good, with EIO, ENOSPC and a short read; then each allocation. */
int campaign_faults(const struct subject *s, char *why);
int campaign_allocs(const struct subject *s, char *why);

bool campaign_soaking(void);

#endif
