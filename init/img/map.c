/* img map */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"

static const char *format, *output, *start, *length;
static bool share;
static const struct opt opts[] = {
	{ 's', "start-offset", "SIZE", "where on the disk to begin", OPT_STR(&start) },
	{ 'l', "max-length", "SIZE", "how much of it to show", OPT_STR(&length) },
	OPT_FORMAT(format),
	OPT_OUTPUT(output),
	OPT_SHARE(share),
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

static bool shows(const struct image_run *r)
{
	return r->data && !r->zero;
}

/* Neighbours that print as one line: for people, everything that is not data is the same. */
static bool joins(const struct image_run *a, const struct image_run *b, bool json)
{
	if (!json && (!shows(a) || !shows(b)))
		return !shows(a) && !shows(b);
	return a->zero == b->zero && a->data == b->data && a->present == b->present && a->depth == b->depth &&
	       a->has_hoff == b->has_hoff && (!a->has_hoff || a->hoff + a->len == b->hoff);
}

static const char *yes(bool v)
{
	return v ? "true" : "false";
}

static int put(const struct image_run *r, bool json, bool last, struct err *e)
{
	if (!json && r->data && !r->has_hoff)
		return err_set(e, -EOPNOTSUPP, "file contains external, encrypted or compressed clusters");
	if (json) {
		printf("{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
			r->goff, r->len, r->depth, yes(r->present), yes(r->zero), yes(r->data));
		if (r->has_hoff)
			printf(", \"offset\": %" PRIu64, r->hoff);
		puts(last ? "}]" : "},");
	} else if (shows(r)) {
		printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", r->goff, r->len, r->hoff, r->at->data->name);
	}
	return 0;
}

static int map(struct image *img, uint64_t at, uint64_t end, bool json, struct err *e)
{
	struct image_run now = { 0 }, next;

	for (; at < end; at += next.len) {
		if (image_map(img, -1, at, end - at, &next, e) < 0)
			return e->code;
		if (now.len && joins(&now, &next, json)) {
			now.len += next.len;
			continue;
		}
		if (now.len && put(&now, json, false, e) < 0)
			return e->code;
		now = next;
	}
	/* Nothing at all is an entry without length. */
	if (!now.len)
		now.goff = at;
	return put(&now, json, true, e);
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *img = NULL;
	auto_name struct image_name *name = NULL;
	uint64_t from = 0, len = UINT64_MAX, end;
	bool json;

	(void)argc;
	if (cmd_output_json(output, &json, e) < 0 || (start && img_size(start, &from, e) < 0) ||
		(length && img_size(length, &len, e) < 0) ||
		img_name(argv[0], format, &name, e) < 0 || img_open_chain(name, share ? QCOW2_SHARE : 0, &img, e) < 0)
		return e->code;
	end = __builtin_add_overflow(from, len, &end) || end > img->size ? img->size : end;
	if (json)
		putchar('[');
	else
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	return map(img, from, end, json, e);
}

const struct cmd cmd_img_map = { "map", "FILE", NULL, "where an image and its backing files hold the disk", NULL, opts, 1, 1, run };
