/* See copy.h. */
#include "qcow2/image/copy.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "lib/limits.h"
#include "lib/muldiv.h"
#include "qcow2/deflate.h"
#include "qcow2/fill.h"
#include "qcow2/image/writer.h"

#define CHUNK ((size_t)(2 * MIB)) /* no cluster is larger */
#define BATCH (256 * MIB)

enum what { SKIP, ZERO, DATA };

struct op {
	const struct copy *c;
	struct image *below;      /* what shows through the target, or NULL */
	struct qcow2_fill *fill;  /* one of the two */
	struct writer *w;
	size_t cluster;           /* of fill */
	size_t unit;              /* pieces that are judged */
	uint8_t *buf, *other;     /* a chunk of the sources and of @below; zeros behind its end */
	struct deflate *deflate;  /* NULL: nothing is compressed */
	uint8_t *packed;          /* a cluster's room for that */
	uint64_t began;           /* ns */
};

/* ---- the sources as one disk ---- */

static uint64_t size_of(const struct image *img, int snap)
{
	unsigned n;

	return snap < 0 ? img->size : qcow2_snaps(img->q, &n)[snap].disk_size & ~511ull;
}

uint64_t copy_size(struct image *const *from, unsigned n, int snap)
{
	uint64_t sum = 0;

	while (n--)
		sum += size_of(from[n], snap);
	return sum;
}

/* The source that has @at, and where it begins. */
static struct image *source_at(const struct copy *c, uint64_t at, uint64_t *start)
{
	unsigned i = 0;

	for (*start = 0; i + 1 < c->n_from && at - *start >= size_of(c->from[i], c->snap); i++)
		*start += size_of(c->from[i], c->snap);
	return c->from[i];
}

/* @run->goff is the source's own. */
static int source_map(const struct copy *c, uint64_t at, uint64_t len, struct image_run *run, struct err *e)
{
	uint64_t start;
	struct image *img = source_at(c, at, &start);

	return image_map(img, c->snap, at - start, len, run, e);
}

static int read_once(const struct copy *c, uint64_t at, uint8_t *buf, size_t n, struct err *e)
{
	while (n) {
		uint64_t start, left;
		struct image *img = source_at(c, at, &start);
		size_t step = n;

		left = start + size_of(img, c->snap) - at;
		if (left < step)
			step = (size_t)left;
		if (image_read(img, c->snap, at - start, buf, step, e) < 0)
			return e->code;
		at += step;
		buf += step;
		n -= step;
	}
	return 0;
}

/* What cannot be read is looked for by halves, down to a sector. */
static int source_read(const struct copy *c, uint64_t at, uint8_t *buf, size_t n, struct err *e)
{
	size_t half = n / 2 & ~(size_t)511;

	if (read_once(c, at, buf, n, e) >= 0)
		return 0;
	if (!c->salvage || e->code == -ENOMEM)
		return e->code;
	if (half)
		return source_read(c, at, buf, half, e) < 0 ? e->code : source_read(c, at + half, buf + half, n - half, e);
	c->warn(c->ctx, e->msg);
	memset(buf, 0, n);
	return 0;
}

/* ---- the target ---- */

static bool is_zero(const uint8_t *p, size_t n)
{
	return !n || (!*p && !memcmp(p, p + 1, n - 1));
}

/* One cluster, as @packed if it has got smaller. The last one of a disk is written whole: there are zeros behind it. */
static int put_cluster(struct op *o, uint64_t at, const uint8_t *p, size_t n, struct err *e)
{
	size_t small = o->deflate ? deflate_cluster(o->deflate, p, o->cluster, o->packed, o->cluster - 1) : 0;

	if (!o->fill)
		return small ? writer_packed(o->w, at, o->packed, small, e) : writer_data(o->w, at, p, n, e);
	return small ? qcow2_fill_packed(o->fill, at / o->cluster, o->packed, small, e) :
		       qcow2_fill_put(o->fill, at / o->cluster, p, e);
}

static int put_data(struct op *o, uint64_t at, const uint8_t *p, size_t n, struct err *e)
{
	if (!o->fill && !o->deflate)
		return writer_data(o->w, at, p, n, e);
	for (size_t i = 0; i < n; i += o->cluster)
		if (put_cluster(o, at + i, p + i, n - i < o->cluster ? n - i : o->cluster, e) < 0)
			return e->code;
	return 0;
}

static int put_zero(struct op *o, uint64_t at, uint64_t n, struct err *e)
{
	if (!o->fill)
		return writer_zero(o->w, at, n, e);
	for (uint64_t i = 0; i < n; i += o->cluster)
		if (qcow2_fill_zero(o->fill, (at + i) / o->cluster, e) < 0)
			return e->code;
	return 0;
}

/* Does the target read as zeros there by itself? */
static bool reads_zero(const struct op *o, uint64_t at)
{
	return o->c->fresh && (!o->below || at >= o->below->size);
}

/* ---- what is to be done ---- */

/*
 * The next run from @at on that is alike: what shows through already, zeros as the sources' tables have them, or what has
 * to be read. SKIP only where the target has nothing of its own.
 */
static int look(struct op *o, uint64_t at, uint64_t *len, enum what *what, struct err *e)
{
	const struct copy *c = o->c;
	struct image_run run, there = { .zero = true };
	bool zero, same;

	if (source_map(c, at, c->size - at, &run, e) < 0) {
		*what = DATA;
		*len = CHUNK - at % CHUNK < c->size - at ? CHUNK - at % CHUNK : c->size - at;
		return c->salvage && e->code != -ENOMEM ? 0 : e->code;
	}
	*len = run.len;
	zero = run.zero || !run.data;
	if (o->below && at < o->below->size) {
		if (image_map(o->below, -1, at, *len, &there, e) < 0)
			return e->code;
		*len = there.len;
	} else if (o->below) {
		there.at = o->below;
	}
	same = o->below && there.at && image_same(run.at, there.at) && run.data && there.data && run.hoff == there.hoff &&
		run.zero == there.zero;
	if (c->fresh && (same || (zero && (there.zero || !there.data) && (o->below || c->sparse))))
		*what = SKIP;
	else
		*what = zero && c->sparse ? ZERO : DATA;
	return 0;
}

static enum what judge(const struct op *o, uint64_t at, size_t i, size_t n)
{
	if (o->c->fresh && o->below && !memcmp(o->buf + i, o->other + i, n))
		return SKIP;
	if (!o->c->sparse || !is_zero(o->buf + i, n))
		return DATA;
	return reads_zero(o, at + i) ? SKIP : ZERO;
}

/* A chunk that has been read: pieces that are alike go together. */
static int put_chunk(struct op *o, uint64_t at, size_t n, struct err *e)
{
	for (size_t i = 0, run; i < n; i += run) {
		enum what what;

		run = n - i < o->unit ? n - i : o->unit;
		what = judge(o, at, i, run);
		while (i + run < n) {
			size_t next = n - i - run < o->unit ? n - i - run : o->unit;

			if (judge(o, at, i + run, next) != what)
				break;
			run += next;
		}
		if ((what == DATA && put_data(o, at + i, o->buf + i, run, e) < 0) || (what == ZERO && put_zero(o, at + i, run, e) < 0))
			return e->code;
	}
	return 0;
}

static int copy_chunk(struct op *o, uint64_t at, size_t n, struct err *e)
{
	memset(o->buf + n, 0, CHUNK - n);
	if (source_read(o->c, at, o->buf, n, e) < 0)
		return e->code;
	if (o->below && image_read(o->below, -1, at, o->other, n, e) < 0)
		return e->code;
	return put_chunk(o, at, n, e);
}

/* After @done bytes: commit what there is of them, tell, wait until the rate is kept. */
static int after(struct op *o, uint64_t done, struct err *e)
{
	const struct copy *c = o->c;

	if (o->w && writer_pending(o->w) >= BATCH && writer_commit(o->w, e) < 0)
		return e->code;
	if (c->progress)
		c->progress(c->ctx, done, c->size);
	if (c->rate) {
		uint64_t due = mul_div(done, 1000000000u, c->rate, NULL), now = clock_mono_ns() - o->began;
		struct timespec t = { (time_t)((due - now) / 1000000000u), (long)((due - now) % 1000000000u) };

		while (due > now && nanosleep(&t, &t) < 0 && errno == EINTR)
			;
	}
	return 0;
}

/* Chunks begin at multiples of their size, so that clusters are whole; a long run is passed at once. */
static int copy_all(struct op *o, struct err *e)
{
	uint64_t size = o->c->size, len, step;
	enum what what = DATA;

	for (uint64_t at = 0; at < size; at += step) {
		step = size - at < CHUNK ? size - at : CHUNK;
		if (look(o, at, &len, &what, e) < 0)
			return e->code;
		if (what != DATA && len >= step) {
			if (len < size - at)
				len = len / CHUNK * CHUNK;
			step = len;
			if (what == ZERO && put_zero(o, at, step, e) < 0)
				return e->code;
		} else if (copy_chunk(o, at, (size_t)step, e) < 0) {
			return e->code;
		}
		if (after(o, at + step, e) < 0)
			return e->code;
	}
	return 0;
}

static int begin(struct op *o, struct err *e)
{
	const struct copy *c = o->c;
	struct qcow2_info i;
	bool empty = false;

	o->below = c->to->backing;
	o->buf = malloc(CHUNK);
	o->other = o->below ? malloc(CHUNK) : NULL;
	if (!o->buf || (o->below && !o->other))
		return err_nomem(e, "copy a disk");
	o->unit = c->sparse ? (size_t)(c->sparse < CHUNK ? c->sparse : CHUNK) : CHUNK;
	o->began = clock_mono_ns();
	if (!c->to->q)
		return writer_open(c->to, 0, &o->w, e);
	qcow2_get_info(c->to->q, &i);
	o->unit = o->cluster = 1u << i.cluster_bits;
	if (c->pack) {
		if (i.compression)
			return err_set(e, -EOPNOTSUPP, "writing clusters compressed with zstd is not supported");
		o->deflate = deflate_new();
		o->packed = malloc(o->cluster);
		if (!o->deflate || !o->packed)
			return err_nomem(e, "copy a disk");
	}
	if (c->fresh && qcow2_is_empty(c->to->q, &empty, e) < 0)
		return e->code;
	return empty ? qcow2_fill_begin(c->to->q, &o->fill, e) : writer_open(c->to, 0, &o->w, e);
}

int image_copy(const struct copy *c, struct err *e)
{
	struct op o = { .c = c };
	int r = begin(&o, e);

	if (r >= 0)
		r = copy_all(&o, e);
	if (o.fill)
		r = r < 0 ? qcow2_fill_abort(o.fill, e) : qcow2_fill_end(o.fill, e);
	else if (r >= 0)
		r = writer_commit(o.w, e);
	writer_close(o.w);
	free(o.buf);
	free(o.other);
	free(o.deflate);
	free(o.packed);
	return r;
}
