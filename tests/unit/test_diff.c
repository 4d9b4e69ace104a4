/*
 * Random images, random edits, done by us and by qemu-img on copies of the same image: both succeed or both refuse,
 * the outcome is the same to the guest, and sound to every judge. A few with `make check`, thousands with
 * FERMATA_SOAK=1; FERMATA_SEED=N repeats one image.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/endian.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"
#include "tests/harness/campaign.h"
#include "tests/harness/expect.h"
#include "tests/harness/guest.h"
#include "tests/harness/judge.h"
#include "tests/harness/logdev.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"
#include "tests/harness/zoo.h"

enum edit { CREATE, APPLY, DELETE, GROW, SHRINK, COMPAT, LAZY, WIDTH, BIT_ADD, BIT_REMOVE, BIT_CLEAR, BIT_SWITCH, N_EDITS };

static const char *const edit_names[] = { "create", "apply", "delete", "grow", "shrink", "compat", "lazy", "refcount_bits",
					  "bitmap add", "bitmap remove", "bitmap clear", "bitmap enable/disable" };

struct world {
	uint64_t seed, rnd;
	struct zoo_animal a;
	uint8_t *img, *backing;
	size_t n, backing_n;
	struct guest_state state;
	unsigned step;
	/* the edit at hand */
	enum edit edit;
	unsigned snap;
	uint64_t size;
	unsigned number;
	char name[40];
};

static struct {
	uint64_t images, edits, done, refused, writes, checks, harmed;
} count;

#define FAIL(w, ...)                                                                                                   \
	do {                                                                                                           \
		print_error("seed %llu, step %u, %s: ", (unsigned long long)(w)->seed, (w)->step, edit_names[(w)->edit]); \
		print_error(__VA_ARGS__);                                                                              \
		print_error("\n");                                                                                     \
		fail();                                                                                                \
	} while (0)

static uint64_t below(struct world *w, uint64_t n)
{
	return rand_below(&w->rnd, n);
}

static void make_world(struct world *w, uint64_t seed)
{
	static const unsigned widths[] = { 16, 16, 8, 32, 64, 4, 2, 1 };
	static char names[] = "random";
	struct zoo_animal *a = &w->a;

	*w = (struct world){ .seed = seed, .rnd = seed };
	*a = (struct zoo_animal){ .name = names };
	a->version = below(w, 6) ? 3 : 2;
	a->refcount_bits = a->version == 2 ? 16 : widths[below(w, 8)];
	a->cluster_bits = 9 + (unsigned)below(w, 4);
	a->size_kib = 4 * (1 + (unsigned)below(w, 8)) << (a->cluster_bits - 9);
	a->n_snaps = a->refcount_bits == 1 ? 0 : a->refcount_bits == 2 ? (unsigned)below(w, 2) : (unsigned)below(w, 5);
	if (a->version == 3 && !below(w, 8)) {
		a->ext_l2 = true;
		a->cluster_bits = 14;
		a->size_kib = 16 * (1 + (unsigned)below(w, 16));
	}
	a->packed = a->refcount_bits >= 8 && below(w, 2);
	a->vmstate = !below(w, 4);
	a->odd_extra = a->version == 3 && !below(w, 4);
	a->bitmaps = a->version == 3 && a->cluster_bits < 14 && !below(w, 4);
	a->backing = !below(w, 4);
	a->dirty_pct = 10 + (unsigned)below(w, 50);
	w->img = zoo_make(a, seed, &w->n, &w->backing, &w->backing_n);
	if (w->backing)
		bytes_export(w->backing, w->backing_n, qemu_img_path("base.raw"));
	count.images++;
}

static void look(struct world *w, const uint8_t *img, size_t n, struct guest_state *s, const char *whose)
{
	struct guest_img g = { img, n, w->backing, w->backing_n };
	auto_logdev struct logdev *d = logdev_new(img, n);
	struct qcow2 *q = NULL;
	struct err e;
	struct judge j;

	if (qcow2_open_dev(&d->dev, 0, &q, &e) < 0)
		FAIL(w, "%s: %s", whose, e.msg);
	qcow2_close(q);
	if (guest_state(&g, s) < 0)
		FAIL(w, "%s: %s", whose, s->why);
	judge_image(img, n, &j);
	if (j.bad || j.flags || j.leaks)
		FAIL(w, "%s: %s %s, %llu leaks", whose, j.first_bad, j.first_flag, (unsigned long long)j.leaks);
}

/* ---- the edit, as we do it and as they do ---- */

static void choose(struct world *w)
{
	static const unsigned widths[] = { 1, 2, 4, 8, 16, 32, 64 };
	uint64_t cs = 1ull << w->state.cluster_bits;

	w->edit = (enum edit)below(w, N_EDITS);
	w->snap = (unsigned)below(w, w->state.n_snaps);
	if ((w->edit == APPLY || w->edit == DELETE) && !w->state.n_snaps)
		w->edit = CREATE;
	if (w->edit == CREATE && w->state.n_snaps > 6)
		w->edit = DELETE;
	w->size = w->edit == GROW ? w->state.size + cs * (1 + below(w, 100)) : (1 + below(w, w->state.size / cs)) * cs;
	w->number = w->edit == COMPAT ? 2 + (unsigned)below(w, 2) : w->edit == WIDTH ? widths[below(w, 7)] : (unsigned)below(w, 2);
	snprintf(w->name, sizeof(w->name), "step%u", w->step);
	if (w->edit > BIT_ADD && w->state.n_bitmaps)
		snprintf(w->name, sizeof(w->name), "%s", w->state.bitmaps[below(w, w->state.n_bitmaps)].name);
}

static int edit_handle(struct world *w, struct qcow2 *q, struct err *e)
{
	struct qcow2_snap_new s = { .name = w->name, .date_s = 1800000000, .icount = QCOW2_NO_ICOUNT };
	struct qcow2_amend a = QCOW2_AMEND_NOTHING;

	switch (w->edit) {
	case CREATE:
		return qcow2_snap_create(q, &s, e);
	case APPLY:
		return qcow2_snap_apply(q, w->snap, e);
	case DELETE:
		return qcow2_snap_delete(q, w->snap, e);
	case GROW:
	case SHRINK:
		return qcow2_resize(q, w->size, w->edit == SHRINK, w->backing_n, QCOW2_PREALLOC_OFF, e);
	case COMPAT:
		a.version = (int)w->number;
		return qcow2_amend(q, &a, e);
	case LAZY:
		a.lazy_refcounts = (int)w->number;
		return qcow2_amend(q, &a, e);
	case WIDTH:
		a.refcount_bits = (int)w->number;
		return qcow2_amend(q, &a, e);
	case BIT_ADD:
		return qcow2_bitmap_add(q, w->name, 0, w->number, e);
	case BIT_REMOVE:
		return qcow2_bitmap_remove(q, w->name, e);
	case BIT_CLEAR:
		return qcow2_bitmap_clear(q, w->name, e);
	default:
		return qcow2_bitmap_enable(q, w->name, w->number, e);
	}
}

static int edit_ours(struct world *w, struct logdev *d, struct err *e)
{
	struct qcow2 *q = NULL;
	int r = qcow2_open_dev(&d->dev, QCOW2_RW, &q, e);

	if (!r)
		r = edit_handle(w, q, e);
	qcow2_close(q);
	return r;
}

static int edit_theirs(struct world *w, const char *path)
{
	char arg[64];
	const char *id = w->state.snaps[w->snap].id, *name = w->state.snaps[w->snap].name;

	switch (w->edit) {
	case CREATE:
		return qemu_img_run((const char *[]){ "qemu-img", "snapshot", "-c", w->name, path, NULL });
	case APPLY:
		return qemu_img_run((const char *[]){ "qemu-img", "snapshot", "-a", id, path, NULL });
	case DELETE:
		return qemu_img_run((const char *[]){ "qemu-img", "snapshot", "-d", name, path, NULL });
	case GROW:
	case SHRINK:
		snprintf(arg, sizeof(arg), "%llu", (unsigned long long)w->size);
		return qemu_img_run(w->edit == GROW ?
			(const char *[]){ "qemu-img", "resize", "-f", "qcow2", path, arg, NULL } :
			(const char *[]){ "qemu-img", "resize", "--shrink", "-f", "qcow2", path, arg, NULL });
	case COMPAT:
		snprintf(arg, sizeof(arg), "compat=%s", w->number == 2 ? "0.10" : "1.1");
		return qemu_img_run((const char *[]){ "qemu-img", "amend", "-f", "qcow2", "-o", arg, path, NULL });
	case LAZY:
		snprintf(arg, sizeof(arg), "lazy_refcounts=%s", w->number ? "on" : "off");
		return qemu_img_run((const char *[]){ "qemu-img", "amend", "-f", "qcow2", "-o", arg, path, NULL });
	case WIDTH:
		snprintf(arg, sizeof(arg), "refcount_bits=%u", w->number);
		return qemu_img_run((const char *[]){ "qemu-img", "amend", "-f", "qcow2", "-o", arg, path, NULL });
	case BIT_ADD:
		return qemu_img_run(w->number ?
			(const char *[]){ "qemu-img", "bitmap", "--add", "--disable", "-f", "qcow2", path, w->name, NULL } :
			(const char *[]){ "qemu-img", "bitmap", "--add", "-f", "qcow2", path, w->name, NULL });
	case BIT_REMOVE:
		return qemu_img_run((const char *[]){ "qemu-img", "bitmap", "--remove", "-f", "qcow2", path, w->name, NULL });
	case BIT_CLEAR:
		return qemu_img_run((const char *[]){ "qemu-img", "bitmap", "--clear", "-f", "qcow2", path, w->name, NULL });
	default:
		return qemu_img_run((const char *[]){ "qemu-img", "bitmap", w->number ? "--enable" : "--disable", "-f", "qcow2",
						      path, w->name, NULL });
	}
}

static bool expected(struct world *w, const struct guest_state *after, char *why)
{
	const struct guest_state *b = &w->state;

	switch (w->edit) {
	case CREATE:
		return expect_create(b, after, why);
	case APPLY:
		return expect_apply(b, after, w->snap, why);
	case DELETE:
		return expect_delete(b, after, w->snap, why);
	case GROW:
		return expect_grown(b, after, w->size, why);
	case SHRINK:
		return after->size == w->size || (snprintf(why, 200, "the size"), false);
	case COMPAT:
	case LAZY:
	case WIDTH:
		return expect_amended(b, after, why);
	default:
		return expect_bitmaps(b, after, why);
	}
}

/* Where we do what they refuse, or refuse what they do, on purpose. */
static bool may_disagree(const struct world *w, bool we_did)
{
	if (w->edit == APPLY && w->state.n_bitmaps)
		return we_did; /* they refuse with an enabled bitmap; we mark all of it dirty */
	/* They count all that the snapshot has once more before they count what was there less: too much for few bits. */
	if (w->edit == APPLY && get_be32(w->img + 4) == 3 && get_be32(w->img + 96) < 3)
		return we_did;
	if (w->edit == COMPAT && w->number == 2 && w->state.n_bitmaps)
		return !we_did; /* they drop the bitmaps without a word */
	return false;
}

/* Does the L1 table reach behind the disk, to VM state? */
static bool l1_behind(const struct world *w)
{
	uint64_t maps = 1ull << (2 * w->state.cluster_bits - (w->a.ext_l2 ? 4 : 3));

	return get_be32(w->img + 36) > (w->state.size + maps - 1) / maps;
}

/*
 * What a comparison of the two outcomes must not see: when a snapshot was taken, and what a bitmap has behind the old
 * end where its last entry says "all ones" (QEMU 7.2 sets that to the end of a 64 bit word, and zeros from there on);
 * nor what QEMU lets the guest see of VM state that lay where the disk grows to. (Ours reads as zeros there: see
 * expect_grown().)
 */
static void level(struct world *w, struct guest_state *ours, const struct guest_state *theirs)
{
	if (w->edit == CREATE)
		ours->snaps[ours->n_snaps - 1].meta = theirs->snaps[theirs->n_snaps - 1].meta;
	if (w->edit == GROW && l1_behind(w))
		ours->content = theirs->content;
	for (unsigned i = 0; w->edit == GROW && i < ours->n_bitmaps && i < theirs->n_bitmaps; i++)
		if (w->state.bitmaps[i].ones_end)
			ours->bitmaps[i].content = theirs->bitmaps[i].content;
}

/*
 * QEMU's shrink, and applying the snapshot of a smaller disk, may leave leaks, and its way to version 2 COPIED flags on
 * what snapshots share. Where its own check says so of its own image, that is noted, and only ours goes on.
 */
static bool harmed(const struct world *w, const uint8_t *theirs, size_t n)
{
	struct judge j;

	if (w->edit != SHRINK && w->edit != COMPAT && w->edit != APPLY)
		return false;
	judge_image(theirs, n, &j);
	if ((!j.bad && !j.flags && !j.leaks) || !qemu_img_check(theirs, n))
		return false;
	count.harmed++;
	return true;
}

/* One edit on two copies; the image goes on as one of them. */
static void step(struct world *w)
{
	auto_logdev struct logdev *d = NULL;
	auto_free char *said = NULL;
	auto_free uint8_t *theirs = NULL;
	const char *path = qemu_img_path("diff.qcow2");
	struct guest_state a, b;
	struct err e = { 0 };
	char why[200];
	size_t n;
	int r, t;

	choose(w);
	d = logdev_new(w->img, w->n);
	r = edit_ours(w, d, &e);
	bytes_export(w->img, w->n, path);
	t = edit_theirs(w, path);
	said = qemu_img_said();
	theirs = bytes_import(path, &n);
	count.edits++;
	if ((r < 0) != (t != 0) && !may_disagree(w, !r))
		FAIL(w, "we: %s; qemu-img: %d %s", r ? e.msg : "done", t, said);
	if (r < 0) {
		if (d->dev.size != w->n || memcmp(d->bytes, w->img, w->n))
			FAIL(w, "refused (%s) after something was written", e.msg);
		count.refused++;
		return;
	}
	look(w, d->bytes, d->dev.size, &a, "ours");
	if (!expected(w, &a, why))
		FAIL(w, "ours: %s", why);
	count.done++;
	if (t == 0 && harmed(w, theirs, n))
		t = 3;
	if (t == 0) {
		look(w, theirs, n, &b, "theirs");
		level(w, &a, &b);
		if (!guest_same(&a, &b, why))
			FAIL(w, "ours and theirs differ: %s", why);
	}
	if (t == 0 && below(w, 2)) {
		free(w->img);
		w->img = take_ptr(&theirs);
		w->n = n;
	} else {
		free(w->img);
		w->n = d->dev.size;
		if (!(w->img = malloc(w->n)))
			abort();
		memcpy(w->img, d->bytes, w->n);
	}
	look(w, w->img, w->n, &w->state, "the next");
}

/* The guest writes, through qemu-io; snapshots and all else stay. */
static void guest_writes(struct world *w)
{
	const char *path = qemu_img_path("diff.qcow2");
	struct guest_state before = w->state, after;
	char write[64], other[64], why[200];
	uint64_t at, len;
	int r;

	if (w->state.size < 4096)
		return;
	at = below(w, w->state.size / 512) * 512;
	len = 512 * (1 + below(w, 16));
	len = len > w->state.size - at ? w->state.size - at : len;
	snprintf(write, sizeof(write), "write -P %u %llu %llu", 1 + (unsigned)below(w, 255), (unsigned long long)at,
		 (unsigned long long)len);
	at = below(w, w->state.size / 512) * 512;
	len = 512 * (1 + below(w, 16));
	len = len > w->state.size - at ? w->state.size - at : len;
	snprintf(other, sizeof(other), "%s %llu %llu", below(w, 2) ? "discard" : "write -z", (unsigned long long)at,
		 (unsigned long long)len);
	bytes_export(w->img, w->n, path);
	r = qemu_img_run((const char *[]){ "qemu-io", "-d", "unmap", "-f", "qcow2", "-c", write, "-c", other, path, NULL });
	free(w->img);
	w->img = bytes_import(path, &w->n);
	count.writes++;
	look(w, w->img, w->n, &after, r ? "after a failed qemu-io" : "after qemu-io");
	w->state = after;
	after.content = before.content;
	memcpy(after.bitmaps, before.bitmaps, sizeof(after.bitmaps));
	if (!guest_same(&before, &after, why))
		FAIL(w, "qemu-io changed more than the disk: %s", why);
}

/* Everything as they read it. */
static void compare_content(struct world *w)
{
	struct guest_img g = { w->img, w->n, w->backing, w->backing_n };

	if (qemu_img_check(w->img, w->n) != 0) {
		auto_free char *said = qemu_img_said();

		FAIL(w, "qemu-img check: %s", said);
	}
	for (int snap = -1; snap < (int)w->state.n_snaps; snap++) {
		uint64_t size = snap < 0 ? w->state.size : w->state.snaps[snap].disk_size;
		auto_free uint8_t *ours = malloc(size + 1), *theirs = NULL;
		char why[200];
		size_t got = 0;

		if (snap >= 0 && below(w, 3))
			continue;
		theirs = qemu_img_content(w->img, w->n, snap < 0 ? NULL : w->state.snaps[snap].name, &got);
		/* Of a snapshot they show as much as the active disk has. */
		size = snap >= 0 && got < size ? got : size;
		if (!theirs || (snap < 0 && got != size) || guest_read(&g, snap, 0, ours, size, why) < 0 || memcmp(ours, theirs, size))
			FAIL(w, "content of %d: %llu bytes, theirs %zu", snap, (unsigned long long)size, got);
		count.checks++;
	}
}

static void one_world(uint64_t seed)
{
	struct world w;

	make_world(&w, seed);
	look(&w, w.img, w.n, &w.state, "made");
	for (w.step = 0; w.step < 6; w.step++) {
		step(&w);
		if (!below(&w, 3))
			guest_writes(&w);
	}
	compare_content(&w);
	free(w.img);
	free(w.backing);
}

static void t_edits(void **state)
{
	uint64_t from = rand_seed(0);
	uint64_t n = from ? 1 : campaign_soaking() ? 3000 : 120;
	static const uint64_t told[] = { 1128, 1209, 1256, 1647, 2073 }; /* these found something once */

	(void)state;
	if (!qemu_img_there())
		skip();
	for (size_t i = 0; !from && i < ARRAY_SIZE(told); i++)
		one_world(told[i]);
	for (uint64_t i = 0; i < n; i++)
		one_world(from ? from : 1000 + i);
	print_message("# %llu images, %llu edits (%llu done by both, %llu refused by both), %llu guest writes, %llu contents, "
		      "%llu harmed by qemu-img\n",
		      (unsigned long long)count.images, (unsigned long long)count.edits, (unsigned long long)count.done,
		      (unsigned long long)count.refused, (unsigned long long)count.writes, (unsigned long long)count.checks,
		      (unsigned long long)count.harmed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_edits),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
