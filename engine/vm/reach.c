/* Whether the user that QEMU runs as comes to a file: what it cannot open is refused when it is made, not when it is needed. */
#include <string.h>
#include <sys/stat.h>

#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/own.h"

static bool may_pass(const struct stat *st, uid_t uid, gid_t gid)
{
	return st->st_mode & (st->st_uid == uid ? S_IXUSR : st->st_gid == gid ? S_IXGRP : S_IXOTH);
}

int user_reaches(struct fermata_vm *vm, const char *path, struct err *e)
{
	auto_free char *dir = strdup(path);
	struct stat st;
	uid_t uid;
	gid_t gid;

	if (!vm->def->user || geteuid() != 0)
		return 0;
	if (!dir)
		return err_nomem(e, "look at a folder");
	if (kvm_user(vm->def->user, &uid, &gid, e) < 0)
		return e->code;
	for (char *slash; uid && (slash = strrchr(dir, '/')) && slash > dir;) {
		*slash = '\0';
		if (stat(dir, &st) < 0 || may_pass(&st, uid, gid))
			continue;
		/* The files in ours are their owner's alone; who knows their names may come to them. */
		if ((!strcmp(dir, vm->state_dir) || !strcmp(dir, vm->host->state_dir)) && chmod(dir, (st.st_mode & 07777) | S_IXOTH) == 0)
			continue;
		err_set(e, -EACCES, "QEMU's user '%s' cannot come to %s: the folder %s is closed to it", vm->def->user, path, dir);
		return err_hint(e, "open that folder (chmod o+x), or set snapshot-dir in %s to another", vm->def->path);
	}
	return 0;
}
