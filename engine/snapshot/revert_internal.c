/* Revert to an internal snapshot: by loadvm, or on images of a VM that is off. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/carrier.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "monitor/monitor.h"

/* A snapshot of the present, with the disks of the pending revert's, that revert_undo() can go back to. */
static struct fermata_snap *guard_of(const struct pending *p)
{
	struct fermata_snap *g = snap_copy(p->snap);

	if (!g)
		return NULL;
	g->kind = FERMATA_DISK_INTERNAL;
	for (size_t i = 0; i < g->n_disks; i++) {
		free(g->disks[i].tag);
		/* One that an earlier version began has the bare name. */
		g->disks[i].tag = strdup(p->guard ? p->guard : GUARD_TAG);
		if (!g->disks[i].tag) {
			snap_free(g);
			return NULL;
		}
	}
	return g;
}

/*
 * Whether @s can be loaded: on every disk, and one carries the memory. With @force what is missing is left out.
 * @on, @vmstate: out, as savevm_run() takes them.
 */
static int check_disks(struct fermata_vm *vm, const struct fermata_snap *s, bool force, struct disks *ds, uint32_t *on,
	size_t *vmstate, struct err *e)
{
	bool memory = false;

	*on = 0;
	if (disks_look(vm, ds, e) < 0 || carriers_look(vm, s, ds, e) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];
		struct tag t = { 0 };
		size_t i = disk_index(ds, d->disk);

		if (i == ds->n)
			err_set(e, -ENODEV, "%s: the VM has no such disk any more", d->disk);
		else if (!disk_has_tag(&ds->d[i], d->tag, &t))
			err_set(e, -ENODATA, "%s: %s has no snapshot '%s' any more", d->disk, ds->d[i].file, d->tag);
		else
			*on |= 1u << i;
		if (!force && (i == ds->n || !(*on & (1u << i))))
			return e->code;
		if (t.vmstate) {
			*vmstate = i;
			memory = true;
		}
	}
	if (!*on || (s->kind == FERMATA_CHECKPOINT_INTERNAL && !memory))
		return err_set(e, -ENODATA, "no disk carries %s", *on ? "its memory" : "it");
	for (size_t i = 0; !force && i < ds->n; i++)
		if (ds->d[i].snapshots && ds->d[i].def->snapshot != DISK_SNAP_NO && !(*on & (1u << i))) {
			err_set(e, -ENODATA, "%s: the disk is not part of it", ds->d[i].def->name);
			return err_hint(e, "--force goes back with the other disks and leaves this one as it is");
		}
	return 0;
}

/* A copy of @s with only the disks that are in @on. NULL when memory ran out. */
static struct fermata_snap *part_of(const struct fermata_snap *s, const struct disks *ds, uint32_t on)
{
	struct fermata_snap *c = snap_copy(s);
	size_t kept = 0;

	for (size_t j = 0; c && j < c->n_disks; j++) {
		size_t i = disk_index(ds, c->disks[j].disk);
		struct fermata_snap_disk d = c->disks[j];

		if (i < ds->n && (on & (1u << i))) {
			c->disks[kept++] = d;
			continue;
		}
		snap_disk_done(&d);
	}
	if (c)
		c->n_disks = kept;
	return c;
}

/* Bring the guest into the state that was asked for. */
static int settle_state(struct fermata_vm *vm, bool run, struct err *e)
{
	char status[KVM_STATUS_MAX];

	if (kvm_status(vm->kvm, status, e) < 0)
		return e->code;
	if (run == !strcmp(status, "running"))
		return 0;
	return run ? kvm_cont(vm->kvm, deadline_in(CALL_MS), e) : kvm_stop(vm->kvm, deadline_in(CALL_MS), e);
}

int revert_finish(struct fermata_vm *vm, struct err *e)
{
	struct pending *p = &vm->rec->pending;
	auto_snap struct fermata_snap *guard = p->live ? NULL : guard_of(p);
	uint64_t snap = p->snap->id;
	bool run = p->run, keep_time = p->keep_time;

	if (!p->live && (!guard || remove_tags(vm, guard, p->marks, e) < 0))
		return guard ? e->code : err_nomem(e, "revert");
	if (settle_state(vm, run, e) < 0 || carriers_take(vm, e) < 0)
		return e->code;
	vm->rec->current = snap;
	vm_because(vm, run ? FERMATA_RUNNING : FERMATA_PAUSED, "from snapshot");
	if (pending_end(vm, e) < 0)
		return e->code;
	savevm_dismiss(vm, SAVEVM_LOAD, snap);
	if (run)
		after_restore(vm, keep_time);
	return 0;
}

int revert_undo(struct fermata_vm *vm, struct err *e)
{
	struct pending *p = &vm->rec->pending;
	auto_snap struct fermata_snap *guard = guard_of(p);
	bool whole;

	if (!guard)
		return err_nomem(e, "undo a revert");
	/* Only when every disk has the guard can a load have begun. */
	if (native_complete(vm, guard, p->marks, &whole, e) < 0 || (whole && native_apply_marked(vm, guard, p->marks, e) < 0) ||
		native_delete(vm, guard, p->marks, e) < 0)
		return e->code;
	return pending_end(vm, e);
}

static int pending(struct err *e)
{
	e->code = FERMATA_PENDING;
	return err_hint(e, "it is on record; the next command puts it right");
}

/* Running: load in place. QEMU looks at tags and disks first; only after that does it change anything. */
static int load_live(struct fermata_vm *vm, const struct fermata_snap *s, struct disks *ds, uint32_t on, size_t vmstate,
	bool ran, struct err *e)
{
	bool run = vm->rec->pending.run;
	struct err also;

	/* If the guest is to stand in the end, it must not run in between either. */
	if (!run && ran && kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0)
		return pending_end(vm, &also) < 0 ? pending(e) : e->code;
	if (savevm_run(vm, SAVEVM_LOAD, s, ds, on, vmstate, e) == 0)
		return revert_finish(vm, e) < 0 ? pending(e) : 0;
	if (vm_alive(vm)) {
		auto_disks struct disks now = { 0 };
		uint32_t still;

		/* What QEMU checks before it touches a disk is what we check: if that fails now, nothing was touched. */
		if ((check_disks(vm, s, true, &now, &still, &vmstate, &also) < 0 || still != on) && settle_state(vm, ran, &also) == 0)
			return pending_end(vm, &also) < 0 ? pending(e) : e->code;
	}
	err_also(e, "its disks may be half way; the guest is paused");
	return pending(e);
}

/* Off: the present is kept under the guard until the checkpoint has loaded. */
static int load_off(struct fermata_vm *vm, struct pending p, bool force, struct err *e)
{
	const struct fermata_snap *s = p.snap;
	auto_snap struct fermata_snap *guard = guard_of(&p);
	auto_native struct native n = { 0 };
	auto_disks struct disks ds = { 0 };
	const struct kvm_caps *caps;
	const char *machine;
	struct err also;
	uint32_t on;
	size_t vmstate = 0;
	int rc;

	if (!guard || vm_caps(vm, &caps, e) < 0 || native_begin(vm, NATIVE_CREATE, guard, p.marks, &n, e) < 0) {
		snap_free(p.snap);
		free(p.guard);
		return guard ? e->code : err_nomem(e, "revert");
	}
	if (pending_begin(vm, p, e) < 0)
		return e->code;
	machine = s->machine[0] && (!force || kvm_caps_machine(caps, s->machine)) ? s->machine : NULL;
	rc = native_commit(&n, e);
	native_done(&n);
	if (rc == 0 && life_launch(vm, machine, false, NULL, e) == 0 && check_disks(vm, s, force, &ds, &on, &vmstate, e) == 0 &&
		savevm_run(vm, SAVEVM_LOAD, s, &ds, on, vmstate, e) == 0)
		return revert_finish(vm, e) < 0 ? pending(e) : 0;
	if ((vm_alive(vm) && life_kill(vm, &also) < 0) || revert_undo(vm, &also) < 0) {
		err_also(e, "and could not undo: %s", also.msg);
		return pending(e);
	}
	return e->code;
}

/*
 * Disks only: the VM is off before and, unless asked otherwise, after. What its QEMU has open can be locked only when that
 * has ended; nothing is on record and nothing changed before all of it is.
 */
static int apply_disks(struct fermata_vm *vm, struct pending p, const struct fermata_revert *r, struct err *e)
{
	auto_native struct native n = { 0 };
	bool alive = vm_alive(vm);
	struct err also;
	int rc;

	if ((alive && (native_check(p.snap, e) < 0 || life_kill(vm, e) < 0)) ||
		native_begin(vm, NATIVE_APPLY, p.snap, p.marks, &n, e) < 0) {
		snap_free(p.snap);
		return alive && !vm_alive(vm) ? err_also(e, "the VM is off, its disks are as they were") : e->code;
	}
	if (pending_begin(vm, p, e) < 0)
		return e->code;
	rc = native_commit(&n, e);
	native_done(&n);
	if (rc < 0)
		return n.touched || pending_end(vm, &also) < 0 ? pending(e) : e->code;
	if (carriers_take(vm, e) < 0)
		return pending(e);
	vm->rec->current = p.snap->id;
	vm_because(vm, FERMATA_SHUTOFF, "from snapshot");
	if (pending_end(vm, e) < 0)
		return pending(e);
	return r->running || r->paused ? fermata_start(vm, r->paused, e) : 0;
}

/* A guest that waits for its "cont" does not wait for ours alone. */
static int load_guarded(struct fermata_vm *vm, const struct fermata_snap *s, struct disks *ds, uint32_t on, size_t vmstate,
	bool ran, struct err *e)
{
	struct kvm_guard guard;
	struct err also;
	int rc;

	if (kvm_guard_call(vm_rescue, vm, &guard, e) < 0)
		return pending_end(vm, &also) < 0 ? pending(e) : e->code;
	rc = load_live(vm, s, ds, on, vmstate, ran, e);
	kvm_guard_end(&guard);
	return rc;
}

/* A tag that no image can have already. NULL: no memory. */
static char *guard_tag(void)
{
	uint64_t nonce;

	if (getrandom(&nonce, sizeof nonce, GRND_NONBLOCK) != sizeof nonce)
		nonce = clock_mono_ns() ^ (uint64_t)getpid() << 40;
	return str_fmt(GUARD_TAG "-%016llx", (unsigned long long)nonce);
}

/* What revert_internal() asks a running QEMU before it loads memory, at once. */
static int ask_ahead(struct fermata_vm *vm, const struct fermata_snap *s, bool force, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	savevm_clear_ahead(kvm_mon(k), SAVEVM_LOAD, s->id);
	if (!force)
		mon_ahead(kvm_mon(k), "qom-get", MACHINE_TYPE, deadline_in(CALL_MS));
	mon_ahead(kvm_mon(k), "query-status", NULL, deadline_in(CALL_MS));
	return 0;
}

int revert_internal(struct fermata_vm *vm, const struct fermata_snap *s, const struct fermata_revert *r, struct err *e)
{
	/* A QEMU has the images that it was started on: for others there is a new one. */
	bool memory = s->kind == FERMATA_CHECKPOINT_INTERNAL, ends = vm_alive(vm) && carriers_differ(vm, s);
	bool alive = vm_alive(vm) && !ends, ran = false;
	struct pending p = { .op = PENDING_REVERT, .live = alive && memory, .keep_time = r->keep_time };
	auto_disks struct disks ds = { 0 };
	char status[KVM_STATUS_MAX];
	size_t vmstate = 0;
	uint32_t on;

	/* A load that finds a device more or less fails half way. */
	if (alive && memory && !r->force && running_check(vm, true, e) < 0)
		return e->code;
	if ((alive && memory && ask_ahead(vm, s, r->force, e) < 0) || check_disks(vm, s, r->force, &ds, &on, &vmstate, e) < 0 ||
		(alive && memory && savevm_clear(vm, SAVEVM_LOAD, s->id, e) < 0))
		return e->code;
	if (memory && !r->force && (alive ? check_running_qemu(vm, s, e) : check_installed_qemu(vm, s, e)) < 0)
		return e->code;
	if (alive) {
		if (kvm_status(vm->kvm, status, e) < 0)
			return e->code;
		ran = !strcmp(status, "running");
	}
	p.run = r->running || (!r->paused && s->state == FERMATA_SNAP_RUNNING);
	p.snap = part_of(s, &ds, on);
	p.guard = !alive && memory ? guard_tag() : NULL;
	if (!p.snap || (!alive && memory && !p.guard)) {
		snap_free(p.snap);
		free(p.guard);
		return err_nomem(e, "revert");
	}
	if (carriers_note(vm, p.snap, e) < 0 || (ends && memory && life_kill(vm, e) < 0)) {
		snap_free(p.snap);
		free(p.guard);
		return e->code;
	}
	if (!memory)
		return apply_disks(vm, p, r, e);
	if (!alive)
		return load_off(vm, p, r->force, e);
	return pending_begin(vm, p, e) < 0 ? e->code : load_guarded(vm, p.snap, &ds, on, vmstate, ran, e);
}
