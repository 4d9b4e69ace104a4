/* qcow2/check*.c, repair.c: every kind of damage, judged beside qemu-img; and again after a repair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "qcow2/check.h"
#include "tests/harness/campaign.h"
#include "tests/harness/guest.h"
#include "tests/harness/logdev.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"
#include "tests/harness/zoo.h"

/* What a check says: exit code of qemu-img's kind, and its sums. */
struct verdict {
	int code;
	struct qcow2_check r;
	char said[1 << 18];
};

static void listen(void *ctx, const char *line)
{
	struct verdict *v = ctx;
	size_t n = strlen(v->said);

	snprintf(v->said + n, sizeof v->said - n, "%s\n", line);
}

static void check_in(struct logdev *d, unsigned fix, uint64_t cells, struct verdict *v)
{
	struct err e = { 0 };
	struct qcow2 *q = NULL;
	int r;

	memset(v, 0, sizeof *v);
	r = qcow2_open_dev(&d->dev, QCOW2_CHECK | (fix ? QCOW2_RW : 0), &q, &e);
	if (!r)
		r = check_within(q, fix, listen, v, cells, &v->r, &e);
	if (r < 0) {
		assert_true(e.msg[0]);
		listen(v, e.msg);
	}
	v->code = r < 0 ? 1 : v->r.corruptions ? 2 : v->r.leaks ? 3 : 0;
	qcow2_close(q);
}

static void our_check(struct logdev *d, unsigned fix, struct verdict *v)
{
	check_in(d, fix, MIB, v);
}

static uint64_t json_num(const char *s, const char *key)
{
	char pat[64];
	const char *p;

	snprintf(pat, sizeof pat, "\"%s\": ", key);
	p = strstr(s, pat);
	return p ? strtoull(p + strlen(pat), NULL, 10) : 0;
}

static void qemu_check(const struct logdev *d, const char *fix, struct verdict *v)
{
	char path[200];
	const char *argv[] = { "qemu-img", "check", "-f", "qcow2", "--output", "json", path, "-r", fix, NULL };
	char *said;

	memset(v, 0, sizeof *v);
	snprintf(path, sizeof path, "%s", qemu_img_path("check.qcow2"));
	logdev_export(d, path);
	if (!fix)
		argv[7] = NULL;
	v->code = qemu_img_run(argv);
	said = qemu_img_said();
	snprintf(v->said, sizeof v->said, "%s", said);
	v->r = (struct qcow2_check){
		.image_end = json_num(said, "image-end-offset"), .total_clusters = json_num(said, "total-clusters"),
		.allocated = json_num(said, "allocated-clusters"), .fragmented = json_num(said, "fragmented-clusters"),
		.compressed = json_num(said, "compressed-clusters"), .corruptions = json_num(said, "corruptions"),
		.leaks = json_num(said, "leaks"), .corruptions_fixed = json_num(said, "corruptions-fixed"),
		.leaks_fixed = json_num(said, "leaks-fixed"),
	};
	free(said);
}

static struct logdev *animal(const struct zoo_animal *a, uint64_t seed)
{
	uint8_t *backing = NULL, *p;
	size_t n, bn;
	struct logdev *d;

	p = zoo_make(a, seed, &n, &backing, &bn);
	d = logdev_new(p, n);
	free(p);
	free(backing);
	return d;
}

static void same_sums(const char *name, const struct verdict *a, const struct verdict *b)
{
	if (memcmp(&a->r, &b->r, sizeof a->r) || a->code != b->code)
		fail_msg("%s: ours %d\n%s%" PRIu64 " %" PRIu64 "\nqemu-img %d\n%s", name, a->code, a->said, a->r.image_end,
			a->r.fragmented, b->code, b->said);
}

static void test_zoo_is_clean(void **state)
{
	(void)state;
	for (size_t i = 0; i < zoo_n; i++) {
		auto_logdev struct logdev *d = animal(&zoo[i], 1);
		struct verdict us, them;

		our_check(d, 0, &us);
		if (us.r.corruptions || (us.r.leaks && !zoo[i].fill_to))
			fail_msg("%s: %s", zoo[i].name, us.said);
		if (!qemu_img_there() || zoo[i].backing)
			continue;
		qemu_check(d, NULL, &them);
		same_sums(zoo[i].name, &us, &them);
	}
}

/* ---- random damage ---- */

static uint64_t peek(const struct logdev *d, uint64_t at)
{
	return at < d->dev.size && d->dev.size - at >= 8 ? get_be64(d->bytes + at) : 0;
}

static uint64_t entry_place(const struct logdev *d, uint64_t *rnd)
{
	const uint8_t *b = d->bytes;
	uint64_t cs = 1ull << get_be32(b + HDR_CLUSTER), l1 = get_be64(b + HDR_L1_OFF), n = get_be32(b + HDR_L1_SIZE);
	uint64_t snap = get_be32(b + HDR_N_SNAPS) ? get_be64(b + HDR_SNAP_OFF) : 0;

	switch (rand_below(rnd, 9)) {
	case 0: return 24 + 8 * rand_below(rnd, 6);
	case 1: return get_be64(b + HDR_RT_OFF) + 8 * rand_below(rnd, 3);
	case 2: return (peek(d, get_be64(b + HDR_RT_OFF)) & OFFSET_MASK) + 8 * rand_below(rnd, cs / 8 < 30 ? cs / 8 : 30);
	case 3: return snap + 8 * rand_below(rnd, 7);
	case 4: return l1 + 8 * rand_below(rnd, n + 1);
	case 5: return 8 * rand_below(rnd, d->dev.size / 8);
	case 6: return peek(d, snap) + 8 * rand_below(rnd, 2);
	}
	return (peek(d, l1 + 8 * rand_below(rnd, n)) & OFFSET_MASK) + 8 * rand_below(rnd, cs / 8);
}

static void damage(struct logdev *d, uint64_t *rnd)
{
	uint64_t at = entry_place(d, rnd) & ~7ull, v, cs = 1ull << get_be32(d->bytes + HDR_CLUSTER);

	if (at < 24 || at >= d->dev.size || d->dev.size - at < 8)
		return;
	v = get_be64(d->bytes + at);
	switch (rand_below(rnd, 7)) {
	case 0: v = 0; break;
	case 1: v ^= 1ull << rand_below(rnd, 64); break;
	case 2: v += cs; break;
	case 3: v ^= OFLAG_COPIED; break;
	case 4: v = rand_below(rnd, d->dev.size / cs + 1) * cs | (rand_below(rnd, 2) << 63); break;
	case 5: v ^= 1ull << (9 + rand_below(rnd, 8)); break;
	case 6: v ^= rand_below(rnd, 2) ? OFLAG_COMPRESSED : OFLAG_ZERO; break;
	}
	put_be64(d->bytes + at, v);
}

/*
 * Where we are stricter, or say once what qemu-img says of each cluster: uses that exclude each other, refcount tables
 * that are none, zero flags in version 2; L1 entries that name the header or no cluster's start are not followed, and
 * what an unreadable refcount block would say is not guessed.
 */
static bool our_own_rules(const struct verdict *us)
{
	static const char *const words[] = { "more than one thing", "no table of this file", "Table is not cluster aligned",
		"version 2 image", "L1 entry with reserved bits", "refcount table entry", "refcount block", "no snapshots, but" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strstr(us->said, words[i]))
			return true;
	return false;
}

static bool agree(const struct verdict *us, const struct verdict *them)
{
	if (us->code == 1 || them->code == 1) /* one of us cannot open it, or gave up: never the case with a good image */
		return us->code && them->code;
	if (our_own_rules(us))
		return us->code == 2;
	return us->code == them->code && us->r.corruptions == them->r.corruptions && us->r.leaks == them->r.leaks;
}

static void must_agree(const char *what, uint64_t seed, const struct verdict *us, const struct verdict *them)
{
	if (!agree(us, them)) {
		printf("%s, seed %" PRIu64 ": ours %d, %" PRIu64 " corruptions, %" PRIu64 " leaks\n%s\nqemu-img %d\n%s\n", what,
			seed, us->code, us->r.corruptions, us->r.leaks, us->said, them->code, them->said);
		fail();
	}
}

static void content_kept(const char *what, uint64_t seed, const struct logdev *was, const struct logdev *is)
{
	static struct guest_state before, after;
	struct guest_img g = { .bytes = was->bytes, .size = was->dev.size };
	char why[200] = "";

	if (guest_state(&g, &before) < 0)
		return; /* damage to what is no table: compressed data */
	g = (struct guest_img){ .bytes = is->bytes, .size = is->dev.size };
	if (guest_state(&g, &after) < 0 || !guest_same(&before, &after, why))
		fail_msg("%s, seed %" PRIu64 ": changed by repair: %s %s", what, seed, after.why, why);
}

/* Repair, and look again: what was said to be repaired is, and nothing else changed for the guest. */
static void repair_twice(const char *what, uint64_t seed, struct logdev *d)
{
	auto_logdev struct logdev *was = logdev_new(d->bytes, d->dev.size);
	struct verdict first, second, them;

	our_check(d, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, &first);
	our_check(d, 0, &second);
	/* What is left may look different next time, or be gone with what was repaired; all repaired is all repaired. */
	if ((first.code == 0 && second.code != 0) || (first.code == 3 && (second.code == 2 || second.r.leaks != first.r.leaks))) {
		printf("%s, seed %" PRIu64 ": repair says %s, %" PRIu64 " and %" PRIu64 " left\nthen: %s\n", what, seed,
			first.said, first.r.corruptions, first.r.leaks, second.said);
		fail();
	}
	if (first.code == 0 && !strstr(first.said, "snapshot table entry"))
		content_kept(what, seed, was, d);
	if (!qemu_img_there())
		return;
	qemu_check(d, NULL, &them);
	must_agree(what, seed, &second, &them);
}

static void test_random(void **state)
{
	uint64_t n = getenv("FERMATA_CHECKS") ? strtoull(getenv("FERMATA_CHECKS"), NULL, 10) : campaign_soaking() ? 3000 : 150;

	(void)state;
	for (uint64_t seed = rand_seed(1), end = seed + n; seed < end; seed++) {
		uint64_t rnd = seed * 7919;
		const struct zoo_animal *a = &zoo[rand_below(&rnd, zoo_n)];
		auto_logdev struct logdev *d = NULL;
		struct verdict us, them;

		if (a->backing)
			continue;
		d = animal(a, 1);
		for (uint64_t k = 1 + rand_below(&rnd, 2); k--;)
			damage(d, &rnd);
		our_check(d, 0, &us);
		if (qemu_img_there()) {
			qemu_check(d, NULL, &them);
			must_agree(a->name, seed, &us, &them);
		}
		repair_twice(a->name, seed, d);
	}
}

/* ---- little room ---- */

/* The lines in any order: what is said of clusters comes window by window. */
static uint64_t lines_sum(const char *s)
{
	uint64_t sum = 0, h = 1;

	for (; *s; s++) {
		h = mix64(h + (unsigned char)*s);
		if (*s == '\n') {
			sum += h;
			h = 1;
		}
	}
	return sum;
}

/* However small the window over the clusters is, the same is found and repaired. */
static void test_windows(void **state)
{
	static const uint64_t rooms[] = { 5, 16, 61, 300 };

	(void)state;
	for (uint64_t seed = 1; seed <= 120; seed++) {
		uint64_t rnd = seed * 104729;
		const struct zoo_animal *a = &zoo[rand_below(&rnd, zoo_n)];
		auto_logdev struct logdev *d = animal(a, 1), *copy = NULL;
		static struct verdict want, got;

		if (a->fill_to)
			continue;
		for (uint64_t k = rand_below(&rnd, 3); k--;)
			damage(d, &rnd);
		copy = logdev_new(d->bytes, d->dev.size);
		our_check(d, 0, &want);
		for (size_t i = 0; i < ARRAY_SIZE(rooms); i++) {
			check_in(d, 0, rooms[i], &got);
			if (memcmp(&got.r, &want.r, sizeof got.r) || lines_sum(got.said) != lines_sum(want.said))
				fail_msg("%s, seed %" PRIu64 ", room for %" PRIu64 ":\n%s\ninstead of\n%s", a->name, seed, rooms[i],
					got.said, want.said);
		}
		our_check(d, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, &want);
		check_in(copy, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, 40, &got);
		if (memcmp(&got.r, &want.r, sizeof got.r))
			fail_msg("%s, seed %" PRIu64 ": repaired in little room:\n%s\ninstead of\n%s", a->name, seed, got.said, want.said);
		assert_int_equal(copy->dev.size, d->dev.size);
		assert_memory_equal(copy->bytes, d->bytes, d->dev.size);
	}
}

/* More references than a byte can count, then more than two. */
static void test_many_references(void **state)
{
	struct zoo_animal a = { "many", 3, 9, 32, .size_kib = 24 };
	auto_logdev struct logdev *d = animal(&a, 1);
	struct err e = { 0 };
	struct verdict us;
	struct qcow2 *q;
	uint64_t at, end, l2;

	(void)state;
	assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_RW, &q, &e), 0);
	for (unsigned i = 0; i < 90; i++)
		assert_int_equal(qcow2_snap_create(q, &(struct qcow2_snap_new){ .name = "s" }, &e), 0);
	qcow2_close(q);
	our_check(d, 0, &us);
	if (us.code)
		fail_msg("%s", us.said);
	/* one L1 table for all snapshots, behind the file's end until now, all of whose entries name one L2 table */
	end = d->dev.size;
	l2 = get_be64(d->bytes + get_be64(d->bytes + HDR_L1_OFF)) & OFFSET_MASK;
	assert_int_equal(dev_truncate(&d->dev, end + 2048, &e), 0);
	for (unsigned i = 0; i < 256; i++)
		put_be64(d->bytes + end + 8 * i, l2);
	at = get_be64(d->bytes + HDR_SNAP_OFF);
	for (unsigned i = 0; i < 90; i++) {
		uint8_t *p = d->bytes + at;

		put_be64(p, end);
		put_be32(p + 8, 256);
		at += (40ull + get_be32(p + 36) + get_be16(p + 12) + get_be16(p + 14) + 7) & ~7ull;
	}
	our_check(d, 0, &us);
	assert_int_equal(us.code, 2);
	assert_non_null(strstr(us.said, "reference=23041")); /* 90 * 256 and the active layer's */
}

/* A refcount table that is just full, to the last entry of its cluster or one short of it, moves and stays whole. */
static void test_full_table(void **state)
{
	(void)state;
	for (unsigned fill = 64 * 64 - 160; fill < 64 * 64; fill += 9) {
		struct zoo_animal a = { "full", 3, 9, 64, .size_kib = 24, .fill_to = fill };
		auto_logdev struct logdev *d = animal(&a, 1);
		struct err e = { 0 };
		struct verdict us;
		struct qcow2 *q;

		assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_RW, &q, &e), 0);
		assert_int_equal(qcow2_snap_create(q, &(struct qcow2_snap_new){ .name = "s" }, &e), 0);
		qcow2_close(q);
		our_check(d, 0, &us);
		if (us.code != 3)
			fail_msg("%u clusters: %s", fill, us.said);
		our_check(d, QCOW2_FIX_LEAKS, &us);
		assert_int_equal(us.code, 0);
		our_check(d, 0, &us);
		assert_int_equal(us.code, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zoo_is_clean),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_many_references),
		cmocka_unit_test(test_full_table),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
