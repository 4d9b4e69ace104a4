/* What a command that was cut off left behind: finished or undone by the next one. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/archive/archive.h"
#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/recover.h"
#include "engine/save/save.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

/* The files that the record is about to name, whoever made them and however far that one came with flushing. */
static int flush_made(const struct fermata_snap *s, struct err *e)
{
	const char *memory[] = { s->memory, s->ram, s->nvram };

	for (size_t i = 0; i < ARRAY_SIZE(memory); i++)
		if (memory[i] && memory[i][0] && (file_flush(memory[i], e) < 0 || file_flush_name(memory[i], e) < 0))
			return e->code;
	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && (file_flush(s->disks[j].overlay, e) < 0 || file_flush_name(s->disks[j].overlay, e) < 0))
			return err_at(e, "%s", s->disks[j].disk);
	return 0;
}

/* Each says what became of the operation when that is so; @name: the snapshot's, a copy, for the record then forgets it. */

static int recover_create(struct fermata_vm *vm, const char *name, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	char failed[256] = "";
	bool memory = CONFIG_MEMORY && s->kind == FERMATA_CHECKPOINT_EXTERNAL, instant = memory && fermata_snap_instant(s);
	bool found, whole, degraded, handed = CONFIG_MEMORY && handover_is(vm, s);
	auto_snap struct fermata_snap *loose = NULL;
	enum handover_left left = HANDOVER_NOTHING;

	if (handed && handover_recover(vm, &left, e) < 0)
		return e->code;
	if (!handed && vm_alive(vm) && savevm_settle(vm, SAVEVM_SAVE, s, &found, failed, e) < 0)
		return e->code;
	if (!handed && memory && vm_alive(vm) && live_end(vm, vm->rec->pending.run, e) < 0)
		return e->code;
	whole = left == HANDOVER_WHOLE;
	/* An offline snapshot is made in no time: what its own record does not call complete is undone. */
	if ((handed ? left == HANDOVER_DISKS : vm->rec->pending.live && !failed[0]) && create_is_whole(vm, &whole, e) < 0)
		return e->code;
	degraded = memory && whole && s->kind != FERMATA_CHECKPOINT_EXTERNAL;
	/* Only a live one has its disks before its memory while QEMU runs: nobody needs them. */
	if (degraded && vm_alive(vm) && !instant) {
		whole = degraded = false;
		if (live_undo(vm, e) < 0) {
			if (vm->rec->pending.op != PENDING_NONE)
				return e->code;
			vm_notice(vm, "snapshot-create-as '%s' was cut off: its disks' part stays, as a disk snapshot: %s", name, e->msg);
			return 0;
		}
	} else if (whole ? (!vm_alive(vm) && made_overlays(vm, s, e) < 0) || flush_made(s, e) < 0 || create_finish(vm, &loose, e) < 0 : create_undo(vm, e) < 0) {
		return e->code;
	}
	if (degraded)
		checkpoint_kept(vm, s);
	vm_notice(vm, "snapshot-create-as '%s' was cut off: %s", name,
		degraded ? "its disks' part is kept" : whole ? "it is complete on every disk and kept" : "what it left is removed");
	return 0;
}

static int recover_delete(struct fermata_vm *vm, const char *name, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	char failed[256];
	bool found;

	if (vm_alive(vm) && savevm_settle(vm, SAVEVM_DELETE, s, &found, failed, e) < 0)
		return e->code;
	if (remove_ext_redo(vm, e) < 0) {
		if (vm->rec->pending.op != PENDING_NONE)
			return e->code;
		vm_notice(vm, "%s", e->msg);
		return 0;
	}
	vm_notice(vm, "snapshot-delete '%s' was cut off: it is now finished", name);
	return 0;
}

/* A running QEMU says how far it came: the job's result stays there until the record has it. */
static int recover_revert_live(struct fermata_vm *vm, const char *name, struct err *e)
{
	char failed[256];
	bool found;

	if (savevm_settle(vm, SAVEVM_LOAD, vm->rec->pending.snap, &found, failed, e) < 0)
		return e->code;
	if (found && !failed[0]) {
		if (revert_finish(vm, e) < 0)
			return e->code;
		vm_notice(vm, "snapshot-revert to '%s' was cut off: it is now finished", name);
		return 0;
	}
	if (!found && vm->rec->pending.live) {
		/* QEMU never heard of it. All that may have happened is that we stopped the guest. */
		if ((vm->rec->pending.run && kvm_cont(vm->kvm, deadline_in(CALL_MS), e) < 0) || pending_end(vm, e) < 0)
			return e->code;
		vm_notice(vm, "snapshot-revert to '%s' was cut off before it began: the guest goes on", name);
		return 0;
	}
	return life_kill(vm, e);
}

/* It was cut off before it changed anything: forgotten. */
static int forget_revert(struct fermata_vm *vm, const char *name, const char *why, struct err *e)
{
	if ((fermata_snap_external(vm->rec->pending.snap) ? revert_ext_undo(vm, e) : pending_end(vm, e)) < 0)
		return e->code;
	vm_notice(vm, "snapshot-revert to '%s' was cut off%s", name, why);
	return 0;
}

/* The disks of a VM that is off: back to the snapshot, unless that would cost what was written since. */
static int recover_revert_off(struct fermata_vm *vm, const char *name, bool was_alive, struct err *e)
{
	struct pending *p = &vm->rec->pending;
	bool memory = p->snap->kind == FERMATA_CHECKPOINT_INTERNAL, untouched = false;

	if (!p->live && native_untouched(vm, p, &untouched, e) < 0)
		return e->code;
	if (untouched)
		return forget_revert(vm, name, " before it began: the disks are as they were", e);
	if (p->live && !was_alive && native_written_since(p))
		return forget_revert(vm, name, ", and the guest went on for long: the disks are as it left them", e);
	if (fermata_snap_external(p->snap)) {
		if (revert_ext_redo(vm, NULL, e) < 0)
			return e->code;
		vm_notice(vm, "snapshot-revert to '%s' was cut off: it is now finished", name);
		return 0;
	}
	/* Some disks may be back at the snapshot: bring all of them there. */
	if (native_apply(vm, p->snap, p->marks, e) < 0 || carriers_take(vm, e) < 0)
		return e->code;
	vm->rec->current = p->snap->id;
	if (pending_end(vm, e) < 0)
		return e->code;
	vm_notice(vm, "snapshot-revert to '%s' was cut off: the VM is off, every disk is at '%s'%s", name, name,
		memory ? "; revert again to bring its memory back" : "");
	return 0;
}

static int recover_revert(struct fermata_vm *vm, const char *name, struct err *e)
{
	const struct pending *p = &vm->rec->pending;
	bool alive = vm_alive(vm), memory = p->snap->kind == FERMATA_CHECKPOINT_INTERNAL;

	if (CONFIG_MEMORY && p->snap->kind == FERMATA_CHECKPOINT_EXTERNAL)
		return checkpoint_revert_recover(vm, e);
	/* Disks are taken back only when no QEMU has them. */
	if (alive && !memory)
		return forget_revert(vm, name, ": the guest goes on where it was", e);
	if (alive) {
		if (recover_revert_live(vm, name, e) < 0 || p->op == PENDING_NONE)
			return p->op == PENDING_NONE ? 0 : e->code;
	}
	if (!p->live && memory) {
		if (revert_undo(vm, e) < 0)
			return e->code;
		vm_notice(vm, "snapshot-revert to '%s' was cut off: the disks are as they were before", name);
		return 0;
	}
	return recover_revert_off(vm, name, alive, e);
}

int vm_recover(struct fermata_vm *vm, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	auto_free char *name = s ? strdup(s->name) : NULL;
	int rc = 0;

	if (s && !name)
		return err_nomem(e, "recover");
	switch (vm->rec->pending.op) {
	case PENDING_NONE:
		return 0;
	case PENDING_CREATE:
		rc = recover_create(vm, name, e);
		break;
	case PENDING_DELETE:
		rc = recover_delete(vm, name, e);
		break;
	case PENDING_REVERT:
		rc = recover_revert(vm, name, e);
		break;
	case PENDING_SAVE:
	case PENDING_RESTORE:
		rc = CONFIG_MEMORY ? save_recover(vm, e) : err_set(e, -EOPNOTSUPP, "built without CONFIG_MEMORY");
		break;
	case PENDING_IMPORT:
		rc = CONFIG_EXPORT ? import_undo(vm, e) : err_set(e, -EOPNOTSUPP, "built without CONFIG_EXPORT");
		if (rc == 0)
			vm_notice(vm, "snapshot-import '%s' was cut off: what it left is removed", name);
		break;
	}
	if (rc < 0) {
		if (vm->rec->pending.op != PENDING_NONE)
			err_at(e, "%s%s%s%s", record_pending(vm->rec), name ? " '" : "", name ? name : "", name ? "'" : "");
		err_at(e, "cannot recover what the last command left");
		e->code = FERMATA_PENDING;
		err_hint(e, "the record keeps it; the next command tries again, 'fermata recover --abandon %s' gives it up", vm->name);
	}
	return rc < 0 ? e->code : 0;
}

bool fermata_vm_pending(const struct fermata_vm *vm, const char **what, const char **of)
{
	*what = record_pending(vm->rec);
	*of = vm->rec->pending.snap ? vm->rec->pending.snap->name : "";
	return vm->rec->pending.op != PENDING_NONE;
}
