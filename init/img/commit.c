/* img commit */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "init/img/img.h"
#include "lib/file.h"
#include "lib/own.h"

static const char *format, *base_name, *cache, *rate;
static bool keep, quiet, progressing;
static const struct opt opts[] = {
	OPT_FORMAT(format),
	{ 'b', "base", "FILE", "commit down to this one of the backing files; implies -d", OPT_STR(&base_name) },
	{ 'd', "keep", NULL, "do not empty the image afterwards", OPT_FLAG(&keep) },
	OPT_QUIET(quiet),
	OPT_BAR(progressing),
	OPT_CACHE(cache),
	OPT_NODE,
	OPT_OBJECT,
	{ 'r', "rate-limit", "RATE", "taken, and means nothing here", OPT_STR(&rate) },
	{ 0 }
};

static bool is_recorded(const struct image *above, const char *name)
{
	auto_free char *path = image_backing_path(above->path, name);

	return path && (!strcmp(path, above->backing->path) || same_file(path, above->backing->path));
}

/* The image below @top that @name means: as the one above it names it, from its folder; then the same file. */
static struct image *find(struct image *top, const char *name)
{
	struct stat want, st;
	bool there = !stat(name, &want);

	for (struct image *i = top; i->backing; i = i->backing)
		if (is_recorded(i, name))
			return i->backing;
	for (struct image *i = top->backing; i; i = i->backing)
		if (!strcmp(i->path, name) || (there && !fstat(dev_fd(i->dev), &st) && st.st_dev == want.st_dev && st.st_ino == want.st_ino))
			return i;
	return NULL;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *top = NULL;
	auto_name struct image_name *name = NULL;
	struct chain_job job = img_job(progressing && !quiet);
	struct image *base;

	(void)argc;
	if (img_name(argv[0], format, &name, e) < 0 || img_open_to_change(name, &top, e) < 0)
		return e->code;
	base = base_name ? find(top, base_name) : top->backing;
	if (!base)
		return base_name ? err_set(e, -ENOENT, "did not find '%s' in the backing chain of '%s'", base_name, top->path)
				 : err_set(e, -EINVAL, "%s: the image has no backing file", top->path);
	if (img_unsaved(base->path, e) < 0 || (!keep && !base_name && img_unsaved(top->path, e) < 0) || image_reopen_rw(base, e) < 0 || chain_commit(top, base, &job, e) < 0)
		return e->code;
	/* Only after the base has it all. */
	if (!keep && !base_name && (image_reopen_rw(top, e) < 0 || qcow2_make_empty(top->q, e) < 0))
		return err_at(e, "%s is committed, but not emptied", top->path);
	img_progress_end();
	if (!quiet)
		puts("Image committed.");
	return 0;
}

const struct cmd cmd_img_commit = { "commit", "[-d] [-b BASE] FILE", NULL, "write an image into its backing file", NULL, opts, 1, 1,
	run };
