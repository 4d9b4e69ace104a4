#include "qcow2/cells.h"

#include <stdlib.h>

int cells_window(struct cells *c, uint64_t first, uint64_t total, struct err *e)
{
	uint64_t n = c->cap / c->width;

	c->first = first;
	c->n = n < total - first ? n : total - first;
	c->full = false;
	free(c->p);
	c->p = calloc(c->n, c->width); /* what no reference touches costs no memory */
	return c->p ? 0 : err_nomem(e, "count references");
}
