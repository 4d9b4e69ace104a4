/* Commit, pull and rebase of chains of every make, through every cut, fault and refused allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/own.h"
#include "qcow2/image/chain.h"
#include "qcow2/image/writer.h"
#include "qcow2/internal.h"
#include "tests/harness/allocfail.h"
#include "tests/harness/campaign.h"
#include "tests/harness/crash.h"
#include "tests/harness/guest.h"
#include "tests/harness/judge.h"
#include "tests/harness/logdev.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"

#define MAX_LAYERS 3
#define OTHER MAX_LAYERS /* the layer that a rebase goes to */

struct layer_opts {
	unsigned cluster_bits; /* 0: raw */
	unsigned size;
	unsigned version, refcount_bits;
	bool ext_l2, packed, snaps, bitmaps;
	bool twice;   /* painted: zeros that keep a cluster with something in it */
	unsigned pct; /* of its clusters that are something; 0: 50 */
};

struct scene {
	const char *name;
	struct layer_opts layer[MAX_LAYERS + 1]; /* base first; a size of 0 ends them */
};

#define L(bits, bytes, ...) { .cluster_bits = bits, .size = bytes, __VA_ARGS__ }

static const struct scene scenes[] = {
	{ "plain", { L(9, 20480), L(9, 20480) } },
	{ "raw base", { L(0, 16384), L(9, 20480) } },
	{ "odd raw base", { L(0, 10000), L(10, 20480), L(9, 15360) } },
	{ "version 2", { L(9, 20480, .version = 2, .packed = true), L(9, 20480, .packed = true) } },
	{ "version 2 above", { L(9, 20480, .packed = true), L(9, 20480), L(9, 20480, .version = 2, .pct = 20) } },
	{ "snapshots below", { L(9, 20480, .snaps = true, .refcount_bits = 4), L(10, 20480), L(9, 20480) } },
	{ "snapshots above", { L(9, 16384), L(9, 16384), L(9, 16384, .snaps = true, .pct = 100) } },
	{ "packed", { L(10, 20480, .packed = true, .snaps = true), L(9, 20480, .packed = true, .pct = 90) } },
	{ "bitmaps", { L(9, 20480, .bitmaps = true), L(9, 20480, .bitmaps = true, .pct = 30) } },
	{ "grows", { L(9, 10240, .bitmaps = true), L(9, 30720) } },
	{ "shrinks", { L(9, 30720), L(9, 10752), L(9, 20480, .pct = 20) } },
	{ "coarse on fine", { L(9, 40960), L(12, 40960, .packed = true) } },
	{ "fine on coarse", { L(12, 40960, .packed = true), L(9, 40960, .pct = 15) } },
	{ "subclusters below", { L(14, 131072, .ext_l2 = true, .packed = true, .snaps = true), L(9, 130560, .pct = 10) } },
	{ "subclusters above", { L(10, 102400), L(14, 102400, .ext_l2 = true, .pct = 70) } },
	{ "subclusters", { L(14, 131072, .ext_l2 = true), L(14, 147456, .ext_l2 = true), L(14, 131072, .ext_l2 = true) } },
	{ "all there", { L(9, 8192, .version = 2, .pct = 100), L(9, 8192, .version = 2, .pct = 40) } },
	{ "zeros kept", { L(12, 40960, .twice = true, .pct = 80), L(9, 40960, .pct = 30) } },
	{ "fine on subclusters", { L(16, 262144, .ext_l2 = true, .pct = 100), L(9, 262144, .pct = 4) } },
	{ "wide refcounts", { L(9, 20480, .refcount_bits = 64), L(9, 20480, .refcount_bits = 1) } },
};

/* What stands where, before and after. */
struct fixture {
	const struct scene *sc;
	unsigned n;                         /* layers */
	struct logdev *dev[MAX_LAYERS + 1];
	uint8_t *flat[MAX_LAYERS + 1];      /* the content, as the independent reader finds it */
	uint64_t size[MAX_LAYERS + 1];
	unsigned target, stop;              /* layers; stop: MAX_LAYERS + 1 for none */
	bool commit, rebase;
	uint64_t rnd;
	char why[600];
	uint8_t *want;                      /* the target's content afterwards; commit only */
	struct guest_state *before;
	struct logdev *scratch;
};
#define NONE (MAX_LAYERS + 1)

static const char *const names[] = { "l0", "l1", "l2", "other" };

static int bad(struct fixture *f, const char *fmt, ...) PRINTF(2, 3);
static int bad(struct fixture *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->why, sizeof f->why, fmt, ap);
	va_end(ap);
	return -1;
}

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ---- making them ---- */

static void paint(struct mkimg *m, const struct layer_opts *o, unsigned pct, uint64_t *rnd)
{
	for (uint64_t gc = 0; gc << o->cluster_bits < o->size; gc++) {
		uint64_t kind = rand_below(rnd, 10), seed = rand_next(rnd) >> 8;

		if (rand_below(rnd, 100) >= pct)
			continue;
		if (o->ext_l2 && kind < 5)
			mkimg_sub(m, gc, (uint32_t)seed & 0x0ff0f0f0, (uint32_t)seed & 0xf00f000f, seed);
		else if (o->packed && kind < 3)
			mkimg_compressed(m, gc, seed);
		else if (kind >= 8 && o->version != 2)
			mkimg_zero(m, gc, seed & 1);
		else
			mkimg_data(m, gc, seed);
	}
}

static struct logdev *make_layer(const struct layer_opts *o, const char *backing, const char *fmt, uint64_t seed)
{
	unsigned pct = o->pct ? o->pct : 50;
	struct logdev *d;
	struct mkimg *m;
	uint8_t *p;
	size_t n;

	if (!o->cluster_bits) {
		p = need(malloc(o->size));
		mkimg_fill(p, o->size, seed, false);
		n = o->size;
	} else {
		m = mkimg_new(&(struct mkimg_opts){ .version = o->version, .cluster_bits = o->cluster_bits, .size = o->size,
			.refcount_bits = o->refcount_bits, .ext_l2 = o->ext_l2, .backing = backing, .backing_fmt = fmt });
		paint(m, o, pct, &seed);
		if (o->twice)
			paint(m, o, pct, &seed);
		if (o->snaps) {
			mkimg_snapshot(m, &(struct mkimg_snap){ .id = "1", .name = "one", .extra_len = 24 });
			paint(m, o, 30, &seed);
			mkimg_snapshot(m, &(struct mkimg_snap){ .id = "2", .name = "two", .extra_len = 24 });
			if (o->pct == 100)
				mkimg_discard(m, 3);
		}
		if (o->bitmaps) {
			mkimg_add_bitmap(m, &(struct mkimg_bitmap){ .name = "daily", .gran_bits = 9, .flags = 2, .seed = 3 });
			mkimg_add_bitmap(m, &(struct mkimg_bitmap){ .name = "off", .gran_bits = 10, .seed = 7 });
			mkimg_add_bitmap(m, &(struct mkimg_bitmap){ .name = "coarse", .gran_bits = 12, .flags = 2, .seed = 5 });
		}
		p = mkimg_finish(m, &n);
	}
	d = logdev_new(p, n);
	free(p);
	return d;
}

/* The content of image bytes over a backing content, by the independent reader. NULL: f->why says why not. */
static uint8_t *flatten(struct fixture *f, unsigned i, const uint8_t *bytes, uint64_t n, const uint8_t *below,
	uint64_t below_n, int snap)
{
	struct guest_img g = { bytes, n, below, below_n };
	uint64_t size = f->size[i];
	uint8_t *p = need(calloc(1, size + 1));
	char why[200];

	if (!f->sc->layer[i].cluster_bits) {
		memcpy(p, bytes, n < size ? n : size);
	} else if (guest_read(&g, snap, 0, p, size, why) < 0) {
		bad(f, "the independent reader of %s: %s", names[i], why);
		free(p);
		return NULL;
	}
	return p;
}

static void fixture_make(struct fixture *f, const struct scene *sc, uint64_t seed)
{
	static const struct layer_opts other = L(10, 18432, .packed = true);

	*f = (struct fixture){ .sc = sc, .rnd = seed };
	for (unsigned i = 0; i <= MAX_LAYERS; i++) {
		struct layer_opts o = i < MAX_LAYERS ? sc->layer[i] : other;
		bool first = !f->n || i == OTHER;

		if (!o.size)
			continue;
		f->dev[i] = make_layer(&o, first ? NULL : names[i - 1], first ? NULL : sc->layer[i - 1].cluster_bits ? "qcow2" : "raw",
			seed * 100 + i);
		f->size[i] = (o.size + 511) / 512 * 512;
		f->n += i < MAX_LAYERS;
	}
}

static void flatten_all(struct fixture *f)
{
	for (unsigned i = 0; i <= MAX_LAYERS; i++)
		if (f->dev[i]) {
			unsigned below = i && i < OTHER ? i - 1 : NONE;

			if (i == OTHER) { /* reads as an image of its own kind */
				struct guest_img g = { f->dev[i]->bytes, f->dev[i]->dev.size, NULL, 0 };
				char why[200];

				f->flat[i] = need(calloc(1, f->size[i]));
				assert_int_equal(guest_read(&g, -1, 0, f->flat[i], f->size[i], why), 0);
				continue;
			}
			f->flat[i] = flatten(f, i, f->dev[i]->bytes, f->dev[i]->dev.size, below == NONE ? NULL : f->flat[below],
				below == NONE ? 0 : f->size[below], -1);
			assert_non_null(f->flat[i]);
		}
}

static void fixture_done(struct fixture *f)
{
	for (unsigned i = 0; i <= MAX_LAYERS; i++) {
		logdev_free(f->dev[i]);
		free(f->flat[i]);
	}
	logdev_free(f->scratch);
	free(f->want);
	free(f->before);
}

/* ---- doing it ---- */

static int image_on(struct fixture *f, unsigned i, struct logdev *d, struct image *img, struct err *e)
{
	bool raw = i != OTHER && !f->sc->layer[i].cluster_bits;

	*img = (struct image){ .path = (char *)names[i], .format = raw ? "raw" : "qcow2", .dev = &d->dev, .data = &d->dev };
	img->size = (d->dev.size + 511) / 512 * 512;
	if (raw)
		return 0;
	if (qcow2_open_dev(&d->dev, i == f->target ? QCOW2_RW : 0, &img->q, e) < 0)
		return e->code;
	img->size = img->q->h.size;
	return 0;
}

struct stop {
	uint64_t at, last;
	bool ever; /* went past */
};

static int progress(void *ctx, uint64_t done, uint64_t total)
{
	struct stop *s = ctx;

	s->ever |= done > total || done < s->last;
	s->last = done;
	return s->at && done >= s->at;
}

static int start(struct fixture *f, struct image *img, const struct chain_job *j, struct err *e)
{
	struct image *top = &img[f->n - 1], *stop = f->stop == NONE ? NULL : &img[f->stop];
	const char *name = f->stop == NONE ? NULL : names[f->stop];

	if (f->commit)
		return chain_commit(top, &img[f->target], j, e);
	/* What a pull did before the cut may have taken the layers between out of the chain. */
	if (!f->rebase && f->n > 1 && !top->q->backing)
		top->backing = stop = NULL;
	else if (!f->rebase && stop && !strcmp(top->q->backing, name))
		top->backing = stop;
	if (f->rebase && (!top->q->backing || !strcmp(top->q->backing, names[OTHER])))
		top->backing = top->q->backing ? &img[OTHER] : NULL;
	return f->rebase ? chain_rebase(top, stop, name, name ? "qcow2" : NULL, j, e)
			 : chain_pull(top, stop, name, name ? img[f->stop].format : NULL, j, e);
}

/* The operation on the layers, with @d as the target. */
static int perform_job(struct fixture *f, struct logdev *d, const struct chain_job *j, struct err *e)
{
	struct image img[MAX_LAYERS + 1] = { 0 };
	int r = 0;

	for (unsigned i = 0; i <= MAX_LAYERS && r >= 0; i++)
		if (f->dev[i]) {
			r = image_on(f, i, i == f->target ? d : f->dev[i], &img[i], e);
			img[i].backing = i && i != OTHER ? &img[i - 1] : NULL;
		}
	if (r >= 0)
		r = start(f, img, j, e);
	for (unsigned i = 0; i <= MAX_LAYERS; i++) {
		free(img[i].inflated);
		qcow2_close(img[i].q);
	}
	return r;
}

static int perform(struct fixture *f, struct logdev *d, struct err *e)
{
	struct stop s = { 0 };
	struct chain_job j = { .progress = progress, .ctx = &s, .batch = 4096 };
	int r = perform_job(f, d, &j, e);

	assert_false(s.ever);
	return r;
}

/* ---- judging ---- */

/* What the header of the target names now. */
static unsigned backing_of(struct fixture *f, struct logdev *d)
{
	struct qcow2 *q = NULL;
	struct err e = { 0 };
	unsigned i = 0;

	if (qcow2_open_dev(&d->dev, 0, &q, &e) < 0) {
		bad(f, "does not open: %s", e.msg);
		return UINT32_MAX;
	}
	if (!q->backing)
		i = NONE;
	else
		while (i < NONE && strcmp(names[i], q->backing))
			i++;
	qcow2_close(q);
	return i;
}

static int same_snaps(struct fixture *f, struct logdev *d, const uint8_t *below, uint64_t below_n)
{
	struct guest_img g = { d->bytes, d->dev.size, below, below_n };
	static struct guest_state state, *now = &state; /* large */
	int r = 0;

	if (guest_state(&g, now) < 0)
		r = bad(f, "unreadable: %s", now->why);
	else if (now->n_snaps != f->before->n_snaps || now->n_bitmaps != f->before->n_bitmaps)
		r = bad(f, "%u snapshots, %u bitmaps", now->n_snaps, now->n_bitmaps);
	for (unsigned i = 0; !r && i < now->n_snaps; i++)
		if (now->snaps[i].content != f->before->snaps[i].content || now->snaps[i].disk_size != f->before->snaps[i].disk_size)
			r = bad(f, "snapshot %s is another", now->snaps[i].name);
	return r;
}

static uint64_t padded8(uint64_t n)
{
	return (n + 7) & ~7ull;
}

/* Does bit @bit of the bitmap in directory entry @p say "changed"? */
static bool bit_is_set(const struct logdev *d, const uint8_t *p, uint64_t bit)
{
	uint64_t per = 8ull << get_be32(d->bytes + HDR_CLUSTER);
	uint64_t v = get_be64(d->bytes + get_be64(p) + bit / per * 8), off = v & OFFSET_MASK;

	return off ? d->bytes[off + bit % per / 8] >> bit % 8 & 1 : v & 1;
}

/* What changed in the sector at @goff is in every enabled bitmap. */
static bool is_marked(const struct logdev *d, uint64_t goff)
{
	const uint8_t *x = d->bytes + get_be32(d->bytes + HDR_LEN), *p;
	unsigned n;

	for (; get_be32(x) != EXT_BITMAPS; x += 8 + padded8(get_be32(x + 4)))
		if (get_be32(x) == EXT_END)
			return true;
	n = get_be32(x + 8);
	p = d->bytes + get_be64(x + 24);
	for (unsigned i = 0; i < n; i++) {
		if ((get_be32(p + 12) & QCOW2_BITMAP_AUTO) && !bit_is_set(d, p, goff >> p[17]))
			return false;
		p += padded8(24 + get_be16(p + 18) + get_be32(p + 20));
	}
	return true;
}

/* The base under a commit: every sector old or new, and the guest above sees nothing of it. */
static int judge_base(struct fixture *f, struct logdev *d, const uint8_t *now, uint64_t n, bool complete)
{
	uint64_t old_n = f->size[f->target], top_n = f->size[f->n - 1];
	const uint8_t *old = f->flat[f->target];
	auto_free uint8_t *below = need(malloc(n + 1));
	uint8_t *p;

	for (uint64_t at = 0; at < n; at += 512) {
		uint8_t zeros[512] = { 0 };

		if (at < old_n && memcmp(now + at, old + at, 512) && f->before->n_bitmaps && !is_marked(d, at))
			return bad(f, "offset %llu changed, and a bitmap does not say so", (unsigned long long)at);
		if (!memcmp(now + at, f->want + at, 512))
			continue;
		if (complete || memcmp(now + at, at < old_n ? old + at : zeros, 512))
			return bad(f, "offset %llu of %llu is neither old nor new", (unsigned long long)at, (unsigned long long)n);
	}
	memcpy(below, now, n);
	for (unsigned i = f->target + 1; i < f->n; i++) {
		p = flatten(f, i, f->dev[i]->bytes, f->dev[i]->dev.size, below, n, -1);
		if (!p)
			return -1;
		free(below);
		below = p;
		n = f->size[i];
	}
	return memcmp(below, f->flat[f->n - 1], top_n) ? bad(f, "the guest finds another disk") : 0;
}

static int judge_state(struct fixture *f, struct logdev *d, bool complete)
{
	bool raw = !f->sc->layer[f->target].cluster_bits;
	unsigned below = raw ? NONE : backing_of(f, d);
	uint64_t was = f->size[f->target];
	struct judge j = { 0 };
	uint8_t *now;
	int r = 0;

	if (below == UINT32_MAX)
		return -1;
	if (complete && !f->commit && below != f->stop)
		return bad(f, "the backing file is %u, not %u", below, f->stop);
	if (!raw) {
		judge_image(d->bytes, d->dev.size, &j);
		if (j.bad || j.flags || j.leaks)
			return bad(f, "%s %s, %llu leaks", j.first_bad, j.first_flag, (unsigned long long)j.leaks);
		f->size[f->target] = get_be64(d->bytes + HDR_SIZE);
		if (same_snaps(f, d, below == NONE ? NULL : f->flat[below], below == NONE ? 0 : f->size[below]) < 0)
			r = -1;
	} else {
		f->size[f->target] = (d->dev.size + 511) / 512 * 512;
	}
	now = r < 0 ? NULL : flatten(f, f->target, d->bytes, d->dev.size, below == NONE ? NULL : f->flat[below],
		below == NONE ? 0 : f->size[below], -1);
	if (!now)
		r = -1;
	else if (f->commit) {
		uint64_t n = f->size[f->target];

		f->size[f->target] = was;
		r = judge_base(f, d, now, n, complete);
	} else if (memcmp(now, f->flat[f->target], was)) {
		r = bad(f, "the guest finds another disk");
	}
	f->size[f->target] = was;
	free(now);
	return r;
}

/* What the base will be: the top, and behind its end what it was. */
static void foresee(struct fixture *f)
{
	uint64_t top = f->size[f->n - 1], base = f->size[f->target], n = top > base ? top : base;

	f->before = need(calloc(1, sizeof *f->before));
	f->scratch = logdev_new(NULL, 0);
	if (f->sc->layer[f->target].cluster_bits) {
		unsigned b = backing_of(f, f->dev[f->target]);
		struct guest_img g = { f->dev[f->target]->bytes, f->dev[f->target]->dev.size, b == NONE ? NULL : f->flat[b],
			b == NONE ? 0 : f->size[b] };

		assert_int_equal(guest_state(&g, f->before), 0);
	}
	if (!f->commit)
		return;
	f->want = need(calloc(1, n));
	memcpy(f->want, f->flat[f->target], base);
	memcpy(f->want, f->flat[f->n - 1], top);
}

/* ---- the campaign ---- */

static int visit(const struct crash_state *s, void *ctx)
{
	struct fixture *f = ctx;
	struct err e = { 0 };
	size_t n;

	logdev_set(f->scratch, s->bytes, s->size);
	if (judge_state(f, f->scratch, s->complete) == 0) {
		if (rand_below(&f->rnd, 8))
			return 0;
		if (perform(f, f->scratch, &e) < 0)
			bad(f, "done again: %s", e.msg);
		else if (judge_state(f, f->scratch, true) == 0)
			return 0;
	}
	n = strlen(f->why);
	snprintf(f->why + n, sizeof f->why - n, "; ");
	crash_describe(s, f->why + n + 2, sizeof f->why - n - 2);
	return -1;
}

static int cuts(struct fixture *f)
{
	struct crash_opts o = { .seed = f->rnd, .budget = campaign_soaking() ? 1500 : 40, .all_subsets = campaign_soaking() ? 10 : 5 };
	struct logdev *d = f->dev[f->target];
	struct err e = { 0 };
	size_t n;

	logdev_record(d);
	if (perform(f, d, &e) < 0)
		return bad(f, "%s", e.msg);
	n = d->n_ops;
	/* What was freed may be given back after the last flush. */
	while (f->sc->layer[f->target].cluster_bits && n && d->ops[n - 1].kind == LOG_ZERO)
		n--;
	if (n && d->ops[n - 1].kind != LOG_FLUSH)
		return bad(f, "what was done last is not flushed");
	return crash_states(d, &o, visit, f, NULL);
}

/* One run with a fault on @d. Returns 1 if it was not met. */
static int faulty(struct fixture *f, struct logdev *d, unsigned kinds, uint64_t at, int errnum, bool stays)
{
	struct logdev *t = f->dev[f->target];
	struct err e = { 0 };
	bool hit;
	int r;

	logdev_rewind(t);
	logdev_fail(d, kinds, at, errnum, stays);
	r = perform(f, t, &e);
	hit = d->hit;
	logdev_fail(d, 0, LOG_NEVER, 0, false);
	if (hit && r < 0 && !e.msg[0])
		return bad(f, "operation %llu fails without a word", (unsigned long long)at);
	if (hit && r >= 0)
		return judge_state(f, t, true) < 0 ? -1 : 0;
	return !hit ? 1 : judge_state(f, t, false);
}

static int faults(struct fixture *f)
{
	uint64_t step = campaign_soaking() ? 1 : 5;

	logdev_record(f->dev[f->target]);
	for (unsigned i = 0; i <= MAX_LAYERS; i++)
		for (int how = 0; f->dev[i] && how < 4; how++)
			for (uint64_t at = 0;; at += how < 2 ? step : 1) {
				int r = faulty(f, f->dev[i], how < 2 ? LOG_ANY : LOG_CHANGES, at, how & 1 ? ENOSPC : EIO, how & 1);

				if (r < 0)
					return r;
				if (r)
					break;
			}
	return 0;
}

static int allocs(struct fixture *f)
{
	uint64_t step = campaign_soaking() ? 1 : 5;
	struct logdev *t = f->dev[f->target];

	logdev_record(t);
	for (int stays = 0; stays < 2; stays++)
		for (uint64_t at = 0;; at += step) {
			struct err e = { 0 };
			int r;

			logdev_rewind(t);
			alloc_fail(at, stays);
			r = perform(f, t, &e);
			if (!alloc_normal())
				break;
			if (r < 0 && !e.msg[0])
				return bad(f, "allocation %llu fails without a word", (unsigned long long)at);
			if (judge_state(f, t, r >= 0) < 0)
				return -1;
		}
	return 0;
}

/* Every image as qemu-img sees it. */
static int second_opinion(struct fixture *f)
{
	struct err e = { 0 };
	struct logdev *t = f->dev[f->target];
	size_t n = 0, want;
	uint8_t *got;
	int r;

	if (!qemu_img_there())
		return 0;
	if (perform(f, t, &e) < 0)
		return bad(f, "%s", e.msg);
	if (judge_state(f, t, true) < 0)
		return -1;
	if (!f->sc->layer[f->target].cluster_bits)
		return 0;
	for (unsigned i = 0; i <= MAX_LAYERS; i++)
		if (f->dev[i])
			logdev_export(f->dev[i], qemu_img_path(names[i]));
	if (qemu_img_check(t->bytes, t->dev.size))
		return bad(f, "qemu-img check does not like it");
	got = qemu_img_content(t->bytes, t->dev.size, NULL, &n);
	want = (size_t)f->size[f->target];
	if (f->commit && want < f->size[f->n - 1])
		want = (size_t)f->size[f->n - 1];
	r = got && n == want && !memcmp(got, f->commit ? f->want : f->flat[f->target], n) ? 0 : bad(f, "qemu-img reads another disk");
	free(got);
	return r;
}

/* Stopped after any piece: as after a cut. And the bytes that were foreseen suffice. */
static int stopped(struct fixture *f)
{
	struct logdev *t = f->dev[f->target];

	logdev_record(t);
	for (uint64_t at = 1; at < 100000; at += 3000) {
		struct stop s = { .at = at };
		struct chain_job j = { .progress = progress, .ctx = &s, .batch = 2048 };
		struct err e = { 0 };
		int r;

		logdev_rewind(t);
		r = perform_job(f, t, &j, &e);
		if (r < 0 && r != -ECANCELED)
			return bad(f, "%s", e.msg);
		if (judge_state(f, t, r >= 0) < 0)
			return -1;
	}
	return 0;
}

static unsigned failures;

static void one(const struct scene *sc, int (*trial)(struct fixture *f), unsigned target, unsigned stop, bool commit, bool rebase)
{
	struct fixture f;

	fixture_make(&f, sc, rand_seed(1));
	flatten_all(&f);
	f.target = target;
	f.stop = stop;
	f.commit = commit;
	f.rebase = rebase;
	foresee(&f);
	if (trial(&f) < 0) {
		failures++;
		print_error("%s: %s %u, %u: %s\n", sc->name, commit ? "commit" : rebase ? "rebase" : "pull", target, stop, f.why);
	}
	fixture_done(&f);
}

static void on_all(int (*trial)(struct fixture *f))
{
	const char *only = getenv("FERMATA_SCENE");

	failures = 0;
	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++) {
		const struct scene *sc = &scenes[i];
		unsigned n = sc->layer[2].size ? 3 : 2;

		if (only && strcmp(only, sc->name))
			continue;
		for (unsigned base = 0; base + 1 < n; base++)
			one(sc, trial, base, NONE, true, false);
		one(sc, trial, n - 1, NONE, false, false);
		if (n > 2)
			one(sc, trial, n - 1, 0, false, false);
		/* A snapshot that reads through may not find another disk below. */
		if (!sc->layer[n - 1].snaps) {
			one(sc, trial, n - 1, OTHER, false, true);
			one(sc, trial, n - 1, NONE, false, true);
		}
	}
	assert_int_equal(failures, 0);
}

static void t_every_cut(void **state)
{
	(void)state;
	on_all(cuts);
}

static void t_every_fault(void **state)
{
	(void)state;
	on_all(faults);
}

static void t_every_allocation(void **state)
{
	(void)state;
	on_all(allocs);
}

static void t_second_opinion(void **state)
{
	(void)state;
	on_all(second_opinion);
}

static void t_stopped(void **state)
{
	(void)state;
	on_all(stopped);
}

/* ---- the writer alone: in any order, against a plain array ---- */

static void write_some(struct writer *w, uint8_t *model, uint64_t size, uint64_t *rnd)
{
	uint64_t at = rand_below(rnd, size / 512) * 512, n = (1 + rand_below(rnd, rand_next(rnd) & 1 ? 8 : 200)) * 512;
	struct err e = { 0 };

	if (n > size - at)
		n = size - at;
	if (rand_below(rnd, 3)) {
		mkimg_fill(model + at, n, rand_next(rnd) >> 8, false);
		assert_int_equal(writer_data(w, at, model + at, n, &e), 0);
	} else {
		memset(model + at, 0, n);
		assert_int_equal(writer_zero(w, at, n, &e), 0);
	}
	if (!rand_below(rnd, 6)) {
		assert_int_equal(writer_commit(w, &e), 0);
		assert_int_equal(writer_pending(w), 0);
	}
}

/* On the upper one of a scene's first two layers. */
static void write_at_random(const struct scene *sc, uint64_t seed)
{
	struct image img[2] = { 0 };
	struct writer *w = NULL;
	struct err e = { 0 };
	struct fixture f;
	uint8_t *got;

	fixture_make(&f, sc, seed);
	flatten_all(&f);
	f.target = 1;
	foresee(&f);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(image_on(&f, i, f.dev[i], &img[i], &e), 0);
	img[1].backing = &img[0];
	assert_int_equal(writer_open(&img[1], 0, &w, &e), 0);
	for (unsigned i = 0; i < 40; i++)
		write_some(w, f.flat[1], f.size[1], &f.rnd);
	assert_int_equal(writer_data(w, f.size[1] - 512, f.flat[1], 1024, &e), -ERANGE);
	assert_int_equal(writer_commit(w, &e), 0);
	if (judge_state(&f, f.dev[1], false) < 0)
		fail_msg("%s, seed %llu: %s", sc->name, (unsigned long long)seed, f.why);
	/* Not committed: every sector old or new. */
	assert_int_equal(writer_zero(w, 0, f.size[1], &e), 0);
	writer_close(w);
	got = need(malloc(f.size[1]));
	assert_int_equal(image_read(&img[1], -1, 0, got, f.size[1], &e), 0);
	for (uint64_t at = 0; at < f.size[1]; at += 512)
		if (memcmp(got + at, f.flat[1] + at, 512))
			memset(f.flat[1] + at, 0, 512);
	assert_memory_equal(got, f.flat[1], f.size[1]);
	free(got);
	if (judge_state(&f, f.dev[1], false) < 0)
		fail_msg("%s, seed %llu, given up: %s", sc->name, (unsigned long long)seed, f.why);
	for (unsigned i = 0; i < 2; i++) {
		free(img[i].inflated);
		qcow2_close(img[i].q);
	}
	fixture_done(&f);
}

static void t_writer(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++)
		for (uint64_t seed = 1; seed <= (campaign_soaking() ? 40 : 4); seed++)
			write_at_random(&scenes[i], seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_writer),
		cmocka_unit_test(t_second_opinion),
		cmocka_unit_test(t_stopped),
		cmocka_unit_test(t_every_cut),
		cmocka_unit_test(t_every_fault),
		cmocka_unit_test(t_every_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
