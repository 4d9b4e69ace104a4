/* After QEMU has opened a VM's images, and before the guest runs: whether they are those that were looked at. */
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/qemu/internal.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/own.h"
#include "monitor/monitor.h"

static int changed(const char *file, struct err *e)
{
	err_set(e, -EACCES, "%s was changed while QEMU was starting", file);
	return err_hint(e, "look who else may write to its folder, and start again");
}

static bool is_replaced(const char *file, const struct stat *id)
{
	struct stat now;

	return file && id->st_ino && (stat(file, &now) < 0 || now.st_ino != id->st_ino || now.st_dev != id->st_dev);
}

/* The names still lead to the files that were looked at. */
static int check_names(const struct kvm_chain *c, struct err *e)
{
	for (size_t i = 0; i < c->n_layers; i++) {
		if (is_replaced(c->layers[i].file, &c->layers[i].id))
			return changed(c->layers[i].file, e);
		if (is_replaced(c->layers[i].data, &c->layers[i].data_id))
			return changed(c->layers[i].data, e);
	}
	return 0;
}

/* They led there all the time: QEMU has these very files. Where /proc does not tell, or it is a wrapper's, nobody knows. */
static int check_files(pid_t pid, const struct kvm_chain *c, struct err *e)
{
	auto_free struct stat *id = calloc(2 * c->n_layers + 1, sizeof *id);
	size_t n = 0, found;

	if (!id)
		return err_nomem(e, "look at QEMU's images");
	for (size_t i = 0; i < c->n_layers; i++) {
		id[n++] = c->layers[i].id;
		if (c->layers[i].data)
			id[n++] = c->layers[i].data_id;
	}
	if (kvm_has_open(pid, id, n, &found) < 0 || found == n || !found)
		return 0;
	return changed(c->layers[c->n_layers - 1].file, e);
}

/* The layer that node "DISK.N" is of, or NULL. */
static const struct kvm_layer *layer_of(const struct kvm_chain *c, const char *node)
{
	size_t n = strlen(c->disk);
	unsigned long i;
	char *end;

	if (strncmp(node, c->disk, n) || node[n] != '.' || node[n + 1] < '0' || node[n + 1] > '9')
		return NULL;
	i = strtoul(node + n + 1, &end, 10);
	return !*end && i < c->n_layers ? &c->layers[i] : NULL;
}

/*
 * The data files that QEMU found named in the headers. There is a word for "no backing file" in what it is told, and none
 * for "no data file": a header that has got one since would have it opened.
 */
static int check_data_files(const struct fermata_vm *vm, const struct chains *c, const struct json_doc *nodes, struct err *e)
{
	json_each(n, json_root(nodes)) {
		const struct json *specific = json_get(json_get(json_get(n, "image"), "format-specific"), "data");
		const char *node = json_str(json_get(n, "node-name"), "");

		for (size_t i = 0; i < vm->def->n_disks && json_get(specific, "data-file"); i++) {
			const struct kvm_layer *l = layer_of(&c->chain[i], node);

			if (l && !l->data)
				return changed(l->file, e);
		}
	}
	return 0;
}

int chains_opened(struct fermata_vm *vm, struct kvm *k, const struct chains *c, struct err *e)
{
	auto_json struct json_doc *nodes = NULL;

	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (check_names(&c->chain[i], e) < 0 || check_files(kvm_process(k), &c->chain[i], e) < 0)
			return err_at(e, "%s", vm->def->disks[i].name);
	if (mon_call(kvm_mon(k), "query-named-block-nodes", "{\"flat\":true}", deadline_in(CALL_MS), &nodes, e) < 0)
		return e->code;
	return check_data_files(vm, c, nodes, e);
}
