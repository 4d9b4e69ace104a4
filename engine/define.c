/* A VM's definition is checked and put in its place. */
#include <stdlib.h>
#include <string.h>

#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/undefined.h"
#include "engine/vm/policy.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

/* A path that was relative means another file in another folder. */
static int check_path(const char *key, const char *here, const char *there, struct err *e)
{
	if (!here || !there || !strcmp(here, there))
		return 0;
	err_set(e, -EINVAL, "%s = %s is relative, and would be %s", key, here, there);
	return err_hint(e, "a definition's paths count from its own folder; give this one whole");
}

static int check_paths(const struct def *here, const struct def *there, struct err *e)
{
	for (size_t i = 0; i < here->n_disks; i++)
		if (check_path("file", here->disks[i].file, there->disks[i].file, e) < 0)
			return err_at(e, "[disk %s]", here->disks[i].name);
	for (size_t i = 0; i < here->n_cdroms; i++)
		if (check_path("file", here->cdroms[i].file, there->cdroms[i].file, e) < 0)
			return err_at(e, "[disk %s]", here->cdroms[i].name);
	for (size_t i = 0; i < here->backing_dirs.n; i++)
		if (check_path("backing-dir", here->backing_dirs.v[i], there->backing_dirs.v[i], e) < 0)
			return e->code;
	return check_path("kernel", here->kernel, there->kernel, e) < 0 || check_path("initrd", here->initrd, there->initrd, e) < 0 ||
		check_path("firmware", here->firmware, there->firmware, e) < 0 || check_path("nvram", here->nvram, there->nvram, e) < 0 ||
		check_path("memory-dir", here->memory_dir, there->memory_dir, e) < 0 ||
		check_path("snapshot-dir", here->snapshot_dir, there->snapshot_dir, e) < 0 ||
		check_path("qemu", here->qemu, there->qemu, e) < 0 ? e->code : 0;
}

/* What is on record of the VM is of the images that the definition names. */
static int check_record(struct fermata_vm *vm, bool fresh, struct err *e)
{
	auto_free char *state = str_fmt("%s/state.json", vm->state_dir);

	if (!state)
		return err_nomem(e, "define a VM");
	if (record_load(state, &vm->rec, e) < 0 || definition_heeded(vm, e) < 0)
		return e->code;
	if (fresh && vm->rec->n_snaps)
		vm_notice(vm, "%s has a record from before: %zu snapshot%s", vm->name, vm->rec->n_snaps, vm->rec->n_snaps == 1 ? "" : "s");
	return 0;
}

static int define(struct fermata_vm *vm, const struct buf *text, const char *from, struct err *e)
{
	auto_free char *conf = str_fmt("%s/%s.conf", vm->host->conf_dir, vm->name);
	auto_def struct def *here = NULL;
	bool left;

	if (!conf)
		return err_nomem(e, "define a VM");
	if (def_parse(text, from ? from : conf, vm->name, &policy_section, &here, e) < 0 ||
		def_parse(text, conf, vm->name, &policy_section, &vm->def, e) < 0 || check_paths(here, vm->def, e) < 0)
		return e->code;
	if (dir_make(vm->host->conf_dir, 0755, e) < 0 || vm_take_lock(vm, "define", e) < 0 || undefined_finish(vm, &left, e) < 0 ||
		check_record(vm, !file_exists(conf), e) < 0)
		return e->code;
	return file_replace(conf, text->p, text->n, 0644, e);
}

int fermata_define(struct fermata *f, const char *name, const char *text, size_t n, const char *from, struct err *e)
{
	auto_handle struct fermata_vm *vm = NULL;
	auto_buf struct buf b = { 0 };

	buf_add(&b, text, n);
	if (def_check_name(name, e) < 0 || buf_check(&b, "define a VM", e) < 0 || vm_new(f, name, &vm, e) < 0)
		return e->code;
	return define(vm, &b, from, e);
}
