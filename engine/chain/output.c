/* output.c */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/chain/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/policy.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

/* Every file that VM @name has on record or in its definition. -EPROTO and the like: that cannot be said. */
static int add_files(struct fermata *host, const char *name, struct file_set *s, struct err *e)
{
	auto_record struct record *r = NULL;
	auto_def struct def *def = NULL;
	auto_free char *conf = str_fmt("%s/%s.conf", host->conf_dir, name);
	auto_free char *state = str_fmt("%s/%s/state.json", host->state_dir, name);
	auto_free char *saved = str_fmt("%s/%s/managed.save", host->state_dir, name);

	if (!conf || !state || !saved)
		return err_nomem(e, "look for the VMs' files");
	if (def_read(conf, name, &policy_section, &def, e) < 0 || record_load(state, &r, e) < 0)
		return e->code;
	file_set_add_needs(s, def, r);
	for (size_t i = 0; i < r->n_snaps; i++)
		if (r->snaps[i]->nvram)
			file_set_add(s, r->snaps[i]->nvram, true);
	for (size_t i = 0; i < r->n_jobs; i++)
		for (size_t j = 0; j < r->jobs[i]->n_images; j++)
			file_set_add(s, r->jobs[i]->images[j], true);
	for (size_t i = 0; i < def->n_cdroms; i++)
		if (def->cdroms[i].file)
			file_set_add(s, def->cdroms[i].file, true);
	for (size_t i = 0; i < 5; i++) {
		const char *file = (const char *[]){ def->nvram, def->firmware, def->kernel, def->initrd, saved }[i];

		if (file)
			file_set_add(s, file, true);
	}
	return 0;
}

int output_spare(struct fermata_vm *vm, const char *path, struct err *e)
{
	auto_free char *names = NULL;
	struct err why;

	if (!file_exists(path))
		return 0;
	if (fermata_names(vm->host, &names, e) < 0)
		return e->code;
	for (const char *n = names; *n; n += strlen(n) + 1) {
		auto_file_set struct file_set s = { 0 };
		int rc = add_files(vm->host, n, &s, &why);

		if (rc == 0 && !file_set_has(&s, path))
			continue;
		if (rc == 0 && !s.all)
			return err_set(e, -EEXIST, "%s is there already, and belongs to VM '%s'", path, n);
		err_set(e, -EEXIST, "%s is there already, and may belong to VM '%s', whose %s cannot be read", path, n,
			rc < 0 ? "definition or record" : "images");
		return err_hint(e, "name a file that is not there");
	}
	return 0;
}

/* What was cut off before its header, which is written last. */
static bool begins_with_zeros(const char *path)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char page[4096] = "";
	ssize_t n = fd < 0 ? -1 : read(fd, page, sizeof page);

	return n > 0 && !page[0] && !memcmp(page, page + 1, (size_t)n - 1);
}

static int check_one(struct fermata_vm *vm, const char *path, const struct output_kind *kind, bool unfinished, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && unfinished)
		return err_set(e, -EEXIST, "%s is there already, and a symbolic link", path);
	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "cannot look at %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EEXIST, "%s is there and no regular file", path);
	if (output_spare(vm, path, e) < 0)
		return e->code;
	if (!st.st_size || kind->is(path) || (unfinished && begins_with_zeros(path)))
		return 0;
	err_set(e, -EEXIST, "%s is there already, and not %s", path, kind->name);
	return err_hint(e, "remove it first, or name another file");
}

int output_check(struct fermata_vm *vm, const char *path, const char *tmp, const struct output_kind *kind, struct err *e)
{
	if (check_one(vm, path, kind, false, e) < 0)
		return e->code;
	return tmp ? check_one(vm, tmp, kind, true, e) : 0;
}
