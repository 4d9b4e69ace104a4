/* start: from a managed save if there is one, else from the disks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"

int fermata_start(struct fermata_vm *vm, bool paused, struct err *e)
{
	struct err also;

	if (vm_alive(vm))
		return err_set(e, -EEXIST, "%s: the VM is running already", vm->name);
	if (CONFIG_MEMORY && fermata_managed(vm))
		return fermata_restore(vm, &(struct fermata_restore){ .paused = paused }, e);
	if (life_launch(vm, NULL, false, NULL, e) < 0)
		return err_at(e, "%s: cannot start", vm->name);
	if (!paused && kvm_cont(vm->kvm, deadline_in(CALL_MS), e) < 0) {
		err_at(e, "%s: cannot start", vm->name);
		if (life_kill(vm, &also) < 0)
			err_also(e, "and could not stop it: %s", also.msg);
		return e->code;
	}
	vm_because(vm, paused ? FERMATA_PAUSED : FERMATA_RUNNING, paused ? "starting up" : "booted");
	return 0;
}
