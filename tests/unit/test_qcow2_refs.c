/* qcow2/refs.c: counts of every width, against a plain array; allocation, growth, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "qcow2/internal.h"
#include "tests/harness/logdev.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/rand.h"

static void t_widths(void **state)
{
	uint8_t blk[512];
	uint64_t plain[4096];

	(void)state;
	for (unsigned order = 0; order <= 6; order++) {
		uint64_t n = sizeof blk * 8 >> order, rnd = order, max = order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;

		memset(blk, 0, sizeof blk);
		memset(plain, 0, sizeof plain);
		for (int k = 0; k < 20000; k++) {
			uint64_t i = rand_below(&rnd, n);

			plain[i] = rand_next(&rnd) & max;
			refblock_set(blk, order, i, plain[i]);
		}
		for (uint64_t i = 0; i < n; i++)
			assert_true(refblock_get(blk, order, i) == plain[i]);
	}
	/* "bit 0 means the least significant bit": the first count of a byte is in its low bits. */
	memset(blk, 0, sizeof blk);
	refblock_set(blk, 0, 1, 1);
	refblock_set(blk, 2, 3, 5);
	assert_int_equal(blk[0], 2);
	assert_int_equal(blk[1], 0x50);
}

static struct qcow2 *image(unsigned bits, struct logdev **d)
{
	struct mkimg *m = mkimg_new(&(struct mkimg_opts){ .refcount_bits = bits, .size = 64 << 10 });
	struct qcow2 *q;
	struct err e = { 0 };
	uint8_t *img;
	size_t n;

	for (uint64_t gc = 0; gc < 60; gc++)
		mkimg_data(m, gc, gc);
	img = mkimg_finish(m, &n);
	*d = logdev_new(img, n);
	free(img);
	assert_int_equal(qcow2_open_dev(&(*d)->dev, QCOW2_RW, &q, &e), 0);
	return q;
}

/* Move counts about at random, beside a plain array; commit now and then, and read back. */
static void t_against_array(void **state)
{
	enum { N = 700 };

	(void)state;
	for (unsigned bits = 1; bits <= 64; bits *= 2) {
		struct logdev *d;
		struct qcow2 *q = image(bits, &d);
		uint64_t plain[N], rnd = bits, end = d->dev.size >> 9;
		struct err e = { 0 };

		for (uint64_t i = 0; i < N; i++)
			assert_int_equal(refs_get(q, i, &plain[i], &e), 0);
		assert_true(plain[0] == 1 && plain[end - 1] == 1 && plain[end] == 0);
		for (int k = 0; k < 500; k++) {
			uint64_t at = end + 50 + rand_below(&rnd, N - end - 50), n = 1 + rand_below(&rnd, N - at < 20 ? N - at : 20);
			int delta = rand_below(&rnd, 2) ? 1 : -1, want = 0, got;

			for (uint64_t i = at; i < at + n && !want; i++)
				want = !plain[i] ? -EUCLEAN : delta > 0 && plain[i] == refs_max(q) ? -EFBIG : 0;
			if (!rand_below(&rnd, 3) || want) {
				uint64_t v = rand_next(&rnd) & refs_max(q);

				assert_int_equal(refs_set(q, at, n, v, &e), 0);
				for (uint64_t i = at; i < at + n; i++)
					plain[i] = v;
				continue;
			}
			got = refs_add(q, at, n, delta, &e);
			assert_int_equal(got, 0);
			for (uint64_t i = at; i < at + n; i++)
				plain[i] += (uint64_t)(int64_t)delta;
		}
		for (uint64_t i = end + 50; i < N; i++) {
			uint64_t rc;

			assert_int_equal(refs_get(q, i, &rc, &e), 0);
			assert_true(rc == plain[i]);
		}
		qcow2_close(q);
		logdev_free(d);
	}
}

static void t_refuses(void **state)
{
	struct logdev *d;
	struct qcow2 *q = image(4, &d);
	uint64_t end = d->dev.size >> 9, hoff, rc;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(refs_add(q, end, 1, 1, &e), -EUCLEAN);          /* free: nothing to share */
	assert_int_equal(refs_add(q, 1ull << 50, 1, -1, &e), -EUCLEAN);  /* no block: none is made */
	assert_int_equal(refs_set(q, end, 1, 16, &e), -EFBIG);           /* does not fit in 4 bits */
	assert_int_equal(refs_set(q, end, 1, 15, &e), 0);
	assert_int_equal(refs_add(q, end, 1, 1, &e), -EFBIG);
	assert_int_equal(refs_alloc(q, 1, &hoff, &e), 0);
	assert_int_equal(hoff, (end + 1) << 9);
	/* What was freed since the last commit is the old image's still. */
	assert_int_equal(refs_free(q, hoff, 512, &e), 0);
	assert_int_equal(refs_get(q, hoff >> 9, &rc, &e), 0);
	assert_int_equal(rc, 0);
	q->refs.hint = 0;
	assert_int_equal(refs_alloc(q, 3, &hoff, &e), 0);
	assert_int_equal(hoff, (end + 2) << 9);
	txn_abort(q, &e);
	assert_int_equal(refs_get(q, end, &rc, &e), 0);
	assert_int_equal(rc, 0);
	qcow2_close(q);
	logdev_free(d);
}

/* Far beyond what one block, and one cluster of table, can count. */
static void t_grows(void **state)
{
	struct logdev *d;
	struct qcow2 *q = image(64, &d);
	struct err e = { 0 };
	struct qhdr nh = q->h;
	uint64_t hoff, rc;

	(void)state;
	assert_int_equal(refs_alloc(q, 64 * 70, &hoff, &e), 0);
	assert_int_equal(txn_commit(q, &nh, &e), 0);
	assert_true(q->h.rt_clusters >= 2);
	qcow2_close(q);
	assert_int_equal(qcow2_open_dev(&d->dev, 0, &q, &e), 0);
	for (uint64_t i = 0; i < 64 * 70; i++) {
		assert_int_equal(refs_get(q, (hoff >> 9) + i, &rc, &e), 0);
		assert_int_equal(rc, 1);
	}
	qcow2_close(q);
	logdev_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_widths),
		cmocka_unit_test(t_against_array),
		cmocka_unit_test(t_refuses),
		cmocka_unit_test(t_grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
