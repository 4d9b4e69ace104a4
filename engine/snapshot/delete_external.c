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

int remove_begin(struct fermata_vm *vm, const struct fermata_snap *s, struct removal *rm, struct err *e)
{
	int rc = 0;

	*rm = (struct removal){ .off = !vm_alive(vm) };
	if (s->n_disks > DEF_MAX_DISKS)
		return err_set(e, -EFBIG, "it is of %zu disks, more than a VM can have", s->n_disks);
	for (size_t j = 0; rc == 0 && j < s->n_disks; j++)
		if (s->disks[j].external)
			rc = chain_check(vm, s->disks[j].file, s->disks[j].raw, e) < 0 ? e->code : merge_begin(vm, &s->disks[j], s->id, &rm->m[j], e);
	/* Tags of its other disks, in images that no QEMU has. */
	if (rc == 0 && rm->off)
		rc = native_begin(vm, NATIVE_DELETE, s, NULL, &rm->tags, e);
	if (rc < 0)
		removal_done(rm);
	return rc;
}

void removal_done(struct removal *rm)
{
	native_done(&rm->tags);
	for (size_t j = 0; j < DEF_MAX_DISKS; j++)
		merge_done(&rm->m[j]);
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

/* Whether it can be merged or removed now; @m: then begun. */
static bool stay_is_due(struct fermata_vm *vm, const struct record_stay *s, struct merge *m)
{
	struct fermata_snap_disk d = stay_disk(s);
	struct err why;

	if (chain_check(vm, s->file, s->raw, &why) == 0 && merge_begin(vm, &d, vm->rec->pending.snap->id, m, &why) == 0) {
		if (m->fate != STAYS)
			return true;
		merge_done(m);
		return false;
	}
	vm_notice(vm, "%s: %s stays in the chain: %s", s->disk, s->file, why.msg);
	return false;
}

/* QEMU could not: it is on the list again. */
static int stay_again(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct err *e)
{
	vm_notice(vm, "%s: %s stays in the chain: %s", d->disk, d->file, e->msg);
	return record_stay(vm->rec, d->disk, d->file, d->raw, e);
}

/* Number @i of them becomes a part of the pending deletion. @merged: out; if not, it is the last on the list again. */
static int merge_stay(struct fermata_vm *vm, size_t i, struct merge *m, bool *merged, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	struct fermata_snap_disk d = stay_disk(&vm->rec->stays[i]);
	size_t at = s->n_disks;
	enum fate fate = m->fate;
	int rc;

	*merged = false;
	if (snap_add_disk(s, &d, e) < 0)
		return e->code;
	record_stay_drop(vm->rec, i);
	record_base_drop(vm->rec, d.file);
	if (record_save(vm->rec, e) < 0)
		return e->code;
	rc = merge_carry_out(vm, &s->disks[at], s->id, m, e);
	while (rc == -EREMOTEIO && !vm_alive(vm)) /* QEMU has ended: now by our own hands */
		rc = merge_redo(vm, &s->disks[at], s->id, &fate, e);
	*merged = rc == 0 && fate != STAYS;
	if (rc == -EREMOTEIO)
		rc = stay_again(vm, &s->disks[at], e);
	return rc < 0 ? rc : disk_done(vm, at, e);
}

static int merge_stays(struct fermata_vm *vm, struct err *e)
{
	struct record *r = vm->rec;
	struct merge m;
	bool merged;
	int rc;

	/* The last @tried of the list could not be merged. With each that can be, others may have lost their reason to stay. */
	for (size_t i = 0, tried = 0; i + tried < r->n_stays;) {
		if (!still_stays(vm, &r->stays[i])) {
			record_stay_drop(r, i);
			continue;
		}
		if (!stay_is_due(vm, &r->stays[i], &m)) {
			i++;
			continue;
		}
		rc = merge_stay(vm, i, &m, &merged, e);
		merge_done(&m);
		if (rc < 0)
			return rc;
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

/* Disk after disk; @begun: of each disk that is pending, or NULL. */
static int merge_all(struct fermata_vm *vm, struct merge *begun, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	enum fate fate;

	for (size_t j = 0; j < s->n_disks; begun = begun ? begun + 1 : NULL) {
		int rc;

		if (!s->disks[j].external) {
			j++;
			continue;
		}
		rc = begun ? merge_carry_out(vm, &s->disks[j], s->id, begun, e) : merge_redo(vm, &s->disks[j], s->id, &fate, e);
		while (rc == -EREMOTEIO && !vm_alive(vm)) /* QEMU has ended: now by our own hands */
			rc = merge_redo(vm, &s->disks[j], s->id, &fate, e);
		if (rc < 0)
			return rc == -EREMOTEIO ? give_up(vm, e) : rc;
		if (disk_done(vm, j, e) < 0)
			return e->code;
	}
	return remove_end(vm, e);
}

int remove_carry_out(struct fermata_vm *vm, struct removal *rm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	struct err also;
	/* Not whether it runs now: a QEMU that has died since the check has deleted none, or some. */
	int rc = rm->off ? native_commit(&rm->tags, e) : remove_tags(vm, s, NULL, e);

	native_done(&rm->tags);
	if (rc == 0)
		return merge_all(vm, rm->m, e);
	/* No image was changed: it is as if it had not begun. */
	if (rm->off && !rm->tags.touched && pending_end(vm, &also) < 0)
		err_also(e, "%s", also.msg);
	return e->code;
}

int remove_ext_redo(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	return (vm_alive(vm) ? remove_tags(vm, s, NULL, e) : native_delete(vm, s, NULL, e)) < 0 ? e->code : merge_all(vm, NULL, e);
}
