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
#include "qcow2/image.h"

/* "nbd:..." and "json:...": a word of letters before a colon, without a slash in it. */
static bool has_protocol(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':';
}

/* Where the backing file that @image names really is: relative names are relative to the image's own folder. */
int resolve(const char *image, const char *backing, char real[PATH_MAX], struct err *e)
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

int chain_next(const char *image, char next[PATH_MAX], bool *raw, struct err *e)
{
	char data[PATH_MAX];

	return read_names(image, next, raw, data, e);
}
