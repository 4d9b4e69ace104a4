/* instant.c */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/internal.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/qemu/qemu.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

int instant_name(struct fermata_vm *vm, struct fermata_snap *s, bool *handover, struct err *e)
{
	size_t n = strlen(s->memory);
	auto_ram struct ram r = { .mem = -1, .own = -1 };
	auto_buf struct buf sums = { 0 };
	auto_free char *tmp = NULL;
	const struct kvm_caps *caps;

	if (vm_caps(vm, &caps, e) < 0)
		return e->code;
	if (!kvm_caps_has_command(caps, "xen-save-devices-state"))
		return err_set(e, -EOPNOTSUPP, "QEMU %s cannot save device state alone", caps->version);
	if (ram_check(vm, e) < 0 || ram_open(vm, &r, e) < 0)
		return e->code;
	s->ram = str_fmt("%.*s.ram", (int)(str_ends(s->memory, ".mem") ? n - 4 : n), s->memory);
	if (!s->ram)
		return err_nomem(e, "name a file");
	tmp = mem_tmp(s->ram);
	if (!tmp)
		return err_nomem(e, "name a file");
	if (file_exists(s->ram) || file_exists(tmp))
		return err_set(e, -EEXIST, "%s is there already", file_exists(s->ram) ? s->ram : tmp);
	if (r.base && ram_base_sums(vm, r.base, &sums, e) < 0)
		return e->code;
	if (*handover && r.own < 0) {
		*handover = false;
		vm_notice(vm, "its memory is %s: what %s is copied", r.base ? "that of a checkpoint" : "no file, as with memory-mode = instant",
			sums.n ? "differs" : "it has");
	}
	if (sums.n && !(s->ram_base = strdup(r.base)))
		return err_nomem(e, "name a file");
	return 0;
}

/* ---- taking ---------------------------------------------------------------------------------------------- */

/* All that is written, the guest standing: of one instant. */
struct taking {
	const struct disks *ds;
	const struct fermata_snap *s;
	struct state_file state;
	struct ram from;
	struct mem_out mem;
	struct ram_out ram;
	bool differing, ran;
};

static int prepare(struct fermata_vm *vm, struct taking *t, struct err *e)
{
	const struct fermata_snap *s = t->s;

	return mem_out_open(s->memory, false, false, vm->rec->pending.mark, &t->mem, e) < 0 || ram_out_open(vm, s->ram, &t->ram, e) < 0 ||
		diskshot_prepare(vm, t->ds, s, e) < 0 || ram_open(vm, &t->from, e) < 0 || state_open(vm, &t->state, e) < 0 ?
		e->code : 0;
}

static int stand_and_copy(struct fermata_vm *vm, struct taking *t, const struct buf *base_sums, struct err *e)
{
	if (t->ran && kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0)
		return e->code;
	return state_save(vm, &t->state, false, e) < 0 || ram_save(vm, &t->from, base_sums, &t->ram, &t->mem.more, e) < 0 ||
		diskshot_switch(vm, t->ds, t->s, e) < 0 ? e->code : 0;
}

int instant_place(struct fermata_vm *vm, const struct fermata_snap *s, bool ran, struct ram_out *ram, struct mem_out *mem,
	const struct buf *stream, struct err *e)
{
	struct saving m = { .vm = vm, .snap = s, .run = ran, .ram = ram };
	auto_buf struct buf manifest = { 0 };

	return ram_out_place(ram, e) < 0 || mem_out_add(mem, stream->p, stream->n, e) < 0 || memory_manifest(&m, &manifest, e) < 0 ||
		mem_out_seal(mem, &manifest, e) < 0 || mem_out_place(mem, e) < 0 ? e->code : 0;
}

/* The guest runs again: no hurry. */
static int finish(struct fermata_vm *vm, struct taking *t, struct err *e)
{
	auto_buf struct buf stream = { 0 };

	return state_stream(vm, t->state.fd, t->s->machine, &stream, e) < 0 ||
		instant_place(vm, t->s, t->ran, &t->ram, &t->mem, &stream, e) < 0 ? e->code : 0;
}

static int take(struct fermata_vm *vm, struct taking *t, struct fermata_taken *made, struct err *e)
{
	auto_buf struct buf base_sums = { 0 };
	struct kvm_guard guard;
	struct err also;
	int rc;

	if ((t->differing && ram_base_sums(vm, t->s->ram_base, &base_sums, e) < 0) || prepare(vm, t, e) < 0 ||
		kvm_guard_call(vm_rescue, vm, &guard, e) < 0)
		return e->code;
	rc = stand_and_copy(vm, t, t->differing ? &base_sums : NULL, e);
	if (t->ran && vm_alive(vm) && kvm_cont(vm->kvm, deadline_in(CALL_MS), rc < 0 ? &also : e) < 0) {
		if (rc < 0)
			err_also(e, "and could not let the guest go on: %s", also.msg);
		else
			rc = e->code;
	}
	if (rc == 0)
		made->pause_us = checkpoint_pause_us(kvm_mon(vm->kvm));
	if (rc == 0)
		rc = finish(vm, t, e);
	kvm_guard_end(&guard);
	return rc;
}

int instant_take(struct fermata_vm *vm, const struct take *ask, struct fermata_taken *made, struct err *e)
{
	const struct fermata_snap *s = ask->snap;
	struct taking t = { .ds = ask->ds, .s = s, .state = { .fd = -1 }, .from = { .mem = -1, .own = -1 }, .mem = { .fd = -1 },
		.ram = { .fd = -1 }, .differing = s->ram_base && s->ram_base[0], .ran = vm->rec->pending.run };
	int rc = take(vm, &t, made, e);

	state_close(vm, &t.state);
	ram_done(&t.from);
	ram_out_done(&t.ram);
	mem_out_done(&t.mem);
	return rc;
}

/* ---- going back ------------------------------------------------------------------------------------------- */

int instant_load(struct fermata_vm *vm, struct instance *second, const struct fermata_snap *s, const struct mem_in *in, struct err *e)
{
	struct ram_in r;

	if (ram_look(in, s, &r, e) < 0 || (r.base && ram_patch(vm, second->kvm, &r, e) < 0))
		return e->code;
	return memory_load(vm, second, in, e);
}
