/* Going back to an external snapshot: new overlays on what it froze; the other branches stay as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/own.h"

int revert_ext_redo(struct fermata_vm *vm, struct native *n, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	if (revert_ext_make(vm, s, e) < 0 || (n ? native_commit(n, e) : native_apply(vm, s, vm->rec->pending.marks, e)) < 0)
		return e->code;
	if (revert_ext_switch(vm, e) < 0)
		return e->code;
	vm_because(vm, FERMATA_SHUTOFF, "from snapshot");
	if (pending_end(vm, e) < 0)
		return e->code;
	trash_empty(vm);
	return 0;
}

/* What a standby has loaded already: on its overlays, and known by its mark. */
static int revert_by_standby(struct fermata_vm *vm, struct pending p, struct err *e)
{
	struct fermata_snap *s = vm->rec->standby;
	auto_free char *name = strdup(s->name);
	struct err also;

	p.snap = snap_copy(s);
	p.mark = vm->rec->standby_mark;
	if (!p.snap || !name) {
		snap_free(p.snap);
		return err_nomem(e, "revert");
	}
	vm->rec->standby = NULL;
	if (pending_begin(vm, p, e) < 0) {
		vm->rec->standby = s;
		return e->code;
	}
	snap_free(s);
	if (standby_take(vm, e) < 0 || checkpoint_change(vm, e) < 0) {
		e->code = FERMATA_PENDING;
		return err_hint(e, "it is on record; the next command finishes it");
	}
	if (fermata_standby(vm, name, &also) < 0)
		vm_notice(vm, "no other standby takes the place of this one: %s", also.msg);
	return 0;
}

/*
 * Disks only. What the guest's QEMU has open can be locked only when that has ended; it is, before anything else changes,
 * and stays so until it is changed.
 */
static int revert_disks(struct fermata_vm *vm, struct pending p, const struct fermata_revert *r, struct err *e)
{
	auto_native struct native n = { 0 };
	bool alive = vm_alive(vm);
	struct err also;
	int rc;

	if (!alive && native_begin(vm, NATIVE_APPLY, p.snap, p.marks, &n, e) < 0) {
		snap_free(p.snap);
		return e->code;
	}
	if (pending_begin(vm, p, e) < 0)
		return e->code;
	/* Once before the guest is stopped: what cannot be made must not cost it its life. */
	rc = revert_ext_make(vm, p.snap, e);
	if (rc == 0 && alive && (rc = life_kill(vm, e)) == 0 &&
		(rc = native_begin(vm, NATIVE_APPLY, p.snap, vm->rec->pending.marks, &n, e)) == 0 && (n.n || n.nvram.path))
		rc = pending_again(vm, e);
	if (rc == 0)
		rc = revert_ext_redo(vm, &n, e);
	native_done(&n);
	if (rc == 0)
		return r->running || r->paused ? fermata_start(vm, r->paused, e) : 0;
	if (!n.touched && vm->rec->pending.op != PENDING_NONE && revert_ext_undo(vm, &also) == 0)
		return e->code;
	e->code = FERMATA_PENDING;
	return err_hint(e, "it is on record; the next command sees to it");
}

int revert_external(struct fermata_vm *vm, const struct fermata_snap *s, const struct fermata_revert *r, struct err *e)
{
	bool memory = s->kind == FERMATA_CHECKPOINT_EXTERNAL;
	struct pending p = { .op = PENDING_REVERT, .snap = snap_copy(s),
		.run = r->running || (!r->paused && s->state == FERMATA_SNAP_RUNNING), .keep_time = r->keep_time };
	struct err also;
	int rc;

	if (!p.snap)
		return err_nomem(e, "revert");
	if (CONFIG_MEMORY && memory && !r->verify && standby_ready(vm, s)) {
		snap_free(p.snap);
		return revert_by_standby(vm, p, e);
	}
	if ((CONFIG_MEMORY && memory && checkpoint_check(vm, s, r->force, r->verify, e) < 0) || revert_ext_check(vm, s, e) < 0 ||
		revert_ext_name(vm, p.snap, e) < 0) {
		snap_free(p.snap);
		return e->code;
	}
	if (!memory)
		return revert_disks(vm, p, r, e);
	if (pending_begin(vm, p, e) < 0)
		return e->code;
	/* Once before the guest is stopped: what cannot be made, or loaded, must not cost it its life. */
	rc = revert_ext_make(vm, p.snap, e);
	if (rc < 0 || !CONFIG_MEMORY || checkpoint_load(vm, vm->rec->pending.snap, r->force, e) < 0) {
		if (revert_ext_undo(vm, &also) < 0) {
			err_also(e, "and could not undo: %s", also.msg);
			e->code = FERMATA_PENDING;
		}
		return e->code;
	}
	if (CONFIG_MEMORY && checkpoint_change(vm, e) < 0) {
		e->code = FERMATA_PENDING;
		return err_hint(e, "it is on record; the next command finishes it");
	}
	return 0;
}
