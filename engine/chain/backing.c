/* The backing file that an image's header names, as an absolute path. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/chain/chain.h"
#include "engine/chain/internal.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/own.h"
#include "qcow2/image/image.h"
#include "qcow2/qcow2.h"

/* "nbd:..." and "json:...": a word of letters before a colon, without a slash in it. */
static bool has_protocol(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':';
}

/* Where the backing file that @image names really is: relative names are relative to the image's own folder. */
static int resolve(const char *image, const char *backing, char real[PATH_MAX], struct err *e)
{
	const char *slash = strrchr(image, '/');
	auto_free char *path = backing[0] == '/' || !slash ?
		strdup(backing) :
		str_fmt("%.*s/%s", (int)(slash - image), image, backing);

	if (!path)
		return err_nomem(e, "follow a chain");
	if (has_protocol(backing))
		return err_set(e, -EOPNOTSUPP, "%s: its backing file '%s' is not a local file", image, backing);
	if (!realpath(path, real))
		return err_sys(e, errno, "%s: cannot find its backing file '%s'", image, backing);
	return 0;
}

/* What the header of a qcow2 image names: the backing file, and the external data file, "" where there is none. */
int read_names(const char *image, char next[PATH_MAX], bool *raw, char data[PATH_MAX], struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_info info;

	next[0] = data[0] = '\0';
	if (qcow2_open(image, QCOW2_SHARE, &q, e) < 0)
		return e->code;
	qcow2_get_info(q, &info);
	if ((info.incompat & QCOW2_INCOMPAT_DATA_FILE) && !info.data_file)
		return err_set(e, -EUCLEAN, "%s: its data file has no name", image);
	if (info.data_file && snprintf(data, PATH_MAX, "%s", info.data_file) >= PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "%s: the name of its data file is too long", image);
	if (!info.backing)
		return 0;
	if (!info.backing_fmt) {
		err_set(e, -EINVAL, "%s: the format of its backing file is not recorded", image);
		return err_hint(e, "fermata img rebase -u -b %s -F FORMAT %s", info.backing, image);
	}
	if (strcmp(info.backing_fmt, "qcow2") && strcmp(info.backing_fmt, "raw"))
		return err_set(e, -EOPNOTSUPP, "%s: backing format '%s' is neither qcow2 nor raw", image, info.backing_fmt);
	*raw = !strcmp(info.backing_fmt, "raw");
	return resolve(image, info.backing, next, e);
}

int chain_next(const char *image, char next[PATH_MAX], bool *raw, struct err *e)
{
	char data[PATH_MAX];

	return read_names(image, next, raw, data, e);
}
