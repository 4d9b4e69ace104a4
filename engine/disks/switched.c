/*
 * Disks that somebody switched to another image by hand, through QEMU's monitor (blockdev-snapshot-sync, a block job of their own):
 * what QEMU has goes on record, so that the next start has what the guest wrote last.
 *
 * QEMU has to be asked for it while it runs. What was switched past us, on its socket, and nobody has asked about before that
 * QEMU died, cannot be known.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disks/disks.h"
#include "engine/disks/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "monitor/monitor.h"

#define ASK_MS    2000 /* on the way to something that a QEMU which does not answer must not keep */
#define SETTLE_MS 3000 /* for a job that was told to end */
#define LOOK_MS   50

/* What a disk of a running VM is on. */
struct found {
	char node[64];
	char *file; /* absolute, as QEMU's folder is the root; NULL: none */
	bool raw, known; /* of a format that can be on record */
};

static void found_done(struct found *f)
{
	free(f->file);
}
#define auto_found __attribute__((cleanup(found_done)))

/* -EREMOTEIO: there is no such device (any more). */
static int find_disk(struct mon *m, const struct json_doc *nodes, const struct def_disk *def, uint64_t ms, struct found *f,
	struct err *e)
{
	auto_json struct json_doc *reply = NULL;
	auto_buf struct buf args = { 0 };
	const struct json *node;
	auto_free char *file = NULL;
	const char *drv;

	buf_addf(&args, "{\"path\":\"/machine/peripheral/%s\",\"property\":\"drive\"}", def->name);
	if (buf_check(&args, "ask for a disk", e) < 0 || mon_call(m, "qom-get", args.p, deadline_in(ms), &reply, e) < 0)
		return e->code;
	snprintf(f->node, sizeof f->node, "%s", json_str(json_root(reply), ""));
	node = find_node(nodes, f->node);
	if (!node)
		return 0;
	drv = json_str(json_get(node, "drv"), "");
	f->raw = !strcmp(drv, "raw");
	f->known = f->raw || !strcmp(drv, "qcow2");
	file = node_path(node);
	if (file && *file)
		f->file = str_fmt("%s%s", *file == '/' ? "" : "/", file);
	return 0;
}

/* "DISK.N": a node that fermata gave it. */
static bool node_is_ours(const char *disk, const char *node)
{
	size_t n = strlen(disk);

	return !strncmp(node, disk, n) && node[n] == '.';
}

static void tell_frozen(struct fermata_vm *vm, const char *disk, const char *file)
{
	for (size_t i = 0; i < vm->rec->n_snaps; i++)
		for (size_t k = 0; k < vm->rec->snaps[i]->n_disks; k++) {
			const struct fermata_snap_disk *d = &vm->rec->snaps[i]->disks[k];

			if (d->external && !strcmp(d->disk, disk) && same_file(d->file, file))
				vm_notice(vm, "%s: snapshot '%s' froze %s, which the guest writes to now: it is not what it was", disk,
					vm->rec->snaps[i]->name, file);
		}
}

/* In memory. @changed: raised if the record has to be written. */
static int note_disk(struct fermata_vm *vm, size_t i, const struct found *f, bool *changed, struct err *e)
{
	const struct def_disk *def = &vm->def->disks[i];
	const char *was = fermata_vm_disk_file(vm, i);

	if (!f->file || same_file(f->file, was))
		return 0;
	if (!f->known || !file_exists(f->file))
		return err_set(e, -EOPNOTSUPP, "%s: QEMU has it on %s, which cannot be put on record", def->name, f->file);
	vm_notice(vm, "%s: it was switched by hand from %s to %s, which is on record now", def->name, was, f->file);
	tell_frozen(vm, def->name, f->file);
	*changed = true;
	return disk_use(vm, def->name, f->file, f->raw, e);
}

/* @strange: out; the first disk whose node is not one of ours, or NULL. */
static int note_all(struct fermata_vm *vm, uint64_t ms, const struct def_disk **strange, struct err *e)
{
	auto_json struct json_doc *nodes = NULL;
	bool changed = false;

	*strange = NULL;
	if ((!vm->kvm && kvm_open(vm->run_dir, deadline_in(ms), &vm->kvm, e) < 0) ||
		mon_call(kvm_mon(vm->kvm), "query-named-block-nodes", "{\"flat\":true}", deadline_in(ms), &nodes, e) < 0)
		return e->code;
	for (size_t i = 0; i < vm->def->n_disks; i++) {
		const struct def_disk *def = &vm->def->disks[i];
		const struct record_job *j = record_job(vm->rec, def->name);
		auto_found struct found f = { 0 };

		/* What a job of ours has switched, its end puts on record. */
		if (def->readonly || (j && !j->ended))
			continue;
		if (find_disk(kvm_mon(vm->kvm), nodes, def, ms, &f, e) < 0) {
			if (e->code == -EREMOTEIO)
				continue; /* it was unplugged, by hand too */
			return e->code;
		}
		if (note_disk(vm, i, &f, &changed, e) < 0)
			return e->code;
		if (!*strange && f.file && !node_is_ours(def->name, f.node))
			*strange = def;
	}
	return changed ? record_save(vm->rec, e) : 0;
}

static bool may_note(const struct fermata_vm *vm)
{
	return vm_alive(vm) && !vm->rec->none && vm->rec->pending.op == PENDING_NONE;
}

int disks_unswitched(struct fermata_vm *vm, struct err *e)
{
	const struct def_disk *strange;
	size_t i = 0;

	if (!may_note(vm))
		return 0;
	if (note_all(vm, CALL_MS, &strange, e) < 0)
		return e->code;
	if (!strange)
		return 0;
	while (&vm->def->disks[i] != strange)
		i++;
	err_set(e, -EBUSY, "%s was switched to %s by hand since the VM started", strange->name, fermata_vm_disk_file(vm, i));
	return err_hint(e, "shut the VM down and start it again: it goes on with that image");
}

void disks_note_switched(struct fermata_vm *vm)
{
	const struct def_disk *strange;
	struct err e;

	if (may_note(vm) && note_all(vm, ASK_MS, &strange, &e) < 0 && vm_alive(vm))
		vm_notice(vm, "whether a disk was switched by hand is not known: %s", e.msg);
}

/* Whether a job that is not ours is on its way to its end. */
static bool job_ends(struct mon *m)
{
	auto_json struct json_doc *jobs = NULL;
	struct err ignored;

	if (mon_call(m, "query-jobs", NULL, deadline_in(CALL_MS), &jobs, &ignored) < 0)
		return false;
	json_each(j, json_root(jobs)) {
		const char *s = json_str(json_get(j, "status"), "");

		if (!str_starts(json_str(json_get(j, "id"), ""), "fermata-") &&
			(!strcmp(s, "ready") || !strcmp(s, "standby") || !strcmp(s, "waiting") || !strcmp(s, "pending")))
			return true;
	}
	return false;
}

void fermata_monitor_used(struct fermata_vm *vm, const char *command)
{
	struct deadline until = deadline_in(SETTLE_MS);

	/* block-job-complete and its like return before the disk has changed over. */
	if (may_note(vm) && vm->kvm && (strstr(command, "complete") || strstr(command, "finalize")))
		while (deadline_left_ms(until) && job_ends(kvm_mon(vm->kvm)))
			poll(NULL, 0, LOOK_MS);
	disks_note_switched(vm);
}
