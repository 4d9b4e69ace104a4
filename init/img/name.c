/* The names of images on a command line, and opening what they name. */
#include "init/img/img.h"

#include <stdio.h>
#include <string.h>

#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/image/name.h"

struct img_naming img_naming;

int img_no_object(struct err *e)
{
	const char *given = img_naming.object;

	if (!given)
		return 0;
	return err_set(e, -EOPNOTSUPP, "--object %.*s is not supported: %s", (int)strcspn(given, ","), given,
		str_starts(given, "secret") ? "encrypted images are not read, so that no key is of use" : "there is no QEMU to make it in");
}

int img_name_as(const char *given, const char *format, bool options, struct image_name **out, struct err *e)
{
	if (img_no_object(e) < 0)
		return e->code;
	if (options && format)
		return err_set(e, ERR_USAGE, "options of an image say its format (driver=%s): they and -f exclude each other", format);
	if ((options ? image_name_options(given, out, e) : image_name_read(given, out, e)) < 0)
		return e->code;
	if (format)
		(*out)->format = format;
	return 0;
}

int img_name(const char *given, const char *format, struct image_name **out, struct err *e)
{
	return img_name_as(given, format, img_naming.options, out, e);
}

int img_name_new(const char *given, struct image_name **out, struct err *e)
{
	if (str_starts(given, "json:"))
		return err_set(e, -EOPNOTSUPP, "%s: an image is made as a file, by its name alone", given);
	return img_name_as(given, NULL, false, out, e);
}

int img_name_below(const char *path, const char *backing, const char *format, struct image_name **out, struct err *e)
{
	auto_free char *full = image_backing_path(path, backing);

	return full ? img_name_as(full, format, false, out, e) : err_nomem(e, "find a backing file");
}

/* What the name asks for besides the file. */
static int check_use(const struct image_name *n, bool change, struct err *e)
{
	if (change && n->read_only)
		return err_set(e, -EROFS, "%s: its name says that it is read-only", n->path);
	if (change && n->share)
		return err_set(e, ERR_USAGE, "%s: an image is not changed while others use it: force-share and locking=off are for reading", n->path);
	if (change && n->alone)
		return err_set(e, -EOPNOTSUPP, "%s: an image is changed over the backing file that it records, not over another", n->path);
	return 0;
}

static unsigned flags_of(const struct image_name *n, unsigned flags)
{
	return flags | QCOW2_NAMES | (n->share ? QCOW2_SHARE : 0) | (n->alone ? QCOW2_ALONE : 0);
}

int img_open(const struct image_name *n, unsigned flags, struct image **out, struct err *e)
{
	if (check_use(n, flags & QCOW2_RW, e) < 0)
		return e->code;
	return image_open(n->path, n->format, flags_of(n, flags), out, e);
}

int img_open_chain(const struct image_name *n, unsigned flags, struct image **out, struct err *e)
{
	auto_image struct image *top = NULL;
	struct image *low, *next;

	if (image_open_chain(n->path, n->format, flags_of(n, flags), &top, e) < 0)
		return e->code;
	low = top;
	for (n = n->backing; n; n = n->backing) {
		if (image_open_chain(n->path, n->format, flags_of(n, flags), &next, e) < 0)
			return err_at(e, "%s: its backing file", low->path);
		for (const struct image *i = next; i; i = i->backing)
			if (image_check_loop(top, i, e) < 0) {
				image_close(next);
				return e->code;
			}
		low->backing = next;
		low = next;
	}
	*out = take_ptr(&top);
	return 0;
}

int img_open_to_change(const struct image_name *n, struct image **out, struct err *e)
{
	return check_use(n, true, e) < 0 ? e->code : img_open_chain(n, 0, out, e);
}

bool img_is_read(const struct image *top, const char *path)
{
	for (const struct image *img = top; img; img = img->backing)
		if (same_file(path, img->path) || (img->q && img->data && img->data != img->dev && same_file(path, img->data->name)))
			return true;
	return false;
}

static void finding(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "%s\n", line);
}

/* An image that was not closed has refcounts that lag behind: whoever is to change it mends them first, as QEMU does. */
static int mend(const struct image_name *n, struct err *e)
{
	auto_image struct image *img = NULL;
	struct qcow2_check c = { 0 };

	if (img_open(n, QCOW2_RW | QCOW2_CHECK, &img, e) < 0 || qcow2_check(img->q, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, finding, NULL, &c, e) < 0)
		return e->code;
	return !c.check_errors && !c.corruptions ? 0 : err_set(e, -EUCLEAN, "%s was not closed, and cannot be repaired", n->path);
}

/* One that is marked corrupt as well is for who asks for a repair. */
static bool is_dirty(const struct image *img)
{
	struct qcow2_info i;

	if (!img->q)
		return false;
	qcow2_get_info(img->q, &i);
	return (i.incompat & QCOW2_INCOMPAT_DIRTY) && !(i.incompat & QCOW2_INCOMPAT_CORRUPT);
}

int img_open_rw(const struct image_name *n, bool raw, struct image **out, struct err *e)
{
	if (img_unsaved(n->path, e) < 0 || img_open(n, QCOW2_RW, out, e) < 0)
		return e->code;
	if (is_dirty(*out)) {
		image_close(take_ptr(out));
		if (mend(n, e) < 0 || img_open(n, QCOW2_RW, out, e) < 0)
			return e->code;
	}
	if ((*out)->q || raw)
		return 0;
	image_close(*out);
	*out = NULL;
	return err_set(e, -EOPNOTSUPP, "%s: raw images do not support this operation", n->path);
}
