/* qcow2/vmstate.c: VM state behind the disk's end, ours and QEMU's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "qcow2/image/image.h"
#include "qcow2/internal.h"
#include "tests/harness/guest.h"
#include "tests/harness/judge.h"
#include "tests/harness/logdev.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/qemu_img.h"

static struct logdev *image(unsigned bits, uint64_t vmstate, bool ext_l2, unsigned l1_size)
{
	struct mkimg_opts o = { .cluster_bits = bits, .size = 40ull << bits, .ext_l2 = ext_l2, .l1_size = l1_size };
	struct mkimg_snap s = { .id = "1", .name = "k1", .extra_len = 24, .vmstate = vmstate, .vm_seed = 7 };
	struct mkimg *m = mkimg_new(&o);
	struct logdev *d;
	uint8_t *p;
	size_t n;

	mkimg_data(m, 1, 1);
	mkimg_data(m, 39, 2);
	mkimg_snapshot(m, &s);
	mkimg_data(m, 1, 3);
	p = mkimg_finish(m, &n);
	d = logdev_new(p, n);
	free(p);
	return d;
}

static bool whole(struct logdev *d)
{
	struct qcow2 *q;
	struct err e = { 0 };
	bool yes = false;

	if (qcow2_open_dev(&d->dev, QCOW2_SHARE, &q, &e) < 0 || qcow2_vm_state_whole(q, 0, &yes, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(qcow2_vm_state_whole(q, 1, &yes, &e) == -ENOENT);
	qcow2_close(q);
	return yes;
}

/* Where the snapshot's L1 entry @i is in the file, and the table it names. */
static uint64_t l2_of_snap(const struct logdev *d, unsigned i, uint64_t *l1)
{
	*l1 = get_be64(d->bytes + get_be64(d->bytes + HDR_SNAP_OFF)) + 8 * i;
	return get_be64(d->bytes + *l1) & OFFSET_MASK;
}

static void test_whole(void **state)
{
	(void)state;
	for (unsigned bits = 9; bits <= 16; bits += 7) {
		uint64_t cs = 1ull << bits, vm = 5 * cs + 100, l1, l2;
		auto_logdev struct logdev *d = image(bits, vm, false, 0);

		assert_true(whole(d));
		l2 = l2_of_snap(d, 1, &l1);
		assert_true(l2 != 0);
		/* a cluster is missing: the last, the first; then the whole table */
		for (unsigned i = 0; i < 6; i += 5) {
			uint64_t v = get_be64(d->bytes + l2 + 8 * i);

			put_be64(d->bytes + l2 + 8 * i, 0);
			assert_false(whole(d));
			put_be64(d->bytes + l2 + 8 * i, OFLAG_ZERO);
			assert_true(whole(d));
			put_be64(d->bytes + l2 + 8 * i, d->dev.size);
			assert_false(whole(d));
			put_be64(d->bytes + l2 + 8 * i, v);
		}
		put_be64(d->bytes + l2 + 8 * 6, 0); /* behind the state: not looked at */
		assert_true(whole(d));
		put_be64(d->bytes + l1, d->dev.size);
		assert_false(whole(d));
		put_be64(d->bytes + l1, 0);
		assert_false(whole(d));
	}
}

static void test_sizes(void **state)
{
	uint64_t cs = 512, none, many;
	auto_logdev struct logdev *a = image(9, 0, false, 0), *b = image(9, 130 * cs, false, 0);
	uint8_t *size;

	(void)state;
	assert_true(whole(a));
	assert_true(whole(b));
	size = b->bytes + get_be64(b->bytes + HDR_SNAP_OFF) + 40;
	assert_int_equal(get_be64(size), 130 * cs);
	none = 0, many = 192 * cs;
	put_be64(size, none);
	assert_true(whole(b));
	put_be64(size, 130 * cs + 1);
	assert_false(whole(b));
	put_be64(size, many + 1); /* more than the L1 table can map */
	assert_false(whole(b));
	put_be64(size, UINT64_MAX);
	assert_false(whole(b));
}

static void test_subclusters(void **state)
{
	uint64_t cs = 1 << 14, sub = cs / 32, l1, l2;
	auto_logdev struct logdev *d = image(14, cs + 3 * sub - 1, true, 0);

	(void)state;
	assert_true(whole(d));
	l2 = l2_of_snap(d, 1, &l1);
	put_be64(d->bytes + l2 + 24, 7);
	assert_true(whole(d));
	put_be64(d->bytes + l2 + 24, 3);
	assert_false(whole(d));
	put_be64(d->bytes + l2 + 24, 3 | 1ull << 34);
	assert_true(whole(d));
}

/* VM state of @n clusters of 512 bytes and one byte, each cluster filled with its number: across tables, in pieces. */
static void test_read(void **state)
{
	const uint64_t n = 130, cs = 512;
	auto_logdev struct logdev *d = image(9, n * cs + 1, false, 0);
	auto_free uint8_t *buf = malloc((n + 1) * cs);
	struct image img = { .path = (char *)"it", .data = &d->dev };
	uint64_t l1, l2;
	struct qcow2_run r;
	struct err e = { 0 };

	(void)state;
	for (uint64_t i = 0; i <= n; i++) {
		l2 = l2_of_snap(d, 1 + (unsigned)(i / 64), &l1);
		memset(d->bytes + (get_be64(d->bytes + l2 + 8 * (i % 64)) & OFFSET_MASK), (int)i, cs);
	}
	assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_SHARE, &img.q, &e), 0);
	for (size_t step = 1; step <= n * cs + 1; step = step * 7 + 3)
		for (uint64_t at = 0; at < n * cs + 1; at += step) {
			size_t k = n * cs + 1 - at < step ? (size_t)(n * cs + 1 - at) : step;

			assert_int_equal(image_read_vm_state(&img, 0, at, buf, k, &e), 0);
			for (size_t i = 0; i < k; i++)
				assert_int_equal(buf[i], (uint8_t)((at + i) / cs));
		}
	/* Not a byte further. */
	assert_int_equal(image_read_vm_state(&img, 0, n * cs + 1, buf, 1, &e), -ERANGE);
	assert_int_equal(image_read_vm_state(&img, 0, n * cs, buf, 2, &e), -ERANGE);
	assert_int_equal(qcow2_vm_state_map(img.q, 0, UINT64_MAX, &r, &e), -ERANGE);
	assert_int_equal(qcow2_vm_state_map(img.q, 0, n * cs, &r, &e), 0);
	assert_int_equal(r.len, 1);
	/* The disk is read as before. */
	assert_int_equal(qcow2_map(img.q, 0, cs, &r, &e), 0);
	assert_true(r.kind == QCOW2_DATA && r.goff == cs && r.len == cs);
	qcow2_close(img.q);
	/* What is not there is no state; zeros are. */
	l2 = l2_of_snap(d, 1, &l1);
	put_be64(d->bytes + l2 + 8, 0);
	put_be64(d->bytes + l2 + 16, OFLAG_ZERO);
	assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_SHARE, &img.q, &e), 0);
	assert_int_equal(image_read_vm_state(&img, 0, cs - 1, buf, 2, &e), -ENODATA);
	assert_int_equal(image_read_vm_state(&img, 0, 2 * cs, buf, 1, &e), 0);
	assert_int_equal(buf[0], 0);
	qcow2_close(img.q);
}

/* What a failed savevm leaves: an L2 table and data behind the disk's end, in the active layer only. */
static void leave_state(struct qcow2 *q, unsigned at)
{
	auto_free uint8_t *l2 = calloc(1, q->cluster);
	struct err e = { 0 };
	struct qhdr nh = q->h;
	uint64_t data, off;

	assert_int_equal(q_load_l1(q, &e), 0);
	assert_true(at >= q_l1_needed(q, q->h.size) && at < q->h.l1_size);
	assert_int_equal(refs_alloc(q, 3, &data, &e), 0);
	assert_int_equal(refs_alloc(q, 1, &off, &e), 0);
	for (uint64_t i = 0; i < 3; i++) {
		put_be64(l2 + 8 * i, (data + i * q->cluster) | OFLAG_COPIED);
		assert_int_equal(txn_write(q, data + i * q->cluster, q->first, q->first_len < 512 ? q->first_len : 512, &e), 0);
	}
	assert_int_equal(txn_write(q, off, l2, q->cluster, &e), 0);
	q->l1[at] = off | OFLAG_COPIED;
	assert_int_equal(refs_free(q, q->h.l1_off, q->h.l1_size * 8ull, &e), 0);
	assert_int_equal(tree_put_l1(q, q->l1, q->h.l1_size, &nh.l1_off, &e), 0);
	assert_int_equal(txn_commit(q, &nh, &e), 0);
}

static void test_drop(void **state)
{
	auto_logdev struct logdev *d = image(9, 3000, false, 4);
	struct guest_state before, after;
	struct guest_img g;
	struct err e = { 0 };
	struct qcow2 *q;
	struct judge j;
	uint64_t used;
	char why[200];

	(void)state;
	assert_int_equal(qcow2_open_dev(&d->dev, QCOW2_RW, &q, &e), 0);
	leave_state(q, 2);
	g = (struct guest_img){ .bytes = d->bytes, .size = d->dev.size };
	judge_image(d->bytes, d->dev.size, &j);
	assert_int_equal(j.bad + j.leaks + j.flags, 0);
	assert_int_equal(guest_state(&g, &before), 0);
	used = d->dev.size;
	if (qcow2_vm_state_drop(q, &e) < 0)
		fail_msg("%s", e.msg);
	g = (struct guest_img){ .bytes = d->bytes, .size = d->dev.size };
	judge_image(d->bytes, d->dev.size, &j);
	assert_int_equal(j.bad + j.leaks + j.flags, 0);
	assert_int_equal(guest_state(&g, &after), 0);
	if (!guest_same(&before, &after, why))
		fail_msg("%s", why);
	for (unsigned i = 0; i < q->h.l1_size; i++)
		assert_true(i < q_l1_needed(q, q->h.size) || !q->l1[i]);
	assert_true(whole(d));
	/* nothing left to do: nothing is written; and the room is used again */
	logdev_record(d);
	assert_int_equal(qcow2_vm_state_drop(q, &e), 0);
	assert_int_equal(d->n_changes, 0);
	leave_state(q, 3);
	assert_true(d->dev.size <= used + 4 * 512);
	qcow2_close(q);
}

static void test_savevm(void **state)
{
	static const char *const start[] = { "sh", "-c",
		"command -v qemu-system-x86_64 >/dev/null || exit 77\n"
		"cd \"$(dirname \"$0\")\" && qemu-img create -q -f qcow2 vm.qcow2 3G || exit 77\n"
		"printf 'savevm k1\\nsavevm k2\\nquit\\n' | timeout 600 qemu-system-x86_64 -machine pc,accel=tcg -m 16 -S -nodefaults"
		" -display none -drive file=vm.qcow2,format=qcow2,if=ide -monitor stdio >vm.log 2>&1",
		NULL, NULL };
	const char *argv[5];
	const struct qcow2_snap *s;
	struct err e = { 0 };
	struct qcow2 *q;
	char path[256];
	unsigned n;
	bool yes;

	(void)state;
	if (!qemu_img_there())
		skip();
	snprintf(path, sizeof path, "%s", qemu_img_path("vm.qcow2"));
	memcpy(argv, start, sizeof start);
	argv[3] = path;
	n = (unsigned)qemu_img_run(argv);
	if (n == 77)
		skip();
	assert_int_equal(n, 0);
	assert_int_equal(qcow2_open(path, QCOW2_RW, &q, &e), 0);
	s = qcow2_snaps(q, &n);
	assert_int_equal(n, 2);
	for (unsigned i = 0; i < n; i++) {
		assert_true(s[i].vm_state_size > 0);
		assert_int_equal(qcow2_vm_state_whole(q, i, &yes, &e), 0);
		assert_true(yes);
	}
	assert_int_equal(qcow2_vm_state_drop(q, &e), 0);
	qcow2_close(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_subclusters),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_savevm),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
