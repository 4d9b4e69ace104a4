/* Take a snapshot of an image from anywhere. */
#include "tests/fuzz/qcow2.h"

static int create(struct qcow2 *q, struct err *e)
{
	struct qcow2_snap_new s = { .name = "fuzz", .date_s = 1800000000, .icount = QCOW2_NO_ICOUNT };

	return qcow2_snap_create(q, &s, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_image f = { 0 };

	if (fuzz_try(&f, data, size, QCOW2_RW, create))
		fuzz_expect(expect_create(&f.before, &f.after, fuzz_why), "create");
	fuzz_done(&f);
	return 0;
}
