
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/save/managed.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

#define NAME "managed.save"

char *managed_path(const struct fermata_vm *vm)
{
	return str_fmt("%s/" NAME, vm->state_dir);
}

/* Where number @n is; 0: the one that the next start takes. */
static char *path_of(const struct fermata_vm *vm, uint64_t n)
{
	return n ? str_fmt("%s/" NAME ".%llu", vm->state_dir, (unsigned long long)n) : managed_path(vm);
}

/* Which of them @name is, or -1. */
static int64_t number_of(const char *name)
{
	const char *p = name + sizeof NAME - 1;
	uint64_t n;

	if (strncmp(name, NAME, sizeof NAME - 1))
		return -1;
	if (!*p)
		return 0;
	return *p++ == '.' && text_take_num(&p, 0, &n) && !*p && n && n < INT32_MAX ? (int64_t)n : -1;
}

/* The numbers of those that are there, without their order. @n: out. Caller frees; NULL: none, or no memory. */
static uint64_t *numbers(const struct fermata_vm *vm, size_t *n)
{
	DIR *dir = opendir(vm->state_dir);
	uint64_t *all = NULL, *more;
	struct dirent *d;

	*n = 0;
	while (dir && (d = readdir(dir))) {
		int64_t no = number_of(d->d_name);

		if (no < 0 || !(more = reallocarray(all, *n + 1, sizeof *all)))
			continue;
		all = more;
		all[(*n)++] = (uint64_t)no;
	}
	if (dir)
		closedir(dir);
	return all;
}

uint64_t managed_next(const struct fermata_vm *vm)
{
	size_t n;
	auto_free uint64_t *all = numbers(vm, &n);
	uint64_t most = 0;

	for (size_t i = 0; i < n; i++)
		most = all[i] > most ? all[i] : most;
	return most + 1;
}

/* ---- what users ask --------------------------------------------------------------------------------------- */

bool fermata_managed(const struct fermata_vm *vm)
{
	auto_free char *path = managed_path(vm);

	return path && file_exists(path);
}

static int remove_file(struct fermata_vm *vm, const char *path, struct err *e)
{
	if (!path)
		return err_nomem(e, "remove a managed save");
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, errno, "%s: cannot remove %s", vm->name, path);
	return dir_flush(vm->state_dir, e);
}

int fermata_managed_remove(struct fermata_vm *vm, bool aside, struct err *e)
{
	auto_free char *path = managed_path(vm);

	return remove_file(vm, path, e) < 0 ? e->code : aside ? managed_expire(vm, 0, e) : 0;
}

void fermata_managed_free(struct fermata_managed_save *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].file);
	free(list);
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int fermata_managed_list(const struct fermata_vm *vm, struct fermata_managed_save **out, size_t *n_out, struct err *e)
{
	size_t n;
	auto_free uint64_t *all = numbers(vm, &n);
	struct fermata_managed_save *list = calloc(n + 1, sizeof *list);

	if (n)
		qsort(all, n, sizeof *all, by_number);
	for (size_t i = 0; list && i < n; i++) {
		auto_mem_in struct mem_in in = { .fd = -1 };
		struct err damaged;
		struct stat st;

		list[i].aside = all[i] != 0;
		list[i].file = path_of(vm, all[i]);
		if (!list[i].file) {
			fermata_managed_free(list, i);
			list = NULL;
			break;
		}
		list[i].bytes = stat(list[i].file, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
		list[i].damaged = mem_in_open(list[i].file, &in, &damaged) < 0;
		if (!list[i].damaged)
			list[i].created = json_int(json_get(json_root(in.manifest), "created"), 0);
	}
	if (!list)
		return err_nomem(e, "list managed saves");
	*out = list;
	*n_out = n;
	return 0;
}

/* ---- for the engine ----------------------------------------------------------------------------------------- */

int managed_none(struct fermata_vm *vm, bool force, struct err *e)
{
	auto_free char *file = NULL;

	if (vm_alive(vm) || !fermata_managed(vm))
		return 0;
	if (!force) {
		err_set(e, -EBUSY, "the VM has a managed save, whose memory would not fit its disks any more");
		return err_hint(e, "'fermata start %s' goes on from it, 'fermata managedsave-remove %s' drops it", vm->name, vm->name);
	}
	if (managed_set_aside(vm, &file, e) < 0)
		return e->code;
	managed_tell(vm, file);
	return 0;
}

int managed_set_aside(struct fermata_vm *vm, char **file, struct err *e)
{
	auto_free char *from = managed_path(vm), *to = path_of(vm, managed_next(vm));

	*file = NULL;
	if (!from || !to)
		return err_nomem(e, "set a managed save aside");
	if (!file_exists(from))
		return 0;
	if (rename(from, to) < 0)
		return err_sys(e, errno, "cannot set %s aside", from);
	*file = take_ptr(&to);
	return dir_flush(vm->state_dir, e);
}

int managed_put_back(struct fermata_vm *vm, const char *file, struct err *e)
{
	auto_free char *to = managed_path(vm);

	if (!file)
		return 0;
	if (!to)
		return err_nomem(e, "put a managed save back");
	if (rename(file, to) < 0)
		return err_sys(e, errno, "cannot put %s back", file);
	return dir_flush(vm->state_dir, e);
}

void managed_tell(struct fermata_vm *vm, const char *file)
{
	if (file)
		vm_notice(vm, "its managed save is set aside: 'fermata restore %s' still goes on from it, once its disks are as they were",
			file);
}

int managed_use_up(struct fermata_vm *vm, const char *file, struct err *e)
{
	size_t n;
	auto_free uint64_t *all = numbers(vm, &n);

	for (size_t i = 0; i < n; i++) {
		auto_free char *path = path_of(vm, all[i]);

		if (!path || same_file(path, file))
			return remove_file(vm, path, e);
	}
	return 0;
}

int managed_expire(struct fermata_vm *vm, uint64_t before, struct err *e)
{
	size_t n;
	auto_free uint64_t *all = numbers(vm, &n);

	for (size_t i = 0; i < n; i++) {
		auto_free char *path = path_of(vm, all[i]);

		if (all[i] && (!before || all[i] < before) && remove_file(vm, path, e) < 0)
			return e->code;
	}
	return 0;
}
