#include "tests/harness/campaign.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/allocfail.h"
#include "tests/harness/crash.h"
#include "tests/harness/guest.h"
#include "tests/harness/judge.h"
#include "tests/harness/logdev.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"

#define WHY 600
#define BAD(...) bad(why, __VA_ARGS__)

struct campaign_stats campaign_stats;

static int bad(char *why, const char *fmt, ...) PRINTF(2, 3);
static int bad(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, WHY, fmt, ap);
	va_end(ap);
	return -1;
}

struct run { /* what the visitor knows */
	const struct subject *s;
	struct guest_state *before, *after;
	struct logdev *scratch;
	uint64_t rnd;
	unsigned qemu_every; /* ask qemu-img about one state in so many; 0: never */
	bool refused;
	uint64_t known[256]; /* hashes of images judged good; most faults leave the very same ones */
	unsigned n_known;
	char *why;
};

bool campaign_soaking(void)
{
	const char *v = getenv("FERMATA_SOAK");

	return v && *v && strcmp(v, "0");
}

static struct guest_img view(const struct subject *s, const uint8_t *bytes, uint64_t n)
{
	return (struct guest_img){ bytes, n, s->backing, s->backing_n };
}

/* Open, do, close: the operation as a command does it. */
static int perform(const struct subject *s, struct logdev *d, struct err *e)
{
	struct qcow2 *q = NULL;
	int r = qcow2_open_dev(&d->dev, QCOW2_RW | s->open_flags, &q, e);

	if (!r)
		r = s->op(q, s->arg, e);
	qcow2_close(q);
	return r;
}

static int same_run(const struct subject *s, struct logdev *d, int snap, const struct qcow2_run *run, char *why)
{
	struct guest_img g = view(s, d->bytes, d->dev.size);
	uint64_t there = run->kind == QCOW2_DATA ? d->dev.size : run->kind == QCOW2_HOLE ? s->backing_n : 0;
	const uint8_t *from = run->kind == QCOW2_DATA ? d->bytes : s->backing;
	uint64_t at = run->kind == QCOW2_DATA ? run->hoff : run->goff;
	uint8_t *got, *want;
	char reason[200];
	int r = 0;

	if (run->kind == QCOW2_COMPRESSED)
		return 0; /* not unpacked by us */
	if (!(got = calloc(2, run->len)))
		abort();
	want = got + run->len;
	if (at < there)
		memcpy(want, from + at, there - at < run->len ? there - at : run->len);
	if (guest_read(&g, snap, run->goff, got, run->len, reason) < 0)
		r = BAD("the independent reader: %s", reason);
	if (!r && memcmp(got, want, run->len))
		r = BAD("our map of %d has kind %d at guest offset %llu, the content is another", snap, run->kind,
			(unsigned long long)run->goff);
	free(got);
	return r;
}

/* Our map leads to the content that the independent reader finds. */
static int same_map(const struct subject *s, struct logdev *d, struct qcow2 *q, int snap, uint64_t size, char *why)
{
	struct qcow2_run run;
	struct err e = { 0 };

	for (uint64_t at = 0; at < size; at += run.len) {
		if (qcow2_map(q, snap, at, &run, &e) < 0)
			return BAD("our map of %d: %s", snap, e.msg);
		if (run.goff != at || !run.len || run.len > size - at)
			return BAD("our map of %d: %llu bytes at %llu", snap, (unsigned long long)run.len,
				   (unsigned long long)at);
		if (same_run(s, d, snap, &run, why) < 0)
			return -1;
	}
	return 0;
}

/* Our own reader says what the independent one says. @whole: the content too, not only what the image says of itself. */
static int same_to_us(const struct subject *s, const struct guest_state *g, struct logdev *d, bool whole, char *why)
{
	struct qcow2_info info;
	struct qcow2 *q = NULL;
	const struct qcow2_snap *snaps;
	struct err e = { 0 };
	unsigned n;
	int r = 0;

	if (qcow2_open_dev(&d->dev, 0, &q, &e) < 0)
		return BAD("does not open: %s", e.msg);
	qcow2_get_info(q, &info);
	snaps = qcow2_snaps(q, &n);
	if (info.size != g->size || n != g->n_snaps || info.version != g->version || info.n_bitmaps != g->n_bitmaps)
		r = BAD("our reader: size %llu, %u snapshots, %u bitmaps; the other: %llu, %u, %u",
			(unsigned long long)info.size, n, info.n_bitmaps, (unsigned long long)g->size, g->n_snaps,
			g->n_bitmaps);
	for (unsigned i = 0; !r && i < n; i++)
		if (strcmp(snaps[i].id, g->snaps[i].id) || strcmp(snaps[i].name, g->snaps[i].name) ||
		    snaps[i].vm_state_size != g->snaps[i].vmstate || snaps[i].disk_size != g->snaps[i].disk_size)
			r = BAD("our reader: snapshot %u is %s (%s), the other's %s (%s)", i, snaps[i].id, snaps[i].name,
				g->snaps[i].id, g->snaps[i].name);
	for (int i = -1; !r && whole && i < (int)n; i++)
		r = same_map(s, d, q, i, i < 0 ? g->size : g->snaps[i].disk_size, why);
	qcow2_close(q);
	return r;
}

static void keep_first(void *ctx, const char *line)
{
	char *first = ctx;

	if (!first[0])
		snprintf(first, 200, "%s", line);
}

/* Our own check finds as many leaks as the independent judge, and nothing else. */
static int our_check(struct logdev *d, const struct judge *j, char *why)
{
	struct qcow2 *q = NULL;
	struct qcow2_check c;
	struct err e = { 0 };
	char first[200] = "";
	int r = qcow2_open_dev(&d->dev, QCOW2_CHECK, &q, &e);

	if (!r)
		r = qcow2_check(q, 0, keep_first, first, &c, &e);
	qcow2_close(q);
	if (r < 0)
		return BAD("our check: %s", e.msg);
	if (c.corruptions || c.check_errors || c.leaks != j->leaks)
		return BAD("our check: %llu corruptions, %llu errors, %llu leaks (the judge: %llu): %s",
			   (unsigned long long)c.corruptions, (unsigned long long)c.check_errors,
			   (unsigned long long)c.leaks, (unsigned long long)j->leaks, first);
	return 0;
}

static int judge_one(struct run *r, const uint8_t *bytes, uint64_t n, bool may_be_old, bool may_be_new);

/* The same, for images that are mostly ones we have seen. */
static int judge_again(struct run *r, const uint8_t *bytes, uint64_t n, bool may_be_old)
{
	uint64_t h = crash_hash(bytes, n) + may_be_old;

	for (unsigned i = 0; i < r->n_known; i++)
		if (r->known[i] == h)
			return 0;
	if (judge_one(r, bytes, n, may_be_old, true) < 0)
		return -1;
	r->known[r->n_known < 256 ? r->n_known++ : h % 256] = h;
	return 0;
}

/* An image left behind by anything: old or new, and nothing wrong but leaks. */
static int judge_one(struct run *r, const uint8_t *bytes, uint64_t n, bool may_be_old, bool may_be_new)
{
	struct guest_img g = view(r->s, bytes, n);
	struct guest_state now;
	struct judge j;
	char *why = r->why, why_old[200] = "", why_new[200] = "";
	bool old, new;
	int code;

	if (guest_state(&g, &now) < 0)
		return BAD("unreadable: %s", now.why);
	old = guest_same(r->before, &now, why_old);
	new = guest_same(r->after, &now, why_new);
	if (!(old && may_be_old) && !(new && may_be_new))
		return BAD("neither old nor new: from old: %s; from new: %s%s", why_old, why_new,
			   old ? "; has to be new" : new ? "; has to be old" : "");
	judge_image(bytes, n, &j);
	if (j.bad || j.flags)
		return BAD("%llu corruptions (%s), %llu COPIED flags (%s)", (unsigned long long)j.bad, j.first_bad,
			   (unsigned long long)j.flags, j.first_flag);
	campaign_stats.n_leaky += j.leaks && !r->s->leaks_stay;
	logdev_set(r->scratch, bytes, n);
	if (our_check(r->scratch, &j, why) < 0 || same_to_us(r->s, &now, r->scratch, !rand_below(&r->rnd, 16), why) < 0)
		return -1;
	if (!r->qemu_every || rand_below(&r->rnd, r->qemu_every) || !qemu_img_there())
		return 0;
	campaign_stats.n_qemu++;
	code = qemu_img_check(bytes, n);
	if (code != 0 && code != 3) {
		char *said = qemu_img_said();

		snprintf(why, WHY, "qemu-img check: exit %d: %.400s", code, said);
		free(said);
		return -1;
	}
	return 0;
}

/* After a cut the operation is done again, as recovery does: it succeeds or says why, and breaks nothing. */
static int go_on(struct run *r, const struct crash_state *s)
{
	struct err e = { 0 };
	struct judge j;
	char *why = r->why;

	logdev_set(r->scratch, s->bytes, s->size);
	if (perform(r->s, r->scratch, &e) < 0 && !e.msg[0])
		return BAD("doing it again fails without a word");
	judge_image(r->scratch->bytes, r->scratch->dev.size, &j);
	if (j.bad || j.flags)
		return BAD("doing it again after the cut: %s %s", j.first_bad, j.first_flag);
	return 0;
}

static int visit(const struct crash_state *s, void *ctx)
{
	struct run *r = ctx;
	size_t at;

	if (judge_one(r, s->bytes, s->size, !s->complete, true) == 0 &&
	    (rand_below(&r->rnd, 16) || go_on(r, s) == 0))
		return 0;
	at = strlen(r->why);
	snprintf(r->why + at, WHY - at, "; ");
	crash_describe(s, r->why + at + 2, WHY - at - 2);
	return -1;
}

/* Set up: the state before, the operation recorded, the state after. Returns the recording or NULL. */
static struct logdev *rehearse(struct run *r, uint64_t skip_flush)
{
	const struct subject *s = r->s;
	struct logdev *d = logdev_new(s->bytes, s->n);
	struct guest_img g = view(s, s->bytes, s->n);
	struct err e = { 0 };
	char *why = r->why, wrong[200] = "";
	int ret;

	r->before = calloc(2, sizeof(*r->before));
	r->scratch = logdev_new(NULL, 0);
	if (!r->before)
		abort();
	r->after = r->before + 1;
	if (guest_state(&g, r->before) < 0) {
		BAD("the image to begin with: %s", r->before->why);
		goto bad;
	}
	if (s->backing)
		bytes_export(s->backing, s->backing_n, qemu_img_path("base.raw"));
	logdev_record(d);
	d->skip_flush = skip_flush;
	ret = perform(s, d, &e);
	if (ret != s->refuses && !(ret < 0 && s->refuses == CAMPAIGN_MAY_REFUSE) && (ret || s->refuses != CAMPAIGN_MAY_REFUSE)) {
		BAD("returned %d (%s)", ret, ret ? e.msg : "done");
		goto bad;
	}
	if (ret && (d->dev.size != s->n || memcmp(d->bytes, s->bytes, s->n))) {
		BAD("was refused (%s), but not before something was written", e.msg);
		goto bad;
	}
	g = view(s, d->bytes, d->dev.size);
	if (guest_state(&g, r->after) < 0) {
		BAD("the image afterwards: %s", r->after->why);
		goto bad;
	}
	if (!ret && s->expect && skip_flush == LOG_NEVER && !s->expect(s, r->before, r->after, wrong)) {
		BAD("not what it should be: %s", wrong);
		goto bad;
	}
	campaign_stats.n_refused += ret < 0;
	r->refused = ret < 0;
	return d;
bad:
	logdev_free(d);
	return NULL;
}

static void done(struct run *r, struct logdev *d)
{
	logdev_free(d);
	logdev_free(r->scratch);
	free(r->before);
}

static int crash_run(struct run *r, uint64_t seed, uint64_t skip_flush)
{
	struct crash_opts o = { .seed = seed, .budget = campaign_soaking() ? 4000 : 150, .all_subsets = campaign_soaking() ? 11 : 7 };
	struct crash_stats st = { 0 };
	struct logdev *d = rehearse(r, skip_flush);
	char *why = r->why;
	size_t last;
	int ret = -1;

	if (!d)
		goto out;
	/* What was freed may be given back after the last flush. */
	for (last = d->n_ops; last && d->ops[last - 1].kind == LOG_ZERO; last--)
		;
	if (!r->refused && last && d->ops[last - 1].kind != LOG_FLUSH) {
		BAD("the last operation is no flush: what was done may still be lost");
		goto out;
	}
	ret = crash_states(d, &o, visit, r, &st);
	campaign_stats.n_states += st.n_built;
	campaign_stats.n_distinct += st.n_distinct;
out:
	done(r, d);
	return ret;
}

int campaign_crash(const struct subject *s, uint64_t seed, char *why)
{
	struct run r = { .s = s, .why = why, .rnd = seed, .qemu_every = campaign_soaking() ? 1 : 150 };

	return crash_run(&r, seed, LOG_NEVER);
}

int campaign_mutations(const struct subject *s, uint64_t seed, char *why)
{
	struct run count = { .s = s, .why = why };
	struct logdev *d = rehearse(&count, LOG_NEVER);
	uint64_t n = d ? d->n_flush : 0;

	done(&count, d);
	if (!d)
		return -1;
	for (uint64_t i = 0; i < n; i++) {
		struct run r = { .s = s, .why = why, .rnd = seed };

		if (crash_run(&r, seed, i) == 0)
			return BAD("nothing wrong without flush %llu of %llu", (unsigned long long)i, (unsigned long long)n);
	}
	why[0] = '\0';
	return 0;
}

static bool still_old(const struct run *r, const struct logdev *d)
{
	struct guest_img g = view(r->s, d->bytes, d->dev.size);
	struct guest_state now;
	char why[200];

	return guest_state(&g, &now) == 0 && guest_same(r->before, &now, why);
}

/* As perform(), but when the operation failed on a passing fault, it is tried again on the same handle. */
static int persist(const struct run *r, struct logdev *d, struct err *e)
{
	struct qcow2 *q = NULL;
	int ret = qcow2_open_dev(&d->dev, QCOW2_RW | r->s->open_flags, &q, e);

	if (!ret) {
		ret = r->s->op(q, r->s->arg, e);
		if (ret < 0 && e->msg[0] && d->hit && !d->fail_stays && still_old(r, d))
			ret = r->s->op(q, r->s->arg, e);
	}
	qcow2_close(q);
	return ret;
}

/* One run with a fault armed. Returns 1 if the fault was not met any more. */
static int faulty(struct run *r, struct logdev *d, unsigned kinds, uint64_t at, int errnum, bool stays,
		  bool again)
{
	struct err e = { 0 };
	char *why = r->why;
	bool hit;
	int ret;

	logdev_rewind(d);
	logdev_fail(d, kinds, at, errnum, stays);
	ret = again ? persist(r, d, &e) : perform(r->s, d, &e);
	hit = d->hit;
	logdev_fail(d, 0, LOG_NEVER, 0, false);
	if (!hit)
		return 1;
	campaign_stats.n_faults++;
	if (ret < 0 && !e.msg[0])
		return BAD("operation %llu fails: no message", (unsigned long long)at);
	if (judge_again(r, d->bytes, d->dev.size, ret < 0) < 0) {
		size_t n = strlen(why);

		snprintf(why + n, WHY - n, "; %s of kinds 0x%x, number %llu, failed%s: returned %d (%s)", strerror(errnum),
			 kinds, (unsigned long long)at, stays ? " and kept failing" : again ? ", then tried again" : "", ret,
			 e.msg);
		return -1;
	}
	return 0;
}

int campaign_faults(const struct subject *s, char *why)
{
	static const struct {
		unsigned kinds;
		int errnum;
	} faults[] = { { LOG_ANY, EIO }, { LOG_WRITE | LOG_TRUNC | LOG_ZERO, ENOSPC }, { LOG_READ, ENODATA } };
	struct run r = { .s = s, .why = why, .rnd = 1 };
	struct logdev *d = rehearse(&r, LOG_NEVER);
	int ret = d ? 0 : -1;

	for (unsigned f = 0; !ret && f < 3; f++)
		for (int how = 0; !ret && how < 3; how++) {
			uint64_t at = 0;

			while ((ret = faulty(&r, d, faults[f].kinds, at, faults[f].errnum, how == 1, how == 2)) == 0)
				at++;
			ret = ret > 0 ? 0 : ret;
		}
	done(&r, d);
	return ret;
}

static int starved(struct run *r, struct logdev *d, uint64_t at, bool stays)
{
	struct err e = { 0 };
	char *why = r->why;
	int ret;

	logdev_rewind(d);
	alloc_fail(at, stays);
	ret = perform(r->s, d, &e);
	if (!alloc_normal())
		return 1;
	campaign_stats.n_allocs++;
	if (ret < 0 && !e.msg[0])
		return BAD("allocation %llu fails: no message", (unsigned long long)at);
	if (judge_again(r, d->bytes, d->dev.size, ret < 0) < 0) {
		size_t n = strlen(why);

		snprintf(why + n, WHY - n, "; allocation %llu failed%s: returned %d (%s)", (unsigned long long)at,
			 stays ? " and all after it" : "", ret, e.msg);
		return -1;
	}
	return 0;
}

int campaign_allocs(const struct subject *s, char *why)
{
	struct run r = { .s = s, .why = why, .rnd = 1 };
	struct logdev *d = rehearse(&r, LOG_NEVER);
	int ret = d ? 0 : -1;

	for (int stays = 0; !ret && stays < 2; stays++) {
		uint64_t at = 0;

		while ((ret = starved(&r, d, at, stays)) == 0)
			at++;
		ret = ret > 0 ? 0 : ret;
	}
	done(&r, d);
	return ret;
}
