/*
 * What the qcow2 fuzzers share: the input is an image on a memory device; one operation is tried on it. Beyond not
 * crashing: a failure says something, and an image that the independent judge calls sound stays sound, its content
 * what it was.
 */
#ifndef FUZZ_QCOW2_H
#define FUZZ_QCOW2_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/endian.h"
#include "qcow2/qcow2.h"
#include "tests/harness/expect.h"
#include "tests/harness/guest.h"
#include "tests/harness/judge.h"
#include "tests/harness/logdev.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_MAX_IMAGE (1u << 20) /* growing beyond is ENOSPC */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define FUZZ_SECONDS 1
#else
#define FUZZ_SECONDS 10 /* what is replayed as a test, on any machine */
#endif

struct fuzz_image {
	struct logdev *d;
	struct guest_state before, after;
	bool partly; /* what fails may have been done in part */
};

static char fuzz_input[120]; /* which one it is, where that is known */

static inline void fuzz_die(const char *what, const char *why)
{
	fprintf(stderr, "%s%s: %s\n", fuzz_input, what, why);
	abort();
}

static char fuzz_why[200];

static inline void fuzz_expect(bool ok, const char *what)
{
	if (!ok)
		fuzz_die(what, fuzz_why);
}

/*
 * What both checks call clean: a file may end inside its last cluster, and a structure in the cluster behind the last;
 * both read on as zeros. Judge it with those.
 */
static inline void fuzz_judge(const uint8_t *data, size_t size, struct judge *j)
{
	unsigned bits = size < 72 ? 0 : get_be32(data + 20);
	size_t whole = bits > 21 ? size : (((size - 1) >> bits) + 2) << bits;
	uint8_t *copy = calloc(1, whole);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	judge_image(copy, whole, j);
	free(copy);
}

/* The reader walks whole disks: only for those that this takes no time for. The judge has been through the tables. */
static inline bool fuzz_small(const uint8_t *b)
{
	uint64_t at = get_be64(b + 64), sum = get_be64(b + 24);

	for (uint32_t i = 0; i < get_be32(b + 60) && sum <= 1 << 20; i++) {
		uint32_t extra = get_be32(b + at + 36), vm = get_be32(b + at + 32);

		sum += extra >= 16 ? get_be64(b + at + 48) & INT64_MAX : 0;
		sum += extra >= 8 ? get_be64(b + at + 40) & INT64_MAX : vm;
		at += (40ull + extra + get_be16(b + at + 12) + get_be16(b + at + 14) + 7) & ~7ull;
	}
	return sum <= 1 << 20;
}

/* Readable, and no complaint of the judge, who looks first: most of what a fuzzer makes is not sound. */
static inline bool fuzz_sound(const uint8_t *data, size_t size, struct guest_state *s)
{
	struct guest_img g = { data, size, NULL, 0 };
	struct judge j;

	judge_image(data, size, &j);
	return !j.bad && !j.flags && fuzz_small(data) && guest_state(&g, s) == 0;
}

/*
 * Try @op on the image. Returns whether it succeeded on a sound image; both states are filled then.
 * The judges are slow: they are asked only about what was changed.
 */
static inline bool fuzz_try(struct fuzz_image *f, const uint8_t *data, size_t size, unsigned flags,
			    int (*op)(struct qcow2 *q, struct err *e))
{
	struct qcow2 *q = NULL;
	struct err e = { 0 };
	struct judge j;
	clock_t start;
	int r;

	f->d = logdev_new(data, size);
	f->d->max_size = FUZZ_MAX_IMAGE;
	start = clock();
	r = qcow2_open_dev(&f->d->dev, flags, &q, &e);
	if (!r)
		r = op(q, &e);
	qcow2_close(q);
	if (clock() - start > FUZZ_SECONDS * CLOCKS_PER_SEC)
		fuzz_die("operation", "takes too much of the processor's time");
	if (r < 0 && !e.msg[0])
		fuzz_die("operation", "fails without a message");
	if (f->d->dev.size == size && (!size || !memcmp(f->d->bytes, data, size)))
		return false;
	if (!fuzz_sound(data, size, &f->before))
		return false;
	if (!fuzz_sound(f->d->bytes, f->d->dev.size, &f->after)) {
		judge_image(f->d->bytes, f->d->dev.size, &j);
		fuzz_die("a sound image is broken", j.bad ? j.first_bad : j.flags ? j.first_flag : f->after.why);
	}
	if (r < 0 && !f->partly)
		fuzz_expect(guest_same(&f->before, &f->after, fuzz_why), "a failed operation changed the image");
	return !r;
}

static inline void fuzz_done(struct fuzz_image *f)
{
	logdev_free(f->d);
}

#endif
