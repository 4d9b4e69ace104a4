/* Taking a checkpoint: on every disk or on none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/checkpoint.h"
#include "engine/diskshot.h"
#include "engine/internal.h"
#include "engine/live.h"
#include "engine/output.h"
#include "engine/overlay.h"
#include "engine/standby.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"

#define NAME_MAX_BYTES 200
#define DEVICES_BYTES  (16u << 20) /* device state, tables and the pages that change while we look: on the safe side */

/* What is asked for, and what was found out before anything is touched. */
struct plan {
	const struct fermata_create *c;
	const char *name;
	struct fermata_snap *replaced;
	bool live, memory, running;
	bool file;         /* memory in a file, all disks external */
	uint32_t on;       /* disks with an internal snapshot: bit i of ds */
	uint32_t external; /* disks with an external one */
	size_t vmstate;    /* the disk that carries the memory */
	struct disks ds;
};

int snap_check_name(const char *name, struct err *e)
{
	if (!name[0] || strlen(name) > NAME_MAX_BYTES)
		return err_set(e, -EINVAL, "a snapshot's name has 1 to %d bytes", NAME_MAX_BYTES);
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == '/' || *p == 0x7f)
			return err_set(e, -EINVAL, "the name '%s' has a slash or a control character", name);
	return 0;
}

static const struct fermata_diskspec *spec_of(const struct plan *p, size_t i)
{
	for (size_t k = 0; k < p->c->n_specs; k++)
		if (!strcmp(p->c->specs[k].disk, p->ds.d[i].def->name) || !strcmp(p->c->specs[k].disk, p->ds.d[i].file))
			return &p->c->specs[k];
	return NULL;
}

static int check_specs(const struct plan *p, struct err *e)
{
	for (size_t k = 0; k < p->c->n_specs; k++) {
		size_t i = 0;

		while (i < p->ds.n && spec_of(p, i) != &p->c->specs[k])
			i++;
		if (i == p->ds.n)
			return err_set(e, -ENOENT, "the VM has no disk '%s', or it is named twice", p->c->specs[k].disk);
	}
	return 0;
}

/* What becomes of disk @i: what was asked for it, else what its definition says, else what the kind of snapshot implies. */
static enum fermata_mode mode_of(const struct plan *p, size_t i)
{
	const struct def_disk *def = p->ds.d[i].def;
	const struct fermata_diskspec *spec = spec_of(p, i);

	if (def->readonly)
		return FERMATA_MODE_NO;
	/* The firmware's flash is part of the memory; QEMU writes it back. */
	if (!strcmp(def->name, KVM_NODE_NVRAM))
		return p->file ? FERMATA_MODE_NO : FERMATA_MODE_INTERNAL;
	if (spec && spec->mode != FERMATA_MODE_DEFAULT)
		return spec->mode;
	switch (def->snapshot) {
	case DISK_SNAP_INTERNAL: return FERMATA_MODE_INTERNAL;
	case DISK_SNAP_EXTERNAL: return FERMATA_MODE_EXTERNAL;
	case DISK_SNAP_NO: return FERMATA_MODE_NO;
	case DISK_SNAP_DEFAULT: break;
	}
	return p->c->disk_only || p->file ? FERMATA_MODE_EXTERNAL : FERMATA_MODE_INTERNAL;
}

static int cannot_hold(const struct plan *p, const struct disk_state *d, struct err *e)
{
	err_set(e, -EOPNOTSUPP, "%s: %s is %s, which holds no snapshots", d->def->name, d->file,
		d->def->format == FORMAT_RAW ? "raw" : "not a qcow2 image QEMU can write");
	if (!p->memory || p->file)
		return err_hint(e, "take an external one of it: --diskspec %s,snapshot=external", d->def->name);
	return err_hint(e, "convert it to qcow2, or leave it out with 'snapshot = no' or 'readonly = yes'");
}

/* Every writable disk takes part; one that cannot is an error unless it is left out on purpose. */
static int choose_disks(struct plan *p, struct err *e)
{
	if (check_specs(p, e) < 0)
		return e->code;
	for (size_t i = 0; i < p->ds.n; i++) {
		const struct disk_state *d = &p->ds.d[i];
		enum fermata_mode mode = mode_of(p, i);

		/* A filter on top of it: only jobs put one there. */
		if (mode != FERMATA_MODE_NO && !d->file[0])
			return err_set(e, -EBUSY, "%s: a block job works on it", d->def->name);
		if (mode == FERMATA_MODE_INTERNAL && !d->snapshots)
			return cannot_hold(p, d, e);
		if (mode == FERMATA_MODE_EXTERNAL && p->memory && !p->file) {
			err_set(e, -EOPNOTSUPP, "%s: an external snapshot of a disk does not go with memory inside a disk", d->def->name);
			return err_hint(e, "--memspec snapshot=external puts it into a file, --disk-only leaves it out");
		}
		if (mode == FERMATA_MODE_INTERNAL && p->file)
			return err_set(e, -EOPNOTSUPP, "%s: an internal snapshot of a disk does not go with memory in a file",
				d->def->name);
		if (mode == FERMATA_MODE_INTERNAL)
			p->on |= 1u << i;
		else if (mode == FERMATA_MODE_EXTERNAL)
			p->external |= 1u << i;
		json_each(b, mode == FERMATA_MODE_EXTERNAL ? d->bitmaps : NULL)
			return bitmap_stays(d->file, json_str(json_get(b, "name"), ""), e);
	}
	if (!p->on && !p->external)
		return err_set(e, -EOPNOTSUPP, "no disk of the VM takes part in it");
	return 0;
}

/* QMP query-migrate: what in this VM cannot be saved. */
int vm_blockers(struct fermata_vm *vm, struct err *e)
{
	auto_json struct json_doc *reply = NULL;
	const struct json *reasons;

	if (mon_call(kvm_mon(vm->kvm), "query-migrate", NULL, deadline_in(CALL_MS), &reply, e) < 0)
		return e->code;
	reasons = json_get(json_root(reply), "blocked-reasons");
	json_each(r, reasons)
		return err_set(e, -EOPNOTSUPP, "QEMU cannot save its memory: %s", json_str(r, "it does not say why"));
	return 0;
}

/* The first disk whose file system takes all of the memory carries it. */
static int choose_vmstate(struct fermata_vm *vm, struct plan *p, struct err *e)
{
	uint64_t used, need, most = 0;
	const char *where = "";

	if (kvm_memory_used(kvm_process(vm->kvm), &used, e) < 0)
		return e->code;
	need = (used < vm->def->memory ? used : vm->def->memory) + DEVICES_BYTES;
	for (size_t i = 0; i < p->ds.n; i++) {
		const char *file = p->ds.d[i].file;
		uint64_t has;
		struct stat st;

		if (!(p->on & (1u << i)) || i == vm->def->n_disks)
			continue;
		/* A block device has no file system that could fill up; its own end is QEMU's to find. */
		if (stat(file, &st) == 0 && S_ISBLK(st.st_mode)) {
			p->vmstate = i;
			return 0;
		}
		if (file_free_space(file, &has, e) < 0)
			return err_at(e, "%s", p->ds.d[i].def->name);
		if (has >= need) {
			p->vmstate = i;
			return 0;
		}
		if (has >= most) {
			most = has;
			where = file;
		}
	}
	err_set(e, -ENOSPC, "the memory in use may take %llu MiB, the file system of %s has %llu MiB free",
		(unsigned long long)(need >> 20), where, (unsigned long long)(most >> 20));
	return err_hint(e, "free some space there, or delete a snapshot");
}

static int check_live(struct fermata_vm *vm, struct plan *p, struct err *e)
{
	char status[KVM_STATUS_MAX];
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0 || kvm_status(k, status, e) < 0)
		return e->code;
	p->running = !strcmp(status, "running");
	if (!p->running && strcmp(status, "paused") && strcmp(status, "prelaunch"))
		return err_set(e, -EBUSY, "the guest is neither running nor paused: QEMU says '%s'", status);
	if (!p->memory)
		return 0;
	return p->file ? 0 : vm_blockers(vm, e) < 0 ? e->code : choose_vmstate(vm, p, e);
}

/* What is asked below, and by describe(), at once: each round trip costs a part of a millisecond. */
static int ask_ahead(struct fermata_vm *vm, const struct plan *p, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	mon_ahead(kvm_mon(k), "query-status", NULL, deadline_in(CALL_MS));
	if (p->memory)
		mon_ahead(kvm_mon(k), "query-migrate", NULL, deadline_in(CALL_MS));
	mon_ahead(kvm_mon(k), "qom-get", MACHINE_TYPE, deadline_in(CALL_MS));
	return 0;
}

static int preflight(struct fermata_vm *vm, struct plan *p, struct err *e)
{
	if (snap_check_name(p->name, e) < 0 || jobs_none(vm, e) < 0 || (p->live && ask_ahead(vm, p, e) < 0) ||
		disks_look(vm, &p->ds, e) < 0 || vm_adopt_from(vm, &p->ds, e) < 0)
		return e->code;
	p->replaced = record_by_name(vm->rec, p->name);
	if (p->replaced && !p->c->replace) {
		err_set(e, -EEXIST, "there is a snapshot of that name");
		return err_hint(e, "--replace puts the new one in its place, once it is complete");
	}
	if (choose_disks(p, e) < 0)
		return e->code;
	return p->live ? check_live(vm, p, e) : 0;
}

/* The name inside the images: the snapshot's own, unless something there has it already. */
static char *choose_tag(struct fermata_vm *vm, const struct plan *p)
{
	bool taken = p->replaced != NULL;

	for (size_t i = 0; i < p->ds.n; i++)
		taken |= disk_has_tag(&p->ds.d[i], p->name, NULL);
	return taken ? str_fmt("%s~%llu", p->name, (unsigned long long)vm->rec->next_id) : strdup(p->name);
}

static bool guest_runs(struct fermata_vm *vm)
{
	char status[KVM_STATUS_MAX];
	struct err ignored;
	struct kvm *k;

	return fermata_vm_kvm(vm, &k, &ignored) == 0 && kvm_status(k, status, &ignored) == 0 && !strcmp(status, "running");
}

/* What the running QEMU is, for the check before a revert. */
int note_qemu(struct fermata_vm *vm, struct fermata_snap *s, struct err *e)
{
	const struct mon_version *v = mon_version(kvm_mon(vm->kvm));

	free(s->machine);
	s->machine = NULL;
	if (live_machine(vm, &s->machine, e) < 0)
		return e->code;
	free(s->qemu);
	s->qemu = str_fmt("%d.%d.%d", v->major, v->minor, v->micro);
	return s->qemu ? 0 : err_nomem(e, "describe a snapshot");
}

/* Where the overlay of disk @i goes: absolute, since QEMU has a working folder of its own. */
static int overlay_path(struct fermata_vm *vm, const struct plan *p, size_t i, char **out, struct err *e)
{
	const struct fermata_diskspec *spec = spec_of(p, i);

	if (!spec || !spec->file)
		return overlay_name(vm, i, p->name, vm->rec->next_id, out, e);
	*out = path_beside("", spec->file);
	return *out ? 0 : err_nomem(e, "describe a snapshot");
}

static int describe_disk(struct fermata_vm *vm, const struct plan *p, struct fermata_snap *s, size_t i, char *tag, struct err *e)
{
	const struct disk_state *d = &p->ds.d[i];
	struct fermata_snap_disk on = { .disk = d->def->name, .file = (char *)d->file };
	auto_free char *overlay = NULL;

	if (p->on & (1u << i)) {
		on.tag = tag;
	} else if (p->external & (1u << i)) {
		if (overlay_path(vm, p, i, &overlay, e) < 0)
			return e->code;
		on.overlay = overlay;
		on.external = true;
		on.raw = fermata_vm_disk_raw(vm, i);
		on.reused = p->c->reuse;
		if (file_exists(overlay) != p->c->reuse) {
			err_set(e, p->c->reuse ? -ENOENT : -EEXIST, "%s: the overlay %s %s", d->def->name, overlay,
				p->c->reuse ? "is not there" : "is there already");
			return p->c->reuse ? e->code : err_hint(e, "--reuse-external takes one that was made for this");
		}
		if (chain_check(vm, d->file, on.raw, e) < 0 || (on.reused && (output_spare(vm, overlay, e) < 0 || overlay_check(overlay, d->file, e) < 0)))
			return err_at(e, "%s", d->def->name);
	} else {
		return 0;
	}
	return snap_add_disk(s, &on, e);
}

static int describe(struct fermata_vm *vm, const struct plan *p, struct fermata_snap **out, struct err *e)
{
	auto_snap struct fermata_snap *s = snap_new(p->name, p->c->description);
	auto_free char *tag = choose_tag(vm, p);

	if (!s || !tag)
		return err_nomem(e, "describe a snapshot");
	if (p->live && note_qemu(vm, s, e) < 0)
		return e->code;
	s->id = vm->rec->next_id;
	s->kind = p->file ? FERMATA_CHECKPOINT_EXTERNAL :
		p->memory ? FERMATA_CHECKPOINT_INTERNAL : p->external ? FERMATA_DISK_EXTERNAL : FERMATA_DISK_INTERNAL;
	s->state = !p->live ? FERMATA_SNAP_SHUTOFF :
		!p->memory ? FERMATA_SNAP_DISK :
		p->running ? FERMATA_SNAP_RUNNING : FERMATA_SNAP_PAUSED;
	s->parent = vm->rec->current;
	s->created = (int64_t)time(NULL);
	s->adopted = p->c->no_metadata;
	for (size_t i = 0; i < p->ds.n; i++)
		if (describe_disk(vm, p, s, i, tag, e) < 0)
			return e->code;
	if (nvram_name(vm, s, e) < 0 || (CONFIG_MEMORY && p->file && checkpoint_name(vm, s, p->c->memory, p->c->instant, e) < 0))
		return e->code;
	*out = take_ptr(&s);
	return 0;
}

/* Take the figures of every disk's tag over into the pending snapshot. */
static void read_tags(struct fermata_vm *vm, const struct disks *ds, bool *whole)
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
static int overlays_written(const struct fermata_snap *s, bool *written, struct err *e)
{
	*written = false;
	for (size_t j = 0; j < s->n_disks && !*written; j++)
		if (s->disks[j].external && overlay_holds_data(s->disks[j].overlay, written, e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
	return 0;
}

int create_is_whole(struct fermata_vm *vm, bool *whole, struct err *e)
{
	auto_disks struct disks ds = { 0 };
	struct fermata_snap *s = vm->rec->pending.snap;

	if (fermata_snap_external(s) && !vm_alive(vm)) {
		if (overlays_written(s, whole, e) < 0)
			return e->code;
	} else {
		if (disks_look(vm, &ds, e) < 0)
			return e->code;
		read_tags(vm, &ds, whole);
		if (*whole && !vm_alive(vm) && native_complete(vm, s, whole, e) < 0)
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
	}
	return 0;
}

int create_finish(struct fermata_vm *vm, struct err *e)
{
	struct record *r = vm->rec;
	struct fermata_snap *s = r->pending.snap, *old = NULL;
	bool alive = vm_alive(vm);

	if (record_add(r, s, e) < 0)
		return e->code;
	r->pending.snap = NULL;
	if (r->pending.replaces)
		old = record_take(r, r->pending.replaces);
	r->next_id = s->id + 1;
	r->current = s->id;
	if (take_overlays(r, s, e) < 0)
		return e->code;
	if (s->adopted)
		vm->loose = record_take(r, s->id);
	/* What gives way goes on record as a deletion in the same write that brings the new one in. */
	r->pending = old ? (struct pending){ .op = PENDING_DELETE, .live = alive, .snap = old } : (struct pending){ 0 };
	if (record_save(r, e) < 0)
		return e->code;
	if (s->kind == FERMATA_CHECKPOINT_INTERNAL)
		savevm_dismiss(vm, SAVEVM_SAVE, s->id);
	if (!old)
		return 0;
	return remove_tags(vm, old, e) < 0 ? e->code : remove_finish(vm, e);
}

/* Nothing was ever written to them: out of QEMU with them, and away. */
static int drop_overlays(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	if (!fermata_snap_external(s))
		return 0;
	if (vm_alive(vm) && diskshot_drop(vm, s, e) < 0)
		return e->code;
	if (CONFIG_MEMORY && s->kind == FERMATA_CHECKPOINT_EXTERNAL)
		checkpoint_drop(vm, s);
	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && !s->disks[j].reused && overlay_remove(s->disks[j].overlay, e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
	return 0;
}

int create_undo(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	if (remove_tags(vm, s, e) < 0 || drop_overlays(vm, s, e) < 0)
		return e->code;
	/* QEMU keeps the memory that it wrote before it failed allocated: given back when the VM is off. */
	if (s->nvram && overlay_remove(s->nvram, e) < 0)
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

/* A live one failed with its disks switched: what it has made of them is taken back while the guest runs. */
static int fail_live(struct fermata_vm *vm, struct err *e)
{
	struct err also;

	if (live_undo(vm, &also) == 0)
		return e->code;
	err_also(e, "and could not undo the disks' part: %s", also.msg);
	if (also.code == FERMATA_PENDING || vm->rec->pending.op != PENDING_NONE)
		e->code = FERMATA_PENDING;
	return err_hint(e, "the next command tries again, or 'fermata snapshot-list %s' shows it as a disk snapshot", vm->name);
}

/* It failed: back to how things were, and the guest must be in the state it was in. */
static int fail(struct fermata_vm *vm, bool ran, struct err *e)
{
	bool file = vm->rec->pending.snap->kind == FERMATA_CHECKPOINT_EXTERNAL, written = false, whole = false;
	struct err also;

	if (e->code == FERMATA_PENDING)
		return err_hint(e, "the next command finishes it");
	if (vm_alive(vm) && ran && !guest_runs(vm) && vm->kvm && kvm_cont(vm->kvm, deadline_in(CALL_MS), &also) < 0)
		err_also(e, "and could not let the guest go on: %s", also.msg);
	if (!vm_alive(vm))
		vm_hang_up(vm);
	/*
	 * Whichever way was taken in the end: a background snapshot that QEMU gave up goes on with the guest stopped, its disks
	 * switched long since.
	 */
	if (CONFIG_MEMORY && file && !fermata_snap_instant(vm->rec->pending.snap) && vm_alive(vm) && create_is_whole(vm, &whole, &also) == 0 && whole) {
		if (vm->rec->pending.snap->kind != FERMATA_CHECKPOINT_EXTERNAL)
			return fail_live(vm, e);
		e->code = FERMATA_PENDING;
		return err_hint(e, "its memory and its disks are whole; the next command finishes it");
	}
	/* QEMU may have died after the transaction: what the guest has written since is not ours to drop. */
	if (file && !vm_alive(vm) && overlays_written(vm->rec->pending.snap, &written, &also) == 0 && written)
		e->code = FERMATA_PENDING;
	else if (create_undo(vm, &also) < 0) {
		err_also(e, "and could not undo: %s", also.msg);
		e->code = FERMATA_PENDING;
		err_hint(e, "the next command tries again");
	}
	return e->code;
}

/* Off: nobody looks on, so disk after disk will do. */
static int create_off(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	return native_create(vm, s, e) < 0 ? e->code : overlays_make(vm, s, NULL, NULL, e);
}

static int take(struct fermata_vm *vm, const struct plan *p, const struct fermata_snap *s, struct err *e)
{
	if (CONFIG_MEMORY && p->file)
		return checkpoint_take(vm, &p->ds, s, e);
	if (p->memory)
		return savevm_run(vm, SAVEVM_SAVE, s, &p->ds, p->on, p->vmstate, e);
	if (nvram_keep(vm, s, e) < 0)
		return e->code;
	return p->live ? diskshot_live(vm, &p->ds, s, p->c->quiesce ? p->c->freeze_ms : 0, e) : create_off(vm, s, e);
}

static int carry_out(struct fermata_vm *vm, struct plan *p, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;
	bool ran = s->state == FERMATA_SNAP_RUNNING || (s->state == FERMATA_SNAP_DISK && p->running), whole;

	if (take(vm, p, s, e) < 0)
		return fail(vm, ran, e);
	/* Overlays alone: the transaction has been answered, and there is nothing to ask. */
	whole = p->live && !p->memory && !p->on;
	if (!whole) {
		if (disks_look_again(vm, &p->ds, p->memory && !p->file, e) < 0)
			return fail(vm, ran, e);
		read_tags(vm, &p->ds, &whole);
	}
	if (!whole) {
		err_set(e, -EREMOTEIO, "QEMU says that it is done, but it is not on every disk");
		return fail(vm, ran, e);
	}
	nvram_compare(vm, s);
	if (create_finish(vm, e) < 0) {
		e->code = FERMATA_PENDING;
		return err_hint(e, "it is on every disk and on record as pending; the next command finishes it");
	}
	return 0;
}

static int create(struct fermata_vm *vm, struct plan *p, struct err *e)
{
	struct pending pending = { .op = PENDING_CREATE, .live = p->live };

	if (preflight(vm, p, e) < 0 || describe(vm, p, &pending.snap, e) < 0)
		return e->code;
	if (CONFIG_MEMORY && p->replaced && standby_give_up(vm, "a snapshot is replaced", e) < 0)
		return e->code;
	if (p->replaced) {
		pending.replaces = p->replaced->id;
		/* A successor stands where its predecessor stood. */
		if (pending.snap->parent == pending.replaces)
			pending.snap->parent = p->replaced->parent;
	}
	vm->rec->next_id = pending.snap->id + 1;
	pending.run = p->running;
	return pending_begin(vm, pending, e) < 0 ? e->code : carry_out(vm, p, e);
}

int fermata_snapshot_create(struct fermata_vm *vm, const struct fermata_create *c, const struct fermata_snap **out,
	struct err *e)
{
	char second[24];
	struct plan p = { .c = c, .name = c->name ? c->name : second, .live = vm_alive(vm), .file = c->memory_file };
	int rc;

	p.memory = p.live && !c->disk_only;
	vm->frozen_ms = vm->pause_us = 0;
	vm->handover = c->handover;
	vm->live = c->live;
	vm->way = FERMATA_STOPPED;
	if (c->live && (!p.file || c->instant)) {
		err_set(e, -EINVAL, "%s: --live is for a checkpoint whose memory is written to a file", vm->name);
		return err_hint(e, "--memspec says so; --instant has a short pause of its own");
	}
	if (p.file && !p.memory)
		return err_set(e, -EINVAL, "%s: %s", vm->name, p.live ? "--memspec and --disk-only exclude each other" :
			"the VM is off: it has no memory to keep");
	if (c->quiesce && (!c->disk_only || !p.live)) {
		err_set(e, -EINVAL, "%s: --quiesce is for disk snapshots of a running VM", vm->name);
		return err_hint(e, "a checkpoint with memory needs no quiet file systems");
	}
	snprintf(second, sizeof second, "%lld", (long long)time(NULL));
	rc = create(vm, &p, e);
	disks_done(&p.ds);
	vm_ask_anew(vm);
	if (rc < 0)
		return err_at(e, "%s: cannot create snapshot '%s'", vm->name, p.name);
	if (p.file && fermata_snap_current(vm)->kind != FERMATA_CHECKPOINT_EXTERNAL)
		return err_set(e, -EIO, "%s: the memory of '%s' could not be kept; what is left is a disk snapshot", vm->name, p.name);
	*out = vm->loose ? vm->loose : fermata_snap_current(vm);
	if (c->halt && vm_alive(vm) && life_kill(vm, e) < 0)
		return err_at(e, "%s: snapshot '%s' is taken, but the VM does not stop", vm->name, p.name);
	return 0;
}
