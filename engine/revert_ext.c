/* Going back to an external snapshot: new overlays on what it froze; the other branches stay as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/overlay.h"
#include "engine/revert_ext.h"
#include "engine/standby.h"
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
			if (chain_check(vm, d->file, d->raw, e) < 0)
				return err_at(e, "%s", d->disk);
		} else if (!same_file(d->file, fermata_vm_disk_file(vm, i))) {
			err_set(e, -EOPNOTSUPP, "%s: '%s' is inside %s, which later snapshots stand on", d->disk, d->tag, d->file);
			return err_hint(e, "delete those first");
		}
	}
	return 0;
}

int revert_ext_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e)
{
	uint64_t id = vm->rec->next_id++;

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

/* Nothing was ever written to the new overlays: made anew each time, which makes this fit to be repeated. */
int revert_ext_make(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];

		if (!d->external)
			continue;
		if (overlay_remove(d->overlay, e) < 0 || overlay_make(vm, d->overlay, d->file, d->raw, e) < 0)
			return err_at(e, "%s", d->disk);
	}
	return 0;
}

int revert_ext_undo(struct fermata_vm *vm, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;

	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && overlay_remove(s->disks[j].overlay, e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
	return pending_end(vm, e);
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
	vm->rec->current = s->id;
	return 0;
}

int revert_ext_redo(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	if (revert_ext_make(vm, s, e) < 0 || native_apply(vm, s, e) < 0 || revert_ext_switch(vm, e) < 0)
		return e->code;
	vm_because(vm, FERMATA_SHUTOFF, "from snapshot");
	return pending_end(vm, e) < 0 ? e->code : trash_empty(vm, e);
}

/* What a standby has loaded already. */
static int revert_by_standby(struct fermata_vm *vm, bool run, struct err *e)
{
	struct fermata_snap *s = vm->rec->standby;
	auto_free char *name = strdup(s->name);
	struct pending p = { .op = PENDING_REVERT, .snap = snap_copy(s), .run = run };
	struct err also;

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

int revert_external(struct fermata_vm *vm, const struct fermata_snap *s, const struct fermata_revert *r, struct err *e)
{
	bool memory = s->kind == FERMATA_CHECKPOINT_EXTERNAL;
	struct pending p = { .op = PENDING_REVERT, .snap = snap_copy(s),
		.run = r->running || (!r->paused && s->state == FERMATA_SNAP_RUNNING) };
	struct err also;

	if (!p.snap)
		return err_nomem(e, "revert");
	if (CONFIG_MEMORY && memory && !r->verify && standby_ready(vm, s)) {
		snap_free(p.snap);
		return revert_by_standby(vm, p.run, e);
	}
	if ((CONFIG_MEMORY && memory && checkpoint_check(vm, s, r->force, r->verify, e) < 0) || revert_ext_check(vm, s, e) < 0 ||
		revert_ext_name(vm, p.snap, e) < 0) {
		snap_free(p.snap);
		return e->code;
	}
	if (pending_begin(vm, p, e) < 0)
		return e->code;
	/* Once before the guest is stopped: what cannot be made, or loaded, must not cost it its life. */
	if (revert_ext_make(vm, p.snap, e) < 0 || (CONFIG_MEMORY && memory ? checkpoint_load(vm, vm->rec->pending.snap, r->force, e) < 0 :
								     vm_alive(vm) && life_kill(vm, e) < 0)) {
		if (revert_ext_undo(vm, &also) < 0) {
			err_also(e, "and could not undo: %s", also.msg);
			e->code = FERMATA_PENDING;
		}
		return e->code;
	}
	if ((CONFIG_MEMORY && memory ? checkpoint_change(vm, e) : revert_ext_redo(vm, e)) < 0) {
		e->code = FERMATA_PENDING;
		return err_hint(e, "it is on record; the next command finishes it");
	}
	return !memory && (r->running || r->paused) ? fermata_start(vm, r->paused, e) : 0;
}
