/* img create */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init/img/img.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"
#include "qcow2/image/raw.h"

static const char *format, *backing, *backing_fmt;
static struct cmd_list settings;
static bool unsafe, quiet;
static const struct opt opts[] = {
	{ 'f', "format", "FMT", "qcow2 or raw (default)", OPT_STR(&format) },
	{ 'b', "backing", "FILE", "backing file of the new image", OPT_STR(&backing) },
	{ 'F', "backing-format", "FMT", "the backing file's format", OPT_STR(&backing_fmt) },
	{ 'u', "unsafe", NULL, "do not look at the backing file", OPT_FLAG(&unsafe) },
	{ 'o', "options", "KEY=VALUE,...", "how to make it; -o help lists them", OPT_LIST(&settings) },
	OPT_QUIET(quiet),
	OPT_OBJECT,
	{ 0 }
};

static void print_value(const char *name, const char *v)
{
	if (!v)
		return;
	printf(" %s=", name);
	for (; *v; v++) {
		if (*v == ',')
			putchar(',');
		putchar(*v);
	}
}

static void print_size(const char *name, const char *v)
{
	uint64_t n;
	struct err e;

	if (v && img_size(v, &n, &e) >= 0)
		printf(" %s=%" PRIu64, name, n);
}

/* In the order that qemu-img has. */
static void print_formatting(const char *path, const char *fmt, const struct img_opts *o, const struct qcow2_create *c)
{
	bool qcow2 = !strcmp(fmt, "qcow2");

	printf("Formatting '%s', fmt=%s", path, fmt);
	if (qcow2)
		printf(" cluster_size=%u extended_l2=%s", 1u << c->cluster_bits,
			o->v[IMG_EXTENDED_L2] ? o->v[IMG_EXTENDED_L2] : "off");
	if (qcow2)
		print_value("preallocation", o->v[IMG_PREALLOC]);
	if (qcow2)
		print_value("compression_type", o->v[IMG_COMPRESSION] ? o->v[IMG_COMPRESSION] : "zlib");
	printf(" size=%" PRIu64, c->size);
	if (!qcow2) {
		print_value("nocow", o->v[IMG_NOCOW]);
		print_value("preallocation", o->v[IMG_PREALLOC]);
		print_size("extent_size_hint", o->v[IMG_EXTENT_HINT]);
		putchar('\n');
		return;
	}
	print_value("compat", o->v[IMG_COMPAT]);
	print_value("backing_file", o->v[IMG_BACKING_FILE]);
	print_value("backing_fmt", o->v[IMG_BACKING_FMT]);
	print_value("data_file", o->v[IMG_DATA_FILE]);
	print_value("data_file_raw", o->v[IMG_DATA_FILE_RAW]);
	print_value("lazy_refcounts", o->v[IMG_LAZY] ? o->v[IMG_LAZY] : "off");
	printf(" refcount_bits=%u", c->refcount_bits);
	print_value("nocow", o->v[IMG_NOCOW]);
	print_size("extent_size_hint", o->v[IMG_EXTENT_HINT]);
	putchar('\n');
}

/* The data file is made anew: neither the image nor its backing file may be lost by that. */
static int data_file_alone(const char *path, const struct qcow2_create *c, struct err *e)
{
	auto_free char *full = c->backing ? image_backing_path(path, c->backing) : NULL;

	if (strcmp(c->data_file, path) && !same_file(c->data_file, path) && !(full && same_file(c->data_file, full)))
		return 0;
	return err_set(e, ERR_USAGE, "%s: the data file '%s' is the image itself or its backing file", path, c->data_file);
}

static int create_files(const char *path, const char *fmt, const struct qcow2_create *c, struct err *e)
{
	uint64_t bytes;

	if (!strcmp(fmt, "raw"))
		return raw_create(path, c->size, c->prealloc, e);
	if (!c->data_file)
		return qcow2_create(path, c, e);
	/* All that can be refused is, before the data file is emptied. */
	if (data_file_alone(path, c, e) < 0 || qcow2_full_size(c, &bytes, e) < 0)
		return e->code;
	if (raw_create(c->data_file, c->size, c->prealloc == QCOW2_PREALLOC_METADATA ? QCOW2_PREALLOC_OFF : c->prealloc, e) < 0)
		return err_at(e, "data file");
	return data_file_alone(path, c, e) < 0 ? e->code : qcow2_create(path, c, e);
}

/*
 * What the file system is to know of a file before it has content: nocow and extent_size_hint. Both are wishes: one that knows
 * of neither makes the same file.
 */
static int tell_file_system(const char *path, const struct img_opts *o, struct err *e)
{
	struct fsxattr x;
	uint64_t hint = 0;
	bool nocow = false;
	int flags;
	auto_fd int fd = -1;

	if (img_opts_bool(o, IMG_NOCOW, false, &nocow, e) < 0 || img_opts_num(o, IMG_EXTENT_HINT, 0, &hint, e) < 0)
		return e->code;
	if (!nocow && !hint)
		return 0;
	/* Only of what is new: a file that is there may be somebody's, and its extents are as they are. */
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == EEXIST ? 0 : err_sys(e, errno, "cannot create %s", path);
	if (nocow && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		nocow = ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
	}
	if (hint && hint <= UINT32_MAX && ioctl(fd, FS_IOC_FSGETXATTR, &x) == 0) {
		x.fsx_xflags |= FS_XFLAG_EXTSIZE;
		x.fsx_extsize = (uint32_t)hint;
		hint = ioctl(fd, FS_IOC_FSSETXATTR, &x) == 0 ? hint : 0;
	}
	return 0;
}

int img_create_file(const char *path, const char *fmt, const struct img_opts *o, const struct qcow2_create *c,
	const char *shown, struct err *e)
{
	bool old = file_exists(path), old_data = !c->data_file || file_exists(c->data_file);
	struct qcow2_create whole = *c;

	if (img_unsaved(path, e) < 0)
		return e->code;
	if (shown)
		print_formatting(shown, fmt, o, c);
	whole.size = (c->size + 511) & ~511ull;
	if (tell_file_system(path, o, e) >= 0 && create_files(path, fmt, &whole, e) >= 0)
		return 0;
	if (!old)
		unlink(path);
	if (!old_data)
		unlink(c->data_file);
	return e->code;
}

/* A backing file without its format is refused as qemu-img does since 6.1; the line that works is made of what was typed. */
static int refuse_unknown_format(const char *path, const char *size, const char *fmt, const char *found, struct err *e)
{
	auto_buf struct buf b = { 0 };

	buf_addf(&b, "fermata img create -f %s", fmt);
	if (backing) {
		buf_adds(&b, " -b ");
		text_shell_quote(&b, backing);
	}
	buf_addf(&b, " -F %s", found);
	for (size_t i = 0; i < settings.n; i++) {
		buf_adds(&b, " -o ");
		text_shell_quote(&b, settings.v[i]);
	}
	buf_addc(&b, ' ');
	text_shell_quote(&b, path);
	if (size)
		buf_addf(&b, " %s", size);
	err_set(e, ERR_USAGE, "%s: backing file specified without backing format", path);
	return err_hint(e, "%s%s", strcmp(found, "FMT") ? "detected the format: " : "", buf_str(&b));
}

/* The size comes from the backing file if nothing else gives it. */
static int look_at_backing(const char *path, const char *size, const char *fmt, struct qcow2_create *c, bool sized, struct err *e)
{
	auto_image struct image *img = NULL;
	auto_name struct image_name *n = NULL;

	if (!strcmp(c->backing, path))
		return err_set(e, ERR_USAGE, "%s: the new image would be its own backing file", path);
	if (unsafe)
		return c->backing_fmt ? 0 : refuse_unknown_format(path, size, fmt, "FMT", e);
	/* Its size is all that is asked for: whoever uses it may go on. */
	if (img_name_below(path, c->backing, c->backing_fmt, &n, e) < 0 || img_open(n, QCOW2_SHARE, &img, e) < 0)
		return err_at(e, "%s: could not open the backing image", path);
	if (!c->backing_fmt)
		return refuse_unknown_format(path, size, fmt, img->format, e);
	if (!sized)
		c->size = img->size;
	return 0;
}

static int prepare(const char *fmt, char **argv, const char *path, struct img_opts *o, struct qcow2_create *c, struct err *e)
{
	bool raw = !strcmp(fmt, "raw"), sized = argv[1] || o->v[IMG_SIZE];

	if (raw && (backing || backing_fmt))
		return err_set(e, ERR_USAGE, "%s: backing file not supported for file format 'raw'", argv[0]);
	if (argv[1] && o->v[IMG_SIZE])
		return err_set(e, ERR_USAGE, "%s: the image size must be specified only once", argv[0]);
	if (img_opts_set(o, IMG_BACKING_FILE, backing, e) < 0 || img_opts_set(o, IMG_BACKING_FMT, backing_fmt, e) < 0 ||
		img_opts_set(o, IMG_SIZE, argv[1], e) < 0)
		return e->code;
	/* An empty name, say of a variable that nobody has set, is not that none was given: the disk would be an empty one. */
	if (o->v[IMG_BACKING_FILE] && !*o->v[IMG_BACKING_FILE])
		return err_set(e, ERR_USAGE, "%s: expected backing file name, got empty string", argv[0]);
	if (img_opts_create(o, c, e) < 0)
		return err_at(e, "%s", argv[0]);
	if (c->backing && look_at_backing(path, argv[1], fmt, c, sized, e) < 0)
		return e->code;
	if (!sized && (!c->backing || unsafe))
		return err_set(e, ERR_USAGE, "%s: image creation needs a size parameter", argv[0]);
	return 0;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_opts struct img_opts o = { 0 };
	auto_name struct image_name *name = NULL;
	const char *fmt = format ? format : "raw";
	struct qcow2_create c;
	unsigned keys = !strcmp(fmt, "raw") ? IMG_KEYS_RAW : IMG_KEYS_QCOW2;

	if (strcmp(fmt, "raw") && strcmp(fmt, "qcow2"))
		return err_set(e, ERR_USAGE, "unknown file format '%s': qcow2 and raw are known", fmt);
	if (img_opts_parse(&settings, keys, &o, e) < 0)
		return e->code;
	if (img_opts_told(&o, *fmt == 'r' ? "Supported raw options:" : "Supported qcow2 options:", keys))
		return 0;
	if (!argc)
		return err_set(e, ERR_USAGE, "expecting image file name");
	if (img_name_new(argv[0], &name, e) < 0 || prepare(fmt, argv, name->path, &o, &c, e) < 0)
		return e->code;
	return img_create_file(name->path, fmt, &o, &c, quiet ? NULL : argv[0], e);
}

const struct cmd cmd_img_create = { "create", "[-f FMT] [-b FILE -F FMT] [-o KEY=VALUE,...] FILE [SIZE]", NULL,
	"make an image", "Files are made for their owner alone. An image in use is not overwritten.\n", opts, 0, 2, run };
