/*
 * engine/memory/stream.c: any bytes as QEMU's migration stream. What is taken comes out in its form, the same in one piece and in
 * many; what is not is refused with a reason that can be printed. The corpus: streams of QEMU 7.2 and 10.0, cut down by
 * cut_stream.pl.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/memory/memory.h"
#include "tests/harness/logdev.h"

#define RAM (8 * 4096u)

struct src {
	const uint8_t *p;
	size_t left, piece;
};

static int next(void *ctx, const uint8_t **p, size_t *n, struct err *e)
{
	struct src *s = ctx;

	(void)e;
	*p = s->p;
	*n = s->left < s->piece ? s->left : s->piece;
	s->p += *n;
	s->left -= *n;
	return 0;
}

static void want(bool ok)
{
	if (!ok)
		abort();
}

static int bake(const uint8_t *data, size_t size, size_t piece, struct logdev *out, struct buf *devices, struct err *e)
{
	struct src s = { data, size, piece };

	return stream_bake(&(struct stream_in){ next, &s }, RAM, &out->dev, devices, e);
}

static void check(const struct logdev *out, const struct buf *devices)
{
	const char *end = devices->p + devices->n - 7;

	want(out->dev.size == RAM && devices->n > 8 + 5 + 15 + 6 + 7);
	want(!memcmp(devices->p, "QEVM\0\0\0\3\a", 9) && end[-6] == 0x7e && !memcmp(end - 1, "\0\6\0\0\0\2{}", 8));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_logdev struct logdev *a = logdev_new(NULL, 0), *b = logdev_new(NULL, 0);
	auto_buf struct buf one = { 0 }, many = { 0 };
	struct err e = { 0 }, also = { 0 };
	int rc = bake(data, size, size, a, &one, &e);

	want(rc <= 0 && bake(data, size, size % 61 + 1, b, &many, &also) == rc);
	if (rc == 0) {
		check(a, &one);
		want(one.n == many.n && !memcmp(one.p, many.p, one.n) && !memcmp(a->bytes, b->bytes, RAM));
		return 0;
	}
	want(rc == -EUCLEAN || rc == -EOPNOTSUPP || rc == -ENODATA || rc == -EPROTO || rc == -EFBIG);
	want(e.msg[0] && !strcmp(e.msg, also.msg));
	for (const char *p = e.msg; *p; p++)
		want(*p >= ' ' && *p <= '~');
	return 0;
}
