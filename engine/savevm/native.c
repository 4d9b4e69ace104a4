/* Internal snapshots in the images of a VM that is off: created, applied, deleted and judged by our own hands. */
#include <string.h>
#include <time.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "qcow2/qcow2.h"

/*
 * Open the image of @d; @index: out, where its tag stands, or -1. A QEMU that died within savevm, loadvm or delvm
 * leaves leaks and, now and then, stale COPIED flags, even where the snapshot is gone already: mended before a change.
 */
static int open_disk(struct fermata_vm *vm, const struct fermata_snap_disk *d, unsigned flags, struct qcow2 **q, int *index,
	struct err *e)
{
	bool mend = flags & QCOW2_RW && vm->rec->pending.live;
	struct qcow2_check found;

	if (qcow2_open(d->file, mend ? flags | QCOW2_CHECK : flags, q, e) < 0 ||
		(mend && qcow2_check(*q, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, NULL, NULL, &found, e) < 0))
		return err_at(e, "%s", d->disk);
	*index = qcow2_snap_find(*q, d->tag, QCOW2_BY_NAME);
	return 0;
}

static int delete_one(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	int at;

	if (open_disk(vm, d, QCOW2_RW, &q, &at, e) < 0)
		return e->code;
	/* QEMU's loadvm leaves the checkpoint's memory mapped behind the disk's end: it would outlive the checkpoint. */
	if (at >= 0 && (qcow2_snap_delete(q, (unsigned)at, e) < 0 || qcow2_vm_state_drop(q, e) < 0))
		return err_at(e, "%s", d->disk);
	return 0;
}

int native_delete(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	struct err first = { 0 };

	for (size_t i = 0; i < s->n_disks; i++)
		if (!s->disks[i].external && delete_one(vm, &s->disks[i], e) < 0 && !first.code)
			first = *e;
	if (first.code)
		*e = first;
	return first.code;
}

static int create_one(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct timespec now;
	int at;

	clock_gettime(CLOCK_REALTIME, &now);
	if (open_disk(vm, d, QCOW2_RW, &q, &at, e) < 0)
		return e->code;
	if (at >= 0)
		return err_set(e, -EEXIST, "%s: %s has a snapshot '%s' already", d->disk, d->file, d->tag);
	if (qcow2_snap_create(q,
		    &(struct qcow2_snap_new){ .name = d->tag, .date_s = (uint32_t)now.tv_sec,
			    .date_ns = (uint32_t)now.tv_nsec, .icount = QCOW2_NO_ICOUNT },
		    e) < 0)
		return err_at(e, "%s", d->disk);
	return 0;
}

int native_create(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t i = 0; i < s->n_disks; i++)
		if (!s->disks[i].external && create_one(vm, &s->disks[i], e) < 0)
			return e->code;
	return 0;
}

int native_apply(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t i = 0; i < s->n_disks; i++) {
		const struct fermata_snap_disk *d = &s->disks[i];
		auto_qcow2 struct qcow2 *q = NULL;
		int at;

		if (d->external)
			continue;
		if (open_disk(vm, d, QCOW2_RW, &q, &at, e) < 0)
			return e->code;
		if (at < 0)
			return err_set(e, -ENOENT, "%s: %s has no snapshot '%s'", d->disk, d->file, d->tag);
		if (qcow2_snap_apply(q, (unsigned)at, e) < 0)
			return err_at(e, "%s", d->disk);
	}
	return nvram_apply(vm, s, e);
}

int native_complete(struct fermata_vm *vm, const struct fermata_snap *s, bool *complete, struct err *e)
{
	bool vmstate = s->kind != FERMATA_CHECKPOINT_INTERNAL;

	*complete = false;
	for (size_t i = 0; i < s->n_disks; i++) {
		auto_qcow2 struct qcow2 *q = NULL;
		bool whole;
		int at;

		if (s->disks[i].external)
			continue;
		if (open_disk(vm, &s->disks[i], QCOW2_SHARE, &q, &at, e) < 0)
			return e->code;
		if (at < 0)
			return 0;
		if (qcow2_snaps(q, &(unsigned){ 0 })[at].vm_state_size == 0)
			continue;
		if (qcow2_vm_state_whole(q, (unsigned)at, &whole, e) < 0)
			return err_at(e, "%s", s->disks[i].disk);
		if (!whole)
			return 0;
		vmstate = true;
	}
	*complete = vmstate;
	return 0;
}

int native_reclaim(struct fermata_vm *vm, struct err *e)
{
	bool changed = false;

	for (size_t i = 0; i < vm->def->n_disks; i++) {
		struct record_disk *d = record_disk(vm->rec, vm->def->disks[i].name);
		auto_qcow2 struct qcow2 *q = NULL;

		if (!d || !d->reclaim)
			continue;
		if (qcow2_open(fermata_vm_disk_file(vm, i), QCOW2_RW, &q, e) < 0 || qcow2_vm_state_drop(q, e) < 0)
			return err_at(e, "%s: cannot give back an aborted checkpoint's space", d->name);
		d->reclaim = false;
		changed = true;
	}
	return changed ? record_save(vm->rec, e) : 0;
}
