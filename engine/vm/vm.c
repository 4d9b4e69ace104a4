/* One VM: its definition, its record, its lock, and the QEMU behind it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "monitor/monitor.h"

void fermata_vm_close(struct fermata_vm *vm)
{
	if (!vm)
		return;
	vm_hang_up(vm);
	kvm_caps_free(vm->caps);
	record_free(vm->rec);
	def_free(vm->def);
	if (vm->lock >= 0)
		close(vm->lock);
	free(vm->name);
	free(vm->run_dir);
	free(vm->state_dir);
	free(vm);
}

#define LOCK_WAIT_MS 10000

int vm_new(struct fermata *f, const char *name, struct fermata_vm **out, struct err *e)
{
	struct fermata_vm *vm = calloc(1, sizeof *vm);

	*out = vm;
	if (!vm)
		return err_nomem(e, "open a VM");
	vm->host = f;
	vm->lock = -1;
	vm->name = strdup(name);
	vm->run_dir = str_fmt("%s/%s", f->run_dir, name);
	vm->state_dir = str_fmt("%s/%s", f->state_dir, name);
	return vm->name && vm->run_dir && vm->state_dir ? 0 : err_nomem(e, "open a VM");
}

int vm_take_lock(struct fermata_vm *vm, const char *what, struct err *e)
{
	auto_free char *path = str_fmt("%s/lock", vm->run_dir);

	if (!path)
		return err_nomem(e, "open a VM");
	if (dir_make(vm->run_dir, 0700, e) < 0 || dir_make(vm->state_dir, 0700, e) < 0 ||
		lock_take(path, what, LOCK_WAIT_MS, &vm->lock, e) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

const char *fermata_version(void)
{
	return FERMATA_VERSION;
}

const struct def *fermata_vm_def(const struct fermata_vm *vm)
{
	return vm->def;
}

const char *fermata_vm_name(const struct fermata_vm *vm)
{
	return vm->name;
}

const char *fermata_vm_run_dir(const struct fermata_vm *vm)
{
	return vm->run_dir;
}

bool vm_alive(const struct fermata_vm *vm)
{
	return kvm_pid(vm->run_dir) != 0;
}

void vm_hang_up(struct fermata_vm *vm)
{
	kvm_close(vm->kvm);
	vm->kvm = NULL;
}

void vm_rescue(void *ctx)
{
	struct fermata_vm *vm = ctx;

	if (vm->rescue)
		vm->rescue(vm);
}

void vm_ask_anew(struct fermata_vm *vm)
{
	if (vm->kvm)
		mon_ahead_forget(kvm_mon(vm->kvm));
}

int vm_caps(struct fermata_vm *vm, const struct kvm_caps **caps, struct err *e)
{
	auto_free char *cache = str_fmt("%s/.probe", vm->host->state_dir);

	if (!cache)
		return err_nomem(e, "probe QEMU");
	if (!vm->caps && kvm_probe(vm->def->qemu, cache, &vm->caps, e) < 0)
		return e->code;
	*caps = vm->caps;
	return 0;
}

int fermata_vm_kvm(struct fermata_vm *vm, struct kvm **out, struct err *e)
{
	if (!vm->kvm && kvm_open(vm->run_dir, deadline_in(CALL_MS), &vm->kvm, e) < 0) {
		if (e->code == -ESRCH) {
			err_set(e, -ESRCH, "%s: the VM is not running", vm->name);
			return err_hint(e, "'fermata start %s' starts it", vm->name);
		}
		return err_at(e, "%s", vm->name);
	}
	*out = vm->kvm;
	return 0;
}

/* ---- state -------------------------------------------------------------------------------------------- */
