/* img info */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "init/img/img.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

static const char *output, *format;
static bool chain, share;
static const struct opt opts[] = {
	OPT_FORMAT(format),
	OPT_OUTPUT(output),
	{ 0, "backing-chain", NULL, "its backing files too", OPT_FLAG(&chain) },
	OPT_SHARE(share),
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

/* One set of facts for both outputs: JSON when @w is there, else lines. */
static void put_fact(struct json_out *w, const char *key, const char *value, bool quoted)
{
	if (w && quoted) {
		json_put_str(w, key, value);
	} else if (w) {
		json_put_raw(w, key, value);
	} else {
		fputs("    ", stdout);
		for (; *key; key++)
			putchar(*key == '-' ? ' ' : *key);
		printf(": %s\n", cmd_shown(value));
	}
}

static void put_bool(struct json_out *w, const char *key, bool v)
{
	put_fact(w, key, v ? "true" : "false", false);
}

static void put_flag(struct json_out *w, const char *flag, unsigned *n)
{
	if (w)
		json_put_str(w, NULL, flag);
	else
		printf("                [%u]: %s\n", *n, flag);
	++*n;
}

static void put_bitmap(struct json_out *w, const struct qcow2_bitmap *b, unsigned i)
{
	unsigned n = 0;

	if (w) {
		json_obj(w, NULL);
		json_arr(w, "flags");
	} else {
		printf("        [%u]:\n            flags:\n", i);
	}
	if (b->flags & QCOW2_BITMAP_IN_USE)
		put_flag(w, "in-use", &n);
	if (b->flags & QCOW2_BITMAP_AUTO)
		put_flag(w, "auto", &n);
	if (w) {
		json_arr_end(w);
		json_put_str(w, "name", b->name);
		json_put_uint(w, "granularity", b->granularity);
		json_obj_end(w);
	} else {
		printf("            name: %s\n            granularity: %" PRIu64 "\n", cmd_shown(b->name), b->granularity);
	}
}

static int put_bitmaps(struct json_out *w, struct qcow2 *q, struct err *e)
{
	const struct qcow2_bitmap *b;
	unsigned n;

	if (qcow2_bitmaps(q, &b, &n, e) < 0)
		return e->code;
	if (!n)
		return 0;
	if (w)
		json_arr(w, "bitmaps");
	else
		puts("    bitmaps:");
	for (unsigned i = 0; i < n; i++)
		put_bitmap(w, &b[i], i);
	if (w)
		json_arr_end(w);
	return 0;
}

static void put_encryption(struct json_out *w, const struct qcow2_info *i)
{
	const char *how = i->crypt == 1 ? "aes" : "luks";

	if (w) {
		json_obj(w, "encrypt");
		json_put_str(w, "format", how);
		json_obj_end(w);
	} else {
		printf("    encrypt:\n        format: %s\n", how);
	}
}

/* "Format specific information". The order of all keys is what qemu-img's hash table makes of them. */
static int put_specific(struct json_out *w, struct qcow2 *q, const struct qcow2_info *i, struct err *e)
{
	char bits[16];

	snprintf(bits, sizeof bits, "%u", i->refcount_bits);
	put_fact(w, "compat", i->version == 2 ? "0.10" : "1.1", true);
	put_fact(w, "compression-type", i->compression ? "zstd" : "zlib", true);
	if (i->version == 3)
		put_bool(w, "lazy-refcounts", i->compat & QCOW2_COMPAT_LAZY);
	if (i->version == 3 && put_bitmaps(w, q, e) < 0)
		return e->code;
	put_fact(w, "refcount-bits", bits, false);
	if (i->data_file)
		put_fact(w, "data-file", i->data_file, true);
	if (i->crypt)
		put_encryption(w, i);
	if (i->data_file)
		put_bool(w, "data-file-raw", i->autoclear & QCOW2_AUTOCLEAR_DATA_RAW);
	if (i->version == 3) {
		put_bool(w, "corrupt", i->incompat & QCOW2_INCOMPAT_CORRUPT);
		put_bool(w, "extended-l2", i->incompat & QCOW2_INCOMPAT_EXT_L2);
	}
	return 0;
}

static uint64_t disk_usage(const struct image *img)
{
	uint64_t bytes;

	return file_measure(img->path, NULL, &bytes) ? bytes : 0;
}

static int print_human(const struct image *img, const struct qcow2_info *i, struct err *e)
{
	char size[TEXT_SIZE_MAX], used[TEXT_SIZE_MAX];
	auto_free char *full = NULL;

	text_fmt_size(img->size, size);
	text_fmt_size(disk_usage(img), used);
	printf("image: %s\nfile format: %s\n", cmd_shown(img->path), img->format);
	if (!img->foreign) /* the disk's size is in the metadata that nothing here reads */
		printf("virtual size: %s (%" PRIu64 " bytes)\n", size, img->size);
	printf("disk size: %s\n", used);
	if (!img->q)
		return 0;
	if (i->crypt)
		puts("encrypted: yes");
	printf("cluster_size: %u\n", 1u << i->cluster_bits);
	if (i->incompat & QCOW2_INCOMPAT_DIRTY)
		puts("cleanly shut down: no");
	if (i->backing) {
		full = image_backing_path(img->path, i->backing);
		if (!full)
			return err_nomem(e, "print a backing file's name");
		printf("backing file: %s", cmd_shown(i->backing));
		if (strcmp(full, i->backing))
			printf(" (actual path: %s)", cmd_shown(full));
		putchar('\n');
		if (i->backing_fmt)
			printf("backing file format: %s\n", cmd_shown(i->backing_fmt));
	}
	img_print_snaps(img->q);
	puts("Format specific information:");
	return put_specific(NULL, img->q, i, e);
}

static void put_snaps(struct json_out *w, const struct qcow2 *q)
{
	unsigned n;
	const struct qcow2_snap *s = qcow2_snaps(q, &n);

	if (!n)
		return;
	json_arr(w, "snapshots");
	for (; n; n--, s++) {
		json_obj(w, NULL);
		if (s->icount != QCOW2_NO_ICOUNT)
			json_put_int(w, "icount", (int64_t)s->icount);
		json_put_uint(w, "vm-clock-nsec", s->vm_clock_ns % 1000000000);
		json_put_str(w, "name", s->name);
		json_put_uint(w, "date-sec", s->date_s);
		json_put_uint(w, "date-nsec", s->date_ns);
		json_put_uint(w, "vm-clock-sec", s->vm_clock_ns / 1000000000);
		json_put_str(w, "id", s->id);
		json_put_uint(w, "vm-state-size", s->vm_state_size);
		json_obj_end(w);
	}
	json_arr_end(w);
}

static int put_json(struct json_out *w, const struct image *img, const struct qcow2_info *i, struct err *e)
{
	auto_free char *full = img->q && i->backing ? image_backing_path(img->path, i->backing) : NULL;

	json_obj(w, NULL);
	if (img->q && i->backing && i->backing_fmt)
		json_put_str(w, "backing-filename-format", i->backing_fmt);
	if (img->q)
		put_snaps(w, img->q);
	if (!img->foreign)
		json_put_uint(w, "virtual-size", img->size);
	json_put_str(w, "filename", img->path);
	if (img->q)
		json_put_uint(w, "cluster-size", 1u << i->cluster_bits);
	json_put_str(w, "format", img->format);
	json_put_uint(w, "actual-size", disk_usage(img));
	if (img->q) {
		json_obj(w, "format-specific");
		json_put_str(w, "type", "qcow2");
		json_obj(w, "data");
		if (put_specific(w, img->q, i, e) < 0)
			return e->code;
		json_obj_end(w);
		json_obj_end(w);
	}
	if (full)
		json_put_str(w, "full-backing-filename", full);
	if (img->q && i->crypt)
		json_put_bool(w, "encrypted", true);
	if (full)
		json_put_str(w, "backing-filename", i->backing);
	json_put_bool(w, "dirty-flag", img->q && (i->incompat & QCOW2_INCOMPAT_DIRTY));
	json_obj_end(w);
	return 0;
}

/* Each as the one above records it, whatever the name says: as qemu-img. */
static int open_images(const struct image_name *n, struct image **top, struct err *e)
{
	unsigned flags = QCOW2_FOREIGN | (share ? QCOW2_SHARE : 0);
	struct image *next;

	if (img_open(n, flags, top, e) < 0)
		return e->code;
	for (struct image *img = *top; chain && img; img = next) {
		if (image_open_backing(img, flags | QCOW2_NAMES, &next, e) < 0)
			return e->code;
		if (next && image_check_loop(*top, next, e) < 0) {
			image_close(next);
			return e->code;
		}
		img->backing = next;
	}
	return 0;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *top = NULL;
	auto_name struct image_name *name = NULL;
	auto_buf struct buf b = { 0 };
	struct qcow2_info info = { 0 };
	struct json_out w;
	bool json;

	(void)argc;
	if (cmd_output_json(output, &json, e) < 0 || img_name(argv[0], format, &name, e) < 0 || open_images(name, &top, e) < 0)
		return e->code;
	json_out_init(&w, &b, true);
	if (json && chain)
		json_arr(&w, NULL);
	for (const struct image *img = top; img; img = img->backing) {
		if (img->q)
			qcow2_get_info(img->q, &info);
		if (!json && img != top)
			putchar('\n');
		if ((json ? put_json(&w, img, &info, e) : print_human(img, &info, e)) < 0)
			return e->code;
	}
	if (json && chain)
		json_arr_end(&w);
	return json ? img_print_json(&b, e) : 0;
}

const struct cmd cmd_img_info = { "info", "FILE", NULL, "what an image is", NULL, opts, 1, 1, run };
