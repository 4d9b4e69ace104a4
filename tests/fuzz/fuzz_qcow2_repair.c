/*
 * Repair an image from anywhere, leaks or everything: what repair calls repaired is clean to a second check and to
 * the independent judge, and a sound image stays what it is.
 */
#include "tests/fuzz/qcow2.h"

static struct qcow2_check first;
static unsigned fix;

static int mend(struct qcow2 *q, struct err *e)
{
	return qcow2_check(q, fix, NULL, NULL, &first, e);
}

static void again(const struct logdev *d, bool judged)
{
	struct logdev *copy = logdev_new(d->bytes, d->dev.size);
	struct qcow2_check second;
	struct qcow2 *q;
	struct err e;
	struct judge j;

	if (qcow2_open_dev(&copy->dev, QCOW2_CHECK, &q, &e) < 0 || qcow2_check(q, 0, NULL, NULL, &second, &e) < 0)
		fuzz_die("after a repair", e.msg);
	if (!first.corruptions && second.corruptions)
		fuzz_die("after a repair", "corruption");
	if (!first.corruptions && !first.leaks && second.leaks)
		fuzz_die("after a repair", "leaks");
	if (judged && !second.corruptions && !second.check_errors) {
		fuzz_judge(d->bytes, d->dev.size, &j);
		if (j.bad || j.flags)
			fuzz_die("after a repair", j.bad ? j.first_bad : j.first_flag);
	}
	qcow2_close(q);
	logdev_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool judged = size < 80 || get_be32(data + 4) == 2 || !(get_be64(data + 72) & QCOW2_INCOMPAT_DATA_FILE);
	struct fuzz_image f = { 0 };

	fix = size % 4 == 3 ? QCOW2_FIX_LEAKS : QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS;
	memset(&first, 0, sizeof first);
	first.check_errors = 1;
	if (fuzz_try(&f, data, size, QCOW2_CHECK | QCOW2_RW, mend))
		fuzz_expect(guest_same(&f.before, &f.after, fuzz_why), "repair changed a sound image");
	if (!first.check_errors)
		again(f.d, judged);
	fuzz_done(&f);
	return 0;
}
