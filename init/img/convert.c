/* img convert */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/fill.h"

#define CHUNK (2u << 20) /* no cluster is larger */

static const char *format, *out_format = "raw", *snapshot, *sparse = "4k", *cache, *source_cache, *parallel;
static struct cmd_list settings;
static bool share, quiet, progressing, unordered, compress;
static const struct opt opts[] = {
	OPT_FORMAT(format),
	{ 'O', "target-format", "FMT", "qcow2 or raw (default)", OPT_STR(&out_format) },
	{ 'o', "options", "KEY=VALUE,...", "how to make the output", OPT_LIST(&settings) },
	{ 'l', "snapshot", "SNAPSHOT", "read this internal snapshot", OPT_STR(&snapshot) },
	{ 'S', "sparse-size", "SIZE", "zeros of this length become holes (4k); 0: none, of raw output", OPT_STR(&sparse) },
	{ 'c', "compress", NULL, "not supported", OPT_FLAG(&compress) },
	OPT_SHARE(share),
	OPT_QUIET(quiet),
	OPT_PROGRESS(progressing),
	OPT_CACHE(cache),
	{ 'T', "source-cache", "MODE", "taken, and means nothing here", OPT_STR(&source_cache) },
	{ 'm', "parallel", "N", "taken, and means nothing here", OPT_STR(&parallel) },
	{ 'W', "out-of-order", NULL, "taken, and means nothing here", OPT_FLAG(&unordered) },
	{ 0 }
};

/* Where the pieces go: @unit bytes each, pieces of zeros are left out unless @all or @old. */
struct sink {
	struct qcow2_fill *fill; /* NULL: raw */
	struct dev *raw;
	size_t unit;
	bool all;
	bool old;     /* has other content before: a block device is not zero because it is written anew */
};

static bool is_zero(const uint8_t *p, size_t n)
{
	return !n || (!*p && !memcmp(p, p + 1, n - 1));
}

static int put_chunk(struct sink *to, uint64_t at, const uint8_t *buf, size_t n, struct err *e)
{
	if (to->old)
		return is_zero(buf, n) ? dev_zero(to->raw, at, n, e) : dev_write(to->raw, at, buf, n, e);
	for (size_t i = 0, run; i < n; i += run) {
		run = n - i < to->unit ? n - i : to->unit;
		if (!to->all && is_zero(buf + i, run))
			continue;
		if (to->fill) {
			/* The last cluster of a disk is written whole: @buf has zeros behind @n. */
			if (qcow2_fill_put(to->fill, (at + i) / to->unit, buf + i, e) < 0)
				return e->code;
			continue;
		}
		while (i + run < n && (to->all || !is_zero(buf + i + run, n - i - run < to->unit ? n - i - run : to->unit)))
			run += n - i - run < to->unit ? n - i - run : to->unit;
		if (dev_write(to->raw, at + i, buf + i, run, e) < 0)
			return e->code;
	}
	return 0;
}

static int copy(struct image *from, int snap, uint64_t size, struct sink *to, struct err *e)
{
	auto_free uint8_t *buf = malloc(CHUNK);
	struct image_run run;

	if (!buf)
		return err_nomem(e, "convert an image");
	for (uint64_t at = 0; at < size; at += CHUNK) {
		size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;

		if (image_map(from, snap, at, size - at, &run, e) < 0)
			return e->code;
		/* A long hole is passed without looking at each chunk. */
		if ((run.zero || !run.data) && run.len >= n && !to->all) {
			uint64_t more = (run.len - n) / CHUNK * CHUNK;

			if (to->old && dev_zero(to->raw, at, n + more, e) < 0)
				return e->code;
			at += more;
			continue;
		}
		memset(buf + n, 0, CHUNK - n);
		if (image_read(from, snap, at, buf, n, e) < 0 || put_chunk(to, at, buf, n, e) < 0)
			return e->code;
	}
	return 0;
}

static int to_raw(struct image *from, int snap, uint64_t size, const char *path, struct err *e)
{
	auto_image struct image *img = NULL;
	uint64_t unit;
	struct sink to = { 0 };

	if (img_size(sparse, &unit, e) < 0)
		return e->code;
	if (unit > CHUNK || unit % 512)
		return err_set(e, ERR_USAGE, "-S takes multiples of 512, 2M at most");
	to.all = !unit;
	to.unit = unit ? unit : CHUNK;
	if (img_unsaved(path, e) < 0 || image_open(path, "raw", QCOW2_RW, &img, e) < 0)
		return e->code;
	to.raw = img->dev;
	to.old = img->dev->fixed;
	return copy(from, snap, size, &to, e) < 0 ? e->code : dev_flush(img->dev, e);
}

static int to_qcow2(struct image *from, int snap, uint64_t size, const char *path, struct err *e)
{
	auto_image struct image *img = NULL;
	struct qcow2_info i;
	struct sink to = { 0 };

	if (img_unsaved(path, e) < 0 || image_open(path, "qcow2", QCOW2_RW, &img, e) < 0)
		return e->code;
	qcow2_get_info(img->q, &i);
	to.unit = 1u << i.cluster_bits;
	if (qcow2_fill_begin(img->q, &to.fill, e) < 0)
		return e->code;
	if (copy(from, snap, size, &to, e) < 0)
		return qcow2_fill_abort(to.fill, e);
	return qcow2_fill_end(to.fill, e);
}

static int check_usage(const struct img_opts *o, struct err *e)
{
	bool raw = !strcmp(out_format, "raw");

	if (compress)
		return err_set(e, -EOPNOTSUPP, "writing compressed clusters (-c) is not supported");
	if (!raw && strcmp(out_format, "qcow2"))
		return err_set(e, ERR_USAGE, "unknown file format '%s': qcow2 and raw are known", out_format);
	if (o->v[IMG_BACKING_FILE] || o->v[IMG_BACKING_FMT] || o->v[IMG_DATA_FILE] || o->v[IMG_SIZE])
		return err_set(e, -EOPNOTSUPP, "convert makes whole images of the source's size, without backing and data files");
	if (!raw && o->v[IMG_PREALLOC] && strcmp(o->v[IMG_PREALLOC], "off"))
		return err_set(e, -EOPNOTSUPP, "convert does not preallocate qcow2 images");
	return 0;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_opts struct img_opts o = { 0 };
	auto_image struct image *from = NULL;
	bool raw = !strcmp(out_format, "raw"), old = file_exists(argv[1]);
	struct qcow2_create c;
	uint64_t size;
	int snap, rc;

	(void)argc;
	if (img_opts_parse(&settings, raw ? IMG_KEYS_RAW : IMG_KEYS_QCOW2, &o, e) < 0)
		return e->code;
	if (img_opts_told(&o, "Supported options:", raw ? IMG_KEYS_RAW : IMG_KEYS_QCOW2))
		return 0;
	if (check_usage(&o, e) < 0 || img_opts_create(&o, &c, e) < 0 ||
		image_open_chain(argv[0], format, share ? QCOW2_SHARE : 0, &from, e) < 0 ||
		img_snap_find(from, snapshot, &snap, &size, e) < 0)
		return e->code;
	c.size = size;
	c.whole = true;
	if (img_create_file(argv[1], out_format, &o, &c, true, e) < 0)
		return e->code;
	rc = raw ? to_raw(from, snap, size, argv[1], e) : to_qcow2(from, snap, size, argv[1], e);
	/* Half a copy is none. */
	if (rc < 0 && !old)
		unlink(argv[1]);
	return rc < 0 ? err_at(e, "%s", argv[1]) : 0;
}

const struct cmd cmd_img_convert = { "convert", "[-O FMT] [-l SNAPSHOT] FILE OUTPUT", NULL, "copy what a guest would read", NULL, opts,
	2, 2, run };
