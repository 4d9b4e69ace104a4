#include "tests/harness/zoo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/rand.h"

const struct zoo_animal zoo[] = {
	{ "plain", 3, 9, 16, 24, .n_snaps = 3 },
	{ "empty", 3, 9, 16, 24, .n_snaps = 0 },
	{ "version2", 2, 9, 16, 40, .n_snaps = 2, .packed = true },
	{ "version2-backing", 2, 9, 16, 20, .n_snaps = 1, .backing = true },
	{ "refs1", 3, 9, 1, 24, .n_snaps = 0 },
	{ "refs2", 3, 9, 2, 24, .n_snaps = 1 },
	{ "refs4", 3, 9, 4, 24, .n_snaps = 3 },
	{ "refs8", 3, 10, 8, 48, .n_snaps = 3 },
	{ "refs32", 3, 9, 32, 24, .n_snaps = 3 },
	{ "refs64", 3, 9, 64, 24, .n_snaps = 3 },
	{ "clusters4k", 3, 12, 16, 256, .n_snaps = 3, .packed = true },
	{ "packed", 3, 9, 16, 32, .n_snaps = 2, .packed = true },
	{ "vmstate", 3, 9, 16, 40, .n_snaps = 3, .vmstate = true, .odd_extra = true },
	{ "vmstate-left", 3, 9, 16, 32, .n_snaps = 1, .vmstate = true, .stale = true },
	{ "backing", 3, 9, 16, 40, .n_snaps = 2, .backing = true },
	{ "backing-long", 3, 9, 16, 24, .n_snaps = 1, .backing = true, .backing_long = true },
	{ "bitmaps", 3, 9, 16, 64, .n_snaps = 2, .bitmaps = true },
	{ "unknown", 3, 10, 16, 40, .n_snaps = 2, .unknown = true, .odd_extra = true },
	{ "subclusters", 3, 14, 16, 256, .n_snaps = 2, .ext_l2 = true, .packed = true, .dirty_pct = 60 },
	{ "table-grows", 3, 9, 16, 24, .n_snaps = 5, .name_len = 40 },
	{ "l1-long", 3, 9, 16, 2100, .n_snaps = 1, .dirty_pct = 2 },
	{ "disk-grown", 3, 9, 16, 80, .n_snaps = 2, .grown = true },
	{ "deep", 3, 9, 16, 32, .n_snaps = 16, .dirty_pct = 10 },
	{ "deep-narrow", 3, 9, 4, 24, .n_snaps = 13, .dirty_pct = 10 },
	{ "deep-full", 3, 9, 4, 24, .n_snaps = 14, .dirty_pct = 10 },
	{ "blocks-grow", 3, 9, 64, 24, .n_snaps = 2, .fill_to = 512 - 18 },
	{ "reftable-grows", 3, 9, 64, 24, .n_snaps = 2, .fill_to = 4096 - 80 },
	{ "reftable-wide", 3, 9, 64, 24, .n_snaps = 1, .rt_clusters = 3, .l1_size = 70 },
};
const size_t zoo_n = ARRAY_SIZE(zoo);

static void paint_one(struct mkimg *m, const struct zoo_animal *a, uint64_t gc, uint64_t *rnd)
{
	uint64_t kind = rand_below(rnd, 10), seed = rand_next(rnd) >> 8;

	if (kind < 5 || (kind < 7 && !a->packed && !a->ext_l2))
		mkimg_data(m, gc, seed);
	else if (kind == 5 && a->packed)
		mkimg_compressed(m, gc, seed);
	else if (kind < 7 && a->ext_l2)
		mkimg_sub(m, gc, (uint32_t)seed & 0x0f0ff0f0, (uint32_t)seed & 0xf0f0000f, seed);
	else if (kind < 7)
		mkimg_compressed(m, gc, seed);
	else if (kind == 7 && a->version > 2)
		mkimg_zero(m, gc, seed & 1);
	else if (kind == 8)
		mkimg_discard(m, gc);
}

static void paint(struct mkimg *m, const struct zoo_animal *a, uint64_t size, unsigned pct, uint64_t *rnd)
{
	for (uint64_t gc = 0; gc << a->cluster_bits < size; gc++)
		if (rand_below(rnd, 100) < pct)
			paint_one(m, a, gc, rnd);
}

static void snapshots(struct mkimg *m, const struct zoo_animal *a, uint64_t *rnd)
{
	static const unsigned odd[] = { 24, 37, 16, 51, 29 };
	unsigned pct = a->dirty_pct ? a->dirty_pct : 30;
	uint64_t size = a->size_kib * 1024ull;

	for (unsigned i = 0; i < a->n_snaps; i++) {
		char id[16], name[100];

		snprintf(id, sizeof(id), "%u", i + 1);
		snprintf(name, sizeof(name), "snap-%-*u", (int)a->name_len, i);
		for (char *p = name; *p; p++)
			if (*p == ' ')
				*p = '_';
		mkimg_snapshot(m, &(struct mkimg_snap){ .id = id, .name = name,
			.extra_len = a->odd_extra ? odd[i % 5] : 24, .date_s = 1700000000 + 1000 * i, .date_ns = i,
			.clock_ns = i * 1234567890ull, .vmstate = a->vmstate && i % 2 == 0 ? 3000 + i : 0,
			.vm_seed = rand_next(rnd) >> 8 });
		if (i == 0 && a->grown)
			mkimg_grow(m, size);
		paint(m, a, size, pct, rnd);
	}
}

uint8_t *zoo_make(const struct zoo_animal *a, uint64_t seed, size_t *n, uint8_t **backing, size_t *backing_n)
{
	uint64_t rnd = seed, size = a->size_kib * 1024ull;
	struct mkimg_opts o = {
		.version = a->version, .cluster_bits = a->cluster_bits, .refcount_bits = a->refcount_bits,
		.size = a->grown ? size / 2 : size, .l1_size = a->l1_size, .rt_clusters = a->rt_clusters,
		.ext_l2 = a->ext_l2, .autoclear = a->unknown ? 1ull << 60 : 0, .compatible = a->unknown ? 1ull << 61 : 0,
		.backing = a->backing ? "base.raw" : NULL, .backing_fmt = a->backing ? "raw" : NULL,
	};
	struct mkimg *m = mkimg_new(&o);

	*backing = NULL;
	*backing_n = 0;
	if (a->backing) {
		*backing_n = a->backing_long ? 2 * size + 5000 : size - 1000;
		*backing = malloc(*backing_n);
		if (!*backing)
			abort();
		mkimg_fill(*backing, *backing_n, seed, false);
	}
	if (a->fill_to)
		mkimg_leak(m, a->fill_to);
	paint(m, a, o.size, a->size_kib > 1000 ? 1 : 60, &rnd);
	snapshots(m, a, &rnd);
	for (unsigned i = 0; a->stale && i < 5; i++)
		mkimg_data(m, (size >> a->cluster_bits) + i, rand_next(&rnd) >> 8);
	if (a->bitmaps) {
		mkimg_add_bitmap(m, &(struct mkimg_bitmap){ .name = "daily", .gran_bits = 9, .flags = 2, .seed = 3 });
		mkimg_add_bitmap(m, &(struct mkimg_bitmap){ .name = "off", .gran_bits = 10, .seed = 7 });
	}
	if (a->unknown) {
		mkimg_ext(m, 0x11223344, "whatever this is", 16);
		mkimg_ext(m, 0x55667788, "odd", 3);
	}
	return mkimg_finish(m, n);
}
