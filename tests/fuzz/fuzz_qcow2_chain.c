/* Commit into an image from anywhere, pull into it, and write parts of it. */
#include "qcow2/image/chain.h"
#include "qcow2/image/writer.h"
#include "qcow2/internal.h"
#include "tests/fuzz/qcow2.h"

#define N 5120 /* bytes of the other image of the chain */

static unsigned which;
static uint8_t content[N];

static int parts(struct image *img, struct err *e)
{
	auto_writer struct writer *w = NULL;

	if (writer_open(img, 0, &w, e) < 0 || writer_data(w, 1536, content, 1024, e) < 0 || writer_zero(w, 512, 1536, e) < 0 ||
		writer_commit(w, e) < 0 || writer_zero(w, 0, 4096, e) < 0 || writer_data(w, 0, content, 4096, e) < 0)
		return e->code;
	return writer_commit(w, e);
}

static int act(struct qcow2 *q, struct err *e)
{
	struct chain_job job = { .batch = 2048 };
	struct logdev *d = logdev_new(content, which == 1 ? N : N - 512);
	struct image raw = { .path = "raw", .format = "raw", .dev = &d->dev, .data = &d->dev, .size = d->dev.size };
	struct image img = { .path = "image", .format = "qcow2", .q = q, .dev = q->dev, .data = q->dev, .size = q->h.size & ~511ull };
	int r;

	if (which == 1)
		img.backing = &raw;
	else
		raw.backing = &img;
	r = which == 0 ? chain_commit(&raw, &img, &job, e) : which == 1 ? chain_pull(&img, NULL, NULL, NULL, &job, e) : parts(&img, e);
	free(img.inflated);
	logdev_free(d);
	return r;
}

/* The snapshots are what they were, and the disk begins with what was written. */
static void expect_written(const struct fuzz_image *f, size_t n)
{
	struct guest_img g = { f->d->bytes, f->d->dev.size, NULL, 0 };
	uint8_t got[N];

	fuzz_expect(f->before.n_snaps == f->after.n_snaps, "snapshots come or go");
	for (unsigned i = 0; i < f->before.n_snaps; i++)
		fuzz_expect(f->before.snaps[i].content == f->after.snaps[i].content, "a snapshot changes");
	fuzz_expect(guest_read(&g, -1, 0, got, n, fuzz_why) == 0 && !memcmp(got, content, n), "what was written is not there");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t n[] = { N - 512, 0, 4096 };
	struct fuzz_image f = { .partly = true };

	which = size % 3;
	for (size_t i = 0; i < N; i++)
		content[i] = which == 1 ? 0 : (uint8_t)(i * 7 + i / 512);
	if (fuzz_try(&f, data, size, QCOW2_RW, act))
		expect_written(&f, n[which]);
	fuzz_done(&f);
	return 0;
}
