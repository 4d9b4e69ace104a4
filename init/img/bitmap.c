/* img bitmap */
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"

static const char *format, *source, *source_fmt, *granularity;
static struct cmd_list acts; /* in the order given: a switch by its address in @opts, else what to merge */
static const struct opt opts[] = {
	{ 0, "add", NULL, "make the bitmap", OPT_LIST(&acts) },
	{ 0, "remove", NULL, "delete it", OPT_LIST(&acts) },
	{ 0, "clear", NULL, "make all of it clean", OPT_LIST(&acts) },
	{ 0, "enable", NULL, "let it note writes", OPT_LIST(&acts) },
	{ 0, "disable", NULL, "let it note no more", OPT_LIST(&acts) },
	{ 0, "merge", "BITMAP", "take another one's bits too", OPT_LIST(&acts) },
	{ 'g', "granularity", "SIZE", "bytes for each bit, with --add", OPT_STR(&granularity) },
	{ 'b', "source-file", "FILE", "the image that holds the other one, with --merge", OPT_STR(&source) },
	{ 'F', "source-format", "FMT", "that image's format", OPT_STR(&source_fmt) },
	OPT_FORMAT(format),
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};
enum { ADD, REMOVE, CLEAR, ENABLE, DISABLE, MERGE };

static unsigned act_of(size_t i)
{
	unsigned a = ADD;

	while (a < MERGE && acts.v[i] != opts[a].name)
		a++;
	return a;
}

static bool has_act(unsigned want)
{
	for (size_t i = 0; i < acts.n; i++)
		if (act_of(i) == want)
			return true;
	return false;
}

static int check_usage(int argc, uint64_t *gran, struct err *e)
{
	*gran = 0;
	if (!acts.n)
		return err_set(e, ERR_USAGE, "need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
	if (argc != 2)
		return err_set(e, ERR_USAGE, "expecting filename and bitmap name");
	if (granularity && !has_act(ADD))
		return err_set(e, ERR_USAGE, "granularity only supported with --add");
	if (source && !has_act(MERGE))
		return err_set(e, ERR_USAGE, "merge bitmap source file only supported with --merge");
	if (source_fmt && !source)
		return err_set(e, ERR_USAGE, "-F only supported with -b");
	if (granularity && img_size(granularity, gran, e) < 0)
		return e->code;
	if (*gran && (*gran < 512 || *gran & (*gran - 1)))
		return err_set(e, ERR_USAGE, "granularity must be power of 2 and at least 512");
	return 0;
}

static int merge(struct qcow2 *q, const char *name, const char *from, struct err *e)
{
	auto_image struct image *src = NULL;
	auto_name struct image_name *n = NULL;

	if (source && (img_name_as(source, source_fmt, false, &n, e) < 0 || img_open(n, 0, &src, e) < 0))
		return e->code;
	if (src && !src->q)
		return err_set(e, -EOPNOTSUPP, "%s: raw images have no bitmaps", source);
	return qcow2_bitmap_merge(q, name, src ? src->q : q, from, e);
}

static int do_act(struct qcow2 *q, const char *name, size_t i, uint64_t gran, struct err *e)
{
	switch (act_of(i)) {
	case ADD:
		return qcow2_bitmap_add(q, name, gran, false, e);
	case REMOVE:
		return qcow2_bitmap_remove(q, name, e);
	case CLEAR:
		return qcow2_bitmap_clear(q, name, e);
	case ENABLE:
	case DISABLE:
		return qcow2_bitmap_enable(q, name, act_of(i) == ENABLE, e);
	default:
		return merge(q, name, acts.v[i], e);
	}
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *img = NULL;
	auto_name struct image_name *name = NULL;
	uint64_t gran;

	if (check_usage(argc, &gran, e) < 0 || img_name(argv[0], format, &name, e) < 0 || img_open_rw(name, false, &img, e) < 0)
		return e->code;
	for (size_t i = 0; i < acts.n; i++)
		if (do_act(img->q, argv[1], i, gran, e) < 0)
			return err_at(e, "operation %s on bitmap %s failed", opts[act_of(i)].name, argv[1]);
	return 0;
}

const struct cmd cmd_img_bitmap = { "bitmap", "--ACTION... [-g SIZE] [-b FILE -F FMT] FILE BITMAP", NULL,
	"change a dirty bitmap of an image", "The actions are done in the order given.\n", opts, 0, 2, run };
