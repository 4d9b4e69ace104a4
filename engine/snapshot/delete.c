/* Deleting snapshots: from every disk, on record from before the first change until after the last. */
#include <stdlib.h>
#include <string.h>

#include "engine/blockjob/blockjob.h"
#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/managed.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"

/* Its tags stay where they are, and so do the images that no disk has any more. */
static int forget(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++)
		if (!s->disks[j].external)
			record_keep(vm->rec, s->disks[j].file);
	snap_free(record_take(vm->rec, s->id));
	return record_save(vm->rec, e);
}

static int remove_one(struct fermata_vm *vm, const struct fermata_snap *s, bool metadata, struct err *e)
{
	auto_removal struct removal rm = { 0 };
	struct fermata_snap *copy;

	if (metadata)
		return forget(vm, s, e);
	if ((vm_alive(vm) && tags_reached(vm, s, e) < 0) || remove_begin(vm, s, &rm, e) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external)
			record_base_drop(vm->rec, s->disks[j].file);
	copy = snap_copy(s);
	if (!copy)
		return err_nomem(e, "delete a snapshot");
	/* Jobs on record are ours from here on. */
	while (vm->rec->n_jobs)
		record_job_drop(vm->rec, vm->rec->jobs[0]);
	if (pending_begin(vm, (struct pending){ .op = PENDING_DELETE, .live = vm_alive(vm), .snap = copy }, e) < 0)
		return e->code;
	if (remove_carry_out(vm, &rm, e) == 0)
		return 0;
	if (vm->rec->pending.op == PENDING_NONE)
		return e->code;
	e->code = FERMATA_PENDING;
	return err_hint(e, "what is left of it is on record; the next command deletes it");
}

int fermata_block_start(struct fermata_vm *vm, const struct fermata_block *b, struct err *e)
{
	const struct fermata_snap *lost = NULL;

	do {
		if (b->op == FERMATA_COMMIT && b->drop && block_inner_lost(vm, b, &lost, e) < 0)
			return e->code;
		if (lost && remove_one(vm, lost, false, e) < 0)
			return err_at(e, "%s: cannot delete snapshot", vm->name);
	} while (lost);
	return block_start(vm, b, e);
}

static bool descends(const struct record *r, const struct fermata_snap *s, uint64_t from)
{
	while (s && s->parent) {
		if (s->parent == from)
			return true;
		s = record_by_id(r, s->parent);
	}
	return false;
}

int fermata_snapshot_delete(struct fermata_vm *vm, const char *name, const struct fermata_delete *d, struct err *e)
{
	const struct fermata_snap *s;
	uint64_t id;

	if (!d->metadata && (jobs_none(vm, e) < 0 || disks_unswitched(vm, e) < 0 || (CONFIG_MEMORY && managed_none(vm, false, e) < 0)))
		return err_at(e, "%s: cannot delete snapshot '%s'", vm->name, name);
	if (fermata_snap_find(vm, name, &s, e) < 0)
		return e->code;
	id = s->id;
	if (CONFIG_MEMORY && !d->metadata && standby_give_up(vm, "a snapshot is deleted", e) < 0)
		return err_at(e, "%s", vm->name);
	/* Ids rise from parent to child: from the end, every child goes before its parent. */
	for (size_t i = vm->rec->n_snaps; i-- > 0;) {
		const struct fermata_snap *one = vm->rec->snaps[i];
		bool self = one->id == id && !d->children_only;

		if (!self && !((d->children || d->children_only) && descends(vm->rec, one, id)))
			continue;
		if (remove_one(vm, one, d->metadata, e) < 0)
			return err_at(e, "%s: cannot delete snapshot", vm->name);
	}
	return 0;
}
