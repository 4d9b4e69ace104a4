/* The disks as they are now: asked of QEMU when it runs, read from the files when not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disks/disks.h"
#include "engine/disks/internal.h"
#include "engine/fermata.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"
#include "monitor/mon.h"
#include "monitor/monitor.h"
#include "qcow2/qcow2.h"

static void drive_of(struct buf *args, const char *disk)
{
	buf_addf(args, "{\"path\":\"/machine/peripheral/%s\",\"property\":\"drive\"}", disk);
}

/* All that look_live() is about to ask, at once. */
void disks_ahead(struct mon *m, const struct disks *ds)
{
	for (size_t i = 0; i < ds->n; i++) {
		auto_buf struct buf args = { 0 };

		drive_of(&args, ds->d[i].def->name);
		if (!ds->d[i].node[0] && args.p)
			mon_ahead(m, "qom-get", args.p, deadline_in(CALL_MS));
	}
	mon_ahead(m, "query-named-block-nodes", "{\"flat\":true}", deadline_in(CALL_MS));
}

/*
 * The nodes that the disks have open now: qom-get of each one's "drive". (query-block would tell them all at once, and
 * the whole chain below each, an object within the other: too deep to read, and in a time that grows with its square.)
 */
static int ask_nodes(struct mon *m, struct disks *ds, struct err *e)
{
	for (size_t i = 0; i < ds->n; i++) {
		struct disk_state *d = &ds->d[i];
		auto_json struct json_doc *reply = NULL;
		auto_buf struct buf args = { 0 };
		const char *name;

		if (d->node[0])
			continue;
		drive_of(&args, d->def->name);
		if (buf_check(&args, "ask for a disk", e) < 0 ||
			mon_call(m, "qom-get", args.p, deadline_in(CALL_MS), &reply, e) < 0)
			return err_at(e, "%s", d->def->name);
		name = json_str(json_root(reply), "");
		if (strlen(name) < sizeof d->node)
			strcpy(d->node, name);
	}
	return 0;
}

const struct json *disks_node(const struct disks *ds, const char *node)
{
	return find_node(ds->doc, node);
}

/* A json: text where something about it is otherwise than the file's own header says. */
char *node_path(const struct json *node)
{
	const char *file = json_str(json_get(node, "file"), "");
	auto_json struct json_doc *doc = NULL;
	const struct json *in;
	struct err ignored;

	if (!str_starts(file, "json:"))
		return strdup(file);
	if (json_parse(file + 5, strlen(file + 5), 10000, &doc, &ignored) < 0)
		return strdup("");
	in = json_root(doc);
	for (int depth = 0; in && depth < 8 && !json_str(json_get(in, "filename"), NULL); depth++)
		in = json_get(in, "file");
	return strdup(json_str(json_get(in, "filename"), ""));
}

static int look_live(struct fermata_vm *vm, struct disks *ds, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	disks_ahead(kvm_mon(k), ds);
	if (ask_nodes(kvm_mon(k), ds, e) < 0 ||
		mon_call(kvm_mon(k), "query-named-block-nodes", "{\"flat\":true}", deadline_in(CALL_MS), &ds->doc, e) < 0) {
		vm_ask_anew(vm);
		return e->code;
	}
	for (size_t i = 0; i < ds->n; i++) {
		struct disk_state *d = &ds->d[i];
		const struct json *node;

		node = find_node(ds->doc, d->node);
		if (!node)
			return err_set(e, -EPROTO, "%s: QEMU does not list its node '%s'", d->def->name, d->node);
		d->file = node_file(ds->doc, d->node);
		/* A node that was made by hand: what it has open is on record, see switched.c. */
		if (!*d->file && i < vm->def->n_disks)
			d->file = fermata_vm_disk_file(vm, i);
		d->snaps = json_get(json_get(node, "image"), "snapshots");
		d->cache = json_get(node, "cache");
		d->bitmaps = json_get(node, "dirty-bitmaps");
		d->snapshots = str_eq(json_str(json_get(node, "drv"), NULL), "qcow2") && !json_bool(json_get(node, "ro"), true);
	}
	return 0;
}

static int look_at_files(struct fermata_vm *vm, struct disks *ds, struct err *e)
{
	for (size_t i = 0; i < ds->n; i++) {
		struct disk_state *d = &ds->d[i];

		d->snapshots = d->def == &vm->nvram || (!fermata_vm_disk_raw(vm, i) && !d->def->readonly);
		if (d->snapshots && qcow2_open(d->file, QCOW2_SHARE, &d->image, e) < 0)
			return err_at(e, "%s", d->def->name);
	}
	return 0;
}

int disks_look(struct fermata_vm *vm, struct disks *ds, struct err *e)
{
	*ds = (struct disks){ .n = vm->def->n_disks };
	for (size_t i = 0; i < ds->n; i++)
		ds->d[i] = (struct disk_state){ .def = &vm->def->disks[i], .file = fermata_vm_disk_file(vm, i) };
	if (vm->nvram.file)
		ds->d[ds->n++] = (struct disk_state){ .def = &vm->nvram, .file = vm->nvram.file, .node = KVM_NODE_NVRAM };
	return vm_alive(vm) ? look_live(vm, ds, e) : look_at_files(vm, ds, e);
}

int disks_look_again(struct fermata_vm *vm, struct disks *ds, bool same, struct err *e)
{
	if (!same || !vm_alive(vm)) {
		disks_done(ds);
		return disks_look(vm, ds, e);
	}
	json_free(ds->doc);
	ds->doc = NULL;
	return look_live(vm, ds, e);
}

void disks_done(struct disks *ds)
{
	for (size_t i = 0; i < ds->n; i++)
		qcow2_close(ds->d[i].image);
	json_free(ds->doc);
}

size_t disk_index(const struct disks *ds, const char *name)
{
	size_t i = 0;

	while (i < ds->n && strcmp(ds->d[i].def->name, name))
		i++;
	return i;
}
