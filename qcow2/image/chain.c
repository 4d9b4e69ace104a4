/* See chain.h. */
#include "qcow2/image/chain.h"

#include <inttypes.h>
#include <string.h>

#include "qcow2/image/writer.h"
#include "qcow2/internal.h"

#define PIECE (2 * MIB) /* what is read and written at once; no cluster is larger */
#define BATCH (256 * MIB)

enum what { SKIP, ZERO, COPY, COMPARE };

/* One of the three operations. */
struct op {
	struct image *top;
	struct image *stop;   /* what the images above it decide is copied; NULL: to the chain's end */
	struct image *target;
	struct image *below;  /* the target's backing file in the end, or NULL */
	enum what (*what)(const struct op *o, const struct image_run *run, const struct image_run *there);
	bool rebase;

	const struct chain_job *job;
	struct writer *w;
	uint64_t done, total, need;
	uint8_t *buf, *other;
	uint64_t at;          /* what is in buf, not written yet: from this offset on */
	size_t n;
};

typedef int visit_fn(struct op *o, const struct image_run *run, enum what what, struct err *e);

/* ---- what has to be done with a run ---- */

/* Behind the image's end nothing is read from it. */
static uint64_t reach(const struct image *img)
{
	return img ? img->size : 0;
}

static enum what commit_what(const struct op *o, const struct image_run *run, const struct image_run *there)
{
	(void)there;
	return run->at == o->stop ? SKIP : run->zero ? ZERO : COPY;
}

static enum what pull_what(const struct op *o, const struct image_run *run, const struct image_run *there)
{
	(void)there;
	if (run->at == o->stop || (run->at == o->top && run->present))
		return SKIP;
	return !run->zero ? COPY : run->goff < reach(o->below) ? ZERO : SKIP;
}

static enum what rebase_what(const struct op *o, const struct image_run *run, const struct image_run *there)
{
	bool same = there->at && run->present && there->present && image_same(run->at, there->at) && run->data == there->data &&
		run->hoff == there->hoff && run->zero == there->zero;

	if ((run->at == o->top && run->present) || same || (run->zero && there->zero))
		return SKIP;
	return run->zero ? ZERO : COMPARE;
}

/* ---- walking ---- */

/* The next run, cut at where @below's view of it ends. */
static int look(struct op *o, int snap, uint64_t at, uint64_t end, struct image_run *run, enum what *what, struct err *e)
{
	struct image_run there = { .zero = true, .len = UINT64_MAX };

	if (image_map_to(o->top, o->stop, snap, at, end - at, run, e) < 0)
		return e->code;
	if (at < reach(o->below)) {
		if (run->len > o->below->size - at)
			run->len = o->below->size - at;
		if (o->rebase && image_map(o->below, -1, at, run->len, &there, e) < 0)
			return e->code;
	}
	if (there.len < run->len)
		run->len = there.len;
	*what = o->what(o, run, &there);
	return 0;
}

static int walk(struct op *o, int snap, visit_fn *visit, struct err *e)
{
	uint64_t end = snap < 0 ? o->top->size : o->top->q->snaps[snap].disk_size;
	struct image_run run;
	enum what what;

	for (uint64_t at = 0; at < end; at += run.len) {
		if (look(o, snap, at, end, &run, &what, e) < 0 || (what != SKIP && visit(o, &run, what, e) < 0))
			return e->code;
	}
	return 0;
}

/* ---- before ---- */

static int count(struct op *o, const struct image_run *run, enum what what, struct err *e)
{
	uint64_t left = run->goff < o->target->size ? o->target->size - run->goff : 0, bytes = 0;

	o->total += run->len;
	if (what == ZERO)
		return 0;
	/* The base may have to grow first. */
	if (writer_cost(o->w, run->goff, run->len < left ? run->len : left, &bytes, e) < 0)
		return e->code;
	o->need += run->len > left ? run->len - left + bytes : bytes;
	return 0;
}

/* Count what is to be done, and find what cannot be. */
static int survey(struct op *o, struct err *e)
{
	if (writer_open(o->target, 0, &o->w, e) < 0 || walk(o, -1, count, e) < 0)
		return e->code;
	if (o->need && o->target->q) {
		/* An entry and a refcount for each cluster, and all tables once more for the commit. */
		uint64_t n = q_clusters(o->target->q, o->need);

		o->need += n * 32 + o->target->q->h.l1_size * 8ull + 64 * o->target->q->cluster;
	}
	writer_close(take_ptr(&o->w));
	return 0;
}

static int op_done(struct op *o, int r)
{
	writer_close(o->w);
	free(o->buf);
	free(o->other);
	return r;
}

static int cost_of(struct op *o, struct chain_cost *c, struct err *e)
{
	int r = survey(o, e);

	*c = (struct chain_cost){ o->total, o->need };
	return op_done(o, r);
}

/* ---- copying ---- */

static int written(struct op *o, uint64_t n, struct err *e)
{
	const struct chain_job *j = o->job;

	o->done += n;
	if (writer_pending(o->w) >= (j->batch ? j->batch : BATCH) && writer_commit(o->w, e) < 0)
		return e->code;
	if (j->progress && j->progress(j->ctx, o->done, o->total))
		return err_set(e, -ECANCELED, "stopped after %" PRIu64 " of %" PRIu64 " bytes", o->done, o->total);
	return 0;
}

/* Write what was gathered. */
static int flush_buf(struct op *o, struct err *e)
{
	size_t n = o->n;

	o->n = 0;
	if (!n)
		return 0;
	return writer_data(o->w, o->at, o->buf, n, e) < 0 ? e->code : written(o, n, e);
}

static int do_zero(struct op *o, uint64_t goff, uint64_t n, struct err *e)
{
	if (flush_buf(o, e) < 0 || writer_zero(o->w, goff, n, e) < 0)
		return e->code;
	return written(o, n, e);
}

/* Gather data up to the next multiple of PIECE, so that clusters stay whole. */
static int do_copy(struct op *o, const struct image_run *run, struct err *e)
{
	uint64_t goff = run->goff, end = goff + run->len;

	if (o->n && o->at + o->n != goff && flush_buf(o, e) < 0)
		return e->code;
	while (goff < end) {
		uint64_t step = PIECE - goff % PIECE;

		if (step > end - goff)
			step = end - goff;
		if (!o->n)
			o->at = goff;
		if (image_read_run(run, goff, o->buf + o->n, (size_t)step, e) < 0)
			return e->code;
		o->n += (size_t)step;
		goff += step;
		if (goff % PIECE == 0 && flush_buf(o, e) < 0)
			return e->code;
	}
	return 0;
}

/* Write those parts of buf, [@goff, @goff + @n), that differ from other; cut at the target's clusters. */
static int put_different(struct op *o, uint64_t goff, size_t n, struct err *e)
{
	uint64_t unit = o->target->q->cluster;
	size_t at = 0, from = 0;
	bool differ = false;

	while (at < n) {
		size_t step = (size_t)(unit - (goff + at) % unit);
		bool d;

		if (step > n - at)
			step = n - at;
		d = memcmp(o->buf + at, o->other + at, step) != 0;
		if (differ && !d && writer_data(o->w, goff + from, o->buf + from, at - from, e) < 0)
			return e->code;
		if (d && !differ)
			from = at;
		differ = d;
		at += step;
	}
	if (differ && writer_data(o->w, goff + from, o->buf + from, at - from, e) < 0)
		return e->code;
	return written(o, n, e);
}

/* A piece of @run and what @below has there. */
static int read_both(struct op *o, const struct image_run *run, uint64_t goff, size_t n, struct err *e)
{
	if (image_read_run(run, goff, o->buf, n, e) < 0)
		return e->code;
	memset(o->other, 0, n);
	return o->below ? image_read(o->below, -1, goff, o->other, n, e) : 0;
}

static uint64_t piece_of(const struct image_run *run, uint64_t goff)
{
	uint64_t left = run->goff + run->len - goff, step = PIECE - goff % PIECE;

	return left < step ? left : step;
}

static int do_compare(struct op *o, const struct image_run *run, struct err *e)
{
	uint64_t end = run->goff + run->len, step;

	for (uint64_t goff = run->goff; goff < end; goff += step) {
		step = piece_of(run, goff);
		if (read_both(o, run, goff, (size_t)step, e) < 0 || put_different(o, goff, (size_t)step, e) < 0)
			return e->code;
	}
	return 0;
}

static int carry_out(struct op *o, const struct image_run *run, enum what what, struct err *e)
{
	if (what == ZERO)
		return do_zero(o, run->goff, run->len, e);
	return what == COPY ? do_copy(o, run, e) : do_compare(o, run, e);
}

static int copy_all(struct op *o, struct err *e)
{
	o->buf = malloc(PIECE);
	o->other = o->rebase && !o->other ? malloc(PIECE) : o->other;
	if (!o->buf || (o->rebase && !o->other))
		return q_nomem(e);
	if (writer_open(o->target, reach(o->below), &o->w, e) < 0 || walk(o, -1, carry_out, e) < 0 || flush_buf(o, e) < 0)
		return e->code;
	return writer_commit(o->w, e);
}

/* ---- commit ---- */

static int check_between(const struct image *top, const struct image *base, struct err *e)
{
	const struct image *i = top;

	while (i && i != base)
		i = i->backing;
	return i && i != top ? 0 : err_set(e, -EINVAL, "%s is not a backing file of %s", base->path, top->path);
}

static struct op commit_op(struct image *top, struct image *base, const struct chain_job *j)
{
	return (struct op){ .top = top, .stop = base, .target = base, .below = base->backing, .what = commit_what, .job = j };
}

int chain_commit_cost(struct image *top, struct image *base, struct chain_cost *c, struct err *e)
{
	struct op o = commit_op(top, base, NULL);

	return check_between(top, base, e) < 0 ? e->code : cost_of(&o, c, e);
}

static int grow_base(struct image *base, uint64_t size, struct err *e)
{
	if (base->size >= size)
		return 0;
	if (base->q ? qcow2_resize(base->q, size, false, reach(base->backing), QCOW2_PREALLOC_OFF, e) < 0
		    : dev_truncate(base->dev, size, e) < 0 || dev_flush(base->dev, e) < 0)
		return err_at(e, "%s", base->path);
	base->size = size;
	return 0;
}

static int mark(void *ctx, struct bitmap_sink *s, struct err *e)
{
	struct op *o = ctx;
	struct image_run run;
	enum what what;

	for (uint64_t at = 0; at < o->top->size; at += run.len) {
		if (look(o, -1, at, o->top->size, &run, &what, e) < 0 ||
			(what != SKIP && bitmap_set(s, run.goff, run.goff + run.len, e) < 0))
			return e->code;
	}
	return 0;
}

static int commit(struct op *o, struct err *e)
{
	if (survey(o, e) < 0 || grow_base(o->target, o->top->size, e) < 0)
		return e->code;
	if (!o->total)
		return 0;
	if (o->target->q && bitmaps_mark(o->target->q, mark, o, e) < 0)
		return err_at(e, "%s", o->target->path);
	return copy_all(o, e);
}

int chain_commit(struct image *top, struct image *base, const struct chain_job *j, struct err *e)
{
	struct op o = commit_op(top, base, j);

	return check_between(top, base, e) < 0 ? e->code : op_done(&o, commit(&o, e));
}

/* ---- pull and rebase ---- */

/* What @run of a snapshot reads would be another thing afterwards. */
static int snap_reads(struct op *o, const struct image_run *run, enum what what, struct err *e)
{
	uint64_t end = run->goff + run->len, step;

	for (uint64_t goff = run->goff; what == COMPARE && goff < end; goff += step) {
		step = piece_of(run, goff);
		if (read_both(o, run, goff, (size_t)step, e) < 0)
			return e->code;
		if (!memcmp(o->buf, o->other, (size_t)step))
			continue;
		what = COPY;
	}
	return what == COMPARE ? 0 : err_set(e, -EOPNOTSUPP, "reads from %s, and would not find the same any more", run->at->path);
}

/* Internal snapshots read from the backing file as well, and they would notice. */
static int check_snaps(struct op *o, struct err *e)
{
	const struct qcow2 *q = o->target->q;

	for (unsigned i = 0; i < q->h.n_snaps; i++)
		if (walk(o, (int)i, snap_reads, e) < 0)
			return err_at(e, "%s: internal snapshot '%s'", o->target->path, q->snaps[i].name);
	return 0;
}

static int move_onto(struct op *o, const char *name, const char *fmt, struct err *e)
{
	if (o->rebase) {
		o->buf = malloc(PIECE);
		o->other = malloc(PIECE);
		if (!o->buf || !o->other)
			return q_nomem(e);
	}
	if (check_snaps(o, e) < 0 || survey(o, e) < 0)
		return e->code;
	free(take_ptr(&o->buf));
	if (o->total && copy_all(o, e) < 0)
		return e->code;
	if (qcow2_set_backing(o->target->q, name, fmt, e) < 0)
		return err_at(e, "%s", o->target->path);
	return 0;
}

static int check_overlay(const struct image *top, struct err *e)
{
	return top->q ? 0 : err_set(e, -EINVAL, "%s: raw images have no backing file", top->path);
}

static struct op pull_op(struct image *top, struct image *base, const struct chain_job *j)
{
	return (struct op){ .top = top, .stop = base, .target = top, .below = base, .what = pull_what, .job = j };
}

int chain_pull_cost(struct image *top, struct image *base, struct chain_cost *c, struct err *e)
{
	struct op o = pull_op(top, base, NULL);

	return check_overlay(top, e) < 0 || (base && check_between(top, base, e) < 0) ? e->code : cost_of(&o, c, e);
}

int chain_pull(struct image *top, struct image *base, const char *name, const char *fmt, const struct chain_job *j,
	struct err *e)
{
	struct op o = pull_op(top, base, j);

	if (check_overlay(top, e) < 0 || (base && check_between(top, base, e) < 0))
		return e->code;
	return op_done(&o, move_onto(&o, name, fmt, e));
}

int chain_rebase(struct image *top, struct image *below, const char *name, const char *fmt, const struct chain_job *j,
	struct err *e)
{
	struct op o = { .top = top, .target = top, .below = below, .what = rebase_what, .rebase = true, .job = j };

	if (check_overlay(top, e) < 0 || (below && image_check_loop(below, top, e) < 0))
		return e->code;
	return op_done(&o, move_onto(&o, name, fmt, e));
}
