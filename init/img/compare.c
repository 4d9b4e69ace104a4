/* img compare */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/own.h"

#define CHUNK (2u << 20)
enum { DIFFERENT = 1, OPEN_FAILED = 2, MAP_FAILED = 3, READ_FAILED = 4 };

static const char *format_a, *format_b, *cache;
static bool strict, quiet, share, progressing;
static const struct opt opts[] = {
	{ 'f', "format", "FMT", "of the first image", OPT_STR(&format_a) },
	{ 'F', "second-format", "FMT", "of the second", OPT_STR(&format_b) },
	{ 's', "strict", NULL, "sizes and allocation have to be the same too", OPT_FLAG(&strict) },
	OPT_SHARE(share),
	OPT_QUIET(quiet),
	OPT_BAR(progressing),
	{ 'T', "cache", "MODE", "taken, and means nothing here", OPT_STR(&cache) },
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

struct side {
	struct image *img;
	struct image_run run;
	uint8_t *buf;
};

static int fail(int status, struct err *e)
{
	e->code = ERR_EXIT(status);
	return e->code;
}

static int differ(const char *fmt, uint64_t at)
{
	if (!quiet)
		printf(fmt, at);
	return DIFFERENT;
}

static int differ_at(uint64_t at)
{
	return differ("Content mismatch at offset %" PRIu64 "!\n", at);
}

static int read_side(struct side *s, uint64_t at, size_t n, struct err *e)
{
	return image_read_run(&s->run, at, s->buf, n, e) < 0 ? fail(READ_FAILED, e) : 0;
}

/* The first sector that differs is what is named, here and below. */
static int compare_data(struct side *a, struct side *b, uint64_t at, size_t n, struct err *e)
{
	if (read_side(a, at, n, e) < 0 || read_side(b, at, n, e) < 0)
		return e->code;
	for (size_t i = 0; i < n; i += 512)
		if (memcmp(a->buf + i, b->buf + i, n - i < 512 ? n - i : 512))
			return differ_at(at + i);
	return 0;
}

static int compare_zero(struct side *s, uint64_t at, size_t n, struct err *e)
{
	if (read_side(s, at, n, e) < 0)
		return e->code;
	for (size_t i = 0; i < n; i++)
		if (s->buf[i])
			return differ_at(at + i / 512 * 512);
	return 0;
}

static bool reads_zero(const struct image_run *r)
{
	return r->zero || !r->data;
}

static int compare_run(struct side *a, struct side *b, uint64_t at, uint64_t len, struct err *e)
{
	int r = 0;

	if (reads_zero(&a->run) && reads_zero(&b->run))
		return 0;
	for (uint64_t end = at + len; at < end && !r; at += CHUNK) {
		size_t n = end - at < CHUNK ? (size_t)(end - at) : CHUNK;

		if (a->run.present && b->run.present)
			r = compare_data(a, b, at, n, e);
		else
			r = compare_zero(a->run.present ? a : b, at, n, e);
	}
	return r;
}

static bool same_state(const struct image_run *a, const struct image_run *b)
{
	return a->data == b->data && a->zero == b->zero && a->present == b->present && a->has_hoff == b->has_hoff;
}

static int compare_common(struct side *a, struct side *b, uint64_t end, struct err *e)
{
	int r = 0;

	for (uint64_t at = 0, len; at < end && !r; at += len) {
		img_progress(at, a->img->size > b->img->size ? a->img->size : b->img->size);
		if (image_map(a->img, -1, at, end - at, &a->run, e) < 0 ||
			image_map(b->img, -1, at, a->run.len, &b->run, e) < 0)
			return fail(MAP_FAILED, e);
		len = b->run.len;
		if (strict && !same_state(&a->run, &b->run))
			return differ("Strict mode: Offset %" PRIu64 " block status mismatch!\n", at);
		r = compare_run(a, b, at, len, e);
	}
	return r;
}

/* What the larger image has more must be zeros. */
static int compare_rest(struct side *s, uint64_t from, struct err *e)
{
	int r = 0;

	if (!quiet)
		puts("Warning: Image size mismatch!");
	for (uint64_t at = from; at < s->img->size && !r; at += s->run.len) {
		if (image_map(s->img, -1, at, s->img->size - at, &s->run, e) < 0)
			return fail(MAP_FAILED, e);
		if (reads_zero(&s->run))
			continue;
		for (uint64_t in = 0; in < s->run.len && !r; in += CHUNK)
			r = compare_zero(s, at + in, s->run.len - in < CHUNK ? (size_t)(s->run.len - in) : CHUNK, e);
	}
	return r;
}

static int compare(struct side *a, struct side *b, struct err *e)
{
	uint64_t common = a->img->size < b->img->size ? a->img->size : b->img->size;
	int r;

	if (strict && a->img->size != b->img->size) {
		if (!quiet)
			puts("Strict mode: Image size mismatch!");
		return DIFFERENT;
	}
	r = compare_common(a, b, common, e);
	if (!r && a->img->size != b->img->size)
		r = compare_rest(a->img->size > common ? a : b, common, e);
	if (!r)
		img_progress(1, 1);
	if (!r && !quiet)
		puts("Images are identical.");
	return r;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *x = NULL;
	auto_image struct image *y = NULL;
	auto_name struct image_name *nx = NULL;
	auto_name struct image_name *ny = NULL;
	auto_free uint8_t *buf = malloc(2 * CHUNK);
	unsigned flags = share ? QCOW2_SHARE : 0;
	int rc;
	struct side a = { .buf = buf }, b = { .buf = buf + CHUNK };

	(void)argc;
	if (!buf)
		return err_nomem(e, "compare images");
	if (img_name(argv[0], format_a, &nx, e) < 0 || img_name(argv[1], format_b, &ny, e) < 0 || img_open_chain(nx, flags, &x, e) < 0 ||
		img_open_chain(ny, flags, &y, e) < 0)
		return fail(OPEN_FAILED, e);
	a.img = x;
	b.img = y;
	img_progress_begin(progressing && !quiet);
	rc = compare(&a, &b, e);
	img_progress_end();
	return rc;
}

const struct cmd cmd_img_compare = { "compare", "FILE FILE", NULL, "whether two images read the same",
	"Exit status: 0 the same, 1 different, 2 and above: could not tell.\n", opts, 2, 2, run };
