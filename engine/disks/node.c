/* Block nodes of a running QEMU: find, add, drop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disks/disks.h"
#include "engine/disks/internal.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/file.h"
#include "lib/own.h"
#include "monitor/monitor.h"

/* What QEMU lists of node @name, or NULL. */
const struct json *find_node(const struct json_doc *nodes, const char *name)
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

int call_with(struct fermata_vm *vm, const char *command, struct buf *args, struct err *e)
{
	if (buf_check(args, "ask QEMU for a disk snapshot", e) < 0)
		return e->code;
	return mon_call(kvm_mon(vm->kvm), command, args->p, deadline_in(CALL_MS), NULL, e);
}

unsigned node_next(const struct disks *ds, const char *disk)
{
	size_t n = strlen(disk);
	unsigned next = 0;

	json_each(node, json_root(ds->doc)) {
		const char *name = json_str(json_get(node, "node-name"), "");
		unsigned long number;
		char *end;

		if (strncmp(name, disk, n) || name[n] != '.')
			continue;
		number = strtoul(name + n + 1, &end, 10);
		if ((!*end || *end == '.') && number >= next)
			next = (unsigned)number + 1;
	}
	return next;
}

void put_cache(struct json_out *w, const struct json *cache)
{
	bool direct = json_bool(json_get(cache, "direct"), false), no_flush = json_bool(json_get(cache, "no-flush"), false);

	if (!direct && !no_flush)
		return;
	json_obj(w, "cache");
	json_put_bool(w, "direct", direct);
	if (no_flush)
		json_put_bool(w, "no-flush", true);
	json_obj_end(w);
}

/* QEMU reads its monitor byte by byte, some 2.5 us each: nothing is said that it does not do by itself. */
void put_file_node(struct buf *b, const struct disk_state *d, const char *node, const char *file)
{
	struct json_out w;
	char file_node[48];

	snprintf(file_node, sizeof file_node, "%s.file", node);
	json_out_init(&w, b, false);
	json_obj(&w, NULL);
	json_put_str(&w, "driver", kvm_file_driver(file));
	json_put_str(&w, "node-name", file_node);
	json_put_str(&w, "filename", file);
	json_put_str(&w, "discard", d->def->discard);
	put_cache(&w, d->cache);
	json_obj_end(&w);
}

void put_overlay_node(struct buf *b, const struct disk_state *d, const char *node, bool raw, const char *backing)
{
	struct json_out w;
	char file_node[48];

	snprintf(file_node, sizeof file_node, "%s.file", node);
	json_out_init(&w, b, false);
	json_obj(&w, NULL);
	json_put_str(&w, "driver", raw ? "raw" : "qcow2");
	json_put_str(&w, "node-name", node);
	json_put_str(&w, "file", file_node);
	if (!raw)
		json_put_str(&w, "backing", backing);
	json_put_str(&w, "discard", d->def->discard);
	if (d->def->detect_zeroes)
		json_put_str(&w, "detect-zeroes", d->def->detect_zeroes);
	put_cache(&w, d->cache);
	json_obj_end(&w);
}

int node_add(struct fermata_vm *vm, const struct disk_state *d, const char *node, const char *file, bool raw,
	const char *backing, struct err *e)
{
	auto_buf struct buf of_file = { 0 }, b = { 0 };

	put_file_node(&of_file, d, node, file);
	put_overlay_node(&b, d, node, raw, backing);
	if (call_with(vm, "blockdev-add", &of_file, e) < 0)
		return e->code;
	if (call_with(vm, "blockdev-add", &b, e) == 0)
		return 0;
	node_delete_file(vm, node);
	return e->code;
}

void node_delete_file(struct fermata_vm *vm, const char *node)
{
	struct err ignored;
	char args[80];

	snprintf(args, sizeof args, "{\"node-name\":\"%.48s.file\"}", node);
	if (mon_call(kvm_mon(vm->kvm), "blockdev-del", args, deadline_in(CALL_MS), NULL, &ignored) < 0)
		return;
}

/* Its file's node goes too: behind it, or alone where QEMU was told of no more. */
int drop_node(struct fermata_vm *vm, const struct disks *ds, size_t disk, const char *overlay, struct err *e)
{
	json_each(node, json_root(ds->doc)) {
		const char *name = json_str(json_get(node, "node-name"), "");
		auto_free char *stem = NULL;
		auto_buf struct buf b = { 0 };

		if (str_ends(name, ".file")) {
			stem = str_fmt("%.*s", (int)(strlen(name) - strlen(".file")), name);
			if (!stem)
				return err_nomem(e, "close an image");
			if (!find_node(ds->doc, stem) && same_file(node_file(ds->doc, stem), overlay))
				node_delete_file(vm, stem);
			continue;
		}
		if (!str_eq(json_str(json_get(node, "drv"), NULL), "qcow2") || !strcmp(name, ds->d[disk].node) ||
			!same_file(node_file(ds->doc, name), overlay))
			continue;
		buf_addf(&b, "{\"node-name\":\"%s\"}", name);
		if (call_with(vm, "blockdev-del", &b, e) < 0)
			return e->code;
		node_delete_file(vm, name);
		return 0;
	}
	return 0;
}
