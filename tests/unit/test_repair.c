/* qcow2/repair.c: known damage, one kind each; its verdict, its repair, and that through every cut and fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "qcow2/check.h"
#include "tests/harness/allocfail.h"
#include "tests/harness/crash.h"
#include "tests/harness/guest.h"
#include "tests/harness/logdev.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"
#include "tests/harness/zoo.h"

#define ALL (QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS)

/* What gets damaged: an entry that is in use, found through the tables. */
enum place {
	HEADER,     /* be32 at .at */
	HEADER64,   /* be64 at .at */
	L1,         /* the active L1 table's entry of guest cluster 0 */
	L2,         /* the first data entry there */
	L2_SHARED,  /* the first without COPIED */
	L2_PACKED,  /* the first compressed one */
	L2_UNUSED,  /* the first empty one */
	SUB,        /* the subcluster bitmap of the first data entry */
	SUB_PACKED,
	SUB_UNUSED,
	SNAP_L1,    /* the first snapshot's first L1 entry */
	SNAP64,     /* be64 at .at in its table entry */
	SNAP32,
	RT,         /* refcount table entry 0 */
	RC_OF_L2,   /* a refcount: of L1's table, */
	RC_OF_DATA, /* of L2's cluster, */
	RC_OF_RB,   /* of refcount block 0, */
	RC_OF_END,  /* of the first cluster that is free */
	BM_DIR,     /* be32 at .at in the bitmap directory */
	BM_ENTRY,   /* entry 0 of the first bitmap's table */
};

enum change { SET, XOR, ADD, FILE_END };

static const struct harm {
	const char *what, *animal;
	enum place place;
	unsigned at;
	enum change change;
	uint64_t v;
	int code;    /* check's verdict: 1 cannot be opened, 2 corruption, 3 leaks, 0 nobody minds */
	int repaired; /* after repair of everything */
	int theirs;  /* qemu-img's verdict where it is another one, else -1 */
	bool changes; /* repair gives something up: the content need not be the same */
} harms[] = {
	{ "dirty", "plain", HEADER64, HDR_INCOMPAT, XOR, 1, 0, 0, -1, 0 },
	{ "marked corrupt", "plain", HEADER64, HDR_INCOMPAT, XOR, 2, 0, 0, -1, 0 },
	{ "no refcount table", "plain", HEADER, HDR_RT_CLUSTERS, SET, 0, 2, 0, -1, 0 },
	{ "refcount table unaligned", "plain", HEADER64, HDR_RT_OFF, XOR, 8, 2, 0, 1, 0 },
	{ "refcount table past the end", "plain", HEADER64, HDR_RT_OFF, ADD, 1 << 20, 2, 0, -1, 0 },
	{ "refcount table on the header", "plain", HEADER64, HDR_RT_OFF, SET, 0, 2, 0, -1, 0 },
	{ "refcount table too large", "plain", HEADER, HDR_RT_CLUSTERS, SET, 1 << 20, 2, 0, 1, 0 },
	{ "L1 table unaligned", "plain", HEADER64, HDR_L1_OFF, XOR, 16, 1, 1, -1, 0 },
	{ "L1 table past the end", "plain", HEADER64, HDR_L1_OFF, ADD, 1 << 20, 1, 1, 2, 0 },
	{ "L1 table too small", "plain", HEADER, HDR_L1_SIZE, SET, 0, 1, 1, -1, 0 },
	{ "L1 entry: reserved bit", "plain", L1, 0, XOR, 1ull << 60, 2, 2, -1, 0 },
	{ "L1 entry: low bit", "plain", L1, 0, XOR, 1, 2, 2, -1, 0 },
	{ "L1 entry: unaligned", "clusters4k", L1, 0, XOR, 512, 2, 2, -1, 0 },
	{ "L1 entry: past the end", "plain", L1, 0, XOR, 1ull << 40, 2, 2, -1, 0 },
	{ "L1 entry: only the flag", "plain", L1, 0, SET, OFLAG_COPIED, 2, 2, -1, 0 },
	{ "L1 entry: COPIED flipped", "plain", L1, 0, XOR, OFLAG_COPIED, 2, 0, -1, 0 },
	{ "L1 entry: lost", "plain", L1, 0, SET, 0, 3, 0, -1, true },
	{ "L2 entry: COPIED flipped", "plain", L2, 0, XOR, OFLAG_COPIED, 2, 0, -1, 0 },
	{ "L2 entry: shared and COPIED", "plain", L2_SHARED, 0, XOR, OFLAG_COPIED, 2, 0, -1, 0 },
	{ "L2 entry: reserved bit", "plain", L2, 0, XOR, 1ull << 58, 2, 2, -1, 0 },
	{ "L2 entry: low bit", "plain", L2, 0, XOR, 4, 2, 2, -1, 0 },
	{ "L2 entry: unaligned", "clusters4k", L2, 0, XOR, 512, 2, 2, -1, true },
	{ "L2 entry: unaligned preallocation", "clusters4k", L2, 0, XOR, 513, 2, 0, -1, true },
	{ "L2 entry: past the end", "plain", L2, 0, XOR, 1ull << 40, 2, 2, -1, 0 },
	{ "L2 entry: just past the end", "plain", L2, 0, FILE_END, OFLAG_COPIED, 2, 2, -1, true },
	{ "L2 entry: lost", "plain", L2, 0, SET, 0, 3, 0, -1, true },
	{ "L2 entry: zero flag in version 2", "version2", L2, 0, XOR, 1, 2, 2, 0, 0 },
	{ "compressed entry: COPIED", "packed", L2_PACKED, 0, XOR, OFLAG_COPIED, 2, 0, -1, 0 },
	{ "compressed entry: past the end", "packed", L2_PACKED, 0, XOR, 1ull << 40, 2, 2, -1, 0 },
	{ "compressed entry: more sectors", "packed", L2_PACKED, 0, ADD, 1ull << 61, 2, 0, -1, 0 },
	{ "subclusters: allocated and zero", "subclusters", SUB, 0, SET, UINT64_MAX, 2, 2, -1, 0 },
	{ "subclusters: of a compressed cluster", "subclusters", SUB_PACKED, 0, SET, 1, 2, 0, -1, 0 },
	{ "subclusters: of no cluster", "subclusters", SUB_UNUSED, 0, SET, 1, 2, 2, -1, 0 },
	{ "snapshot's L1 entry: past the end", "plain", SNAP_L1, 0, XOR, 1ull << 40, 2, 2, -1, 0 },
	{ "snapshot's L1 entry: COPIED", "plain", SNAP_L1, 0, XOR, OFLAG_COPIED, 0, 0, -1, 0 },
	{ "snapshot's L1 table unaligned", "plain", SNAP64, 0, XOR, 8, 2, 2, -1, 0 },
	{ "snapshot's L1 table past the end", "plain", SNAP64, 0, XOR, 1 << 20, 2, 2, -1, 0 },
	{ "snapshot's L1 table too large", "plain", SNAP32, 8, SET, 0x00400001, 2, 2, -1, 0 },
	{ "snapshot without extra data", "refs2", SNAP32, 36, SET, 0, 2, 0, -1, true },
	{ "snapshot table past the end", "plain", HEADER64, HDR_SNAP_OFF, ADD, 1 << 20, 1, 1, 2, 0 },
	{ "too many snapshots", "plain", HEADER, HDR_N_SNAPS, SET, 65537, 1, 1, -1, 0 },
	{ "refcount block: reserved bit", "plain", RT, 0, XOR, 2, 2, 0, -1, 0 },
	{ "refcount block unaligned", "clusters4k", RT, 0, XOR, 512, 2, 0, 1, 0 },
	{ "refcount block past the end", "plain", RT, 0, ADD, 1 << 20, 2, 0, -1, 0 },
	{ "refcount block lost", "plain", RT, 0, SET, 0, 2, 0, -1, 0 },
	{ "refcount block is the header", "plain", RT, 0, SET, 512, 2, 0, -1, 0 },
	{ "refcount too low: table", "plain", RC_OF_L2, 0, SET, 0, 2, 0, -1, 0 },
	{ "refcount too high: table", "plain", RC_OF_L2, 0, ADD, 1, 2, 0, -1, 0 },
	{ "refcount too low: data", "plain", RC_OF_DATA, 0, SET, 0, 2, 0, -1, 0 },
	{ "refcount too high: data", "plain", RC_OF_DATA, 0, ADD, 1, 2, 0, -1, 0 },
	{ "refcount too low: block", "plain", RC_OF_RB, 0, SET, 0, 2, 0, -1, 0 },
	{ "refcount too high: block", "refs64", RC_OF_RB, 0, ADD, 7, 3, 0, -1, 0 },
	{ "leak", "plain", RC_OF_END, 0, SET, 1, 3, 0, -1, 0 },
	{ "leak, narrow", "refs1", RC_OF_END, 0, SET, 1, 3, 0, -1, 0 },
	{ "leak, wide", "refs32", RC_OF_END, 0, SET, 77, 3, 0, -1, 0 },
	{ "bitmap's table unaligned", "bitmaps", BM_DIR, 4, XOR, 8, 2, 2, 1, 0 },
	{ "bitmap of no size", "bitmaps", BM_DIR, 8, SET, 0, 2, 2, 1, 0 },
	{ "bitmap's flags", "bitmaps", BM_DIR, 12, XOR, 1u << 30, 2, 2, 1, 0 },
	{ "bitmap's entry: reserved bit", "bitmaps", BM_ENTRY, 0, SET, 2, 2, 2, 1, 0 },
	{ "bitmap's entry: past the end", "bitmaps", BM_ENTRY, 0, SET, 1ull << 40, 2, 2, -1, 0 },
	{ "bitmaps forgotten", "bitmaps", HEADER64, HDR_AUTOCLEAR, SET, 0, 3, 0, -1, true },
};

/* ---- finding the place ---- */

static const uint8_t *ext_bitmaps(const struct logdev *d)
{
	const uint8_t *p = d->bytes + get_be32(d->bytes + HDR_LEN);

	while (get_be32(p) != EXT_BITMAPS) {
		assert_true(get_be32(p) != 0);
		p += 8 + ((get_be32(p + 4) + 7) & ~7u);
	}
	return p + 8;
}

/* The first entry of the active L2 tables that is what @place says. */
static uint64_t l2_place(const struct logdev *d, enum place place)
{
	const uint8_t *b = d->bytes;
	bool ext = get_be32(b + HDR_VERSION) > 2 && (get_be64(b + HDR_INCOMPAT) & QCOW2_INCOMPAT_EXT_L2);
	uint64_t step = ext ? 16 : 8, cs = 1ull << get_be32(b + HDR_CLUSTER);

	for (uint32_t i = 0; i < get_be32(b + HDR_L1_SIZE); i++) {
		uint64_t t = get_be64(b + get_be64(b + HDR_L1_OFF) + 8 * i) & OFFSET_MASK;

		for (uint64_t k = 0; t && k < cs; k += step) {
			uint64_t v = get_be64(b + t + k);
			bool packed = v & OFLAG_COMPRESSED, data = !packed && (v & OFFSET_MASK) && !(v & OFLAG_ZERO);

			switch (place) {
			case L2: if (data && (v & OFLAG_COPIED)) return t + k; break;
			case SUB: if (data) return t + k + 8; break;
			case L2_SHARED: if (data && !(v & OFLAG_COPIED)) return t + k; break;
			case L2_PACKED: if (packed) return t + k; break;
			case SUB_PACKED: if (packed) return t + k + 8; break;
			case SUB_UNUSED: if (!v) return t + k + 8; break;
			default: if (!v) return t + k; break;
			}
		}
	}
	fail_msg("there is no such entry");
	return 0;
}

/* Change the refcount of the cluster at @off. */
static void harm_refcount(struct logdev *d, uint64_t off, const struct harm *h)
{
	uint8_t *b = d->bytes;
	unsigned bits = get_be32(b + HDR_CLUSTER), order = get_be32(b + HDR_VERSION) > 2 ? get_be32(b + HDR_REF_ORDER) : 4;
	uint64_t per = (8ull << bits) >> order, c = off >> bits;
	uint8_t *blk = b + get_be64(b + get_be64(b + HDR_RT_OFF) + 8 * (c / per));

	refblock_set(blk, order, c % per, h->change == ADD ? refblock_get(blk, order, c % per) + h->v : h->v);
}

static uint64_t first_free(const struct logdev *d)
{
	const uint8_t *b = d->bytes;
	unsigned bits = get_be32(b + HDR_CLUSTER), order = get_be32(b + HDR_REF_ORDER);
	const uint8_t *blk = b + get_be64(b + get_be64(b + HDR_RT_OFF));

	for (uint64_t c = 0; c < d->dev.size >> bits; c++)
		if (!refblock_get(blk, order, c))
			return c << bits;
	return d->dev.size;
}

static void change(const struct logdev *d, uint8_t *p, bool wide, const struct harm *h)
{
	uint64_t v = wide ? get_be64(p) : get_be32(p);

	v = h->change == SET ? h->v : h->change == FILE_END ? d->dev.size | h->v : h->change == XOR ? v ^ h->v : v + h->v;
	if (wide)
		put_be64(p, v);
	else
		put_be32(p, (uint32_t)v);
}

static void do_harm(struct logdev *d, const struct harm *h)
{
	uint8_t *b = d->bytes, *l1 = b + get_be64(b + HDR_L1_OFF), *snap = b + get_be64(b + HDR_SNAP_OFF);
	uint64_t off;
	struct err e;

	switch (h->place) {
	case HEADER: change(d, b + h->at, false, h); return;
	case HEADER64: change(d, b + h->at, true, h); return;
	case L1: change(d, l1, true, h); return;
	case SNAP_L1: change(d, b + get_be64(snap), true, h); return;
	case SNAP64: change(d, snap + h->at, true, h); return;
	case SNAP32: change(d, snap + h->at, false, h); return;
	case RT: change(d, b + get_be64(b + HDR_RT_OFF), true, h); return;
	case RC_OF_L2: harm_refcount(d, get_be64(l1) & OFFSET_MASK, h); return;
	case RC_OF_DATA: harm_refcount(d, get_be64(b + l2_place(d, L2)) & OFFSET_MASK, h); return;
	case RC_OF_RB: harm_refcount(d, get_be64(b + get_be64(b + HDR_RT_OFF)), h); return;
	case RC_OF_END:
		off = first_free(d);
		if (off == d->dev.size)
			assert_int_equal(dev_truncate(&d->dev, off + (1u << get_be32(b + HDR_CLUSTER)), &e), 0);
		harm_refcount(d, off, h);
		return;
	case BM_DIR: change(d, b + get_be64(ext_bitmaps(d) + 16) + h->at, false, h); return;
	case BM_ENTRY: change(d, b + get_be64(b + get_be64(ext_bitmaps(d) + 16)), true, h); return;
	default: change(d, b + l2_place(d, h->place), true, h);
	}
}

/* ---- what is tried ---- */

static struct logdev *animal(const char *name)
{
	uint8_t *backing = NULL, *p;
	struct logdev *d;
	size_t n, bn, i = 0;

	while (i < zoo_n && strcmp(zoo[i].name, name))
		i++;
	assert_true(i < zoo_n);
	p = zoo_make(&zoo[i], 1, &n, &backing, &bn);
	d = logdev_new(p, n);
	free(p);
	free(backing);
	return d;
}

/* Open, check (and repair), close: the code that qemu-img would exit with. */
static int check(struct dev *dev, unsigned fix, struct qcow2_check *r, struct err *e)
{
	struct qcow2 *q = NULL;
	int code;

	memset(r, 0, sizeof *r);
	code = qcow2_open_dev(dev, QCOW2_CHECK | (fix ? QCOW2_RW : 0), &q, e);
	if (!code)
		code = qcow2_check(q, fix, NULL, NULL, r, e);
	qcow2_close(q);
	return code < 0 ? 1 : r->corruptions ? 2 : r->leaks ? 3 : 0;
}

static bool content(const struct logdev *d, struct guest_state *s)
{
	struct guest_img g = { .bytes = d->bytes, .size = d->dev.size };

	return guest_state(&g, s) == 0;
}

static void repaired(const struct harm *h, struct logdev *d, const struct guest_state *healthy)
{
	static struct guest_state now;
	struct err e = { 0 };
	struct qcow2_check r, again;
	char why[200] = "";
	int code = check(&d->dev, ALL, &r, &e);

	if (code != h->repaired)
		fail_msg("%s: %d after repair: %" PRIu64 " corruptions, %" PRIu64 " leaks left, %" PRIu64 "/%" PRIu64 " fixed %s",
			h->what, code, r.corruptions, r.leaks, r.corruptions_fixed, r.leaks_fixed, e.msg);
	if (h->code == 3 && !h->repaired)
		assert_true(r.leaks_fixed > 0);
	if (h->code == 2 && !h->repaired)
		assert_true(r.corruptions_fixed > 0);
	code = check(&d->dev, 0, &again, &e);
	/* The file has grown: what was just past its end is a cluster of zeros now, and nothing else. */
	assert_int_equal(code, h->change == FILE_END ? 0 : h->repaired);
	if (h->place == L1 && h->repaired) /* what the lost table refers to is not given away */
		assert_true(!r.leaks_fixed && again.leaks == r.leaks && (h->v != 1ull << 40 || r.leaks));
	if (h->repaired && h->change != FILE_END)
		return;
	if (get_be32(d->bytes + HDR_VERSION) > 2)
		assert_int_equal(get_be64(d->bytes + HDR_INCOMPAT) & 3, 0);
	assert_int_equal(again.corruptions + again.leaks + again.check_errors, 0);
	if (!h->changes && (!content(d, &now) || !guest_same(healthy, &now, why)))
		fail_msg("%s: repair changed the content: %s %s", h->what, now.why, why);
	if (qemu_img_there())
		assert_int_equal(qemu_img_check(d->bytes, d->dev.size), 0);
}

static void test_harms(void **state)
{
	static struct guest_state healthy;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(harms); i++) {
		const struct harm *h = &harms[i];
		auto_logdev struct logdev *d = animal(h->animal);
		struct qcow2_check r;
		struct err e = { 0 };
		int code, theirs;

		assert_true(content(d, &healthy));
		do_harm(d, h);
		code = check(&d->dev, 0, &r, &e);
		if (code != h->code)
			fail_msg("%s: check says %d: %" PRIu64 " corruptions, %" PRIu64 " leaks %s", h->what, code, r.corruptions,
				r.leaks, e.msg);
		if (qemu_img_there()) {
			theirs = qemu_img_check(d->bytes, d->dev.size);
			if (theirs != (h->theirs < 0 ? h->code : h->theirs))
				fail_msg("%s: %d, but qemu-img says %d: %s", h->what, code, theirs, qemu_img_said());
		}
		repaired(h, d, &healthy);
	}
}

/* Leaks alone are repaired without touching what is corrupt; corruption keeps leaks from being repaired. */
static void test_consent(void **state)
{
	auto_logdev struct logdev *d = animal("plain");
	struct harm leak = { .place = RC_OF_END, .change = SET, .v = 1 }, flag = { .place = L2, .change = XOR, .v = OFLAG_COPIED };
	struct harm end = { .place = L2, .change = XOR, .v = 1ull << 40 };
	struct qcow2_check r;
	struct err e = { 0 };
	struct qcow2 *q;

	(void)state;
	do_harm(d, &leak);
	do_harm(d, &flag);
	assert_int_equal(check(&d->dev, QCOW2_FIX_LEAKS, &r, &e), 2);
	assert_int_equal(r.leaks_fixed, 1);
	assert_int_equal(r.corruptions, 1);
	assert_int_equal(check(&d->dev, 0, &r, &e), 2);
	assert_int_equal(r.leaks, 0);
	assert_int_equal(check(&d->dev, ALL, &r, &e), 0);
	do_harm(d, &leak);
	do_harm(d, &end);
	logdev_record(d);
	assert_int_equal(check(&d->dev, QCOW2_FIX_LEAKS, &r, &e), 2);
	assert_int_equal(r.leaks_fixed, 0);
	assert_int_equal(r.leaks, 2);
	assert_int_equal(d->n_changes, 0);
	/* and never without being open for it */
	assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_CHECK, &q, &e), 0);
	assert_int_equal(qcow2_check(q, ALL, NULL, NULL, &r, &e), -EROFS);
	qcow2_close(q);
}

/* Refcounts behind the file's end do not become leaks when repair makes it longer. */
static void test_tail(void **state)
{
	auto_logdev struct logdev *d = animal("plain");
	struct harm low = { .place = RC_OF_DATA, .change = SET };
	uint64_t blk = get_be64(d->bytes + get_be64(d->bytes + HDR_RT_OFF));
	struct qcow2_check r;
	struct err e = { 0 };

	(void)state;
	for (uint64_t c = d->dev.size >> 9; c < 256; c++)
		put_be16(d->bytes + blk + 2 * c, 3);
	assert_int_equal(check(&d->dev, 0, &r, &e), 0);
	do_harm(d, &low);
	assert_int_equal(check(&d->dev, ALL, &r, &e), 0);
	assert_int_equal(check(&d->dev, 0, &r, &e), 0);
}

/* ---- cuts and faults ---- */

struct cut {
	const struct harm *h;
	struct qcow2_check before;
	const struct guest_state *healthy;
	bool quiet; /* do not fail, tell */
};

/* Never more corruption than there was; and repair gets there from wherever it was cut. */
static int judge_cut(const struct crash_state *s, void *ctx)
{
	static struct guest_state now;
	struct cut *x = ctx;
	auto_logdev struct logdev *d = logdev_new(s->bytes, s->size);
	struct qcow2_check r;
	struct err e = { 0 };
	char why[200] = "";
	int code = check(&d->dev, 0, &r, &e);

	if (code == 1 || r.corruptions > x->before.corruptions)
		return 1;
	if (check(&d->dev, ALL, &r, &e) > x->h->repaired)
		return 2;
	if (!x->h->repaired && !x->h->changes && (!content(d, &now) || !guest_same(x->healthy, &now, why)))
		return 3;
	return 0;
}

static bool worth_cutting(const struct harm *h)
{
	return h->code != 1;
}

static void test_cuts(void **state)
{
	static struct guest_state healthy;
	struct crash_opts o = { .seed = rand_seed(1), .budget = 60, .all_subsets = 6 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(harms); i++) {
		auto_logdev struct logdev *d = animal(harms[i].animal);
		struct cut x = { .h = &harms[i], .healthy = &healthy };
		struct qcow2_check r;
		struct err e = { 0 };
		int bad;

		if (!worth_cutting(&harms[i]))
			continue;
		assert_true(content(d, &healthy));
		do_harm(d, &harms[i]);
		check(&d->dev, 0, &x.before, &e);
		logdev_record(d);
		check(&d->dev, ALL, &r, &e);
		bad = crash_states(d, &o, judge_cut, &x, NULL);
		if (bad)
			fail_msg("%s: a cut leaves %s", harms[i].what, bad == 1 ? "more corruption than there was" :
				bad == 2 ? "what repair cannot finish" : "another content");
	}
}

/* The flush before the header's sector is what makes it so. */
static void test_flush_matters(void **state)
{
	static struct guest_state healthy;
	struct crash_opts o = { .seed = rand_seed(1), .budget = 60, .all_subsets = 6 };
	unsigned caught = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(harms); i++) {
		auto_logdev struct logdev *d = animal(harms[i].animal);
		struct cut x = { .h = &harms[i], .healthy = &healthy };
		struct qcow2_check r;
		struct err e = { 0 };

		if (harms[i].code != 3)
			continue;
		assert_true(content(d, &healthy));
		do_harm(d, &harms[i]);
		check(&d->dev, 0, &x.before, &e);
		logdev_record(d);
		d->skip_flush = 0;
		check(&d->dev, ALL, &r, &e);
		caught += crash_states(d, &o, judge_cut, &x, NULL) != 0;
	}
	assert_true(caught > 0);
}

/* A repair that meets a fault: an error that says something, or done; never more corruption than before. */
static void after_fault(const struct harm *h, struct logdev *d, const struct qcow2_check *before, int code,
	const struct err *e, const char *kind, uint64_t n)
{
	struct err e2 = { 0 };
	struct qcow2_check r;
	int now;

	if (code == 1 && !e->msg[0])
		fail_msg("%s: %s %" PRIu64 ": fails without a word", h->what, kind, n);
	logdev_fail(d, 0, LOG_NEVER, 0, false);
	now = check(&d->dev, 0, &r, &e2);
	if (now == 1 || r.corruptions > before->corruptions)
		fail_msg("%s: %s %" PRIu64 ": worse than before: %s", h->what, kind, n, e2.msg);
	if (check(&d->dev, ALL, &r, &e2) > h->repaired)
		fail_msg("%s: %s %" PRIu64 ": cannot be repaired any more: %s", h->what, kind, n, e2.msg);
}

static void device_faults(const struct harm *h, struct logdev *d, const struct qcow2_check *before)
{
	for (unsigned stays = 0; stays < 2; stays++)
		for (uint64_t n = 0;; n++) {
			struct err e = { 0 };
			struct qcow2_check r;
			int code;
			bool hit;

			logdev_rewind(d);
			logdev_fail(d, LOG_ANY, n, n % 3 ? EIO : ENOSPC, stays);
			code = check(&d->dev, ALL, &r, &e);
			hit = d->hit;
			after_fault(h, d, before, code, &e, stays ? "lasting fault" : "fault", n);
			if (!hit)
				break;
		}
}

static void alloc_faults(const struct harm *h, struct logdev *d, const struct qcow2_check *before)
{
	for (uint64_t n = 0;; n++) {
		struct err e = { 0 };
		struct qcow2_check r;
		bool hit;
		int code;

		logdev_rewind(d);
		alloc_fail(n, false);
		code = check(&d->dev, ALL, &r, &e);
		hit = alloc_normal();
		after_fault(h, d, before, code, &e, "refused allocation", n);
		if (!hit)
			break;
	}
}

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(harms); i++) {
		auto_logdev struct logdev *d = animal(harms[i].animal);
		struct qcow2_check before;
		struct err e = { 0 };

		if (!worth_cutting(&harms[i]))
			continue;
		do_harm(d, &harms[i]);
		check(&d->dev, 0, &before, &e);
		logdev_record(d);
		device_faults(&harms[i], d, &before);
		alloc_faults(&harms[i], d, &before);
	}
}

/* A repair that failed can be done again on the same handle. */
static void test_retry(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(harms); i++) {
		auto_logdev struct logdev *d = animal(harms[i].animal);

		if (harms[i].code == 1 || harms[i].repaired)
			continue;
		do_harm(d, &harms[i]);
		logdev_record(d);
		for (uint64_t n = 0;; n++) {
			struct err e = { 0 };
			struct qcow2_check r;
			struct qcow2 *q;
			int code;

			logdev_rewind(d);
			assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_CHECK | QCOW2_RW, &q, &e), 0);
			logdev_fail(d, LOG_WRITE, n, EIO, false);
			code = qcow2_check(q, ALL, NULL, NULL, &r, &e);
			if (code < 0 && !q->lost && (qcow2_check(q, ALL, NULL, NULL, &r, &e) < 0 || r.corruptions || r.leaks))
				fail_msg("%s: not the second time: %s", harms[i].what, e.msg);
			qcow2_close(q);
			if (!d->hit)
				break;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_harms),
		cmocka_unit_test(test_consent),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_flush_matters),
		cmocka_unit_test(test_faults),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
