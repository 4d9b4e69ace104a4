/* A refcount judge of its own: what uses each host cluster, against what the image says. */
#ifndef HARNESS_JUDGE_H
#define HARNESS_JUDGE_H

#include <stdint.h>

struct judge {
	uint64_t leaks; /* clusters whose refcount is above what uses them */
	uint64_t flags; /* COPIED flags that differ from (refcount == 1) without danger to data */
	uint64_t bad;	/* anything that loses or mixes data: refcount too low, COPIED on shared, overlaps, wild pointers */
	char first_bad[200], first_flag[120];
};

/* Walk the whole image. Never fails: what cannot be read is bad. */
void judge_image(const uint8_t *bytes, uint64_t size, struct judge *j);

#endif
