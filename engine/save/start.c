/* start: from a managed save if there is one, else from the disks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/managed.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/own.h"

/* QEMU is up: from here on the save is not what the VM goes on from. @file: out, where it is now. */
static int pass_by_save(struct fermata_vm *vm, char **file, struct err *e)
{
	*file = NULL;
	return CONFIG_MEMORY ? managed_set_aside(vm, file, e) : 0;
}

int fermata_start_afresh(struct fermata_vm *vm, bool paused, bool keep, struct err *e)
{
	auto_free char *save = NULL;
	uint64_t saved = vm->rec->saved;
	struct err also;

	if (vm_alive(vm))
		return err_set(e, -EEXIST, "%s: the VM is running already", vm->name);
	if (life_launch(vm, NULL, false, NULL, e) < 0) {
		/* Nothing ran: the memory that belonged to the disks still does. */
		vm->rec->saved = saved;
		if (saved && record_save(vm->rec, &also) < 0)
			err_also(e, "and: %s", also.msg);
		return err_at(e, "%s: cannot start", vm->name);
	}
	if (pass_by_save(vm, &save, e) < 0 || (!paused && kvm_cont(vm->kvm, deadline_in(CALL_MS), e) < 0)) {
		err_at(e, "%s: cannot start", vm->name);
		if (life_kill(vm, &also) < 0)
			err_also(e, "and could not stop it: %s", also.msg);
		else if (CONFIG_MEMORY && managed_put_back(vm, save, &also) < 0)
			err_also(e, "and: %s", also.msg);
		return e->code;
	}
	vm_because(vm, paused ? FERMATA_PAUSED : FERMATA_RUNNING, paused ? "starting up" : "booted");
	if (!CONFIG_MEMORY || !save)
		return 0;
	if (!keep && !paused && managed_use_up(vm, save, &also) < 0)
		vm_notice(vm, "%s", also.msg);
	else if (keep || paused)
		managed_tell(vm, save);
	return 0;
}

int fermata_start(struct fermata_vm *vm, bool paused, struct err *e)
{
	if (CONFIG_MEMORY && !vm_alive(vm) && fermata_managed(vm))
		return fermata_restore(vm, &(struct fermata_restore){ .paused = paused }, e);
	return fermata_start_afresh(vm, paused, true, e);
}
