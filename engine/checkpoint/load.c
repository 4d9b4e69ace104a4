/* Load an external checkpoint in a second QEMU beside the running one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/internal.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/qemu/qemu.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/err.h"

#define QEMU_BYTES (64u << 20) /* what a QEMU needs for itself */

int checkpoint_check(struct fermata_vm *vm, const struct fermata_snap *s, bool force, bool verify, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct ram_in r = { 0 };
	uint64_t need, has;

	if (memory_open(s->memory, s, &in, e) < 0 || (!force && check_installed_qemu(vm, s, e) < 0) || kvm_memory_free(&has, e) < 0)
		return e->code;
	if (fermata_snap_instant(s) && (ram_look(&in, s, &r, e) < 0 || (verify && ram_verify(vm, &r, e) < 0)))
		return e->code;
	/* What is mapped can be given back at any time; what the guest changes of it from then on is its own affair. */
	need = in.stream + (r.base ? r.stored : 0) + QEMU_BYTES;
	if (!vm_alive(vm) || has >= need)
		return 0;
	err_set(e, -ENOMEM, "beside the present guest it needs %llu MiB, the host has %llu MiB", (unsigned long long)(need >> 20),
		(unsigned long long)(has >> 20));
	return err_hint(e, "'fermata destroy %s' first gives up the present", vm->name);
}

static int load_checkpoint(struct fermata_vm *vm, struct instance *second, const struct fermata_snap *s, void *ctx, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };

	(void)ctx;
	if (mem_in_open(s->memory, &in, e) < 0)
		return e->code;
	return fermata_snap_instant(s) ? instant_load(vm, second, s, &in, e) : memory_load(vm, second, &in, e);
}

int checkpoint_load(struct fermata_vm *vm, const struct fermata_snap *s, bool force, struct err *e)
{
	const struct kvm_caps *caps;

	if (vm_caps(vm, &caps, e) < 0)
		return e->code;
	return checkpoint_next(vm, s, s->machine[0] && (!force || kvm_caps_machine(caps, s->machine)) ? s->machine : NULL,
		load_checkpoint, NULL, e);
}
