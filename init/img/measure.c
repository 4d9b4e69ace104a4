/* img measure */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/own.h"

static const char *format, *out_format = "raw", *output, *size, *snapshot;
static struct cmd_list settings;
static bool share;
static const struct opt opts[] = {
	{ 'O', "target-format", "FMT", "qcow2 or raw (default): what would be made", OPT_STR(&out_format) },
	{ 'o', "options", "KEY=VALUE,...", "how it would be made", OPT_LIST(&settings) },
	{ 's', "size", "SIZE", "of a new image", OPT_STR(&size) },
	{ 'l', "snapshot", "SNAPSHOT", "measure this internal snapshot of FILE", OPT_STR(&snapshot) },
	OPT_FORMAT(format),
	OPT_OUTPUT(output),
	OPT_SHARE(share),
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

struct result {
	uint64_t required, full, bitmaps;
	bool has_bitmaps;
};

static uint64_t round_up(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) / unit * unit;
}

/* Bytes of the target's clusters that hold data of the source. */
static int count_data(struct image *img, int snap, uint64_t len, uint64_t cluster, uint64_t *data, struct err *e)
{
	struct image_run run;

	*data = 0;
	for (uint64_t at = 0; at < len; at += run.len) {
		if (image_map(img, snap, at, len - at, &run, e) < 0)
			return e->code;
		if (run.zero || !run.data)
			continue;
		run.len = round_up(at + run.len, cluster) - at;
		*data += at % cluster + run.len;
	}
	return 0;
}

/* Every usable bitmap with all its clusters, its table and its directory entry. */
static int count_bitmaps(struct image *img, uint64_t cluster, uint64_t *bytes, struct err *e)
{
	const struct qcow2_bitmap *b;
	uint64_t dir = 0;
	unsigned n;

	*bytes = 0;
	if (qcow2_bitmaps(img->q, &b, &n, e) < 0)
		return e->code;
	for (; n; n--, b++) {
		uint64_t bits = (img->size + b->granularity - 1) / b->granularity, clusters = ((bits + 7) / 8 + cluster - 1) / cluster;

		if (b->flags & QCOW2_BITMAP_IN_USE)
			continue;
		*bytes += clusters * cluster + round_up(clusters * 8, cluster);
		dir += round_up(24 + b->name_len, 8);
	}
	*bytes += round_up(dir, cluster);
	return 0;
}

static int measure(struct image *img, int snap, uint64_t len, const struct qcow2_create *c, struct result *r, struct err *e)
{
	uint64_t cluster = 1ull << c->cluster_bits, data = 0;
	struct qcow2_create shape;

	/*
	 * As qemu-img counts, whatever else the options say: a data file is not looked at, and version 2 is no obstacle. But where
	 * only metadata is preallocated the file is as long as with all of it, and qemu-img's number is too small for what it makes.
	 */
	shape = (struct qcow2_create){ .size = round_up(len, cluster), .cluster_bits = c->cluster_bits, .refcount_bits = c->refcount_bits,
		.ext_l2 = c->ext_l2 };
	if (qcow2_full_size(&shape, &r->full, e) < 0)
		return e->code;
	if (img && !c->backing && count_data(img, snap, len, cluster, &data, e) < 0)
		return e->code;
	if ((img && c->backing) || c->prealloc != QCOW2_PREALLOC_OFF)
		data = shape.size;
	r->required = r->full - shape.size + data;
	if (img && img->q) {
		struct qcow2_info i;

		qcow2_get_info(img->q, &i);
		r->has_bitmaps = c->version == 3 && i.version == 3;
	}
	return r->has_bitmaps ? count_bitmaps(img, cluster, &r->bitmaps, e) : 0;
}

static int print(const struct result *r, bool json, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct json_out w;

	if (!json) {
		printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", r->required, r->full);
		if (r->has_bitmaps)
			printf("bitmaps size: %" PRIu64 "\n", r->bitmaps);
		return 0;
	}
	json_out_init(&w, &b, true);
	json_obj(&w, NULL);
	if (r->has_bitmaps)
		json_put_uint(&w, "bitmaps", r->bitmaps);
	json_put_uint(&w, "required", r->required);
	json_put_uint(&w, "fully-allocated", r->full);
	json_obj_end(&w);
	return img_print_json(&b, e);
}

static int run(int argc, char **argv, struct err *e)
{
	auto_opts struct img_opts o = { 0 };
	auto_image struct image *img = NULL;
	auto_name struct image_name *name = NULL;
	bool raw = !strcmp(out_format, "raw"), json;
	struct qcow2_create c;
	struct result r = { 0 };
	uint64_t len = 0;
	int snap = -1;

	if (cmd_output_json(output, &json, e) < 0)
		return e->code;
	if (!raw && strcmp(out_format, "qcow2"))
		return err_set(e, ERR_USAGE, "unknown file format '%s': qcow2 and raw are known", out_format);
	if (argc && size)
		return err_set(e, ERR_USAGE, "--size N cannot be used together with a filename");
	if (!argc && (format || snapshot || img_naming.options))
		return err_set(e, ERR_USAGE, "--image-opts, -f and -l require a filename argument");
	if (!argc && !size)
		return err_set(e, ERR_USAGE, "either --size N or one filename must be specified");
	if (img_opts_parse(&settings, raw ? IMG_KEYS_RAW : IMG_KEYS_QCOW2, &o, e) < 0)
		return e->code;
	if (img_opts_told(&o, "Supported options:", raw ? IMG_KEYS_RAW : IMG_KEYS_QCOW2))
		return 0;
	if (img_opts_create(&o, &c, e) < 0 || (size && img_size(size, &len, e) < 0))
		return e->code;
	if (!argc && img_no_object(e) < 0)
		return e->code;
	if (argc && (img_name(argv[0], format, &name, e) < 0 || img_open_chain(name, share ? QCOW2_SHARE : 0, &img, e) < 0 ||
			img_snap_find(img, snapshot, &snap, &len, e) < 0))
		return e->code;
	if (raw)
		r.required = r.full = round_up(len, 512);
	else if (measure(img, snap, len, &c, &r, e) < 0)
		return e->code;
	return print(&r, json, e);
}

const struct cmd cmd_img_measure = { "measure", "[-O FMT] --size SIZE | FILE", NULL, "how large an image file would be", NULL, opts, 0,
	1, run };
