/* img rebase */
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/own.h"

static const char *format, *backing, *backing_fmt, *cache, *source_cache;
static bool unsafe, share, quiet, progressing;
static const struct opt opts[] = {
	{ 'u', "unsafe", NULL, "only record the name: the content is the same, you say", OPT_FLAG(&unsafe) },
	{ 'b', "backing", "FILE", "the new backing file; \"\": none", OPT_STR(&backing) },
	{ 'F', "backing-format", "FMT", "its format", OPT_STR(&backing_fmt) },
	OPT_FORMAT(format),
	{ 'U', "force-share", NULL, "taken: an image in use is not changed all the same", OPT_FLAG(&share) },
	OPT_QUIET(quiet),
	OPT_BAR(progressing),
	OPT_CACHE(cache),
	{ 'T', "source-cache", "MODE", "taken, and means nothing here", OPT_STR(&source_cache) },
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

static int record(const struct image_name *n, const char *to, struct err *e)
{
	auto_image struct image *img = NULL;
	auto_free char *file = to ? image_backing_path(n->path, to) : NULL;

	/* QEMU takes this, and never comes to an end when it opens the chain. */
	if (file && !strcmp(file, n->path))
		return err_set(e, ERR_USAGE, "%s: the image would be its own backing file", n->path);
	if (img_open_rw(n, false, &img, e) < 0)
		return e->code;
	img_progress_begin(progressing && !quiet);
	if (qcow2_set_backing(img->q, to, to ? backing_fmt : NULL, e) < 0)
		return err_at(e, "could not change the backing file to '%s'", to ? to : "");
	img_progress(1, 1);
	img_progress_end();
	return 0;
}

/* Both chains have to be there, to copy what differs. */
static int copy(const struct image_name *n, const char *to, struct err *e)
{
	auto_image struct image *img = NULL, *below = NULL;
	auto_name struct image_name *base = NULL;
	struct chain_job job = img_job(progressing && !quiet);

	if (img_unsaved(n->path, e) < 0 || img_open_to_change(n, &img, e) < 0)
		return e->code;
	if (to && (img_name_below(n->path, to, backing_fmt, &base, e) < 0 || img_open_chain(base, 0, &below, e) < 0))
		return e->code;
	if (image_reopen_rw(img, e) < 0 || chain_rebase(img, below, to, to ? backing_fmt : NULL, &job, e) < 0)
		return e->code;
	img_progress_end();
	return 0;
}

/* A format, or a driver, that an image may record for its backing file, whoever reads that. */
static bool is_named(const char *fmt)
{
	static const char *const names[] = { "qcow2", "raw", "file", "host_device", "bochs", "cloop", "dmg", "luks", "parallels", "qcow", "qed",
		"vdi", "vhdx", "vmdk", "vpc", "vvfat", "nbd", "nvme", "null-aio", "null-co", "host_cdrom" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!strcmp(fmt, names[i]))
			return true;
	return false;
}

static int run(int argc, char **argv, struct err *e)
{
	const char *to = backing && *backing ? backing : NULL;
	auto_name struct image_name *name = NULL;

	(void)argc;
	if (backing_fmt && !(unsafe ? is_named(backing_fmt) : !strcmp(backing_fmt, "qcow2") || !strcmp(backing_fmt, "raw")))
		return err_set(e, ERR_USAGE, "invalid format name '%s': qcow2 and raw are known%s", backing_fmt, unsafe ? ", and some that only QEMU reads" : "");
	/* Nothing given is not the empty name, which copies the whole chain into the image. */
	if (!backing && !unsafe)
		return err_set(e, ERR_USAGE, "must specify backing file (-b) or use unsafe mode (-u)");
	if (to && !backing_fmt)
		return err_set(e, ERR_USAGE, "could not change the backing file to '%s': backing format must be specified (-F)", to);
	if (img_name(argv[0], format, &name, e) < 0)
		return e->code;
	return unsafe ? record(name, to, e) : copy(name, to, e);
}

const struct cmd cmd_img_rebase = { "rebase", "[-u] -b FILE [-F FMT] FILE", NULL, "give an image another backing file", NULL, opts,
	1, 1, run };
