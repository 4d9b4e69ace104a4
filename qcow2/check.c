/* Check: every structure of an image is walked, every reference counted, and the counts compared with the refcounts. */
#include "qcow2/check.h"

#include <stdlib.h>

#define CELLS_CAP (32 * MIB)
#define TAB_MAX   65536     /* L2 tables sorted and read together */
#define TAB_MIN   64
#define BUF_MAX   (256 * KIB)
#define MAX_CHECK (1ull << 31) /* clusters; QEMU's limit too */

static int chk_run(struct chk *c, struct err *e)
{
	qcow2_report *report = c->report;

	if (!c->fix)
		return check_windows(c, e);
	/* Twice before anything is repaired: what can be is known only at the end, and each line is to say the truth. */
	c->report = NULL;
	if (check_windows(c, e) < 0)
		return e->code;
	repair_plan(c);
	c->report = report;
	memset(c->seen, 0, sizeof c->seen);
	*c->r = (struct qcow2_check){ .total_clusters = c->r->total_clusters };
	return check_windows(c, e);
}

static uint64_t clamp(uint64_t v, uint64_t min, uint64_t max)
{
	return v < min ? min : v > max ? max : v;
}

int check_within(struct qcow2 *q, unsigned fix, qcow2_report *report, void *ctx, uint64_t cells, struct qcow2_check *out,
	struct err *e)
{
	auto_free struct chk *c = calloc(1, sizeof *c);
	uint64_t n = q_clusters(q, q->dev->size), tabs = clamp(n, TAB_MIN, TAB_MAX);
	uint64_t room = q->cluster > BUF_MAX ? q->cluster : clamp(q->dev->size, q->cluster, BUF_MAX);
	auto_free uint8_t *buf = malloc(room);
	auto_free struct l2ref *tab = malloc(tabs * sizeof *tab);
	auto_free uint64_t *l1 = malloc(2 * L1_CHUNK * 8);
	int r;

	*out = (struct qcow2_check){ .total_clusters = q_clusters(q, q->h.size), .check_errors = 1 };
	if (!c || !buf || !tab || !l1)
		return q_nomem(e);
	if (fix && !q->rw)
		return err_set(e, -EROFS, "cannot repair: the image is open for reading only");
	if (n > MAX_CHECK)
		return err_set(e, -EFBIG, "cannot check a file of more than 2^31 clusters");
	*c = (struct chk){ .q = q, .fix = fix, .report = report, .ctx = ctx, .r = out, .n_clusters = n, .tab = tab,
		.tab_len = tabs, .buf = buf, .buf_len = room, .l1 = l1, .rt = l1 + L1_CHUNK };
	c->mend = c->flags = c->shared = fix & QCOW2_FIX_ERRORS;
	c->cells.width = 1;
	c->cells.cap = cells;
	r = chk_run(c, e);
	if (r >= 0) {
		out->check_errors = 0;
		r = repair(c, e);
	}
	free(c->cells.p);
	return r;
}

int qcow2_check(struct qcow2 *q, unsigned fix, qcow2_report *report, void *ctx, struct qcow2_check *out, struct err *e)
{
	return check_within(q, fix, report, ctx, CELLS_CAP, out, e);
}
