/* managedsave: where it is, whether there is one, removing it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/fermata.h"
#include "engine/save/internal.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

char *managed_save_path(const struct fermata_vm *vm)
{
	return str_fmt("%s/managed.save", vm->state_dir);
}

bool fermata_managed(const struct fermata_vm *vm)
{
	auto_free char *path = managed_save_path(vm);

	return path && file_exists(path);
}

int fermata_managed_remove(struct fermata_vm *vm, struct err *e)
{
	auto_free char *path = managed_save_path(vm);

	if (!path)
		return err_nomem(e, "remove a managed save");
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, errno, "%s: cannot remove %s", vm->name, path);
	return dir_flush(vm->state_dir, e);
}
