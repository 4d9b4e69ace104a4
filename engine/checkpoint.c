#include "engine/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/diskshot.h"
#include "engine/handover.h"
#include "engine/instant.h"
#include "engine/live.h"
#include "engine/output.h"
#include "engine/overlay.h"
#include "engine/revert_ext.h"
#include "engine/standby.h"
#include "lib/file.h"
#include "lib/own.h"

int checkpoint_name(struct fermata_vm *vm, struct fermata_snap *s, const char *file, bool instant, struct err *e)
{
	static const struct output_kind kind = { "saved memory", mem_is };
	const char *dir = vm->def->snapshot_dir;
	auto_free char *tmp = NULL;

	s->memory = file ? path_beside("", file) :
			   str_fmt("%s/%.*s-%llu.mem", dir ? dir : vm->state_dir, name_in_file(s->name), s->name, (unsigned long long)s->id);
	tmp = s->memory ? mem_tmp(s->memory) : NULL;
	if (!tmp)
		return err_nomem(e, "name a file");
	if (file_exists(s->memory))
		return err_set(e, -EEXIST, "%s is there already", s->memory);
	if (output_check(vm, s->memory, tmp, &kind, e) < 0)
		return e->code;
	return memory_check(vm, s->memory, e) < 0 || (instant && instant_name(vm, s, e) < 0) ? e->code : 0;
}

uint64_t checkpoint_pause_us(struct mon *m)
{
	int64_t from = 0, took = 0;

	for (struct mon_event *ev; (ev = mon_next_event(m)); mon_event_free(ev)) {
		if (!strcmp(ev->name, "STOP"))
			from = ev->usec;
		if (!strcmp(ev->name, "RESUME") && from)
			took += ev->usec - from;
	}
	return took > 0 ? (uint64_t)took : 0;
}

int checkpoint_take(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e)
{
	auto_mem_out struct mem_out o = { .fd = -1 };
	bool ran = vm->rec->pending.run;
	struct saving m = { .vm = vm, .snap = s, .run = ran };
	struct kvm_guard guard;
	struct err also;
	int rc;

	if (fermata_snap_instant(s))
		return vm->handover ? handover_take(vm, s, e) : instant_take(vm, ds, s, e);
	if (vm->live && ran && live_choose(vm, e) < 0)
		return e->code;
	if (vm->way != FERMATA_STOPPED)
		return live_take(vm, ds, s, e);
	if (mem_out_open(s->memory, false, false, &o, e) < 0 || diskshot_prepare(vm, ds, s, e) < 0 ||
		kvm_guard_call(recover_now, vm, &guard, e) < 0)
		return e->code;
	/*
	 * Stopped here and not by QEMU on its way: QEMU without KVM misses writes to pages that the guest has
	 * touched before.
	 */
	rc = (ran && kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0) || memory_save(vm, &o, memory_manifest, &m, e) < 0 ||
		mem_out_place(&o, e) < 0 || diskshot_switch(vm, ds, s, e) < 0 || memory_go_on(vm, ran, e) < 0 ? e->code : 0;
	if (rc < 0 && vm_alive(vm) && memory_go_on(vm, ran, &also) < 0)
		err_also(e, "and could not let the guest go on: %s", also.msg);
	kvm_guard_end(&guard);
	if (rc == 0)
		vm->pause_us = checkpoint_pause_us(kvm_mon(vm->kvm));
	return rc;
}

void checkpoint_keep(struct fermata_vm *vm, struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 }, part = { .fd = -1 };
	auto_free char *tmp = mem_tmp(s->memory);
	struct err ignored;
	char *other;

	if (memory_open(s->memory, s, &in, &ignored) == 0)
		return;
	if (tmp && memory_open(tmp, s, &part, &ignored) == 0 && rename(tmp, s->memory) == 0)
		return;
	/* What it was to replace stays, and has the name. */
	if (vm->rec->pending.replaces && (other = str_fmt("%s~%llu", s->name, (unsigned long long)s->id))) {
		free(s->name);
		s->name = other;
		s->parent = vm->rec->current;
		vm->rec->pending.replaces = 0;
	}
	s->adopted = false;
	checkpoint_drop(vm, s);
	s->memory[0] = '\0';
	if (fermata_snap_instant(s))
		s->ram[0] = '\0';
	if (s->ram_base)
		s->ram_base[0] = '\0';
	s->kind = FERMATA_DISK_EXTERNAL;
	s->state = FERMATA_SNAP_DISK;
}

void checkpoint_kept(struct fermata_vm *vm, const struct fermata_snap *s)
{
	vm_notice(vm, "'%s': its memory is not whole: the disks' part is kept, as a disk snapshot", s->name);
}

void checkpoint_drop(struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_free char *tmp = mem_tmp(s->memory);
	struct err ignored;

	if (tmp)
		unlink(tmp);
	if (memory_open(s->memory, s, &in, &ignored) == 0)
		unlink(s->memory);
	if (fermata_snap_instant(s)) {
		instant_drop(s);
		handover_drop(vm, s);
	}
}

/* ---- going back ------------------------------------------------------------------------------------------ */

#define QEMU_BYTES (64u << 20) /* what a QEMU needs for itself */

char *checkpoint_beside(const struct fermata_vm *vm)
{
	return str_fmt("%s/next", vm->run_dir);
}

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

int checkpoint_next(struct fermata_vm *vm, const struct fermata_snap *s, const char *machine, checkpoint_next_fn *fn, void *ctx,
	struct err *e)
{
	auto_free char *next = checkpoint_beside(vm);
	char *present = vm->run_dir;
	struct err also;
	int rc;

	if (!next)
		return err_nomem(e, "load memory");
	vm_hang_up(vm);
	vm->run_dir = next;
	rc = life_launch_on(vm, s, machine, instant_map(s), e) < 0 || fn(vm, s, ctx, e) < 0 ? e->code : 0;
	vm_hang_up(vm);
	if (rc < 0 && vm_alive(vm) && life_kill(vm, &also) < 0)
		err_also(e, "and could not stop it: %s", also.msg);
	if (rc < 0)
		kvm_remove(next, present);
	vm->run_dir = present;
	if (rc == -EREMOTEIO && vm_alive(vm))
		err_hint(e, "the present guest runs on; if both want the same of the host, end that first: fermata destroy %s", vm->name);
	return rc;
}

static int load(struct fermata_vm *vm, const struct fermata_snap *s, void *ctx, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };

	(void)ctx;
	if (mem_in_open(s->memory, &in, e) < 0)
		return e->code;
	return fermata_snap_instant(s) ? instant_load(vm, s, &in, e) : memory_load(vm, &in, e);
}

int checkpoint_load(struct fermata_vm *vm, const struct fermata_snap *s, bool force, struct err *e)
{
	const struct kvm_caps *caps;

	if (vm_caps(vm, &caps, e) < 0)
		return e->code;
	return checkpoint_next(vm, s, s->machine[0] && (!force || kvm_caps_machine(caps, s->machine)) ? s->machine : NULL, load, NULL, e);
}

/* Everything from the end of the present QEMU on; done again, it goes on where it was. */
static int change(struct fermata_vm *vm, struct err *e)
{
	auto_free char *next = checkpoint_beside(vm);
	bool run = vm->rec->pending.run;
	struct kvm *k;

	if (!next)
		return err_nomem(e, "revert");
	if ((kvm_pid(next) && life_kill(vm, e) < 0) || revert_ext_switch(vm, e) < 0 || record_save(vm->rec, e) < 0 ||
		kvm_move(next, vm->run_dir, e) < 0 || fermata_vm_kvm(vm, &k, e) < 0 ||
		(run && kvm_cont(k, deadline_in(CALL_MS), e) < 0))
		return e->code;
	vm_because(vm, run ? FERMATA_RUNNING : FERMATA_PAUSED, "from snapshot");
	if (pending_end(vm, e) < 0 || trash_empty(vm, e) < 0)
		return e->code;
	if (run)
		after_restore(vm);
	return 0;
}

int checkpoint_change(struct fermata_vm *vm, struct err *e)
{
	struct kvm_guard guard;
	int rc;

	if (kvm_guard_call(recover_now, vm, &guard, e) < 0)
		return e->code;
	rc = change(vm, e);
	kvm_guard_end(&guard);
	return rc;
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

int checkpoint_revert_recover(struct fermata_vm *vm, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	auto_free char *next = checkpoint_beside(vm);
	bool alive = vm_alive(vm), switched = true;

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
