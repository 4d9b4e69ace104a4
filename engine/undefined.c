/*
 * What is left of a VM that was undefined. Its definition is set aside under a name that says what is to be removed with it: that
 * rename is the commit point, and all that comes after it can be repeated by whoever takes the VM's lock next.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/undefined.h"
#include "engine/vm/policy.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

char *undefined_path(const struct fermata_vm *vm, unsigned what)
{
	return str_fmt("%s/%s.conf.undefined%s%s", vm->host->conf_dir, vm->name, what & FERMATA_UNDEFINE_NVRAM ? "+nvram" : "",
		what & FERMATA_UNDEFINE_STORAGE ? "+storage" : "");
}

/* What stays is named: nobody else will find it. */
static void remove_one(struct fermata_vm *vm, const char *file)
{
	auto_free char *conf = str_fmt("%s/%s.conf", vm->host->conf_dir, vm->name);
	size_t n = strlen(vm->state_dir);
	struct err why;

	if (!file || !file[0] || !file_exists(file))
		return;
	/* A VM of that name is there again, and its user may have put an image in the place of one that was to be removed. */
	if (!conf || (file_exists(conf) && (strncmp(file, vm->state_dir, n) || file[n] != '/'))) {
		vm_notice(vm, "%s stays: the VM of that name that was undefined had it", file);
		return;
	}
	if (needed_by_others(vm, file)) {
		vm_notice(vm, "%s stays: another VM needs it", file);
		return;
	}
	if (overlay_remove(file, &why) < 0 || file_flush_name(file, &why) < 0)
		vm_notice(vm, "%s stays: %s", file, why.msg);
}

static void remove_snapshot_files(struct fermata_vm *vm, const struct fermata_snap *s)
{
	const char *files[] = { s->memory, s->ram, s->ram_base, s->nvram };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		remove_one(vm, files[i]);
	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external)
			remove_one(vm, s->disks[j].file);
}

/* Overlays before what they are backed by. A base that the user has made is in no list. */
static void remove_storage(struct fermata_vm *vm)
{
	struct record *r = vm->rec;

	for (size_t i = 0; i < r->n_disks; i++)
		remove_one(vm, r->disks[i].active);
	for (size_t i = r->n_snaps; i-- > 0;)
		remove_snapshot_files(vm, r->snaps[i]);
	for (size_t i = 0; i < r->n_stays; i++)
		remove_one(vm, r->stays[i].file);
	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (!vm->def->disks[i].readonly)
			remove_one(vm, vm->def->disks[i].file);
}

static void remove_saves(struct fermata_vm *vm)
{
	struct fermata_managed_save *all;
	struct err why;
	size_t n;

	if (fermata_managed_list(vm, &all, &n, &why) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		remove_one(vm, all[i].file);
	fermata_managed_free(all, n);
}

static int remove_all(struct fermata_vm *vm, unsigned what, const char *aside, struct err *e)
{
	for (size_t i = 0; i < vm->rec->n_trash; i++)
		remove_one(vm, vm->rec->trash[i]);
	if (CONFIG_MEMORY)
		remove_saves(vm);
	if (what & FERMATA_UNDEFINE_STORAGE)
		remove_storage(vm);
	if (what & FERMATA_UNDEFINE_NVRAM)
		remove_one(vm, vm->def->nvram);
	if (unlink(vm->rec->path) < 0 && errno != ENOENT)
		return err_sys(e, errno, "cannot remove %s", vm->rec->path);
	if (dir_flush(vm->state_dir, e) < 0)
		return e->code;
	if (unlink(aside) < 0)
		return err_sys(e, errno, "cannot remove %s", aside);
	rmdir(vm->state_dir); /* if it is empty */
	return dir_flush(vm->host->conf_dir, e);
}

/* The VM's definition and record are those of the undefined one meanwhile. */
static int finish(struct fermata_vm *vm, unsigned what, const char *aside, struct err *e)
{
	auto_free char *conf = str_fmt("%s/%s.conf", vm->host->conf_dir, vm->name), *state = str_fmt("%s/state.json", vm->state_dir);
	struct def *def = vm->def;
	struct record *rec = vm->rec;
	int rc;

	vm->def = NULL;
	vm->rec = NULL;
	if (!conf || !state)
		rc = err_nomem(e, "undefine a VM");
	else
		rc = def_read_as(aside, conf, vm->name, &policy_section, &vm->def, e) < 0 || record_load(state, &vm->rec, e) < 0 ? e->code :
			remove_all(vm, what, aside, e);
	def_free(vm->def);
	record_free(vm->rec);
	vm->def = def;
	vm->rec = rec;
	return rc;
}

bool undefined_is(const struct fermata_vm *vm)
{
	bool is = false;

	for (unsigned what = 0; what <= (FERMATA_UNDEFINE_NVRAM | FERMATA_UNDEFINE_STORAGE) && !is; what++) {
		auto_free char *aside = undefined_path(vm, what);

		is = aside && file_exists(aside);
	}
	return is;
}

int undefined_finish(struct fermata_vm *vm, bool *found, struct err *e)
{
	*found = false;
	for (unsigned what = 0; what <= (FERMATA_UNDEFINE_NVRAM | FERMATA_UNDEFINE_STORAGE); what++) {
		auto_free char *aside = undefined_path(vm, what);

		if (!aside)
			return err_nomem(e, "undefine a VM");
		if (!file_exists(aside))
			continue;
		*found = true;
		if (finish(vm, what, aside, e) < 0)
			return err_at(e, "%s: cannot remove what an undefined VM has left", vm->name);
	}
	return 0;
}
