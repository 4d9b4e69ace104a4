/* A VM's disks by name, and which file the record says each one uses. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

int disk_pick(const struct fermata_vm *vm, const char *name, size_t *i, struct err *e)
{
	for (*i = 0; *i < vm->def->n_disks; ++*i)
		if (!strcmp(vm->def->disks[*i].name, name) || !strcmp(fermata_vm_disk_file(vm, *i), name))
			return 0;
	err_set(e, -ENOENT, "%s: there is no disk '%s'", vm->name, name);
	return err_hint(e, "'fermata domblklist %s' shows them", vm->name);
}

int set_string(char **to, const char *s, struct err *e)
{
	char *copy = strdup(s);

	if (!copy)
		return err_nomem(e, "note what a job did");
	free(*to);
	*to = copy;
	return 0;
}

int disk_use(struct fermata_vm *vm, const char *disk, const char *file, bool raw, struct err *e)
{
	const struct def_disk *def = def_disk_find(vm->def, disk);
	struct record_disk *d = record_disk_need(vm->rec, disk);

	if (!d)
		return err_nomem(e, "note what a job did");
	/* A guest writes to it from now on. */
	record_base_drop(vm->rec, file);
	d->raw = raw;
	if (!def || !same_file(def->file, file) || raw != (def->format == FORMAT_RAW))
		return set_string(&d->active, file, e);
	free(take_ptr(&d->active));
	free(take_ptr(&d->defined));
	d->raw = false;
	return 0;
}

int frozen_move(struct fermata_vm *vm, const char *from, const char *to, bool raw, struct err *e)
{
	for (size_t i = 0; i < vm->rec->n_snaps; i++)
		for (size_t k = 0; k < vm->rec->snaps[i]->n_disks; k++) {
			struct fermata_snap_disk *d = &vm->rec->snaps[i]->disks[k];

			if (!d->external || (strcmp(d->file, from) && !same_file(d->file, from)))
				continue;
			d->raw = raw;
			if (set_string(&d->file, to, e) < 0)
				return e->code;
		}
	return record_stay_move(vm->rec, from, to, raw, e);
}

int give_to_user(struct fermata_vm *vm, int fd, const char *path, struct err *e)
{
	uid_t uid;
	gid_t gid;

	if (!vm->def->user)
		return 0;
	if (kvm_user(vm->def->user, &uid, &gid, e) < 0)
		return e->code;
	if (fchown(fd, uid, gid) < 0)
		return err_sys(e, errno, "cannot give %s to %s", path, vm->def->user);
	return user_reaches(vm, path, e);
}

size_t fermata_vm_disks(const struct fermata_vm *vm)
{
	return vm->def->n_disks;
}

const char *fermata_vm_disk_name(const struct fermata_vm *vm, size_t i)
{
	return i < vm->def->n_disks ? vm->def->disks[i].name : NULL;
}

const char *fermata_vm_disk_file(const struct fermata_vm *vm, size_t i)
{
	const struct record_disk *d;
	const char *to;

	if (i >= vm->def->n_disks)
		return NULL;
	to = carrier_pending(vm->rec, vm->def->disks[i].name);
	if (to)
		return to;
	d = record_disk(vm->rec, vm->def->disks[i].name);
	return d && d->active ? d->active : vm->def->disks[i].file;
}

bool fermata_vm_disk_raw(const struct fermata_vm *vm, size_t i)
{
	const struct record_disk *d;

	if (i >= vm->def->n_disks || carrier_pending(vm->rec, vm->def->disks[i].name))
		return false;
	d = record_disk(vm->rec, vm->def->disks[i].name);
	return d && d->active ? d->raw : vm->def->disks[i].format == FORMAT_RAW;
}
