/* What runs is held against what the definition and the record say, before anything is made that has to hold all of it. */
#include <string.h>

#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/vm/program.h"
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

/* ---- disks that no [disk] has ------------------------------------------------------------------------------ */

/* A node of a disk of the definition, or of its firmware. */
static bool is_ours(const struct fermata_vm *vm, const char *node)
{
	size_t n = strcspn(node, ".");

	if ((n == 4 && !strncmp(node, "code", n)) || (n == strlen(KVM_NODE_NVRAM) && !strncmp(node, KVM_NODE_NVRAM, n)))
		return true;
	for (size_t i = 0; node[n] && i < vm->def->n_disks; i++)
		if (strlen(vm->def->disks[i].name) == n && !strncmp(vm->def->disks[i].name, node, n))
			return true;
	return false;
}

/* A disk of the definition whose node has another name, since it was switched by hand and has been taken in. */
static bool is_active(const struct fermata_vm *vm, const char *file)
{
	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (*file && same_file(fermata_vm_disk_file(vm, i), file))
			return true;
	return false;
}

static bool is_extra(const struct fermata_vm *vm, const struct json *node)
{
	const char *drv = json_str(json_get(node, "drv"), "");
	auto_free char *file = node_path(node);

	return !json_bool(json_get(node, "ro"), true) && strncmp(drv, "null-", 5) && !is_ours(vm, json_str(json_get(node, "node-name"), "")) &&
		!is_active(vm, file ? file : "");
}

/* Whether @path, of QEMU's object tree, has @name as one of its parts. */
static bool path_has(const char *path, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = path; (p = strstr(p, name)); p += n)
		if (p > path && p[-1] == '/' && (!p[n] || p[n] == '/'))
			return true;
	return false;
}

/* How the user calls it: what is on the drive, as query-block tells; empty: nothing does. */
static const struct json *drive_of_node(const struct json_doc *drives, const struct json *node)
{
	const char *name = json_str(json_get(node, "node-name"), ""), *file = json_str(json_get(node, "file"), "");

	json_each(d, json_root(drives)) {
		const struct json *in = json_get(d, "inserted");

		if (in && (str_eq(json_str(json_get(in, "node-name"), NULL), name) || str_eq(json_str(json_get(in, "file"), NULL), file)))
			return d;
	}
	return NULL;
}

static bool is_called(const struct json_doc *nodes, const struct json *node, const struct json *drive, const char *name)
{
	const char *file = json_str(json_get(node, "file"), "");
	auto_free char *path = node_path(node);

	if (str_eq(path, name) || (drive && (str_eq(json_str(json_get(drive, "device"), NULL), name) ||
			path_has(json_str(json_get(drive, "qdev"), ""), name))))
		return true;
	/* Its own name, or that of the node above it, which has the same file. */
	json_each(n, json_root(nodes))
		if (str_eq(json_str(json_get(n, "node-name"), NULL), name) && (n == node || str_eq(json_str(json_get(n, "file"), NULL), file)))
			return true;
	return false;
}

/* "ex", or what else there is to call it by. */
static const char *call_it(const struct json *node, const struct json *drive)
{
	const char *device = drive ? json_str(json_get(drive, "device"), "") : "", *qdev = drive ? json_str(json_get(drive, "qdev"), "") : "";
	const char *peripheral = strstr(qdev, "/peripheral/");

	if (*device)
		return device;
	if (peripheral)
		return peripheral + strlen("/peripheral/");
	return json_str(json_get(node, "node-name"), "");
}

static int refuse_extra(const char *name, size_t len, const char *file, struct err *e)
{
	err_set(e, -EBUSY, "'%.*s'%s%s%s is a disk that the guest can write to, and that no [disk] of the definition has", (int)len, name,
		*file ? " (" : "", file, *file ? ")" : "");
	return err_hint(e, "give it a [disk] section, or say 'left-out = %.*s' in [qemu]", (int)len, name);
}

static int check_nodes(struct fermata_vm *vm, const struct json_doc *nodes, struct err *e)
{
	auto_json struct json_doc *drives = NULL;
	struct err ignored;

	json_each(n, json_root(nodes)) {
		const struct json *drive;
		auto_free char *file = NULL;
		const char *name;
		bool left_out = false;
		size_t len;

		if (!is_extra(vm, n))
			continue;
		/* Asked for only now: it tells whole chains, one within the other. What it does not tell is called by its node. */
		if (!drives && mon_call(kvm_mon(vm->kvm), "query-block", NULL, deadline_in(CALL_MS), &drives, &ignored) < 0)
			drives = NULL;
		drive = drive_of_node(drives, n);
		for (const char *w = vm->def->left_out; !left_out && def_next_name(&w, &len); w += len) {
			auto_free char *one = strndup(w, len);

			if (!one)
				return err_nomem(e, "look at the disks");
			left_out = is_called(nodes, n, drive, one);
		}
		if (left_out)
			continue;
		file = node_path(n);
		name = call_it(n, drive);
		return refuse_extra(name, strcspn(name, "/"), file ? file : "", e);
	}
	return 0;
}

/* ---- all of it ----------------------------------------------------------------------------------------------- */

int running_check(struct fermata_vm *vm, bool memory, struct err *e)
{
	auto_json struct json_doc *nodes = NULL;
	struct kvm *k;

	if (!vm_alive(vm)) {
		char name[DEF_EXTRA_MAX];

		if (definition_heeded(vm, e) < 0)
			return e->code;
		return def_extra_disk(vm->def, name) ? refuse_extra(name, strlen(name), "", e) : 0;
	}
	if (disks_unswitched(vm, e) < 0 || fermata_vm_kvm(vm, &k, e) < 0 ||
		mon_call(kvm_mon(k), "query-named-block-nodes", "{\"flat\":true}", deadline_in(CALL_MS), &nodes, e) < 0 ||
		check_nodes(vm, nodes, e) < 0)
		return e->code;
	return memory ? kvm_devices_check(k, vm->run_dir, e) : 0;
}
