/* Giving up what is pending and cannot go on: its images are gone for good, say. Nothing that still holds data is removed. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "lib/file.h"
#include "qcow2/qcow2.h"

/* What becomes of disk @i of the pending operation, in words. */
static void say_disk(struct fermata_vm *vm, const struct pending *p, size_t i)
{
	const struct fermata_snap_disk *d = &p->snap->disks[i];
	auto_qcow2 struct qcow2 *q = NULL;
	struct err why;

	if (!file_exists(d->file)) {
		vm_notice(vm, "%s: %s is not there", d->disk, d->file);
		return;
	}
	if (d->raw || qcow2_open(d->file, QCOW2_SHARE, &q, &why) < 0) {
		if (!d->raw)
			vm_notice(vm, "%s: %s", d->disk, why.msg);
		return;
	}
	if (p->op == PENDING_REVERT && p->marks[i].l1)
		vm_notice(vm, "%s: %s is %s", d->disk, d->file,
			qcow2_l1_at(q) == p->marks[i].l1 ? "back at the snapshot already, and stays so" : "as it was, and stays so");
}

static void say_all(struct fermata_vm *vm)
{
	static const char *const means[] = {
		[PENDING_NONE] = "",
		[PENDING_CREATE] = "there will be no such snapshot; what was made of it is removed where it can be reached",
		[PENDING_DELETE] = "the snapshot is forgotten; what of it cannot be reached stays in its images",
		[PENDING_REVERT] = "every disk stays as it is now, and they may be of different times",
		[PENDING_SAVE] = "the guest's memory is lost unless the file is whole",
		[PENDING_RESTORE] = "the memory stays in its file",
		[PENDING_IMPORT] = "what was imported is removed where it can be reached",
	};
	const struct pending *p = &vm->rec->pending;

	if (p->op != PENDING_NONE)
		vm_notice(vm, "%s '%s' is to be given up: %s", record_pending(vm->rec), p->snap->name, means[p->op]);
	for (size_t i = 0; p->op != PENDING_NONE && i < p->snap->n_disks && i < DEF_MAX_DISKS; i++)
		say_disk(vm, p, i);
	for (size_t i = 0; i < vm->rec->n_jobs; i++)
		if (!vm->rec->jobs[i]->ended)
			vm_notice(vm, "%s: its block job is to be given up: the disk stays as it is", vm->rec->jobs[i]->disk);
}

/* An overlay that the guest has written to is the disk; any other goes. */
static int settle_overlay(struct fermata_vm *vm, const struct fermata_snap_disk *d, bool may_be_used, struct err *e)
{
	uint64_t mark = vm->rec->pending.mark;
	struct err why;
	bool data = true;

	if (!d->external || !d->overlay[0] || !file_exists(d->overlay))
		return 0;
	if (mark && !d->reused && made_image(d->overlay, mark, &why) != 1) {
		made_stays(vm, d->overlay);
		return 0;
	}
	if (overlay_holds_data(d->overlay, &data, &why) < 0) {
		vm_notice(vm, "%s: %s stays: %s", d->disk, d->overlay, why.msg);
		return 0;
	}
	if (data && may_be_used) {
		vm_notice(vm, "%s: the guest has written to %s, which stays in use", d->disk, d->overlay);
		return disk_use(vm, d->disk, d->overlay, false, e);
	}
	if (data || d->reused)
		return 0;
	return overlay_remove(d->overlay, e);
}

static int settle(struct fermata_vm *vm, struct err *e)
{
	struct pending *p = &vm->rec->pending;
	struct fermata_snap *s = p->snap;
	struct err why;

	if (p->op == PENDING_DELETE) {
		snap_free(record_take(vm->rec, s->id));
		if (trash_memory(vm, s, e) < 0)
			return e->code;
	}
	for (size_t i = 0; p->op == PENDING_DELETE && i < s->n_disks; i++)
		if (s->disks[i].external && record_stay(vm->rec, s->disks[i].disk, s->disks[i].file, s->disks[i].raw, e) < 0)
			return e->code;
	if ((p->op == PENDING_CREATE || p->op == PENDING_DELETE) && native_delete(vm, s, p->marks, &why) < 0)
		vm_notice(vm, "%s", why.msg);
	for (size_t i = 0; (p->op == PENDING_CREATE || p->op == PENDING_REVERT) && i < s->n_disks; i++)
		if (settle_overlay(vm, &s->disks[i], p->op == PENDING_CREATE, e) < 0)
			return err_at(e, "%s", s->disks[i].disk);
	if (p->op == PENDING_CREATE)
		vm->rec->next_id = s->id + 1;
	for (size_t i = 0; p->op == PENDING_IMPORT && i < s->n_disks; i++)
		if ((s->disks[i].overlay[0] && made_remove_image(vm, s->disks[i].overlay, p->mark, &why) < 0) ||
			made_remove_image(vm, s->disks[i].file, p->mark, &why) < 0)
			vm_notice(vm, "%s", why.msg);
	if (CONFIG_MEMORY && (p->op == PENDING_CREATE || p->op == PENDING_IMPORT) && s->memory && s->memory[0])
		checkpoint_drop(vm, s);
	return 0;
}

int fermata_abandon(struct fermata_vm *vm, bool yes, struct err *e)
{
	struct record *fresh = NULL;
	bool jobs = false;

	/* What a recovery that failed half way has noted in memory is not so. */
	if (record_load(vm->rec->path, &fresh, e) < 0)
		return err_at(e, "%s", vm->name);
	record_free(vm->rec);
	vm->rec = fresh;
	for (size_t i = 0; i < vm->rec->n_jobs; i++)
		jobs |= !vm->rec->jobs[i]->ended;
	if (vm->rec->pending.op == PENDING_NONE && !jobs) {
		vm_notice(vm, "nothing is pending");
		return 0;
	}
	if (vm_alive(vm)) {
		err_set(e, -EBUSY, "%s: cannot give up what is pending: the VM is running", vm->name);
		return err_hint(e, "'fermata destroy %s' ends it", vm->name);
	}
	say_all(vm);
	if (!yes) {
		err_set(e, -ECANCELED, "%s: nothing was given up", vm->name);
		return err_hint(e, "'fermata recover --abandon --yes %s' does it", vm->name);
	}
	if (vm->rec->pending.op != PENDING_NONE && settle(vm, e) < 0)
		return err_at(e, "%s: cannot give up what is pending", vm->name);
	while (vm->rec->n_jobs)
		record_job_drop(vm->rec, vm->rec->jobs[0]);
	return pending_end(vm, e) < 0 ? err_at(e, "%s: cannot give up what is pending", vm->name) : 0;
}
