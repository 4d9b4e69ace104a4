/* checkpoint.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/internal.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

int checkpoint_name(struct fermata_vm *vm, struct fermata_snap *s, const struct fermata_create *c, bool *handover, struct err *e)
{
	static const struct output_kind kind = { "saved memory", mem_is };
	const char *dir = vm->def->snapshot_dir;
	auto_free char *tmp = NULL;

	*handover = c->handover;
	if (c->memory && path_typed(c->memory, &s->memory, e) < 0)
		return e->code;
	if (!c->memory)
		s->memory = str_fmt("%s/%.*s-%llu.mem", dir ? dir : vm->state_dir, name_in_file(s->name), s->name, (unsigned long long)s->id);
	tmp = s->memory ? mem_tmp(s->memory) : NULL;
	if (!tmp)
		return err_nomem(e, "name a file");
	if (file_exists(s->memory))
		return err_set(e, -EEXIST, "%s is there already", s->memory);
	if (output_check(vm, s->memory, tmp, &kind, e) < 0)
		return e->code;
	if (file_exists(tmp)) {
		err_set(e, -EEXIST, "%s is there already", tmp);
		return err_hint(e, "memory goes there until it is whole: move it away, or name another file");
	}
	return memory_check(vm, s->memory, e) < 0 || (c->instant && instant_name(vm, s, handover, e) < 0) ? e->code : 0;
}

/* The guest stands until all of its memory is in the file. */
static int take_stopped(struct fermata_vm *vm, const struct take *t, struct fermata_taken *made, struct err *e)
{
	auto_mem_out struct mem_out o = { .fd = -1 };
	bool ran = vm->rec->pending.run;
	struct saving m = { .vm = vm, .snap = t->snap, .run = ran };
	struct kvm_guard guard;
	struct err also;
	int rc;

	if (mem_out_open(t->snap->memory, false, false, vm->rec->pending.mark, &o, e) < 0 || diskshot_prepare(vm, t->ds, t->snap, e) < 0 ||
		kvm_guard_call(vm_rescue, vm, &guard, e) < 0)
		return e->code;
	/*
	 * Stopped here and not by QEMU on its way: QEMU without KVM misses writes to pages that the guest has
	 * touched before.
	 */
	rc = (ran && kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0) || memory_save(vm, &o, memory_manifest, &m, e) < 0 ||
		mem_out_place(&o, e) < 0 || diskshot_switch(vm, t->ds, t->snap, e) < 0 || memory_go_on(vm, ran, e) < 0 ? e->code : 0;
	if (rc < 0 && vm_alive(vm) && memory_go_on(vm, ran, &also) < 0)
		err_also(e, "and could not let the guest go on: %s", also.msg);
	kvm_guard_end(&guard);
	if (rc == 0)
		made->pause_us = checkpoint_pause_us(kvm_mon(vm->kvm));
	return rc;
}

int checkpoint_take(struct fermata_vm *vm, const struct take *t, struct fermata_taken *made, struct err *e)
{
	made->way = FERMATA_STOPPED;
	if (fermata_snap_instant(t->snap))
		return t->handover ? handover_take(vm, t, made, e) : instant_take(vm, t, made, e);
	if (t->live && vm->rec->pending.run && live_choose(vm, &made->way, e) < 0)
		return e->code;
	return made->way == FERMATA_STOPPED ? take_stopped(vm, t, made, e) : live_take(vm, t, made, e);
}
