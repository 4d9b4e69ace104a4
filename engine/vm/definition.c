/* The definition that a VM is opened with: what its file says, or, while it runs without a file that can be read, what it was started with. */
#include <string.h>

#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/policy.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"

int no_such_vm(struct fermata *f, const char *name, struct err *e)
{
	auto_free char *names = NULL;
	struct err ignored;

	err_set(e, -ENOENT, "%s: there is no such VM (no %s/%s.conf)", name, f->conf_dir, name);
	if (fermata_names(f, &names, &ignored) < 0)
		return e->code;
	for (const char *n = names; *n; n += strlen(n) + 1)
		if (text_distance(n, name) <= 2)
			return err_hint(e, "did you mean '%s'?", n);
	return err_hint(e, "'fermata list --all' shows the VMs that there are");
}

int definition_there(struct fermata_vm *vm, struct err *e)
{
	auto_free char *conf = str_fmt("%s/%s.conf", vm->host->conf_dir, vm->name);

	if (!conf)
		return err_nomem(e, "open a VM");
	return file_exists(conf) || vm_alive(vm) ? 0 : no_such_vm(vm->host, vm->name, e);
}

int definition_read(struct fermata_vm *vm, struct err *e)
{
	auto_free char *conf = str_fmt("%s/%s.conf", vm->host->conf_dir, vm->name);
	struct err broken;

	if (!conf)
		return err_nomem(e, "open a VM");
	if (!file_exists(conf))
		no_such_vm(vm->host, vm->name, &broken);
	else if (def_read(conf, vm->name, &policy_section, &vm->def, &broken) == 0)
		broken.code = 0;
	if (broken.code) {
		/* A definition is for the next start. */
		if (!vm_alive(vm) || kvm_definition(vm->run_dir, conf, vm->name, &policy_section, &vm->def, e) < 0) {
			*e = broken;
			return e->code;
		}
		if (!file_exists(conf))
			err_set(&broken, -ENOENT, "there is no %s any more", conf);
		vm->trouble = broken;
	}
	if (vm->def->nvram_format == FORMAT_QCOW2)
		vm->nvram = (struct def_disk){ .name = KVM_NODE_NVRAM, .file = vm->def->nvram, .format = FORMAT_QCOW2 };
	return 0;
}

int definition_heeded(struct fermata_vm *vm, struct err *e)
{
	for (size_t i = 0; i < vm->def->n_disks; i++) {
		const struct def_disk *k = &vm->def->disks[i];
		const struct record_disk *d = record_disk(vm->rec, k->name);

		if (!d || !d->active || !d->defined || !strcmp(d->defined, k->file) || same_file(d->defined, k->file) || same_file(d->active, k->file))
			continue;
		err_set(e, -EINVAL, "[disk %s] names %s now, but what is on record (snapshots, and %s with what the guest wrote) began with %s",
			k->name, k->file, d->active, d->defined);
		return err_hint(e, "name that again; or, to begin anew with the other one, move %s away", vm->rec->path);
	}
	return 0;
}

const struct err *fermata_vm_trouble(const struct fermata_vm *vm)
{
	return vm->trouble.code ? &vm->trouble : NULL;
}
