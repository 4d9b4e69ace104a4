/* Taking a checkpoint: on every disk or on none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/managed.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "monitor/monitor.h"

static int check_live(struct fermata_vm *vm, struct plan *p, struct err *e)
{
	char status[KVM_STATUS_MAX];
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0 || kvm_status(k, status, e) < 0)
		return e->code;
	p->running = !strcmp(status, "running");
	if (!p->running && strcmp(status, "paused") && strcmp(status, "prelaunch"))
		return err_set(e, -EBUSY, "the guest is neither running nor paused: QEMU says '%s'", status);
	if (!p->memory)
		return 0;
	return p->file ? 0 : vm_blockers(vm, e) < 0 ? e->code : choose_vmstate(vm, p, e);
}

/* What is asked below, and by describe(), at once: each round trip costs a part of a millisecond. */
static int ask_ahead(struct fermata_vm *vm, const struct plan *p, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	mon_ahead(kvm_mon(k), "query-status", NULL, deadline_in(CALL_MS));
	if (p->memory)
		mon_ahead(kvm_mon(k), "query-migrate", NULL, deadline_in(CALL_MS));
	mon_ahead(kvm_mon(k), "qom-get", MACHINE_TYPE, deadline_in(CALL_MS));
	return 0;
}

static int preflight(struct fermata_vm *vm, struct plan *p, struct err *e)
{
	if (snap_check_name(p->name, e) < 0 || jobs_none(vm, e) < 0 || (p->live && ask_ahead(vm, p, e) < 0) ||
		disks_look(vm, &p->ds, e) < 0 || vm_adopt_from(vm, &p->ds, e) < 0)
		return e->code;
	p->replaced = record_by_name(vm->rec, p->name);
	if (p->replaced && !p->c->replace) {
		err_set(e, -EEXIST, "there is a snapshot of that name");
		return err_hint(e, "--replace puts the new one in its place, once it is complete");
	}
	if (choose_disks(p, e) < 0)
		return e->code;
	return p->live ? check_live(vm, p, e) : 0;
}

/* The name inside the images: the snapshot's own, unless something there has it already. */
static char *choose_tag(struct fermata_vm *vm, const struct plan *p)
{
	bool taken = p->replaced != NULL;

	for (size_t i = 0; i < p->ds.n; i++)
		taken |= disk_has_tag(&p->ds.d[i], p->name, NULL);
	return taken ? str_fmt("%s~%llu", p->name, (unsigned long long)vm->rec->next_id) : strdup(p->name);
}

static bool guest_runs(struct fermata_vm *vm)
{
	char status[KVM_STATUS_MAX];
	struct err ignored;
	struct kvm *k;

	return fermata_vm_kvm(vm, &k, &ignored) == 0 && kvm_status(k, status, &ignored) == 0 && !strcmp(status, "running");
}

/* Where the overlay of disk @i goes: absolute, since QEMU has a working folder of its own. */
static int overlay_path(struct fermata_vm *vm, const struct plan *p, size_t i, char **out, struct err *e)
{
	const struct fermata_diskspec *spec = diskspec_of(p, i);

	if (!spec || !spec->file)
		return overlay_name(vm, i, p->name, vm->rec->next_id, out, e);
	return path_typed(spec->file, out, e);
}

static int describe_disk(struct fermata_vm *vm, const struct plan *p, struct fermata_snap *s, size_t i, char *tag, struct err *e)
{
	const struct disk_state *d = &p->ds.d[i];
	struct fermata_snap_disk on = { .disk = d->def->name, .file = (char *)d->file };
	auto_free char *overlay = NULL;

	if (p->on & (1u << i)) {
		on.tag = tag;
	} else if (p->external & (1u << i)) {
		if (overlay_path(vm, p, i, &overlay, e) < 0)
			return e->code;
		on.overlay = overlay;
		on.external = true;
		on.raw = fermata_vm_disk_raw(vm, i);
		on.reused = p->c->reuse;
		if (file_exists(overlay) != p->c->reuse) {
			err_set(e, p->c->reuse ? -ENOENT : -EEXIST, "%s: the overlay %s %s", d->def->name, overlay,
				p->c->reuse ? "is not there" : "is there already");
			return p->c->reuse ? e->code : err_hint(e, "--reuse-external takes one that was made for this");
		}
		if (chain_check(vm, d->file, on.raw, e) < 0 || (on.reused && (output_spare(vm, overlay, e) < 0 || overlay_check(overlay, d->file, e) < 0)))
			return err_at(e, "%s", d->def->name);
	} else {
		return 0;
	}
	return snap_add_disk(s, &on, e);
}

static int describe(struct fermata_vm *vm, struct plan *p, struct fermata_snap **out, struct err *e)
{
	auto_snap struct fermata_snap *s = snap_new(p->name, p->c->description);
	auto_free char *tag = choose_tag(vm, p);

	if (!s || !tag)
		return err_nomem(e, "describe a snapshot");
	if (p->live && note_qemu(vm, s, p->memory, e) < 0)
		return e->code;
	s->id = vm->rec->next_id;
	s->kind = p->file ? FERMATA_CHECKPOINT_EXTERNAL :
		p->memory ? FERMATA_CHECKPOINT_INTERNAL : p->external ? FERMATA_DISK_EXTERNAL : FERMATA_DISK_INTERNAL;
	s->state = !p->live ? FERMATA_SNAP_SHUTOFF :
		!p->memory ? FERMATA_SNAP_DISK :
		p->running ? FERMATA_SNAP_RUNNING : FERMATA_SNAP_PAUSED;
	s->parent = vm->rec->current;
	s->created = (int64_t)time(NULL);
	s->adopted = p->c->no_metadata;
	for (size_t i = 0; i < p->ds.n; i++)
		if (describe_disk(vm, p, s, i, tag, e) < 0)
			return e->code;
	if (nvram_name(vm, s, e) < 0 || (CONFIG_MEMORY && p->file && checkpoint_name(vm, s, p->c, &p->handover, e) < 0))
		return e->code;
	*out = take_ptr(&s);
	return 0;
}

/* A live one failed with its disks switched: what it has made of them is taken back while the guest runs. */
static int fail_live(struct fermata_vm *vm, struct err *e)
{
	struct err also;

	if (live_undo(vm, &also) == 0)
		return e->code;
	err_also(e, "and could not undo the disks' part: %s", also.msg);
	if (also.code == FERMATA_PENDING || vm->rec->pending.op != PENDING_NONE)
		e->code = FERMATA_PENDING;
	return err_hint(e, "the next command tries again, or 'fermata snapshot-list %s' shows it as a disk snapshot", vm->name);
}

/* It failed: back to how things were, and the guest must be in the state it was in. */
static int fail(struct fermata_vm *vm, bool ran, struct err *e)
{
	bool file = vm->rec->pending.snap->kind == FERMATA_CHECKPOINT_EXTERNAL, whole = false;
	struct err also;

	if (e->code == FERMATA_PENDING)
		return err_hint(e, "the next command finishes it");
	if (vm_alive(vm) && ran && !guest_runs(vm) && vm->kvm && kvm_cont(vm->kvm, deadline_in(CALL_MS), &also) < 0)
		err_also(e, "and could not let the guest go on: %s", also.msg);
	if (!vm_alive(vm))
		vm_hang_up(vm);
	/*
	 * Whichever way was taken in the end: a background snapshot that QEMU gave up goes on with the guest stopped, its disks
	 * switched long since.
	 */
	if (CONFIG_MEMORY && file && !fermata_snap_instant(vm->rec->pending.snap) && vm_alive(vm) && create_is_whole(vm, &whole, &also) == 0 && whole) {
		if (vm->rec->pending.snap->kind != FERMATA_CHECKPOINT_EXTERNAL)
			return fail_live(vm, e);
		e->code = FERMATA_PENDING;
		return err_hint(e, "its memory and its disks are whole; the next command finishes it");
	}
	if (create_undo(vm, &also) < 0) {
		err_also(e, "and could not undo: %s", also.msg);
		e->code = FERMATA_PENDING;
		err_hint(e, "the next command tries again");
	}
	return e->code;
}

/* Off: nobody looks on, so disk after disk will do. */
static int create_off(struct fermata_vm *vm, struct plan *p, const struct fermata_snap *s, struct err *e)
{
	int rc = native_commit(&p->off, e);

	native_done(&p->off);
	return rc < 0 ? rc : overlays_make(vm, s, NULL, NULL, e);
}

static int take(struct fermata_vm *vm, struct plan *p, const struct fermata_snap *s, struct fermata_taken *made, struct err *e)
{
	if (CONFIG_MEMORY && p->file)
		return checkpoint_take(vm, &(struct take){ &p->ds, s, p->c->live, p->handover }, made, e);
	if (p->memory)
		return savevm_run(vm, SAVEVM_SAVE, s, &p->ds, p->on, p->vmstate, e);
	if (nvram_keep(vm, s, e) < 0)
		return e->code;
	return !p->live ? create_off(vm, p, s, e) :
			  diskshot_live(vm, &p->ds, s, p->c->quiesce ? p->c->freeze_ms : 0, &made->frozen_ms, e);
}

static int carry_out(struct fermata_vm *vm, struct plan *p, struct fermata_taken *made, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	auto_snap struct fermata_snap *loose = NULL;
	bool ran = s->state == FERMATA_SNAP_RUNNING || (s->state == FERMATA_SNAP_DISK && p->running), whole;

	if (take(vm, p, s, made, e) < 0) {
		native_done(&p->off);
		return fail(vm, ran, e);
	}
	/* Overlays alone: the transaction has been answered, and there is nothing to ask. */
	whole = p->live && !p->memory && !p->on;
	if (!whole) {
		if (disks_look_again(vm, &p->ds, p->memory && !p->file, e) < 0)
			return fail(vm, ran, e);
		read_new_tags(vm, &p->ds, &whole);
	}
	if (!whole) {
		err_set(e, -EREMOTEIO, "QEMU says that it is done, but it is not on every disk");
		return fail(vm, ran, e);
	}
	nvram_compare(vm, s);
	if (create_finish(vm, &loose, e) < 0) {
		e->code = FERMATA_PENDING;
		return err_hint(e, "it is on every disk and on record as pending; the next command finishes it");
	}
	p->lost = p->file && s->kind != FERMATA_CHECKPOINT_EXTERNAL;
	made->snap = loose ? NULL : s;
	snprintf(made->name, sizeof made->name, "%s", s->name);
	return 0;
}

static bool highest_id(void *ctx, const struct tag *t)
{
	uint64_t *max = ctx, id = strtoull(t->id, NULL, 10);

	*max = id > *max ? id : *max;
	return true;
}

/* QEMU chooses the ids: one more than the highest. The time is about now. */
static void mark_live(const struct plan *p, const struct fermata_snap *s, struct pending_mark *marks)
{
	for (size_t j = 0; j < s->n_disks && j < DEF_MAX_DISKS; j++) {
		size_t i = disk_index(&p->ds, s->disks[j].disk);
		uint64_t max = 0;

		if (s->disks[j].external || i == p->ds.n)
			continue;
		disk_tags(&p->ds.d[i], highest_id, &max);
		snprintf(marks[j].id, sizeof marks[j].id, "%llu", (unsigned long long)max + 1);
		marks[j].date_s = (uint32_t)time(NULL);
		marks[j].date_ns = PENDING_ABOUT;
	}
}

static int create(struct fermata_vm *vm, struct plan *p, struct fermata_taken *made, struct err *e)
{
	struct pending pending = { .op = PENDING_CREATE, .live = p->live };

	if (preflight(vm, p, e) < 0 || describe(vm, p, &pending.snap, e) < 0)
		return e->code;
	if (CONFIG_MEMORY && p->replaced && standby_give_up(vm, "a snapshot is replaced", e) < 0)
		return e->code;
	if (p->replaced) {
		pending.replaces = p->replaced->id;
		/* A successor has its predecessor's place in the tree. */
		if (pending.snap->parent == pending.replaces)
			pending.snap->parent = p->replaced->parent;
	}
	vm->rec->next_id = pending.snap->id + 1;
	pending.run = p->running;
	if (!p->live && native_begin(vm, NATIVE_CREATE, pending.snap, pending.marks, &p->off, e) < 0) {
		snap_free(pending.snap);
		return e->code;
	}
	if (p->live)
		mark_live(p, pending.snap, pending.marks);
	return pending_begin(vm, pending, e) < 0 ? e->code : carry_out(vm, p, made, e);
}

int fermata_snapshot_create(struct fermata_vm *vm, const struct fermata_create *c, struct fermata_taken *out, struct err *e)
{
	struct fermata_taken made = { .way = FERMATA_STOPPED };
	char second[24];
	struct plan p = { .c = c, .name = c->name ? c->name : second, .live = vm_alive(vm), .file = c->memory_file };
	int rc;

	p.memory = p.live && !c->disk_only;
	if (c->live && (!p.file || c->instant)) {
		err_set(e, -EINVAL, "%s: --live is for a checkpoint whose memory is written to a file", vm->name);
		return err_hint(e, "--memspec says so; --instant has a short pause of its own");
	}
	if (p.file && !p.memory)
		return err_set(e, -EINVAL, "%s: %s", vm->name, p.live ? "--memspec and --disk-only exclude each other" :
			"the VM is off: it has no memory to keep");
	if (c->quiesce && (!c->disk_only || !p.live)) {
		err_set(e, -EINVAL, "%s: --quiesce is for disk snapshots of a running VM", vm->name);
		return err_hint(e, "a checkpoint with memory needs no quiet file systems");
	}
	if (CONFIG_MEMORY && managed_none(vm, false, e) < 0)
		return err_at(e, "%s: cannot create snapshot '%s'", vm->name, c->name ? c->name : "");
	snprintf(second, sizeof second, "%lld", (long long)time(NULL));
	rc = running_check(vm, p.memory, e) < 0 ? e->code : create(vm, &p, &made, e);
	native_done(&p.off);
	disks_done(&p.ds);
	vm_ask_anew(vm);
	if (rc < 0)
		return err_at(e, "%s: cannot create snapshot '%s'", vm->name, p.name);
	if (p.lost)
		return err_set(e, -EIO, "%s: the memory of '%s' could not be kept; what is left is a disk snapshot", vm->name, p.name);
	if (out)
		*out = made;
	if (c->halt && vm_alive(vm) && life_kill(vm, e) < 0)
		return err_at(e, "%s: snapshot '%s' is taken, but the VM does not stop", vm->name, p.name);
	return 0;
}
