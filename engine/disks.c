/* The disks as they are now: asked of QEMU when it runs, read from the files when not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "engine/overlay.h"
#include "lib/own.h"
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

/* What QEMU lists of node @name, or NULL. */
static const struct json *find_node(const struct json_doc *nodes, const char *name)
{
	json_each(n, json_root(nodes)) {
		const char *s = json_str(json_get(n, "node-name"), NULL);

		if (s && !strcmp(s, name))
			return n;
	}
	return NULL;
}

/*
 * The file behind a format node: that of its protocol node, which bears the same name with ".file". The format node's
 * own "filename" is a json: text as soon as its backing file was given otherwise than its header says.
 */
const char *node_file(const struct json_doc *nodes, const char *node)
{
	char name[48];

	snprintf(name, sizeof name, "%s.file", node);
	return json_str(json_get(json_get(find_node(nodes, name), "image"), "filename"), "");
}

const struct json *disks_node(const struct disks *ds, const char *node)
{
	return find_node(ds->doc, node);
}

const char *disk_node(const struct disks *ds, const struct disk_state *d, const char *file)
{
	size_t n = strlen(d->def->name);

	json_each(v, json_root(ds->doc)) {
		const char *name = json_str(json_get(v, "node-name"), "");

		if (!strncmp(name, d->def->name, n) && name[n] == '.' && !str_ends(name, ".file") && same_file(node_file(ds->doc, name), file))
			return name;
	}
	return NULL;
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

int live_machine(struct fermata_vm *vm, char **machine, struct err *e)
{
	auto_json struct json_doc *reply = NULL;
	const char *type;
	size_t n;

	if (mon_call(kvm_mon(vm->kvm), "qom-get", MACHINE_TYPE, deadline_in(CALL_MS),
		    &reply, e) < 0)
		return e->code;
	type = json_str(json_root(reply), "");
	n = strlen(type) - (str_ends(type, "-machine") ? strlen("-machine") : 0);
	*machine = strndup(type, n);
	return *machine ? 0 : err_nomem(e, "ask for the machine");
}

/* QMP SnapshotInfo (qapi/block-core.json). */
static struct tag tag_of_json(const struct json *s)
{
	return (struct tag){
		.id = json_str(json_get(s, "id"), ""),
		.name = json_str(json_get(s, "name"), ""),
		.vmstate = json_uint(json_get(s, "vm-state-size"), 0),
		.clock_ns = json_uint(json_get(s, "vm-clock-sec"), 0) * 1000000000u + json_uint(json_get(s, "vm-clock-nsec"), 0),
		.created = json_int(json_get(s, "date-sec"), 0),
	};
}

void disk_tags(const struct disk_state *d, bool (*fn)(void *ctx, const struct tag *t), void *ctx)
{
	const struct qcow2_snap *snaps;
	unsigned n;

	json_each(s, d->snaps) {
		struct tag t = tag_of_json(s);

		if (!fn(ctx, &t))
			return;
	}
	if (!d->image)
		return;
	snaps = qcow2_snaps(d->image, &n);
	for (unsigned i = 0; i < n; i++)
		if (!fn(ctx, &(struct tag){ snaps[i].id, snaps[i].name, snaps[i].vm_state_size, snaps[i].vm_clock_ns,
				     snaps[i].date_s }))
			return;
}

struct find_tag {
	const char *name;
	struct tag *t;
	bool found;
};

static bool is_tag(void *ctx, const struct tag *t)
{
	struct find_tag *f = ctx;

	if (strcmp(t->name, f->name))
		return true;
	f->found = true;
	if (f->t)
		*f->t = *t;
	return false;
}

bool disk_has_tag(const struct disk_state *d, const char *name, struct tag *t)
{
	struct find_tag f = { .name = name, .t = t };

	disk_tags(d, is_tag, &f);
	return f.found;
}
