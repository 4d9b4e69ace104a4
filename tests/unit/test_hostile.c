/*
 * Images from anywhere, by table: every field of header, extensions, snapshot table, bitmap directory and of the
 * tables' entries at its edges, and files cut off anywhere. Every operation is tried on each; it succeeds or says why,
 * and what was sound stays sound (tests/fuzz/qcow2.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/limits.h"
#include "lib/own.h"
#include "tests/fuzz/qcow2.h"
#include "tests/harness/zoo.h"

/* ---- every operation ---- */

static int look(struct qcow2 *q, struct err *e)
{
	struct qcow2_info info;
	struct qcow2_run run = { 0 };
	const struct qcow2_bitmap *b;
	unsigned n_snaps, n;
	uint64_t at = 0;

	qcow2_get_info(q, &info);
	qcow2_snaps(q, &n_snaps);
	for (unsigned k = 0; k < 200 && at < info.size; k++, at += run.len)
		if (qcow2_map(q, n_snaps && k & 1 ? 0 : -1, at, &run, e) < 0)
			break;
		else
			assert_true(run.len > 0);
	return qcow2_bitmaps(q, &b, &n, e);
}

static int check(struct qcow2 *q, struct err *e)
{
	struct qcow2_check c;

	return qcow2_check(q, 0, NULL, NULL, &c, e);
}

static int repair(struct qcow2 *q, struct err *e)
{
	struct qcow2_check c;

	return qcow2_check(q, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, NULL, NULL, &c, e);
}

static int create(struct qcow2 *q, struct err *e)
{
	struct qcow2_snap_new s = { .name = "x", .icount = QCOW2_NO_ICOUNT };

	return qcow2_snap_create(q, &s, e);
}

static int apply(struct qcow2 *q, struct err *e)
{
	unsigned n;

	qcow2_snaps(q, &n);
	return n ? qcow2_snap_apply(q, n - 1, e) : 0;
}

static int delete(struct qcow2 *q, struct err *e)
{
	unsigned n;

	qcow2_snaps(q, &n);
	return n ? qcow2_snap_delete(q, 0, e) : 0;
}

static int whole(struct qcow2 *q, struct err *e)
{
	bool yes;
	unsigned n;

	qcow2_snaps(q, &n);
	return n ? qcow2_vm_state_whole(q, 0, &yes, e) : qcow2_vm_state_drop(q, e);
}

static int grow(struct qcow2 *q, struct err *e)
{
	struct qcow2_info info;

	qcow2_get_info(q, &info);
	return qcow2_resize(q, info.size + 65536, false, 0, QCOW2_PREALLOC_METADATA, e);
}

static int shrink(struct qcow2 *q, struct err *e)
{
	return qcow2_resize(q, 1024, true, 0, QCOW2_PREALLOC_OFF, e);
}

static int amend(struct qcow2 *q, struct err *e)
{
	struct qcow2_amend a = { .version = 3, .lazy_refcounts = 1, .data_file_raw = -1, .refcount_bits = 32 };

	return qcow2_amend(q, &a, e);
}

static int rebase(struct qcow2 *q, struct err *e)
{
	return qcow2_set_backing(q, "another", "raw", e);
}

static int bitmap(struct qcow2 *q, struct err *e)
{
	return qcow2_bitmap_add(q, "new", 0, false, e);
}

static int bitmap_merge(struct qcow2 *q, struct err *e)
{
	return qcow2_bitmap_merge(q, "off", q, "daily", e);
}

static int bitmap_remove(struct qcow2 *q, struct err *e)
{
	return qcow2_bitmap_remove(q, "daily", e);
}

static const struct {
	const char *name;
	unsigned flags;
	int (*op)(struct qcow2 *q, struct err *e);
} ops[] = {
	{ "look", 0, look },
	{ "check", QCOW2_CHECK, check },
	{ "check -r all", QCOW2_CHECK | QCOW2_RW, repair },
	{ "create", QCOW2_RW, create },
	{ "apply", QCOW2_RW, apply },
	{ "delete", QCOW2_RW, delete },
	{ "VM state", QCOW2_RW, whole },
	{ "grow", QCOW2_RW, grow },
	{ "shrink", QCOW2_RW, shrink },
	{ "amend", QCOW2_RW, amend },
	{ "rebase", QCOW2_RW, rebase },
	{ "bitmap --add", QCOW2_RW, bitmap },
	{ "bitmap --merge", QCOW2_RW, bitmap_merge },
	{ "bitmap --remove", QCOW2_RW, bitmap_remove },
};

static uint64_t n_tried;

static void try_all(const char *animal, const char *what, const uint8_t *img, size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct fuzz_image f;

		snprintf(fuzz_input, sizeof(fuzz_input), "%s, %s, %s: ", animal, what, ops[i].name);
		fuzz_try(&f, img, n, ops[i].flags, ops[i].op);
		fuzz_done(&f);
		n_tried++;
	}
}

/* ---- every field ---- */

static uint64_t field_get(const uint8_t *p, unsigned width)
{
	uint64_t v = 0;

	while (width--)
		v = v << 8 | *p++;
	return v;
}

static void field_put(uint8_t *p, unsigned width, uint64_t v)
{
	while (width--)
		*p++ = (uint8_t)(v >> (8 * width));
}

struct hostile {
	const char *animal;
	uint8_t *img, *copy;
	size_t n;
};

/* The field's edges: around nothing, around what is there, around @limit (0: none), halves, and all ones. */
static void edges(const struct hostile *h, const char *name, uint64_t at, unsigned width, uint64_t limit)
{
	uint64_t max = width == 8 ? UINT64_MAX : (1ull << 8 * width) - 1, was, cs = 1ull << get_be32(h->img + 20);
	char what[80];

	if (at + width > h->n)
		return;
	was = field_get(h->img + at, width);
	{
		const uint64_t values[] = { 0, 1, 2, was + 1, was - 1, was / 2, was * 2, was ^ (max ^ max >> 1), was + cs, h->n & ~(cs - 1),
					    limit, limit - 1, limit + 1, max, max - 1, max / 2, max / 2 + 1, max & ~(cs - 1) };

		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			memcpy(h->copy, h->img, h->n);
			field_put(h->copy + at, width, values[i]);
			snprintf(what, sizeof(what), "%s = 0x%llx", name, (unsigned long long)(values[i] & max));
			try_all(h->animal, what, h->copy, h->n);
		}
	}
}

static void header_fields(const struct hostile *h)
{
	static const struct {
		const char *name;
		unsigned at, width;
		uint64_t limit;
	} fields[] = {
		{ "magic", 0, 4, 0 },
		{ "version", 4, 4, 3 },
		{ "backing_file_offset", 8, 8, 512 },
		{ "backing_file_size", 16, 4, MAX_BACKING_NAME },
		{ "cluster_bits", 20, 4, MAX_CLUSTER_BITS },
		{ "size", 24, 8, INT64_MAX },
		{ "crypt_method", 32, 4, 2 },
		{ "l1_size", 36, 4, MAX_L1_BYTES / 8 },
		{ "l1_table_offset", 40, 8, MAX_HOST_OFF },
		{ "refcount_table_offset", 48, 8, MAX_HOST_OFF },
		{ "refcount_table_clusters", 56, 4, MAX_RT_BYTES / 512 },
		{ "nb_snapshots", 60, 4, MAX_SNAPSHOTS },
		{ "snapshots_offset", 64, 8, MAX_HOST_OFF },
		{ "incompatible_features", 72, 8, 32 },
		{ "compatible_features", 80, 8, 2 },
		{ "autoclear_features", 88, 8, 4 },
		{ "refcount_order", 96, 4, 6 },
		{ "header_length", 100, 4, 512 },
		{ "compression_type", 104, 1, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		edges(h, fields[i].name, fields[i].at, fields[i].width, fields[i].limit);
}

static void extension_fields(const struct hostile *h)
{
	uint64_t at = get_be32(h->img + 4) == 2 ? 72 : get_be32(h->img + 100);

	for (unsigned i = 0; i < 8 && at + 8 <= h->n; i++) {
		uint32_t type = get_be32(h->img + at), n = get_be32(h->img + at + 4);

		edges(h, "extension type", at, 4, 0x23852875);
		edges(h, "extension length", at + 4, 4, 512);
		if (!type)
			return;
		if (type == 0x23852875) {
			edges(h, "nb_bitmaps", at + 8, 4, MAX_BITMAPS);
			edges(h, "bitmaps' reserved field", at + 12, 4, 0);
			edges(h, "bitmap_directory_size", at + 16, 8, MAX_BITMAP_DIR);
			edges(h, "bitmap_directory_offset", at + 24, 8, MAX_HOST_OFF);
		}
		at += 8 + ((n + 7) & ~7u);
	}
}

static void snapshot_fields(const struct hostile *h)
{
	uint64_t at = get_be64(h->img + 64);

	for (uint32_t i = 0; i < get_be32(h->img + 60); i++) {
		uint32_t extra = get_be32(h->img + at + 36);

		edges(h, "snapshot's l1_table_offset", at, 8, MAX_HOST_OFF);
		edges(h, "snapshot's l1_size", at + 8, 4, MAX_L1_BYTES / 8);
		edges(h, "snapshot's id length", at + 12, 2, 511);
		edges(h, "snapshot's name length", at + 14, 2, 511);
		edges(h, "snapshot's VM state size", at + 32, 4, 0);
		edges(h, "snapshot's extra length", at + 36, 4, 1024);
		edges(h, "snapshot's VM state size, long", at + 40, 8, INT64_MAX);
		edges(h, "snapshot's disk size", at + 48, 8, INT64_MAX);
		at += (40 + extra + get_be16(h->img + at + 12) + get_be16(h->img + at + 14) + 7u) & ~7u;
	}
}

static void bitmap_fields(const struct hostile *h, uint64_t at)
{
	edges(h, "bitmap_table_offset", at, 8, MAX_HOST_OFF);
	edges(h, "bitmap_table_size", at + 8, 4, MAX_BITMAP_TABLE / 8);
	edges(h, "bitmap's flags", at + 12, 4, 7);
	edges(h, "bitmap's type", at + 16, 1, 1);
	edges(h, "granularity_bits", at + 17, 1, MAX_BITMAP_GRAN);
	edges(h, "bitmap's name_size", at + 18, 2, MAX_BITMAP_NAME);
	edges(h, "bitmap's extra_data_size", at + 20, 4, 512);
	edges(h, "bitmap table's entry", get_be64(h->img + at), 8, MAX_HOST_OFF);
}

static void entries(const struct hostile *h)
{
	uint64_t l1 = get_be64(h->img + 40), l2 = get_be64(h->img + l1) & 0xfffffffffffe00, rt = get_be64(h->img + 48);

	edges(h, "L1 entry", l1, 8, MAX_HOST_OFF);
	for (unsigned i = 0; l2 && i < 6; i++)
		edges(h, "L2 entry", l2 + 8 * i, 8, MAX_HOST_OFF);
	edges(h, "refcount table's entry", rt, 8, MAX_HOST_OFF);
	edges(h, "refcount table's second entry", rt + 8, 8, MAX_HOST_OFF);
	edges(h, "refcounts", get_be64(h->img + rt), 8, 0);
}

static void cut_off(const struct hostile *h)
{
	uint64_t cs = 1ull << get_be32(h->img + 20);
	char what[80];

	for (size_t n = 0; n < h->n; n = n < 128 ? n + 1 : (n / cs + 1) * cs)
		for (int around = -1; around <= 1; around++) {
			auto_free uint8_t *part = NULL;
			size_t m = n + (size_t)around;

			if ((around && n < 128) || m > h->n)
				continue;
			part = malloc(m ? m : 1);
			memcpy(part, h->img, m);
			snprintf(what, sizeof(what), "cut off at %zu", m);
			try_all(h->animal, what, part, m);
		}
}

static struct hostile animal(const char *name)
{
	struct hostile h = { .animal = name };
	uint8_t *backing = NULL;
	size_t backing_n;

	for (size_t i = 0; i < zoo_n; i++)
		if (!strcmp(zoo[i].name, name)) {
			struct zoo_animal a = zoo[i];

			a.size_kib = a.ext_l2 ? 64 : a.cluster_bits > 9 ? 16 : 8;
			h.img = zoo_make(&a, 5, &h.n, &backing, &backing_n);
		}
	assert_non_null(h.img);
	h.copy = malloc(h.n);
	free(backing);
	return h;
}

static void release(struct hostile *h)
{
	free(h->img);
	free(h->copy);
}

static void t_header(void **state)
{
	static const char *const names[] = { "plain", "version2", "refs1", "backing", "bitmaps", "subclusters" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct hostile h = animal(names[i]);

		header_fields(&h);
		release(&h);
	}
}

static void t_extensions_and_bitmaps(void **state)
{
	static const char *const names[] = { "unknown", "bitmaps", "backing" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct hostile h = animal(names[i]);

		extension_fields(&h);
		for (uint64_t at = 104; i == 1 && at < 400; at += 8)
			if (get_be32(h.img + at) == 0x23852875)
				bitmap_fields(&h, get_be64(h.img + at + 24));
		release(&h);
	}
}

static void t_snapshots(void **state)
{
	static const char *const names[] = { "plain", "vmstate", "unknown", "version2" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct hostile h = animal(names[i]);

		snapshot_fields(&h);
		release(&h);
	}
}

static void t_entries(void **state)
{
	static const char *const names[] = { "plain", "packed", "refs4", "refs64", "subclusters", "version2" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct hostile h = animal(names[i]);

		entries(&h);
		release(&h);
	}
}

static void t_cut_off(void **state)
{
	static const char *const names[] = { "plain", "bitmaps", "vmstate", "backing" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct hostile h = animal(names[i]);

		cut_off(&h);
		release(&h);
	}
	print_message("# %llu operations on hostile images\n", (unsigned long long)n_tried);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_header),    cmocka_unit_test(t_extensions_and_bitmaps),
		cmocka_unit_test(t_snapshots), cmocka_unit_test(t_entries),
		cmocka_unit_test(t_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
