/* Go back to the first snapshot of an image from anywhere, or to the last. */
#include "tests/fuzz/qcow2.h"

static unsigned which;

static int apply(struct qcow2 *q, struct err *e)
{
	unsigned n;

	qcow2_snaps(q, &n);
	if (!n)
		return err_set(e, -ENOENT, "no snapshot");
	return qcow2_snap_apply(q, which ? n - 1 : 0, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_image f = { 0 };

	which = size & 1;
	if (fuzz_try(&f, data, size, QCOW2_RW, apply))
		fuzz_expect(expect_apply(&f.before, &f.after, which ? f.before.n_snaps - 1 : 0, fuzz_why), "apply");
	fuzz_done(&f);
	return 0;
}
