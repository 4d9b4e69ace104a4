/* A VM's definition is taken away, and all that is known of the VM with it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/undefined.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

static int check_unused(struct fermata_vm *vm, unsigned what, struct err *e)
{
	struct fermata_managed_save *saves = NULL;
	size_t n_saves = 0;

	if (vm_alive(vm)) {
		err_set(e, -EBUSY, "the VM is running");
		return err_hint(e, "'fermata shutdown %s' or 'destroy' first", vm->name);
	}
	if (jobs_none(vm, e) < 0)
		return e->code;
	if (vm->rec->n_snaps && !(what & FERMATA_UNDEFINE_SNAPSHOTS)) {
		err_set(e, -EBUSY, "it has %zu snapshot%s", vm->rec->n_snaps, vm->rec->n_snaps == 1 ? "" : "s");
		return err_hint(e, "--snapshots-metadata forgets them, their images and memory stay; --remove-all-storage removes all");
	}
	if (CONFIG_MEMORY && !(what & FERMATA_UNDEFINE_SAVES)) {
		if (fermata_managed_list(vm, &saves, &n_saves, e) < 0)
			return e->code;
		fermata_managed_free(saves, n_saves);
	}
	return n_saves ? err_hint((err_set(e, -EBUSY, "it has a managed save"), e), "--managed-save removes that, too") : 0;
}

/* The definition tells of one image, the record of another: nobody would know which one the guest wrote to. */
static void tell_images(struct fermata_vm *vm)
{
	for (size_t i = 0; i < vm->def->n_disks; i++) {
		const char *file = fermata_vm_disk_file(vm, i), *defined = vm->def->disks[i].file;

		if (strcmp(file, defined) && !same_file(file, defined))
			vm_notice(vm, "%s: the disk is %s, which stays", vm->def->disks[i].name, file);
	}
}

static int set_aside(struct fermata_vm *vm, unsigned what, struct err *e)
{
	auto_free char *conf = str_fmt("%s/%s.conf", vm->host->conf_dir, vm->name);
	auto_free char *aside = undefined_path(vm, what & (FERMATA_UNDEFINE_NVRAM | FERMATA_UNDEFINE_STORAGE));

	if (!conf || !aside)
		return err_nomem(e, "undefine a VM");
	if (rename(conf, aside) < 0)
		return err_sys(e, errno, "cannot rename %s", conf);
	if (dir_flush(vm->host->conf_dir, e) == 0)
		return 0;
	if (rename(aside, conf) < 0)
		e->code = FERMATA_PENDING;
	return e->code;
}

static int undefine(struct fermata_vm *vm, unsigned what, struct err *e)
{
	bool found;

	if (check_unused(vm, what, e) < 0 || (CONFIG_MEMORY && standby_give_up(vm, "the VM is undefined", e) < 0))
		return e->code;
	if (!(what & FERMATA_UNDEFINE_STORAGE))
		tell_images(vm);
	if (set_aside(vm, what, e) < 0)
		return e->code;
	if (undefined_finish(vm, &found, e) == 0)
		return 0;
	e->code = FERMATA_PENDING;
	return err_hint(e, "'fermata undefine %s' again does the rest", vm->name);
}

/* Cut off: the definition is set aside, and there is no VM to open. */
static int undefine_rest(struct fermata *f, const char *name, bool *found, struct err *e)
{
	auto_free char *conf = str_fmt("%s/%s.conf", f->conf_dir, name);
	auto_handle struct fermata_vm *vm = NULL;

	*found = false;
	if (!conf)
		return err_nomem(e, "undefine a VM");
	if (file_exists(conf))
		return 0;
	if (vm_new(f, name, &vm, e) < 0)
		return e->code;
	return undefined_is(vm) && (vm_take_lock(vm, "undefine", e) < 0 || undefined_finish(vm, found, e) < 0) ? e->code : 0;
}

int fermata_undefine(struct fermata *f, const char *name, unsigned what, struct err *e)
{
	auto_handle struct fermata_vm *vm = NULL;
	struct err bad_name;
	bool found = false;

	if (def_check_name(name, &bad_name) == 0 && undefine_rest(f, name, &found, e) < 0)
		return e->code;
	if (found)
		return 0;
	if (fermata_vm_open(f, name, FERMATA_WRITE, "undefine", &vm, e) < 0)
		return e->code;
	return undefine(vm, what, e) < 0 ? err_at(e, "%s: cannot undefine it", name) : 0;
}
