/* The end of a creation: finished, or undone. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

/* Take the figures of every disk's tag over into the pending snapshot. */
void read_new_tags(struct fermata_vm *vm, const struct disks *ds, bool *whole)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	bool vmstate = s->kind != FERMATA_CHECKPOINT_INTERNAL;

	*whole = false;
	for (size_t j = 0; j < s->n_disks; j++) {
		size_t i = disk_index(ds, s->disks[j].disk);
		struct tag t;

		if (s->disks[j].external) {
			/* Live, the overlay is in use; off, it only has to be there. */
			if (i == ds->n || !(vm_alive(vm) ? same_file(ds->d[i].file, s->disks[j].overlay) :
							  file_exists(s->disks[j].overlay)))
				return;
			continue;
		}
		if (i == ds->n || !disk_has_tag(&ds->d[i], s->disks[j].tag, &t))
			return;
		s->disks[j].vmstate = t.vmstate;
		if (t.vmstate) {
			vmstate = true;
			s->clock_ns = t.clock_ns;
			s->created = t.created;
		}
	}
	*whole = vmstate;
}

/*
 * QEMU is gone: did the transaction happen? If an overlay holds data, it did, and the data is the guest's. If none does,
 * the images below are all there is to know, and undoing loses nothing.
 */
int overlays_written(struct fermata_vm *vm, const struct fermata_snap *s, bool *written, struct err *e)
{
	uint64_t mark = vm->rec->pending.mark;

	*written = false;
	for (size_t j = 0; j < s->n_disks && !*written; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];
		int ours = 1;

		if (!d->external)
			continue;
		if (mark && !d->reused)
			ours = made_image(d->overlay, mark, e);
		if (ours < 0)
			return err_at(e, "%s", d->disk);
		/* What others have put there says nothing of the transaction. */
		if (!ours)
			continue;
		if (overlay_holds_data(d->overlay, written, e) < 0)
			return err_at(e, "%s", d->disk);
	}
	return 0;
}

int create_is_whole(struct fermata_vm *vm, bool *whole, struct err *e)
{
	auto_disks struct disks ds = { 0 };
	struct fermata_snap *s = vm->rec->pending.snap;

	/* Without disks it is its memory, whoever runs. */
	if (CONFIG_MEMORY && s->kind == FERMATA_CHECKPOINT_EXTERNAL && !s->n_disks) {
		*whole = checkpoint_complete(vm, s);
		return 0;
	}
	if (fermata_snap_external(s) && !vm_alive(vm)) {
		if (overlays_written(vm, s, whole, e) < 0)
			return e->code;
	} else {
		if (disks_look(vm, &ds, e) < 0)
			return e->code;
		read_new_tags(vm, &ds, whole);
		if (*whole && !vm_alive(vm) && native_complete(vm, s, vm->rec->pending.marks, whole, e) < 0)
			return e->code;
	}
	if (CONFIG_MEMORY && *whole && s->kind == FERMATA_CHECKPOINT_EXTERNAL)
		checkpoint_keep(vm, s);
	return 0;
}

/* From here on the disks use the overlays. */
static int take_overlays(struct record *r, struct fermata_snap *s, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++) {
		struct record_disk *d;
		char *none;

		if (!s->disks[j].external)
			continue;
		d = record_disk_need(r, s->disks[j].disk);
		none = strdup("");
		if (!d || !none) {
			free(none);
			return err_nomem(e, "record an overlay");
		}
		free(d->active);
		d->active = s->disks[j].overlay;
		d->raw = false;
		s->disks[j].overlay = none;
		/* Whatever was known of it is from before it was a disk. */
		record_base_drop(r, s->disks[j].file);
	}
	return 0;
}

/* The images that @old froze: its deletion merges them where that can be done, and leaves them in the chain where not. */
static int leave_frozen(struct record *r, struct fermata_snap *old, struct err *e)
{
	for (size_t j = old->n_disks; j-- > 0;) {
		if (!old->disks[j].external)
			continue;
		if (record_stay(r, old->disks[j].disk, old->disks[j].file, old->disks[j].raw, e) < 0)
			return e->code;
		snap_disk_done(&old->disks[j]);
		memmove(old->disks + j, old->disks + j + 1, (--old->n_disks - j) * sizeof *old->disks);
	}
	return 0;
}

int create_finish(struct fermata_vm *vm, struct fermata_snap **loose, struct err *e)
{
	struct record *r = vm->rec;
	struct fermata_snap *s = r->pending.snap, *old = NULL;
	bool alive = vm_alive(vm);

	*loose = NULL;
	if (record_add(r, s, e) < 0)
		return e->code;
	r->pending.snap = NULL;
	if (r->pending.replaces)
		old = record_take(r, r->pending.replaces);
	r->next_id = s->id + 1;
	r->current = s->id;
	if (take_overlays(r, s, e) < 0 || (old && leave_frozen(r, old, e) < 0))
		return e->code;
	bases_note_all(vm);
	if (s->adopted)
		*loose = record_take(r, s->id);
	/* What gives way goes on record as a deletion in the same write that brings the new one in. */
	r->pending = old ? (struct pending){ .op = PENDING_DELETE, .live = alive, .snap = old } : (struct pending){ 0 };
	if (record_save(r, e) < 0)
		return e->code;
	if (s->kind == FERMATA_CHECKPOINT_INTERNAL)
		savevm_dismiss(vm, SAVEVM_SAVE, s->id);
	if (!old)
		return 0;
	return remove_tags(vm, old, NULL, e) < 0 ? e->code : remove_end(vm, e);
}

/* QEMU may have died after the transaction: what the guest has written since is not ours to drop, nor what cannot be told. */
static int check_unwritten(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	bool written = false;

	if (!vm->rec->pending.live)
		return 0;
	if (overlays_written(vm, s, &written, e) < 0)
		return e->code;
	return written ? err_set(e, -EBUSY, "the disks have switched, and the guest has written to the overlays") : 0;
}

/* Nothing was ever written to them: out of QEMU with them, and away. */
static int drop_overlays(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	if (!fermata_snap_external(s))
		return 0;
	if ((vm_alive(vm) ? diskshot_drop(vm, s, e) : check_unwritten(vm, s, e)) < 0)
		return e->code;
	if (CONFIG_MEMORY && s->kind == FERMATA_CHECKPOINT_EXTERNAL)
		checkpoint_drop(vm, s);
	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && !s->disks[j].reused &&
			made_remove_image(vm, s->disks[j].overlay, vm->rec->pending.mark, e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
	return 0;
}

int create_undo(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	/* Overlays first: they tell whether there is anything to undo. */
	if (drop_overlays(vm, s, e) < 0 || remove_tags(vm, s, vm->rec->pending.marks, e) < 0)
		return e->code;
	/* QEMU keeps the memory that it wrote before it failed allocated: given back when the VM is off. */
	if (s->nvram && made_remove_file(vm, s->nvram, e) < 0)
		return e->code;
	for (size_t i = 0; s->kind == FERMATA_CHECKPOINT_INTERNAL && i < s->n_disks; i++) {
		struct record_disk *d = record_disk_need(vm->rec, s->disks[i].disk);

		if (!d)
			return err_nomem(e, "undo a snapshot");
		d->reclaim = true;
	}
	if (!vm_alive(vm) && native_reclaim(vm, e) < 0)
		return e->code;
	vm->rec->next_id = s->id + 1;
	return pending_end(vm, e);
}

int live_undo(struct fermata_vm *vm, struct err *e)
{
	auto_free char *name = strdup(vm->rec->pending.snap->name);
	auto_snap struct fermata_snap *loose = NULL; /* it has metadata: checkpoint_keep() has seen to that */

	if (!name)
		return err_nomem(e, "undo a checkpoint");
	return create_finish(vm, &loose, e) < 0 ? e->code : fermata_snapshot_delete(vm, name, &(struct fermata_delete){ 0 }, e);
}
