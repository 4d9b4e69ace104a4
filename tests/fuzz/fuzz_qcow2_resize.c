/* Make the disk of an image from anywhere larger, and smaller. */
#include "tests/fuzz/qcow2.h"

static uint64_t want;

static int grow(struct qcow2 *q, struct err *e)
{
	struct qcow2_info info;

	qcow2_get_info(q, &info);
	want = (info.size + 70000) & ~511ull;
	return qcow2_resize(q, want, false, info.backing ? UINT64_MAX : 0, QCOW2_PREALLOC_OFF, e);
}

static int shrink(struct qcow2 *q, struct err *e)
{
	struct qcow2_info info;

	qcow2_get_info(q, &info);
	want = info.size / 2 & ~511ull;
	return qcow2_resize(q, want, true, 0, QCOW2_PREALLOC_OFF, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_image f = { 0 };

	/* A disk that ends inside a cluster is hashed in other pieces when it has grown. */
	if (fuzz_try(&f, data, size, QCOW2_RW, grow) && f.before.size % (1u << f.before.cluster_bits) == 0)
		fuzz_expect(expect_grown(&f.before, &f.after, want, fuzz_why), "grow");
	fuzz_done(&f);
	if (fuzz_try(&f, data, size, QCOW2_RW, shrink) && f.after.size != want)
		fuzz_die("shrink", "the size is another");
	fuzz_done(&f);
	return 0;
}
