/* img check */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/json.h"
#include "lib/text.h"

enum { CHECK_FAILED = 1, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_UNSUPPORTED = 63 };

static const char *format, *output, *repair, *cache;
static bool share, quiet;
static const struct opt opts[] = {
	OPT_FORMAT(format),
	{ 'r', "repair", "leaks|all", "repair leaks, or corruption too", OPT_STR(&repair) },
	OPT_OUTPUT(output),
	OPT_SHARE(share),
	OPT_QUIET(quiet),
	{ 'T', "cache", "MODE", "taken, and means nothing here", OPT_STR(&cache) },
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

/* Findings go to stderr one by one, as with qemu-img: there may be more of them than memory. */
static void finding(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "%s\n", line);
}

static void print_human(const struct qcow2_check *c)
{
	char of[3][TEXT_SIZE_MAX];

	if (!c->corruptions && !c->leaks && !c->check_errors)
		puts("No errors were found on the image.");
	if (c->corruptions)
		printf("\n%" PRIu64 " errors were found on the image.\n"
		       "Data may be corrupted, or further writes to the image may corrupt it.\n", c->corruptions);
	if (c->leaks)
		printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
		       "This means waste of disk space, but no harm to data.\n", c->leaks);
	if (c->check_errors)
		printf("\n%" PRIu64 " internal errors have occurred during the check.\n", c->check_errors);
	if (c->total_clusters && c->allocated)
		printf("%" PRIu64 "/%" PRIu64 " = %s%% allocated, %s%% fragmented, %s%% compressed clusters\n", c->allocated,
			c->total_clusters, text_percent(c->allocated, c->total_clusters, of[0]),
			text_percent(c->fragmented, c->allocated, of[1]), text_percent(c->compressed, c->allocated, of[2]));
	if (c->image_end)
		printf("Image end offset: %" PRIu64 "\n", c->image_end);
}

static void put_some(struct json_out *w, const char *key, uint64_t v)
{
	if (v)
		json_put_uint(w, key, v);
}

static int print_json(const char *path, const struct qcow2_check *c, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct json_out w;

	json_out_init(&w, &b, true);
	json_obj(&w, NULL);
	put_some(&w, "image-end-offset", c->image_end);
	put_some(&w, "compressed-clusters", c->compressed);
	put_some(&w, "total-clusters", c->total_clusters);
	put_some(&w, "corruptions", c->corruptions);
	put_some(&w, "corruptions-fixed", c->corruptions_fixed);
	json_put_uint(&w, "check-errors", c->check_errors);
	put_some(&w, "leaks", c->leaks);
	put_some(&w, "leaks-fixed", c->leaks_fixed);
	put_some(&w, "allocated-clusters", c->allocated);
	json_put_str(&w, "filename", path);
	json_put_str(&w, "format", "qcow2");
	put_some(&w, "fragmented-clusters", c->fragmented);
	json_obj_end(&w);
	return img_print_json(&b, e);
}

/* What was repaired is counted once; what is left is what a second check finds. */
static int check(struct qcow2 *q, unsigned fix, bool json, struct qcow2_check *c, struct err *e)
{
	uint64_t leaks, corruptions;

	if (qcow2_check(q, fix, finding, NULL, c, e) < 0)
		return err_at(e, "check failed");
	leaks = c->leaks_fixed;
	corruptions = c->corruptions_fixed;
	if (!leaks && !corruptions)
		return 0;
	if (!json && !quiet)
		printf("The following inconsistencies were found and repaired:\n\n    %" PRIu64 " leaked clusters\n    %" PRIu64
		       " corruptions\n\nDouble checking the fixed image now...\n", leaks, corruptions);
	if (qcow2_check(q, 0, finding, NULL, c, e) < 0)
		return err_at(e, "check failed");
	c->leaks_fixed = leaks;
	c->corruptions_fixed = corruptions;
	return 0;
}

static int open_it(const struct image_name *n, bool write, struct image **img, struct err *e)
{
	if ((write && img_unsaved(n->path, e) < 0) || img_open(n, QCOW2_CHECK | (write ? QCOW2_RW : 0) | (share ? QCOW2_SHARE : 0), img, e) < 0)
		return e->code;
	return (*img)->q ? 0 : err_set(e, ERR_EXIT(CHECK_UNSUPPORTED), "this image format does not support checks");
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *img = NULL;
	auto_name struct image_name *name = NULL;
	struct qcow2_check c = { 0 };
	unsigned fix = 0;
	bool json;

	(void)argc;
	if (repair)
		fix = !strcmp(repair, "leaks") ? QCOW2_FIX_LEAKS :
			!strcmp(repair, "all") ? QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS : 0;
	if (repair && !fix)
		return err_set(e, ERR_USAGE, "unknown option value for -r (expecting 'leaks' or 'all'): %s", repair);
	if (fix && share)
		return err_set(e, ERR_USAGE, "-U does not go with -r: an image in use is not changed");
	if (cmd_output_json(output, &json, e) < 0 || img_name(argv[0], format, &name, e) < 0 || open_it(name, fix, &img, e) < 0 || check(img->q, fix, json, &c, e) < 0)
		return e->code;
	if (json && print_json(argv[0], &c, e) < 0)
		return e->code;
	if (!json && !quiet)
		print_human(&c);
	if (c.check_errors)
		return err_set(e, ERR_EXIT(CHECK_FAILED), "check failed");
	return c.corruptions ? CHECK_CORRUPT : c.leaks ? CHECK_LEAKS : 0;
}

const struct cmd cmd_img_check = { "check", "[-r leaks|all] FILE", NULL, "is an image whole",
	"Exit status: 0 it is, 1 could not tell, 2 corrupt, 3 only leaked space, 63 not for this format.\n", opts, 1, 1, run };
