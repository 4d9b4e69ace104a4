/* Launch QEMU for a VM, and end it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/qemu/internal.h"
#include "engine/qemu/qemu.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"

const char *life_memory_dir(const struct fermata_vm *vm)
{
	if (strcmp(vm->def->memory_mode, "instant"))
		return NULL;
	return vm->def->memory_dir ? vm->def->memory_dir : vm->host->memory_dir;
}

static int end(struct instance *q, struct err *e)
{
	kvm_close(q->kvm);
	q->kvm = NULL;
	return kvm_destroy(q->dir, KILL_GRACE_MS, false, e);
}

int launch(struct fermata_vm *vm, struct instance *q, struct kvm_spec *spec, const struct chains *chains, struct err *e)
{
	char notice[200] = "";
	struct err unknown;

	spec->def = vm->def;
	spec->run_dir = q->dir;
	spec->memory_dir = life_memory_dir(vm);
	if (spec->memory_map && kvm_map_copies(spec->caps, spec->memory_map)) {
		spec->memory_dir = vm->def->memory_dir ? vm->def->memory_dir : vm->host->memory_dir;
		vm_notice(vm, "QEMU %s does not map memory from a file system that is read-only: what %s has is copied to %s",
			spec->caps->version, spec->memory_map, spec->memory_dir);
	}
	if (vm->nvram.file && chain_alone(vm->nvram.file, e) < 0)
		return err_at(e, "nvram");
	spec->chains = chains->chain;
	if (definition_heeded(vm, e) < 0 || (spec->memory_map && user_reaches(vm, spec->memory_map, e) < 0))
		return e->code;
	if (kvm_start(spec, deadline_in(START_MS), &q->kvm, notice, sizeof notice, e) < 0)
		return e->code;
	if (chains_opened(vm, q->kvm, chains, e) < 0 || kvm_limit_disks(q->kvm, vm->def, deadline_in(CALL_MS), e) < 0) {
		struct err also;

		if (end(q, &also) < 0)
			err_also(e, "and could not stop it: %s", also.msg);
		return e->code;
	}
	if (notice[0])
		vm_notice(vm, "%s", notice);
	/* Nothing depends on it but what a later checkpoint is refused for. */
	if (kvm_devices_note(q->kvm, q->dir, &unknown) < 0)
		vm_notice(vm, "what is plugged in from now on will not be noticed: %s", unknown.msg);
	return 0;
}

/* For the next start to compare. No start fails for it: where the record cannot be written, nothing can be changed either. */
static void note_bases(struct fermata_vm *vm, const struct chains *chains)
{
	struct err ignored;

	bases_note(vm, chains);
	if (vm->rec->bases_new && record_save(vm->rec, &ignored) < 0)
		vm->rec->bases_new = true;
}

int life_launch(struct fermata_vm *vm, const char *machine, bool incoming, const char *map, struct err *e)
{
	struct kvm_spec spec = { .machine = machine, .incoming = incoming, .memory_map = map };
	struct instance own = { .dir = vm->run_dir };
	auto_chains struct chains chains = { 0 };
	struct err also;
	int rc;

	/* One that loads memory does not change its disks before it has. */
	if (vm_caps(vm, &spec.caps, e) < 0 || chains_find(vm, &chains, e) < 0 || native_reclaim(vm, e) < 0 ||
		(!incoming && saved_forget(vm, e) < 0))
		return e->code;
	note_bases(vm, &chains);
	vm_hang_up(vm);
	rc = launch(vm, &own, &spec, &chains, e);
	vm->kvm = own.kvm;
	if (rc == 0 && (rc = kvm_forward(vm->kvm, vm->def, false, deadline_in(CALL_MS), e)) < 0 && life_kill(vm, &also) < 0)
		err_also(e, "and could not stop it: %s", also.msg);
	return rc;
}

int life_kill(struct fermata_vm *vm, struct err *e)
{
	vm_hang_up(vm);
	return kvm_destroy(vm->run_dir, KILL_GRACE_MS, false, e);
}
