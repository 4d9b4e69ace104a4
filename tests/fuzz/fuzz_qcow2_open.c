/* Open an image from anywhere, for reading and for check; ask for all it says of itself. */
#include "tests/fuzz/qcow2.h"

static uint64_t sum;

static int look(struct qcow2 *q, struct err *e)
{
	struct qcow2_info info;
	const struct qcow2_snap *s;
	unsigned n;

	(void)e;
	qcow2_get_info(q, &info);
	sum += info.size + info.n_bitmaps + (info.backing ? strlen(info.backing) : 0) +
	       (info.backing_fmt ? strlen(info.backing_fmt) : 0) + (info.data_file ? strlen(info.data_file) : 0);
	s = qcow2_snaps(q, &n);
	for (unsigned i = 0; i < n; i++) {
		sum += strlen(s[i].id) + strlen(s[i].name) + s[i].disk_size;
		sum += (uint64_t)qcow2_snap_find(q, s[i].name, QCOW2_BY_EITHER);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned flags[] = { 0, QCOW2_CHECK };
	struct fuzz_image f = { 0 };

	for (unsigned i = 0; i < 2; i++) {
		fuzz_try(&f, data, size, flags[i], look);
		if (f.d->dev.size != size || (size && memcmp(f.d->bytes, data, size)))
			fuzz_die("open", "changed the image");
		fuzz_done(&f);
	}
	return 0;
}
