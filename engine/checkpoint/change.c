/* The second QEMU takes the place of the running one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/own.h"

/* Everything from the end of the present QEMU on; done again, it goes on where it was. */
static int change(struct fermata_vm *vm, struct err *e)
{
	auto_free char *next = checkpoint_beside(vm);
	bool run = vm->rec->pending.run, keep_time = vm->rec->pending.keep_time;
	struct kvm *k;

	if (!next)
		return err_nomem(e, "revert");
	if ((kvm_pid(next) && life_kill(vm, e) < 0) || revert_ext_switch(vm, e) < 0 || record_save(vm->rec, e) < 0 ||
		checkpoint_move_in(vm, e) < 0 || fermata_vm_kvm(vm, &k, e) < 0 ||
		(run && kvm_cont(k, deadline_in(CALL_MS), e) < 0))
		return e->code;
	vm_because(vm, run ? FERMATA_RUNNING : FERMATA_PAUSED, "from snapshot");
	if (pending_end(vm, e) < 0)
		return e->code;
	trash_empty(vm);
	if (run)
		after_restore(vm, keep_time);
	return 0;
}

int checkpoint_change(struct fermata_vm *vm, struct err *e)
{
	struct kvm_guard guard;
	int rc;

	if (kvm_guard_call(vm_rescue, vm, &guard, e) < 0)
		return e->code;
	rc = change(vm, e);
	kvm_guard_end(&guard);
	return rc;
}

int checkpoint_revert_recover(struct fermata_vm *vm, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	auto_free char *next = checkpoint_beside(vm);
	bool alive = vm_alive(vm), switched = s->n_disks || vm->rec->pending.switched;

	if (!next)
		return err_nomem(e, "recover");
	if (!vm->rec->standby && standby_take(vm, e) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks; j++)
		switched &= !s->disks[j].external || !s->disks[j].overlay[0];
	/*
	 * Once the disks have switched, a QEMU that lives is the second one, in its own place or already in the other's. Before,
	 * the present one may live and yet have been told to end: when the second one stands there is no going back.
	 */
	if (switched ? alive || kvm_pid(next) : checkpoint_stands(next)) {
		vm_notice(vm, "snapshot-revert to '%s' was cut off: it is now finished", s->name);
		return change(vm, e);
	}
	if (kvm_destroy(next, 0, false, e) < 0)
		return e->code;
	kvm_remove(next, vm->run_dir);
	if (!switched) {
		vm_notice(vm, "snapshot-revert to '%s' was cut off: %s", s->name,
			alive ? "the guest goes on where it was" : "the VM is off, its disks are as they were");
		return revert_ext_undo(vm, e);
	}
	vm_notice(vm, "snapshot-revert to '%s' was cut off: the VM is off, its disks are at '%s'; revert again to bring its memory back",
		s->name, s->name);
	return pending_end(vm, e);
}
