/* img resize */
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/own.h"
#include "qcow2/image/raw.h"
#include "qcow2/image/writer.h"

static const char *format, *prealloc = "off";
static bool shrink, quiet;
static const struct opt opts[] = {
	OPT_FORMAT(format),
	{ 0, "preallocation", "MODE", "off, metadata, falloc or full: for what is added", OPT_STR(&prealloc) },
	{ 0, "shrink", NULL, "allow a smaller size; what is beyond it is lost", OPT_FLAG(&shrink) },
	OPT_QUIET(quiet),
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

static int new_size(const char *s, uint64_t old, uint64_t *size, struct err *e)
{
	bool plus = *s == '+', minus = *s == '-';

	if (img_size(s + (plus || minus), size, e) < 0)
		return e->code;
	if (plus && __builtin_add_overflow(old, *size, size))
		return err_set(e, ERR_USAGE, "the new image size is too large");
	if (minus)
		*size = *size < old ? old - *size : 0;
	if (!*size)
		return err_set(e, ERR_USAGE, "new image size must be positive");
	if (*size > INT64_MAX - 511)
		return err_set(e, ERR_USAGE, "the new image size is too large");
	return 0;
}

/* What a larger backing file holds behind the overlay's old end must stay hidden: qcow2_resize() wants its size. */
static int backing_size(struct image *img, uint64_t *size, struct err *e)
{
	auto_image struct image *below = NULL;

	*size = 0;
	if (image_open_backing(img, QCOW2_NAMES, &below, e) < 0)
		return err_at(e, "cannot grow over a backing file that cannot be read");
	if (below)
		*size = below->size;
	return 0;
}

/* A data file is as long as the disk at any time: longer before the image says so, shorter after. */
static int resize_with_data(struct image *img, uint64_t size, bool smaller, uint64_t hide, enum qcow2_prealloc how,
	struct err *e)
{
	auto_image struct image *data = NULL;
	struct qcow2_info i;

	qcow2_get_info(img->q, &i);
	if (image_open(i.data_file, "raw", QCOW2_RW, &data, e) < 0)
		return err_at(e, "%s: data file", img->path);
	if (size > img->size &&
		raw_resize(data->dev, size, false, how == QCOW2_PREALLOC_METADATA ? QCOW2_PREALLOC_OFF : how, e) < 0)
		return e->code;
	if (qcow2_resize(img->q, size, smaller, hide, how, e) < 0)
		return e->code;
	return size < img->size ? raw_resize(data->dev, size, true, QCOW2_PREALLOC_OFF, e) : 0;
}

/*
 * The cluster in which the disk ends has to be the image's own before the disk grows, or the backing file would show behind the
 * old end: its part of the disk is written as it reads, and what is behind it as zeros. Not where growing will be refused.
 */
static int own_tail(struct image *img, uint64_t size, struct err *e)
{
	auto_image struct image *below = NULL;
	auto_writer struct writer *w = NULL;
	auto_free uint8_t *buf = NULL;
	struct qcow2_info i;
	struct qcow2_run run;
	uint64_t from;

	qcow2_get_info(img->q, &i);
	from = img->size & ~((1ull << i.cluster_bits) - 1);
	if (from == img->size || (i.incompat & (QCOW2_INCOMPAT_EXT_L2 | QCOW2_INCOMPAT_DATA_FILE)))
		return 0;
	if (qcow2_map(img->q, -1, from, &run, e) < 0)
		return err_at(e, "%s", img->path);
	/* Version 2 has no entries for the zeros behind that cluster. */
	if (run.kind != QCOW2_HOLE || (i.version == 2 && size > from + (1ull << i.cluster_bits)))
		return 0;
	if (image_open_backing(img, QCOW2_NAMES, &below, e) < 0)
		return err_at(e, "cannot grow over a backing file that cannot be read");
	if (!below || below->size <= img->size)
		return 0;
	image_close(take_ptr(&below));
	buf = malloc((size_t)(img->size - from));
	if (!buf)
		return err_nomem(e, "resize an image");
	if (image_open_below(img, QCOW2_NAMES, e) < 0)
		return e->code;
	return image_read(img, -1, from, buf, (size_t)(img->size - from), e) < 0 || writer_open(img, img->backing->size, &w, e) < 0 ||
		writer_data(w, from, buf, (size_t)(img->size - from), e) < 0 || writer_commit(w, e) < 0 ? e->code : 0;
}

int img_resize(struct image *img, uint64_t size, bool smaller, enum qcow2_prealloc how, struct err *e)
{
	struct qcow2_info i;
	uint64_t hide = 0;

	if (!img->q)
		return raw_resize(img->dev, (size + 511) & ~511ull, smaller, how, e);
	if (size % 512)
		return err_set(e, ERR_USAGE, "the new size must be a multiple of 512");
	qcow2_get_info(img->q, &i);
	if (size > img->size && (backing_size(img, &hide, e) < 0 || (hide && own_tail(img, size, e) < 0)))
		return e->code;
	if (i.data_file)
		return resize_with_data(img, size, smaller, hide, how, e);
	return qcow2_resize(img->q, size, smaller, hide, how, e);
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *img = NULL;
	auto_name struct image_name *name = NULL;
	enum qcow2_prealloc how;
	uint64_t size;

	(void)argc;
	if (img_prealloc(prealloc, &how, e) < 0 || img_name(argv[0], format, &name, e) < 0 || img_open_rw(name, true, &img, e) < 0 ||
		new_size(argv[1], img->size, &size, e) < 0)
		return e->code;
	if (size <= img->size && how != QCOW2_PREALLOC_OFF)
		return err_set(e, ERR_USAGE, "preallocation can only be used for growing images");
	if (size < img->size && !shrink) {
		err_set(e, ERR_USAGE, "%s: shrinking deletes all data beyond the image's new end", name->path);
		return err_hint(e, "use --shrink if that is meant");
	}
	if (img_resize(img, size, shrink, how, e) < 0)
		return e->code;
	if (!quiet)
		puts("Image resized.");
	return 0;
}

const struct cmd cmd_img_resize = { "resize", "[--shrink] FILE [+|-]SIZE", NULL, "give the disk another size", NULL, opts, 2, 2,
	run };
