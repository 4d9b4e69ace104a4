/* qcow2/header.c, open.c, snap_table.c: every field of the header at its edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "qcow2/internal.h"

/* The smallest image: header, refcount table, one block, L1; a disk of 64 MiB in clusters of 64 KiB, version 3. */
static void tiny(uint8_t *p)
{
	struct qhdr h = {
		.version = 3, .cluster_bits = 16, .refcount_order = 4, .len = 104, .size = 64 * MIB, .l1_size = 1,
		.l1_off = 3 << 16, .rt_off = 1 << 16, .rt_clusters = 1,
	};

	memset(p, 0, 4 << 16);
	hdr_encode(&h, p);
	put_be64(p + (1 << 16), 2 << 16);
	for (int i = 0; i < 4; i++)
		put_be16(p + (2 << 16) + 2 * i, 1);
}

static int open_bytes(const uint8_t *p, size_t n, struct qcow2 **q, struct dev **d, struct err *e)
{
	char path[] = "/tmp/fermata-open-XXXXXX";
	int fd = mkstemp(path);

	*q = NULL;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), (ssize_t)n);
	close(fd);
	assert_int_equal(dev_open(path, O_RDWR, d, e), 0);
	unlink(path);
	return qcow2_open_dev(*d, QCOW2_RW, q, e);
}

static const struct edge {
	const char *what;
	unsigned at, width;
	uint64_t v;
	int code;
} edges[] = {
	{ "as it is", 4, 4, 3, 0 },
	{ "magic", 0, 4, 0x514649fa, -EINVAL },
	{ "version 1", 4, 4, 1, -EOPNOTSUPP },
	{ "version 4", 4, 4, 4, -EOPNOTSUPP },
	{ "version ~0", 4, 4, UINT32_MAX, -EOPNOTSUPP },
	{ "backing name past the cluster", 8, 8, 65537, -EUCLEAN },
	{ "backing name at ~0", 8, 8, UINT64_MAX, -EUCLEAN },
	{ "cluster bits 0", 20, 4, 0, -EUCLEAN },
	{ "cluster bits 8", 20, 4, 8, -EUCLEAN },
	{ "cluster bits 22", 20, 4, 22, -EUCLEAN },
	{ "cluster bits ~0", 20, 4, UINT32_MAX, -EUCLEAN },
	{ "size 0", 24, 8, 0, 0 },
	{ "size as L1 allows", 24, 8, 512 * MIB, 0 },
	{ "size above L1", 24, 8, 512 * MIB + 1, -EUCLEAN },
	{ "size 2^63", 24, 8, 1ull << 63, -EFBIG },
	{ "size ~0", 24, 8, UINT64_MAX, -EFBIG },
	{ "crypt 3", 32, 4, 3, -EOPNOTSUPP },
	{ "LUKS without extension", 32, 4, 2, -EUCLEAN },
	{ "L1 of 0", 36, 4, 0, -EUCLEAN },
	{ "L1 to the file's end", 36, 4, 8192, 0 },
	{ "L1 past the file's end by less than a cluster", 36, 4, 16383, 0 },
	{ "L1 past the file's end", 36, 4, 16384, -EUCLEAN },
	{ "L1 above the limit", 36, 4, (32 * MIB / 8) + 1, -EFBIG },
	{ "L1 of ~0", 36, 4, UINT32_MAX, -EFBIG },
	{ "L1 not aligned", 40, 8, (3 << 16) + 512, -EUCLEAN },
	{ "L1 at ~0", 40, 8, UINT64_MAX & ~0xffffull, -EUCLEAN },
	{ "L1 at the end", 40, 8, 4 << 16, -EUCLEAN },
	{ "refcount table not aligned", 48, 8, 1, -EUCLEAN },
	{ "refcount table outside", 48, 8, 1ull << 40, -EUCLEAN },
	{ "refcount table of 0", 56, 4, 0, -EUCLEAN },
	{ "refcount table of 3", 56, 4, 3, 0 },
	{ "refcount table of 4", 56, 4, 4, -EUCLEAN },
	{ "refcount table of 129", 56, 4, 129, -EFBIG },
	{ "refcount table of ~0", 56, 4, UINT32_MAX, -EFBIG },
	{ "a snapshot at the header", 60, 4, 1, 0 },
	{ "65536 snapshots", 60, 4, 65536, -EUCLEAN },
	{ "65537 snapshots", 60, 4, 65537, -EFBIG },
	{ "~0 snapshots", 60, 4, UINT32_MAX, -EFBIG },
	{ "incompatible bit 5", 72, 8, 32, -EOPNOTSUPP },
	{ "incompatible ~0", 72, 8, UINT64_MAX, -EOPNOTSUPP },
	{ "extended L2", 72, 8, 16, 0 },
	{ "compression bit without type", 72, 8, 8, -EUCLEAN },
	{ "compatible ~0", 80, 8, UINT64_MAX, 0 },
	{ "refcount order 6", 96, 4, 6, 0 },
	{ "refcount order 7", 96, 4, 7, -EUCLEAN },
	{ "refcount order ~0", 96, 4, UINT32_MAX, -EUCLEAN },
	{ "header length 103", 100, 4, 103, -EUCLEAN },
	{ "header length a cluster", 100, 4, 65536, 0 },
	{ "header length above a cluster", 100, 4, 65544, -EUCLEAN },
};

static void test_edges(void **state)
{
	static uint8_t p[4 << 16];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
		const struct edge *x = &edges[i];
		struct err e = { 0 };
		struct qcow2 *q;
		struct dev *d;

		tiny(p);
		if (x->width == 8)
			put_be64(p + x->at, x->v);
		else
			put_be32(p + x->at, (uint32_t)x->v);
		if (open_bytes(p, sizeof p, &q, &d, &e) != x->code)
			fail_msg("%s: %d %s", x->what, e.code, e.msg);
		qcow2_close(q);
		dev_close(d);
	}
}

static void test_truncated(void **state)
{
	static uint8_t p[4 << 16];

	(void)state;
	tiny(p);
	for (size_t n = 0; n <= 3 << 16; n += n < 200 ? 1 : 1 << 12) {
		struct err e = { 0 };
		struct qcow2 *q;
		struct dev *d;

		assert_true(open_bytes(p, n, &q, &d, &e) < 0);
		assert_true(strlen(e.msg) > 0);
		dev_close(d);
	}
}

static void test_extensions(void **state)
{
	static uint8_t p[4 << 16];
	struct qcow2_info info;
	struct err e = { 0 };
	struct qcow2 *q;
	struct dev *d;

	(void)state;
	tiny(p);
	put_be32(p + 104, EXT_BACKING_FMT);
	put_be32(p + 108, 5);
	memcpy(p + 112, "qcow2", 5);
	put_be32(p + 120, 0xdeadbeef);
	put_be32(p + 124, 3);
	memcpy(p + 128, "abc", 3);
	put_be64(p + HDR_BACKING_OFF, 144);
	put_be32(p + HDR_BACKING_LEN, 8);
	memcpy(p + 144, "base.imgXXX", 11);
	assert_int_equal(open_bytes(p, sizeof p, &q, &d, &e), 0);
	qcow2_get_info(q, &info);
	assert_string_equal(info.backing, "base.img");
	assert_string_equal(info.backing_fmt, "qcow2");
	assert_int_equal(q->n_ext, 2);
	assert_memory_equal(ext_find(q, 0xdeadbeef)->data, "abc", 3);
	qcow2_close(q);
	dev_close(d);
	put_be32(p + 124, 17); /* runs into the name */
	assert_int_equal(open_bytes(p, sizeof p, &q, &d, &e), -EUCLEAN);
	dev_close(d);
	put_be32(p + 124, UINT32_MAX);
	assert_int_equal(open_bytes(p, sizeof p, &q, &d, &e), -EUCLEAN);
	dev_close(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_extensions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
