/* A second QEMU beside the running one, in a run directory of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/qemu/internal.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/own.h"

char *standby_dir(const struct fermata_vm *vm)
{
	return str_fmt("%s/standby", vm->run_dir);
}

char *checkpoint_beside(const struct fermata_vm *vm)
{
	return str_fmt("%s/next", vm->run_dir);
}

int checkpoint_next(struct fermata_vm *vm, const struct fermata_snap *s, const char *machine, checkpoint_next_fn *fn, void *ctx,
	struct err *e)
{
	auto_free char *next = checkpoint_beside(vm), *standby = standby_dir(vm);
	struct instance second = { .dir = next };
	const char *aside;
	struct err also;
	int rc;

	if (!next || !standby)
		return err_nomem(e, "load memory");
	vm_hang_up(vm);
	aside = kvm_sockets_aside((const char *[]){ vm->run_dir, standby });
	rc = life_launch_on(vm, &second, s, machine, instant_map(s), aside, e) < 0 || fn(vm, &second, s, ctx, e) < 0 ? e->code : 0;
	kvm_close(second.kvm);
	if (rc < 0 && kvm_pid(next) && kvm_destroy(next, KILL_GRACE_MS, false, &also) < 0)
		err_also(e, "and could not stop it: %s", also.msg);
	if (rc < 0) {
		kvm_sockets_remove(vm->def, aside);
		kvm_remove(next, vm->run_dir);
	}
	if (rc == -EREMOTEIO && vm_alive(vm))
		err_hint(e, "the present guest runs on; if both want the same of the host, end that first: fermata destroy %s", vm->name);
	return rc;
}

static bool has_forwards(const struct def *d)
{
	bool has = false;

	for (size_t i = 0; i < d->n_nets; i++)
		has |= d->nets[i].hostfwd.n > 0;
	return has;
}

int checkpoint_move_in(struct fermata_vm *vm, struct err *e)
{
	auto_free char *next = checkpoint_beside(vm);
	struct kvm *k;
	struct err why;

	if (!next)
		return err_nomem(e, "move a VM");
	if (kvm_move(next, vm->run_dir, e) < 0)
		return e->code;
	/* The guest does not wait for that. */
	if (kvm_sockets_move(vm->run_dir, &why) < 0)
		vm_notice(vm, "a socket of the definition's [qemu] args is not where it should be: %s", why.msg);
	if (has_forwards(vm->def) && (fermata_vm_kvm(vm, &k, &why) < 0 || kvm_forward(k, vm->def, true, deadline_in(CALL_MS), &why) < 0))
		vm_notice(vm, "not every hostfwd of the definition reaches the guest: %s", why.msg);
	return 0;
}

bool checkpoint_stands(const char *dir)
{
	char status[KVM_STATUS_MAX];
	struct err ignored;
	struct kvm *k;
	bool yes;

	if (!kvm_pid(dir) || kvm_open(dir, deadline_in(CALL_MS), &k, &ignored) < 0)
		return false;
	yes = kvm_status(k, status, &ignored) == 0 && strcmp(status, "inmigrate");
	kvm_close(k);
	return yes;
}
