/* img convert */
#include <stdio.h>
#include <string.h>

#include "init/img/img.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/fill.h"
#include "qcow2/image/copy.h"

#define MAX_SOURCES 64
#define MAX_SPARSE  16777216

static const char *format, *out_format, *snapshot, *sparse, *cache, *source_cache, *parallel, *base, *base_fmt, *rate;
static struct cmd_list settings;
static bool share, quiet, progressing, unordered, compress, no_create, offload, target_options, is_zero, salvage, bitmaps, skip_broken;
static const struct opt opts[] = {
	OPT_FORMAT(format),
	{ 'O', "target-format", "FMT", "qcow2 or raw (default)", OPT_STR(&out_format) },
	{ 'o', "options", "KEY=VALUE,...", "how to make the output", OPT_LIST(&settings) },
	{ 'B', "backing", "FILE", "write what differs from FILE, the new backing file", OPT_STR(&base) },
	{ 'F', "backing-format", "FMT", "its format", OPT_STR(&base_fmt) },
	{ 'n', "no-create", NULL, "the output is there: write into it", OPT_FLAG(&no_create) },
	{ 0, "target-is-zero", NULL, "and reads as zeros", OPT_FLAG(&is_zero) },
	{ 'l', "snapshot", "SNAPSHOT", "read this internal snapshot", OPT_STR(&snapshot) },
	{ 'S', "sparse-size", "SIZE", "zeros of this length become holes (4k); 0: all is written", OPT_STR(&sparse) },
	{ 'c', "compress", NULL, "write compressed clusters", OPT_FLAG(&compress) },
	{ 0, "bitmaps", NULL, "copy the dirty bitmaps, too", OPT_FLAG(&bitmaps) },
	{ 0, "skip-broken-bitmaps", NULL, "but for those that are not consistent", OPT_FLAG(&skip_broken) },
	{ 0, "salvage", NULL, "what cannot be read becomes zeros, and is told", OPT_FLAG(&salvage) },
	{ 'r', "rate-limit", "RATE", "bytes a second at most", OPT_STR(&rate) },
	OPT_SHARE(share),
	OPT_QUIET(quiet),
	OPT_BAR(progressing),
	OPT_CACHE(cache),
	{ 'T', "source-cache", "MODE", "taken, and means nothing here", OPT_STR(&source_cache) },
	OPT_NODE,
	{ 0, "target-image-opts", NULL, "so is OUTPUT; needs -n", OPT_FLAG(&target_options) },
	OPT_OBJECT,
	{ 'm', "parallel", "N", "taken (1 to 16), and means nothing here", OPT_STR(&parallel) },
	{ 'W', "out-of-order", NULL, "taken, and means nothing here", OPT_FLAG(&unordered) },
	{ 'C', "copy-offload", NULL, "taken, and means nothing here", OPT_FLAG(&offload) },
	{ 0 }
};

/* All that is opened, closed in the reverse order. */
struct job {
	struct image *from[MAX_SOURCES];
	unsigned n_from;
	int snap;
	uint64_t size, rate, sparse;
	struct image *below; /* the base, open so that nobody changes it */
	struct image *to;
	struct image_name *name; /* of the target */
	struct img_opts o;
	struct qcow2_create c;
	const char *format; /* of the target, and its path */
	const char *path;
};

static void job_done(struct job *j)
{
	image_close(j->to);
	image_close(j->below);
	while (j->n_from)
		image_close(j->from[--j->n_from]);
	image_name_free(j->name);
	img_opts_done(&j->o);
}
#define auto_job __attribute__((cleanup(job_done)))

static int check_usage(const struct job *j, int n_sources, struct err *e)
{
	bool raw = !strcmp(j->format, "raw");

	if (!raw && strcmp(j->format, "qcow2"))
		return err_set(e, ERR_USAGE, "unknown file format '%s': qcow2 and raw are known", j->format);
	if (n_sources < 1)
		return err_set(e, ERR_USAGE, "convert needs an image and an output");
	if (n_sources > MAX_SOURCES)
		return err_set(e, ERR_USAGE, "these are more than %d images", MAX_SOURCES);
	if (target_options && !no_create)
		return err_set(e, ERR_USAGE, "--target-image-opts tells of an output that is there: it needs -n");
	if (no_create && settings.n)
		return err_set(e, ERR_USAGE, "-o says how an image is made, and with -n none is");
	if (is_zero && !no_create)
		return err_set(e, ERR_USAGE, "--target-is-zero is for an output that is there: it needs -n");
	if (is_zero && base)
		return err_set(e, ERR_USAGE, "an output that has a backing file does not read as zeros: --target-is-zero and -B exclude each other");
	if (offload && (compress || sparse))
		return err_set(e, ERR_USAGE, "-C leaves the data as it is: it and -%c exclude each other", compress ? 'c' : 'S');
	if (skip_broken && !bitmaps)
		return err_set(e, ERR_USAGE, "--skip-broken-bitmaps needs --bitmaps");
	if (bitmaps && n_sources > 1)
		return err_set(e, ERR_USAGE, "--bitmaps needs one image to take them from");
	if (bitmaps && raw)
		return err_set(e, ERR_USAGE, "a raw output has no place for bitmaps");
	if (snapshot && n_sources > 1)
		return err_set(e, ERR_USAGE, "-l names a snapshot of one image, and there are several");
	if (j->c.backing && n_sources > 1)
		return err_set(e, ERR_USAGE, "several disks in a row have no common backing file: leave out -B, or convert one");
	return 0;
}

/* What the target is to be. */
static int check_target(const struct job *j, struct err *e)
{
	bool raw = !strcmp(j->format, "raw");

	if (raw && (base || base_fmt))
		return err_set(e, ERR_USAGE, "a raw output has no place for a backing file's name");
	if (compress && raw)
		return err_set(e, ERR_USAGE, "only clusters of qcow2 can be compressed: -c needs -O qcow2");
	if (compress && j->c.prealloc != QCOW2_PREALLOC_OFF)
		return err_set(e, ERR_USAGE, "what is preallocated cannot be compressed: leave out -c or preallocation");
	if (compress && j->c.compression)
		return err_set(e, -EOPNOTSUPP, "compressing with zstd is not supported: compression_type=zlib is");
	if (j->c.data_file)
		return err_set(e, -EOPNOTSUPP, "convert makes no images with data files");
	if (j->c.backing && !j->c.backing_fmt)
		return err_set(e, ERR_USAGE, "the backing file's format has to be said, with -F");
	if (j->c.backing_fmt && !j->c.backing)
		return err_set(e, ERR_USAGE, "-F says the format of a backing file, and there is none");
	return 0;
}

static int read_options(struct job *j, struct err *e)
{
	unsigned keys = !strcmp(j->format, "raw") ? IMG_KEYS_RAW : IMG_KEYS_QCOW2;
	uint64_t n;

	if (img_opts_parse(&settings, keys, &j->o, e) < 0)
		return e->code;
	if (img_opts_told(&j->o, "Supported options:", keys))
		return 1;
	if (img_opts_set(&j->o, IMG_BACKING_FILE, base, e) < 0 || img_opts_set(&j->o, IMG_BACKING_FMT, base_fmt, e) < 0 ||
		img_opts_create(&j->o, &j->c, e) < 0 || img_size(sparse ? sparse : "4k", &j->sparse, e) < 0 ||
		(rate && img_size(rate, &j->rate, e) < 0))
		return e->code;
	if (j->sparse > MAX_SPARSE || j->sparse % 512)
		return err_set(e, ERR_USAGE, "-S is a multiple of 512 up to %d, or 0",
			MAX_SPARSE);
	if (parallel && (img_size(parallel, &n, e) < 0 || n < 1 || n > 16))
		return err_set(e, ERR_USAGE, "-m is a number from 1 to 16");
	return 0;
}

/* With -U nobody's lock says that the target is what is being read. */
static int check_apart(const struct job *j, struct err *e)
{
	for (unsigned i = 0; i <= j->n_from; i++)
		if (img_is_read(i < j->n_from ? j->from[i] : j->below, j->path))
			return err_set(e, -EBUSY, "%s is in use: it is an image that is to be read", j->path);
	return 0;
}

/* What an output's options say of its format is what -O is elsewhere. */
static int name_target(struct job *j, const char *given, struct err *e)
{
	if ((no_create ? img_name_as(given, target_options ? out_format : j->format, target_options, &j->name, e) :
			img_name_new(given, &j->name, e)) < 0)
		return e->code;
	if (target_options && !j->name->format)
		return err_set(e, ERR_USAGE, "%s: the output's options do not say its format (driver=...)", given);
	if (target_options)
		j->format = j->name->format;
	j->name->format = j->format;
	j->path = j->name->path;
	return 0;
}

static int open_sources(struct job *j, int n, char **argv, struct err *e)
{
	unsigned flags = share ? QCOW2_SHARE : 0;

	for (; n--; argv++, j->n_from++) {
		auto_name struct image_name *name = NULL;

		if (img_name(*argv, format, &name, e) < 0 || img_open_chain(name, flags, &j->from[j->n_from], e) < 0)
			return e->code;
	}
	if (img_snap_find(j->from[0], snapshot, &j->snap, &j->size, e) < 0)
		return e->code;
	j->size = copy_size(j->from, j->n_from, j->snap);
	if (j->size > INT64_MAX)
		return err_set(e, -EFBIG, "together the disks are larger than a disk can be");
	return 0;
}

static int open_base(struct job *j, struct err *e)
{
	auto_name struct image_name *n = NULL;

	if (!j->c.backing)
		return 0;
	if (img_name_below(j->path, j->c.backing, j->c.backing_fmt, &n, e) < 0)
		return e->code;
	return img_open_chain(n, share ? QCOW2_SHARE : 0, &j->below, e) < 0 ?
		err_at(e, "cannot open the backing file") : 0;
}

static int open_target(struct job *j, struct err *e)
{
	if (img_unsaved(j->path, e) < 0 || img_open_to_change(j->name, &j->to, e) < 0 || image_reopen_rw(j->to, e) < 0)
		return e->code;
	return j->to->size >= j->size ? 0 : err_set(e, -ERANGE, "it is smaller (%llu bytes) than what is to be copied (%llu)",
		(unsigned long long)j->to->size, (unsigned long long)j->size);
}

/* Nothing in it that would show through: made just now and no device whose old content does, or an image without tables. */
static int is_fresh(const struct job *j, bool *fresh, struct err *e)
{
	*fresh = is_zero || (!no_create && !(j->to->dev->fixed && (!j->to->q || j->c.prealloc != QCOW2_PREALLOC_OFF)));
	return !*fresh && j->to->q ? qcow2_is_empty(j->to->q, fresh, e) : 0;
}

static void progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	img_progress(done, total);
}

static void warn(void *ctx, const char *message)
{
	(void)ctx;
	if (!quiet)
		fprintf(stderr, "%s: warning: %s\n", cli.prefix, message);
}

static int fill_target(struct job *j, struct err *e)
{
	struct copy c = { .from = j->from, .n_from = j->n_from, .snap = j->snap, .size = j->size, .sparse = j->sparse,
		.pack = compress, .salvage = salvage, .rate = j->rate, .progress = progress, .warn = warn };

	if (open_target(j, e) < 0 || is_fresh(j, &c.fresh, e) < 0)
		return e->code;
	c.to = j->to;
	/* Bitmaps first: the holes that their commits leave are filled. */
	if (bitmaps && img_copy_bitmaps(j->to, j->from[0], skip_broken, e) < 0)
		return e->code;
	return image_copy(&c, e);
}

static int convert(struct job *j, struct err *e)
{
	bool old = file_exists(j->path);
	int rc;

	j->c.size = j->size;
	j->c.whole = true;
	if (!no_create && img_create_file(j->path, j->format, &j->o, &j->c, NULL, e) < 0)
		return e->code;
	img_progress_begin(progressing && !quiet);
	rc = fill_target(j, e);
	img_progress_end();
	/* Half a copy is none. */
	if (rc < 0 && !old)
		unlink(j->path);
	return rc < 0 ? err_at(e, "%s", j->path) : 0;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_job struct job j = { .snap = -1, .format = out_format ? out_format : "raw" };
	int n = argc - 1, rc;

	if (argc && target_options && no_create && name_target(&j, argv[n], e) < 0)
		return e->code;
	rc = read_options(&j, e);
	if (rc)
		return rc < 0 ? rc : 0;
	if (check_usage(&j, n, e) < 0 || check_target(&j, e) < 0 || (!j.name && name_target(&j, argv[n], e) < 0))
		return e->code;
	if (open_sources(&j, n, argv, e) < 0 || (bitmaps && img_check_bitmaps(j.from[0], skip_broken, e) < 0) || open_base(&j, e) < 0 ||
		check_apart(&j, e) < 0)
		return e->code;
	return convert(&j, e);
}

const struct cmd cmd_img_convert = { "convert", "[-O FMT] [-c] [-l SNAPSHOT] [-B FILE -F FMT] FILE... OUTPUT", NULL,
	"copy what a guest would read", NULL, opts, 0, MAX_SOURCES + 1, run };
