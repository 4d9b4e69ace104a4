/* img amend */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/buf.h"

static const char *format, *cache;
static struct cmd_list settings;
static bool quiet, progressing, force;
static const struct opt opts[] = {
	{ 'o', "options", "KEY=VALUE,...", "what to change; -o help lists it", OPT_LIST(&settings) },
	OPT_FORMAT(format),
	OPT_QUIET(quiet),
	OPT_BAR(progressing),
	{ 0, "force", NULL, "taken: it is for encrypted images, whose keys it could lose", OPT_FLAG(&force) },
	OPT_CACHE(cache),
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

static int read_changes(const struct img_opts *o, struct qcow2_amend *a, struct err *e)
{
	uint64_t bits = 0;
	unsigned version;
	bool on;

	if (o->v[IMG_COMPAT]) {
		if (img_compat(o->v[IMG_COMPAT], &version, e) < 0)
			return e->code;
		a->version = (int)version;
	}
	if (img_opts_bool(o, IMG_LAZY, false, &on, e) < 0)
		return e->code;
	if (o->v[IMG_LAZY])
		a->lazy_refcounts = on;
	if (img_opts_bool(o, IMG_DATA_FILE_RAW, false, &on, e) < 0 || img_opts_num(o, IMG_REFCOUNT_BITS, 0, &bits, e) < 0)
		return e->code;
	if (o->v[IMG_DATA_FILE_RAW])
		a->data_file_raw = on;
	if (o->v[IMG_REFCOUNT_BITS] && (!bits || bits > 64 || bits & (bits - 1)))
		return err_set(e, ERR_USAGE, "refcount width must be a power of two and may not exceed 64 bits");
	if (bits)
		a->refcount_bits = (int)bits;
	a->data_file = o->v[IMG_DATA_FILE];
	if (a->data_file && !*a->data_file)
		return err_set(e, ERR_USAGE, "data_file needs a name");
	return 0;
}

/* An image's backing file is changed by rebase alone: here both may only be repeated. */
static int check_backing(const struct img_opts *o, const struct qcow2 *q, const char *path, struct err *e)
{
	struct qcow2_info i;
	const char *file = o->v[IMG_BACKING_FILE], *fmt = o->v[IMG_BACKING_FMT];

	qcow2_get_info(q, &i);
	if ((!file && !fmt) || (str_eq(file, i.backing) && str_eq(fmt, i.backing_fmt)))
		return 0;
	err_set(e, ERR_USAGE, "cannot amend the backing file");
	return err_hint(e, "fermata img rebase -u -b %s -F %s %s", file ? file : i.backing ? i.backing : "FILE",
		fmt ? fmt : i.backing_fmt ? i.backing_fmt : "FMT", path);
}

static int new_size(const struct image *img, const struct img_opts *o, uint64_t *size, struct err *e)
{
	*size = img->size;
	if (!o->v[IMG_SIZE])
		return 0;
	if (img_size(o->v[IMG_SIZE], size, e) < 0)
		return e->code;
	if (*size >= img->size)
		return 0;
	err_set(e, ERR_USAGE, "%s: amend does not make a disk smaller", img->path);
	return err_hint(e, "fermata img resize --shrink %s %" PRIu64, img->path, *size);
}

/*
 * The new size before the rest, but for version 3, which it may need. What cannot be done whole is taken back: nothing
 * is where the disk has grown, and nothing else has been changed yet.
 */
static int carry_out(struct image *img, const struct qcow2_amend *a, uint64_t size, struct err *e)
{
	struct qcow2_amend version = QCOW2_AMEND_NOTHING;
	uint64_t old = img->size;
	struct qcow2_info i;
	struct err also;
	bool up;

	qcow2_get_info(img->q, &i);
	up = size != old && a->version == 3 && i.version == 2;
	version.version = 3;
	if (up && qcow2_amend(img->q, &version, e) < 0)
		return e->code;
	if (size == old || img_resize(img, size, false, QCOW2_PREALLOC_OFF, e) == 0) {
		if (qcow2_amend(img->q, a, e) == 0)
			return 0;
		if (size != old && img_resize(img, old, true, QCOW2_PREALLOC_OFF, &also) < 0)
			err_also(e, "and the disk stays larger: %s", also.msg);
	}
	version.version = 2;
	if (up && qcow2_amend(img->q, &version, &also) < 0)
		err_also(e, "and it stays version 3: %s", also.msg);
	return e->code;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_opts struct img_opts o = { 0 };
	auto_name struct image_name *name = NULL;
	auto_image struct image *img = NULL;
	struct qcow2_amend a = QCOW2_AMEND_NOTHING;
	uint64_t size;
	int rc;

	if (!settings.n)
		return err_set(e, ERR_USAGE, "must specify options (-o)");
	if (img_opts_parse(&settings, IMG_KEYS_AMEND, &o, e) < 0)
		return e->code;
	if (img_opts_told(&o, "Amend options for 'qcow2':", IMG_KEYS_AMEND))
		return 0;
	if (!argc)
		return err_set(e, ERR_USAGE, "expecting one image file name");
	if (img_name(argv[0], format, &name, e) < 0 || read_changes(&o, &a, e) < 0 || img_open_rw(name, false, &img, e) < 0 ||
		check_backing(&o, img->q, name->path, e) < 0 || new_size(img, &o, &size, e) < 0)
		return e->code;
	img_progress_begin(progressing && !quiet);
	rc = carry_out(img, &a, size, e);
	if (rc >= 0)
		img_progress(1, 1);
	img_progress_end();
	return rc;
}

const struct cmd cmd_img_amend = { "amend", "-o KEY=VALUE,... FILE", NULL, "change what an image was made with", NULL, opts, 0, 1,
	run };
