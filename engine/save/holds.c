/* Whether a managed save of any VM of this host needs an image as it is. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/limits.h"
#include "lib/own.h"

/* Whether @image is @file, or below it as far as that can be followed. */
static bool is_read(const char *file, const char *image)
{
	char at[PATH_MAX], next[PATH_MAX];
	bool raw;
	struct err ignored;

	snprintf(at, sizeof at, "%s", file);
	for (unsigned depth = 0; depth <= MAX_BACKING_DEPTH && at[0]; depth++) {
		if (same_file(at, image))
			return true;
		if (chain_next(at, next, &raw, &ignored) < 0)
			break;
		memcpy(at, next, sizeof at);
	}
	return false;
}

/* One that cannot be read cannot be gone on from either. */
static int check_save(const char *save, const char *vm, const char *image, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct err ignored;

	if (!file_exists(save) || mem_in_open(save, &in, &ignored) < 0)
		return 0;
	json_each(d, json_get(json_root(in.manifest), "disks")) {
		const char *file = json_str(json_get(d, "file"), "");

		if (!is_read(file, image))
			continue;
		err_set(e, -EBUSY, "%s: %s disk %s of VM '%s', which has a managed save: its memory would not fit the disk any more", image,
			same_file(file, image) ? "it is" : "it is below", json_str(json_get(d, "name"), ""), vm);
		return err_hint(e, "'fermata start %s' goes on from it, 'fermata managedsave-remove %s' drops it", vm, vm);
	}
	return 0;
}

int fermata_image_unsaved(struct fermata *f, const char *image, struct err *e)
{
	DIR *dir = file_exists(image) ? opendir(f->state_dir) : NULL;
	struct dirent *d;
	int rc = 0;

	while (rc == 0 && dir && (d = readdir(dir))) {
		auto_free char *save = str_fmt("%s/%s/managed.save", f->state_dir, d->d_name);

		if (d->d_name[0] != '.')
			rc = save ? check_save(save, d->d_name, image, e) : err_nomem(e, "look for saved memory");
	}
	if (dir)
		closedir(dir);
	return rc;
}
