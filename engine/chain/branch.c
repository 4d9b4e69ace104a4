/* New overlays on a snapshot's frozen images, and the switch to them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

static size_t def_index(const struct def *def, const char *name)
{
	size_t i = 0;

	while (i < def->n_disks && strcmp(def->disks[i].name, name))
		i++;
	return i;
}

int revert_ext_check(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];
		size_t i = def_index(vm->def, d->disk);

		if (i == vm->def->n_disks && !strcmp(d->disk, KVM_NODE_NVRAM) && vm->nvram.file)
			continue;
		if (i == vm->def->n_disks)
			return err_set(e, -ENODEV, "%s: the VM has no such disk any more", d->disk);
		if (d->external) {
			if (chain_check(vm, d->file, d->raw, e) < 0 || base_check(vm, NULL, d->file, d->raw, e) < 0)
				return err_at(e, "%s", d->disk);
			/* What it is left for is removed in the end, and what it froze is not written to by others. */
			if (!vm_alive(vm) && overlay_unused(fermata_vm_disk_file(vm, i), e) < 0)
				return err_at(e, "%s", d->disk);
		}
	}
	return 0;
}

int revert_ext_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e)
{
	uint64_t id = vm->rec->next_id++;

	if (carriers_note(vm, s, e) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks; j++) {
		struct fermata_snap_disk *d = &s->disks[j];

		if (!d->external)
			continue;
		free(take_ptr(&d->overlay));
		if (overlay_name(vm, def_index(vm->def, d->disk), s->name, id, &d->overlay, e) < 0)
			return e->code;
		d->reused = false;
		if (file_exists(d->overlay))
			return err_set(e, -EEXIST, "%s: the overlay %s is there already", d->disk, d->overlay);
	}
	return 0;
}

/* What the overlays of @s are known by: they are a standby's, or the pending revert's. */
static uint64_t mark_of(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	return s == vm->rec->standby ? vm->rec->standby_mark : vm->rec->pending.mark;
}

/* Nothing was ever written to the new overlays: made anew each time, which makes this fit to be repeated. */
int revert_ext_make(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];

		if (!d->external)
			continue;
		if (made_remove_image(vm, d->overlay, mark_of(vm, s), e) < 0 ||
			overlay_make(vm, d->overlay, d->file, d->raw, mark_of(vm, s), e) < 0)
			return err_at(e, "%s", d->disk);
	}
	return 0;
}

int revert_ext_undo(struct fermata_vm *vm, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;

	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && s->disks[j].overlay[0] &&
			made_remove_image(vm, s->disks[j].overlay, mark_of(vm, s), e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
	return pending_end(vm, e);
}

size_t carrier_differs(const struct fermata_vm *vm, const struct fermata_snap_disk *d)
{
	size_t i = 0;

	while (i < vm->def->n_disks && strcmp(vm->def->disks[i].name, d->disk))
		i++;
	/* An image that was moved by hand is where the definition says. */
	if (i == vm->def->n_disks || d->external || !file_exists(d->file) || same_file(d->file, fermata_vm_disk_file(vm, i)))
		return vm->def->n_disks;
	return i;
}

int carriers_note(struct fermata_vm *vm, struct fermata_snap *s, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++) {
		size_t i = carrier_differs(vm, &s->disks[j]);

		if (i == vm->def->n_disks)
			continue;
		s->disks[j].raw = fermata_vm_disk_raw(vm, i);
		if (record_string(&s->disks[j].overlay, fermata_vm_disk_file(vm, i), e) < 0)
			return e->code;
	}
	return 0;
}

int carriers_take(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	for (size_t j = 0; j < s->n_disks; j++) {
		struct fermata_snap_disk *d = &s->disks[j];

		if (d->external || !d->overlay[0])
			continue;
		if (record_trash(vm->rec, d->overlay, e) < 0 || disk_use(vm, d->disk, d->file, false, e) < 0)
			return e->code;
		d->overlay[0] = '\0';
		d->raw = false;
	}
	return 0;
}

int revert_ext_switch(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	for (size_t j = 0; j < s->n_disks; j++) {
		struct record_disk *d;
		char *none;

		if (!s->disks[j].external || !s->disks[j].overlay[0])
			continue;
		d = record_disk_need(vm->rec, s->disks[j].disk);
		none = strdup("");
		if (!d || !none || (d->active && record_trash(vm->rec, d->active, e) < 0)) {
			free(none);
			return err_nomem(e, "revert");
		}
		free(d->active);
		d->active = s->disks[j].overlay;
		d->raw = false;
		s->disks[j].overlay = none;
	}
	if (carriers_take(vm, e) < 0)
		return e->code;
	vm->rec->pending.switched = true;
	vm->rec->current = s->id;
	return 0;
}
