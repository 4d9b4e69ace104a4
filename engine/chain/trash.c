/* Files to be removed: on record until nobody needs them. */
#include <errno.h>
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
#include "lib/file.h"
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

/* An image that no disk has any more: it is kept for the snapshots inside it, and goes with the last of them. */
static bool kept_for_tags(const struct fermata_vm *vm, const char *file)
{
	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (str_eq(fermata_vm_disk_file(vm, i), file))
			return false;
	for (size_t i = 0; i < vm->rec->n_snaps; i++)
		for (size_t j = 0; j < vm->rec->snaps[i]->n_disks; j++)
			if (!vm->rec->snaps[i]->disks[j].external && str_eq(vm->rec->snaps[i]->disks[j].file, file))
				return true;
	return false;
}

static bool nothing_to_do(const struct fermata_vm *vm)
{
	for (size_t i = 0; i < vm->rec->n_trash; i++)
		if (!kept_for_tags(vm, vm->rec->trash[i]))
			return false;
	return true;
}

/* What the pending operation opens if it has to be done again. */
static void pending_needs(struct file_set *s, const struct record *r)
{
	for (size_t j = 0; r->pending.snap && j < r->pending.snap->n_disks; j++)
		if (!r->pending.snap->disks[j].external)
			file_set_add(s, r->pending.snap->disks[j].file, false);
}

/* What is gone is gone before the record forgets it. */
static bool flush_folders(struct fermata_vm *vm, char **gone, size_t n)
{
	struct err why;

	for (size_t i = 0; i < n; i++)
		if ((i + 1 == n || !in_one_folder(gone[i], gone[i + 1])) && file_flush_name(gone[i], &why) < 0 && why.code != -ENOENT) {
			vm_notice(vm, "%s, where something was removed", why.msg);
			return false;
		}
	return true;
}

void trash_empty(struct fermata_vm *vm)
{
	auto_file_set struct file_set needed = { 0 }, later = { 0 };
	struct record *r = vm->rec;
	auto_free char **gone = calloc(r->n_trash + 1, sizeof *gone);
	size_t left = 0, n_gone = 0, n = r->n_trash;
	struct err why;

	if (nothing_to_do(vm))
		return;
	file_set_add_needs(&needed, vm->def, r);
	others_need(&needed, vm);
	pending_needs(&later, r);
	/* Somebody's definition or record cannot be read: they stay on the list until it can. */
	if (needed.all || !gone)
		return;
	for (size_t i = 0; i < n; i++) {
		char *file = r->trash[i];

		if (file_set_has(&later, file) || kept_for_tags(vm, file)) {
			r->trash[left++] = file;
		} else if (file_set_has(&needed, file) && !is_spare_name(r, file)) {
			free(file);
		} else if (overlay_remove(file, &why) < 0) {
			vm_notice(vm, "%s, which nothing needs any more", why.msg);
			r->trash[left++] = file;
		} else {
			gone[n_gone++] = file;
		}
	}
	if (n_gone && !flush_folders(vm, gone, n_gone)) {
		memcpy(r->trash + left, gone, n_gone * sizeof *gone);
		left += n_gone;
		n_gone = 0;
	}
	r->n_trash = left;
	while (n_gone)
		free(gone[--n_gone]);
	/* The list may name what is gone already: the next command looks once more. */
	if (left < n && record_save(r, &why) < 0)
		vm_notice(vm, "%s", why.msg);
}

int remove_finish(struct fermata_vm *vm, struct err *e)
{
	const char *nvram = vm->rec->pending.snap->nvram;

	snap_free(record_take(vm->rec, vm->rec->pending.snap->id));
	/* A running guest's are looked at when it starts next. */
	if (!vm_alive(vm))
		bases_note_all(vm);
	if ((nvram && record_trash(vm->rec, nvram, e) < 0) || trash_memory(vm, vm->rec->pending.snap, e) < 0 || pending_end(vm, e) < 0)
		return e->code;
	trash_empty(vm);
	return 0;
}
