#include "engine/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/diskshot.h"
#include "engine/overlay.h"
#include "engine/revert_ext.h"
#include "lib/file.h"
#include "lib/own.h"

int checkpoint_name(struct fermata_vm *vm, struct fermata_snap *s, const char *file, struct err *e)
{
	const char *dir = vm->def->snapshot_dir;

	s->memory = file ? path_beside("", file) :
			   str_fmt("%s/%.64s-%llu.mem", dir ? dir : vm->state_dir, s->name, (unsigned long long)s->id);
	if (!s->memory)
		return err_nomem(e, "name a file");
	if (file_exists(s->memory))
		return err_set(e, -EEXIST, "%s is there already", s->memory);
	return memory_check(vm, s->memory, e);
}

/* How long the guest stood, as the events tell. */
static uint64_t pause_us(struct mon *m)
{
	int64_t from = 0, took = 0;

	for (struct mon_event *ev; (ev = mon_next_event(m)); mon_event_free(ev)) {
		if (!strcmp(ev->name, "STOP"))
			from = ev->usec;
		if (!strcmp(ev->name, "RESUME") && from)
			took = ev->usec - from;
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

	if (mem_out_open(s->memory, false, false, &o, e) < 0 || diskshot_prepare(vm, ds, s, e) < 0 ||
		kvm_guard_call(recover_now, vm, &guard, e) < 0)
		return e->code;
	/*
	 * Stopped here and not by QEMU on its way: QEMU without KVM, before 9.0, misses writes to pages that the guest has
	 * touched before.
	 */
	rc = (ran && kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0) || memory_save(vm, &o, memory_manifest, &m, e) < 0 ||
		mem_out_place(&o, e) < 0 || diskshot_switch(vm, ds, s, e) < 0 || memory_go_on(vm, ran, e) < 0 ? e->code : 0;
	if (rc < 0 && vm_alive(vm) && memory_go_on(vm, ran, &also) < 0)
		err_also(e, "and could not let the guest go on: %s", also.msg);
	kvm_guard_end(&guard);
	if (rc == 0)
		vm->pause_us = pause_us(kvm_mon(vm->kvm));
	return rc;
}

void checkpoint_keep(struct fermata_vm *vm, struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 }, part = { .fd = -1 };
	auto_free char *tmp = mem_tmp(s->memory);
	struct err ignored;

	if (memory_open(s->memory, s, &in, &ignored) == 0)
		return;
	if (tmp && memory_open(tmp, s, &part, &ignored) == 0 && rename(tmp, s->memory) == 0)
		return;
	vm_notice(vm, "'%s': its memory is not whole: the disks' part is kept, as a disk snapshot", s->name);
	checkpoint_drop(s);
	s->memory[0] = '\0';
	s->kind = FERMATA_DISK_EXTERNAL;
	s->state = FERMATA_SNAP_DISK;
}

void checkpoint_drop(const struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_free char *tmp = mem_tmp(s->memory);
	struct err ignored;

	if (tmp)
		unlink(tmp);
	if (memory_open(s->memory, s, &in, &ignored) == 0)
		unlink(s->memory);
}

/* ---- going back ------------------------------------------------------------------------------------------ */

#define QEMU_BYTES (64u << 20) /* what a QEMU needs for itself */

static char *beside(const struct fermata_vm *vm)
{
	return str_fmt("%s/next", vm->run_dir);
}

int checkpoint_check(struct fermata_vm *vm, const struct fermata_snap *s, bool force, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	uint64_t need, has;

	if (memory_open(s->memory, s, &in, e) < 0 || (!force && check_installed_qemu(vm, s, e) < 0) || kvm_memory_free(&has, e) < 0)
		return e->code;
	need = in.stream + QEMU_BYTES;
	if (!vm_alive(vm) || has >= need)
		return 0;
	err_set(e, -ENOMEM, "beside the present guest it needs %llu MiB, the host has %llu MiB", (unsigned long long)(need >> 20),
		(unsigned long long)(has >> 20));
	return err_hint(e, "'fermata destroy %s' first gives up the present", vm->name);
}

/* What a disk uses, for a while, in place of what the record says. */
struct stead {
	struct record_disk *d;
	char *active;
	bool raw, reclaim;
};

static void swap(struct stead *in)
{
	struct stead was = { in->d, in->d->active, in->d->raw, in->d->reclaim };

	in->d->active = in->active;
	in->d->raw = in->raw;
	in->d->reclaim = in->reclaim;
	*in = was;
}

static int load(struct fermata_vm *vm, const char *file, const char *machine, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_free char *next = beside(vm);
	char *present = vm->run_dir;
	struct err also;
	int rc;

	if (!next)
		return err_nomem(e, "load memory");
	vm_hang_up(vm);
	vm->run_dir = next;
	rc = mem_in_open(file, &in, e) < 0 || life_launch(vm, machine, true, e) < 0 || memory_load(vm, &in, e) < 0 ? e->code : 0;
	vm_hang_up(vm);
	if (rc < 0 && vm_alive(vm) && life_kill(vm, &also) < 0)
		err_also(e, "and could not stop it: %s", also.msg);
	if (rc < 0)
		kvm_remove(next);
	vm->run_dir = present;
	return rc;
}

int checkpoint_load(struct fermata_vm *vm, bool force, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	auto_free struct stead *steads = calloc(s->n_disks + 1, sizeof *steads);
	const struct kvm_caps *caps;
	size_t n = 0;
	int rc = steads ? 0 : err_nomem(e, "revert");

	/* All entries first: each new one moves the others. */
	for (size_t j = 0; rc == 0 && j < s->n_disks; j++)
		if (!record_disk_need(vm->rec, s->disks[j].disk))
			rc = err_nomem(e, "revert");
	for (; rc == 0 && n < s->n_disks; n++) {
		steads[n] = (struct stead){ .d = record_disk(vm->rec, s->disks[n].disk), .active = strdup(s->disks[n].overlay) };
		if (!steads[n].active)
			rc = err_nomem(e, "revert");
		swap(&steads[n]);
	}
	if (rc == 0)
		rc = vm_caps(vm, &caps, e);
	if (rc == 0)
		rc = load(vm, s->memory, s->machine[0] && (!force || kvm_caps_machine(caps, s->machine)) ? s->machine : NULL, e);
	while (n--) {
		swap(&steads[n]);
		free(steads[n].active);
	}
	if (rc == -EREMOTEIO && vm_alive(vm))
		err_hint(e, "the present guest runs on; if both want the same of the host, end that first: fermata destroy %s", vm->name);
	return rc;
}

/* Everything from the end of the present QEMU on; done again, it goes on where it was. */
static int change(struct fermata_vm *vm, struct err *e)
{
	auto_free char *next = beside(vm);
	bool run = vm->rec->pending.run;
	struct kvm *k;

	if (!next)
		return err_nomem(e, "revert");
	if ((kvm_pid(next) && life_kill(vm, e) < 0) || revert_ext_switch(vm, e) < 0 || record_save(vm->rec, e) < 0 ||
		kvm_move(next, vm->run_dir, e) < 0 || fermata_vm_kvm(vm, &k, e) < 0 ||
		(run && kvm_cont(k, deadline_in(CALL_MS), e) < 0))
		return e->code;
	vm_because(vm, run ? FERMATA_RUNNING : FERMATA_PAUSED, "from snapshot");
	return pending_end(vm, e) < 0 ? e->code : trash_empty(vm, e);
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

/* Whether the QEMU of folder @dir has loaded all of its memory. */
static bool stands(const char *dir)
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
	auto_free char *next = beside(vm);
	bool alive = vm_alive(vm), switched = true;

	if (!next)
		return err_nomem(e, "recover");
	for (size_t j = 0; j < s->n_disks; j++)
		switched &= !s->disks[j].external || !s->disks[j].overlay[0];
	/* Once the disks have switched, a QEMU that lives is the second one, in its own place or already in the other's. */
	if (switched ? alive || kvm_pid(next) : !alive && stands(next)) {
		vm_notice(vm, "snapshot-revert to '%s' was cut off: it is now finished", s->name);
		return change(vm, e);
	}
	if (kvm_destroy(next, 0, false, e) < 0)
		return e->code;
	kvm_remove(next);
	if (!switched) {
		vm_notice(vm, "snapshot-revert to '%s' was cut off: %s", s->name,
			alive ? "the guest goes on where it was" : "the VM is off, its disks are as they were");
		return revert_ext_undo(vm, e);
	}
	vm_notice(vm, "snapshot-revert to '%s' was cut off: the VM is off, its disks are at '%s'; revert again to bring its memory back",
		s->name, s->name);
	return pending_end(vm, e);
}
