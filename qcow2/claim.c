/* What references use: a region is counted into the cells of the window that is looked at. */
#include "qcow2/check.h"

#define NEAR 65536 /* clusters behind a small file's end that it might grow to */

/*
 * A region behind the file's end. What repair makes must not come to lie there, or the reference would be good all of
 * a sudden; so what is near enough to be reached by a growing file is counted then too.
 */
static bool claim_past(struct chk *c, uint64_t off, uint64_t n, uint32_t times)
{
	uint64_t end;

	found(c, F_PAST_END, times, off, n);
	if (__builtin_add_overflow(off, n, &end) || end >> c->q->h.cluster_bits > 2 * c->n_clusters + NEAR)
		return false;
	if (q_clusters(c->q, end) > c->n_past)
		c->n_past = q_clusters(c->q, end);
	return c->apply;
}

bool claim(struct chk *c, uint64_t off, uint64_t n, enum use use, uint32_t times, bool *clash)
{
	uint64_t end = 0, last;
	bool other = false, past;

	if (!n)
		return true;
	past = __builtin_add_overflow(off, n, &end) || end >= c->q->dev->size + c->q->cluster;
	if (past && !claim_past(c, off, n, times))
		return false;
	last = (end - 1) >> c->q->h.cluster_bits;
	for (uint64_t k = off >> c->q->h.cluster_bits; k <= last; k++) {
		uint64_t i = k - c->cells.first;

		if (i >= c->cells.n)
			continue;
		if (c->cells.width == 1)
			other = cell_add(&c->cells, 1, i, use, times);
		else
			other = cell_add(&c->cells, c->cells.width, i, use, times);
		if (other && clash)
			*clash = true;
		else if (other)
			found(c, F_OVERLAP, 1, k);
	}
	return !past;
}
