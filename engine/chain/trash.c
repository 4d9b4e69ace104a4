/* Files to be removed: on record until nobody needs them. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/chain/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/own.h"

static void others_need(struct file_set *s, struct fermata_vm *vm)
{
	auto_free char *names = NULL;
	struct err e;

	if (fermata_names(vm->host, &names, &e) < 0) {
		s->all = true;
		return;
	}
	for (const char *n = names; *n && !s->all; n += strlen(n) + 1)
		if (strcmp(n, vm->name))
			other_needs(s, vm, n);
}

bool needed_by_others(struct fermata_vm *vm, const char *file)
{
	auto_file_set struct file_set s = { 0 };

	others_need(&s, vm);
	return file_set_has(&s, file);
}

int trash_memory(struct fermata_vm *vm, struct fermata_snap *s, struct err *e)
{
	char *files[] = { s->memory, s->ram, s->ram_base };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (!files[i] || !files[i][0])
			continue;
		if (record_trash(vm->rec, files[i], e) < 0)
			return e->code;
		files[i][0] = '\0';
	}
	return 0;
}

/* One of several names of a memory that VMs share, and none that this one goes by: the others keep it. */
static bool is_spare_name(const struct record *r, const char *file)
{
	struct stat st;

	if (!str_ends(file, ".ram") || lstat(file, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink < 2)
		return false;
	for (size_t i = 0; i < r->n_snaps; i++)
		if (str_eq(r->snaps[i]->ram, file) || str_eq(r->snaps[i]->ram_base, file))
			return false;
	return true;
}

int trash_empty(struct fermata_vm *vm, struct err *e)
{
	auto_file_set struct file_set needed = { 0 };
	struct record *r = vm->rec;
	struct err why;
	size_t left = 0;

	if (r->n_trash) {
		file_set_add_needs(&needed, vm->def, r);
		others_need(&needed, vm);
	}
	/* Somebody's definition or record cannot be read: they stay on the list until it can. */
	if (needed.all)
		return 0;
	for (size_t i = 0; i < r->n_trash; i++) {
		char *file = r->trash[i];

		if ((!file_set_has(&needed, file) || is_spare_name(r, file)) && overlay_remove(file, &why) < 0) {
			vm_notice(vm, "%s, which nothing needs any more", why.msg);
			r->trash[left++] = file;
			continue;
		}
		free(file);
	}
	if (left == r->n_trash)
		return 0;
	r->n_trash = left;
	return record_save(r, e);
}

int remove_finish(struct fermata_vm *vm, struct err *e)
{
	const char *nvram = vm->rec->pending.snap->nvram;

	snap_free(record_take(vm->rec, vm->rec->pending.snap->id));
	if ((nvram && record_trash(vm->rec, nvram, e) < 0) || trash_memory(vm, vm->rec->pending.snap, e) < 0 || pending_end(vm, e) < 0)
		return e->code;
	return trash_empty(vm, e);
}
