/* Restore saved memory. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/internal.h"
#include "engine/save/managed.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

/* It has loaded, the guest is paused: a managed save is used up before it goes on. */
int restore_finish(struct fermata_vm *vm, bool run, struct err *e)
{
	bool keep_time = vm->rec->pending.keep_time;
	struct kvm *k;

	if (saved_forget(vm, e) < 0 || managed_use_up(vm, vm->rec->pending.snap->memory, e) < 0)
		return e->code;
	if (fermata_vm_kvm(vm, &k, e) < 0 || (run && kvm_cont(k, deadline_in(CALL_MS), e) < 0))
		return e->code;
	vm_because(vm, run ? FERMATA_RUNNING : FERMATA_PAUSED, "restored");
	if (pending_end(vm, e) < 0)
		return e->code;
	if (run)
		after_restore(vm, keep_time);
	return 0;
}

static int check(struct fermata_vm *vm, const struct mem_in *in, bool force, struct err *e)
{
	struct fermata_snap s = { .qemu = (char *)mem_in_str(in, "qemu"), .machine = (char *)mem_in_str(in, "machine"),
		.made = (char *)mem_in_str(in, "made") };

	if (vm_alive(vm))
		return err_set(e, -EEXIST, "the VM is running already");
	if (strcmp(mem_in_str(in, "vm"), vm->name))
		return err_set(e, -EINVAL, "it is the memory of '%s'", mem_in_str(in, "vm"));
	if (force)
		return 0;
	return manifest_check_disks(vm, in, e) < 0 || manifest_check_definition(vm, in, e) < 0 || check_installed_qemu(vm, &s, e) < 0 ? e->code : 0;
}

static int restore(struct fermata_vm *vm, const char *path, const struct fermata_restore *r, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	const struct kvm_caps *caps;
	const char *machine;
	struct err also;
	bool run;

	if (mem_in_open(path, &in, e) < 0 || (r->file && spare_managed(vm, path, r->force, e) < 0) || check(vm, &in, r->force, e) < 0 ||
		vm_caps(vm, &caps, e) < 0)
		return e->code;
	machine = mem_in_str(&in, "machine");
	run = r->running || (!r->paused && !strcmp(mem_in_str(&in, "state"), "running"));
	if (save_begin(vm, (struct pending){ .op = PENDING_RESTORE, .run = run, .keep_time = r->keep_time }, path, e) < 0)
		return e->code;
	if (life_launch(vm, kvm_caps_machine(caps, machine) ? machine : NULL, true, NULL, e) == 0 && memory_load(vm, &(struct instance){ vm->run_dir, vm->kvm }, &in, e) == 0) {
		if (restore_finish(vm, run, e) == 0)
			return 0;
		e->code = FERMATA_PENDING;
		return err_hint(e, "it is loaded and on record; the next command finishes it");
	}
	if (vm_alive(vm) && life_kill(vm, &also) < 0)
		err_also(e, "and could not stop it: %s", also.msg);
	vm_hang_up(vm);
	return save_give_up(vm, false, e);
}

int fermata_restore(struct fermata_vm *vm, const struct fermata_restore *r, struct err *e)
{
	auto_free char *path = r->file ? NULL : managed_path(vm);

	if (r->file && path_typed(r->file, &path, e) < 0)
		return err_at(e, "%s", vm->name);
	if (!path)
		return err_nomem(e, "restore");
	if (restore(vm, path, r, e) == 0)
		return 0;
	/* It was held against the present VM and refused, or QEMU could not load it. What is missing may come back. */
	if (!r->file && (e->code == -ESTALE || e->code == -EINVAL || e->code == -EUCLEAN || e->code == -EREMOTEIO)) {
		e->hint[0] = '\0';
		err_hint(e, "--force-boot starts it without, 'restore --force %s' tries it all the same", path);
	}
	return err_at(e, "%s: cannot restore", vm->name);
}
