/* Deleting external snapshots: image after image is merged, each step on record; then what earlier deletions had to leave. */
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"

int remove_ext_check(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_native struct native n = { 0 };
	enum fate fate;

	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && (chain_check(vm, s->disks[j].file, s->disks[j].raw, e) < 0 ||
				merge_disk(vm, &s->disks[j], s->id, true, &fate, e) < 0))
			return e->code;
	/* Tags of its other disks, in images that no QEMU has. */
	return vm_alive(vm) ? 0 : native_begin(vm, NATIVE_DELETE, s, NULL, &n, e);
}

/* Disk @j is done: the snapshot is not whole any more, and the disk need not be looked at again. */
static int disk_done(struct fermata_vm *vm, size_t j, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	snap_free(record_take(vm->rec, s->id));
	/* Without this disk the memory is of no use. */
	if (trash_memory(vm, s, e) < 0)
		return e->code;
	snap_disk_done(&s->disks[j]);
	memmove(s->disks + j, s->disks + j + 1, (--s->n_disks - j) * sizeof *s->disks);
	return record_save(vm->rec, e);
}

/* ---- what earlier deletions had to leave ------------------------------------------------------------------- */

/* Whether it still is one: a disk may use it again, and a snapshot that froze it anew decides when that is deleted. */
static bool still_stays(const struct fermata_vm *vm, const struct record_stay *s)
{
	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (same_file(fermata_vm_disk_file(vm, i), s->file))
			return false;
	return file_exists(s->file) && !is_frozen(vm->rec, 0, s->file);
}

static struct fermata_snap_disk stay_disk(const struct record_stay *s)
{
	return (struct fermata_snap_disk){ .disk = s->disk, .file = s->file, .tag = (char *)"", .overlay = (char *)"", .external = true,
		.raw = s->raw };
}

/* Whether it can be merged or removed now. */
static bool stay_is_due(struct fermata_vm *vm, const struct record_stay *s)
{
	struct fermata_snap_disk d = stay_disk(s);
	enum fate fate = STAYS;
	struct err why;

	if (chain_check(vm, s->file, s->raw, &why) == 0 && merge_disk(vm, &d, vm->rec->pending.snap->id, true, &fate, &why) == 0)
		return fate != STAYS;
	vm_notice(vm, "%s: %s stays in the chain: %s", s->disk, s->file, why.msg);
	return false;
}

/* Number @i of them becomes a part of the pending deletion. @merged: out; if not, it is the last on the list again. */
static int merge_stay(struct fermata_vm *vm, size_t i, bool *merged, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	struct fermata_snap_disk d = stay_disk(&vm->rec->stays[i]);
	size_t at = s->n_disks;
	enum fate fate;
	int rc;

	*merged = false;
	if (snap_add_disk(s, &d, e) < 0)
		return e->code;
	record_stay_drop(vm->rec, i);
	if (record_save(vm->rec, e) < 0)
		return e->code;
	do {
		rc = merge_disk(vm, &s->disks[at], s->id, false, &fate, e);
	} while (rc == -EREMOTEIO && !vm_alive(vm)); /* QEMU has ended: now by our own hands */
	*merged = rc == 0 && fate != STAYS;
	if (rc == -EREMOTEIO) {
		vm_notice(vm, "%s: %s stays in the chain: %s", s->disks[at].disk, s->disks[at].file, e->msg);
		rc = record_stay(vm->rec, s->disks[at].disk, s->disks[at].file, s->disks[at].raw, e);
	}
	return rc < 0 ? rc : disk_done(vm, at, e);
}

static int merge_stays(struct fermata_vm *vm, struct err *e)
{
	struct record *r = vm->rec;
	bool merged;

	/* The last @tried of the list could not be merged. With each that can be, others may have lost their reason to stay. */
	for (size_t i = 0, tried = 0; i + tried < r->n_stays;) {
		if (!still_stays(vm, &r->stays[i])) {
			record_stay_drop(r, i);
			continue;
		}
		if (!stay_is_due(vm, &r->stays[i])) {
			i++;
			continue;
		}
		if (merge_stay(vm, i, &merged, e) < 0)
			return e->code;
		tried = merged ? 0 : tried + 1;
		i = merged ? 0 : i;
	}
	return 0;
}

int remove_end(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	snap_free(record_take(vm->rec, s->id));
	if (trash_memory(vm, s, e) < 0 || merge_stays(vm, e) < 0)
		return e->code;
	return remove_finish(vm, e);
}

/* ---- the snapshot itself --------------------------------------------------------------------------------------- */

/* QEMU could not. What is merged is merged; what is not stays in the chain, where the guest goes on. */
static int give_up(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	struct err also;
	int rc = 0;

	if (record_by_id(vm->rec, s->id))
		return pending_end(vm, &also) < 0 ? err_also(e, "%s", also.msg) : e->code;
	err_hint(e, "the snapshot is gone, its images stay in the chain; the next deletion tries again, or blockpull makes that shorter");
	for (size_t j = 0; rc == 0 && j < s->n_disks; j++)
		if (s->disks[j].external)
			rc = record_stay(vm->rec, s->disks[j].disk, s->disks[j].file, s->disks[j].raw, &also);
	if (rc < 0 || remove_finish(vm, &also) < 0)
		err_also(e, "%s", also.msg);
	return e->code;
}

int remove_ext_redo(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	enum fate fate;

	if ((vm_alive(vm) ? remove_tags(vm, s, NULL, e) : native_delete(vm, s, NULL, e)) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks;) {
		if (!s->disks[j].external) {
			j++;
			continue;
		}
		if (merge_disk(vm, &s->disks[j], s->id, false, &fate, e) < 0) {
			if (e->code != -EREMOTEIO)
				return e->code;
			if (vm_alive(vm))
				return give_up(vm, e);
			continue; /* QEMU has ended: now by our own hands */
		}
		if (disk_done(vm, j, e) < 0)
			return e->code;
	}
	return remove_end(vm, e);
}
