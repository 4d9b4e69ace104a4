/* How often each cluster of a file is referenced, and as what: one small cell for each, wider only if it has to be. */
#ifndef QCOW2_CELLS_H
#define QCOW2_CELLS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lib/err.h"

/* What a cluster is used as. Only data and L2 tables may be referenced more than once. */
enum use { USE_NONE, USE_DATA, USE_L2, USE_META };

/*
 * Cells for the clusters [first, first + n): a window over a file that may have more clusters than we want to hold
 * at once. A cell has its use in the two upper bits and the count below; a count of all ones is one that did not fit.
 */
struct cells {
	uint8_t *p;
	unsigned width; /* bytes of a cell: 1, 2 or 4 */
	uint64_t first, n;
	uint64_t cap;   /* bytes to use at most */
	bool full;      /* a count did not fit: count again with wider cells */
};

static inline uint32_t cell_mask(unsigned width)
{
	return (1u << (8 * width - 2)) - 1;
}

static inline uint32_t cell_load(const uint8_t *p, unsigned width, uint64_t i)
{
	uint16_t v2;
	uint32_t v4;

	switch (width) {
	case 1: return p[i];
	case 2: memcpy(&v2, p + 2 * i, 2); return v2;
	}
	memcpy(&v4, p + 4 * i, 4);
	return v4;
}

static inline void cell_store(uint8_t *p, unsigned width, uint64_t i, uint32_t v)
{
	uint16_t v2 = (uint16_t)v;

	switch (width) {
	case 1: p[i] = (uint8_t)v; return;
	case 2: memcpy(p + 2 * i, &v2, 2); return;
	}
	memcpy(p + 4 * i, &v, 4);
}

/* Count cell @i @m times more, as @use. True if that use and an earlier one exclude each other. */
static inline __attribute__((always_inline)) bool cell_add(struct cells *c, unsigned width, uint64_t i, enum use use,
	uint32_t m)
{
	uint32_t mask = cell_mask(width), v = cell_load(c->p, width, i), n = v & mask;
	enum use had = (enum use)(v >> (8 * width - 2));

	c->full |= m >= mask - n;
	n = m >= mask - n ? mask : n + m;
	cell_store(c->p, width, i, n | (uint32_t)(had > use ? had : use) << (8 * width - 2));
	return had && (had != use || use == USE_META);
}

static inline uint32_t cell_count(const struct cells *c, uint64_t i)
{
	return cell_load(c->p, c->width, i) & cell_mask(c->width);
}

/* What a cell says after its refcount has been looked at, in the stead of a count. */
enum rc_state { RC_UNKNOWN, RC_ONE, RC_OTHER };

/* Is it plain that this COPIED flag agrees with the refcount? */
static inline bool flag_right(const struct cells *c, uint64_t cluster, bool copied)
{
	uint64_t i = cluster - c->first;
	uint32_t state = i < c->n ? cell_load(c->p, c->width, i) : RC_UNKNOWN;

	return state && (state == RC_ONE) == copied;
}

/* Empty cells for the window that starts at cluster @first of @total. All zero but for width and cap at first. */
int cells_window(struct cells *c, uint64_t first, uint64_t total, struct err *e) MUST_CHECK;

#endif
