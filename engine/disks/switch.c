/* Disk snapshots of a running VM: everything prepared before, then one transaction over all disks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/disks/internal.h"
#include "engine/fermata.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/file.h"
#include "monitor/monitor.h"

#define THAW_MS 5000

int node_reopen(struct fermata_vm *vm, const struct disks *ds, const struct disk_state *d, const char *node, bool raw,
	const char *backing, bool read_only, struct deadline until, struct err *e)
{
	const struct json *is = disks_node(ds, node);
	const char *zeroes = json_str(json_get(is, "detect_zeroes"), "off");
	auto_buf struct buf b = { 0 };
	struct json_out w;
	char file_node[48];

	snprintf(file_node, sizeof file_node, "%s.file", node);
	json_out_init(&w, &b, false);
	json_obj(&w, NULL);
	json_arr(&w, "options");
	json_obj(&w, NULL);
	json_put_str(&w, "driver", raw ? "raw" : "qcow2");
	json_put_str(&w, "node-name", node);
	json_put_str(&w, "file", file_node);
	if (!raw)
		json_put_str(&w, "backing", backing);
	json_put_bool(&w, "read-only", read_only);
	json_put_str(&w, "discard", d->def->discard);
	if (strcmp(zeroes, "off"))
		json_put_str(&w, "detect-zeroes", zeroes);
	put_cache(&w, json_get(is, "cache"));
	json_obj_end(&w);
	json_arr_end(&w);
	json_obj_end(&w);
	if (buf_check(&b, "reopen an image", e) < 0)
		return e->code;
	return mon_call(kvm_mon(vm->kvm), "blockdev-reopen", b.p, until, NULL, e) < 0 ? err_at(e, "%s", node) : 0;
}

int diskshot_drop(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_disks struct disks ds = { 0 };

	if (disks_look(vm, &ds, e) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks; j++) {
		size_t i = disk_index(&ds, s->disks[j].disk);

		if (!s->disks[j].external || i == ds.n)
			continue;
		if (same_file(ds.d[i].file, s->disks[j].overlay))
			return err_set(e, -EBUSY, "%s: the guest writes to the overlay %s", s->disks[j].disk, s->disks[j].overlay);
		if (drop_node(vm, &ds, i, s->disks[j].overlay, e) < 0)
			return e->code;
	}
	return 0;
}

int diskshot_switch(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct json_out w;

	if (!s->n_disks)
		return 0;
	json_out_init(&w, &b, false);
	json_obj(&w, NULL);
	json_arr(&w, "actions");
	for (size_t j = 0; j < s->n_disks; j++) {
		size_t i = disk_index(ds, s->disks[j].disk);
		char node[40];

		snprintf(node, sizeof node, "%s.%u", s->disks[j].disk, node_next(ds, s->disks[j].disk));
		json_obj(&w, NULL);
		json_put_str(&w, "type", s->disks[j].external ? "blockdev-snapshot" : "blockdev-snapshot-internal-sync");
		json_obj(&w, "data");
		json_put_str(&w, s->disks[j].external ? "node" : "device", ds->d[i].node);
		json_put_str(&w, s->disks[j].external ? "overlay" : "name", s->disks[j].external ? node : s->disks[j].tag);
		json_obj_end(&w);
		json_obj_end(&w);
	}
	json_arr_end(&w);
	json_obj_end(&w);
	return call_with(vm, "transaction", &b, e);
}

/* Freeze, switch, thaw; a child sees to the thaw if we are killed in between. */
static int switch_frozen(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, uint64_t freeze_ms,
	uint64_t *frozen_ms, struct err *e)
{
	struct deadline d = deadline_in(freeze_ms);
	auto_agent struct agent *a = NULL;
	struct kvm_guard guard;
	struct err also;
	uint64_t from;
	int64_t n;
	int fd, rc;

	if (kvm_agent_connect(vm->run_dir, d, &fd, e) < 0 || agent_open(fd, d, &a, e) < 0 ||
		kvm_guard_start(vm->run_dir, agent_fd(a), freeze_ms + THAW_MS, &guard, e) < 0)
		return e->code;
	from = clock_mono_ms();
	rc = agent_freeze(a, d, THAW_MS, &n, e);
	if (rc == 0) {
		rc = diskshot_switch(vm, ds, s, e);
		if (agent_thaw(a, deadline_in(THAW_MS), NULL, &also) < 0) {
			/* Let go of the child: it has the same connection and tries on. The snapshot is what it is. */
			vm_notice(vm, "cannot thaw the guest yet: %s", also.msg);
			kvm_guard_leave(&guard);
			return rc;
		}
		*frozen_ms = clock_mono_ms() - from;
	}
	kvm_guard_end(&guard);
	return rc < 0 ? err_at(e, "quiesce") : 0;
}

/* The overlays of @s, on their way into QEMU. */
struct adding {
	struct fermata_vm *vm;
	const struct disks *ds;
	const struct fermata_snap *s;
};

/* What blockdev-add is told of overlay @j: of its file first, then of the image in it. */
static void put_overlay(const struct adding *a, size_t j, bool image, struct buf *b)
{
	const struct fermata_snap_disk *d = &a->s->disks[j];
	const struct disk_state *is = &a->ds->d[disk_index(a->ds, d->disk)];
	char node[40];

	snprintf(node, sizeof node, "%s.%u", d->disk, node_next(a->ds, d->disk));
	if (image)
		put_overlay_node(b, is, node, false, NULL);
	else
		put_file_node(b, is, node, d->overlay);
}

static void send_overlay(void *ctx, size_t j)
{
	const struct adding *a = ctx;

	for (int image = 0; image < 2; image++) {
		auto_buf struct buf b = { 0 };

		put_overlay(a, j, image, &b);
		if (!b.oom)
			mon_ahead(kvm_mon(a->vm->kvm), "blockdev-add", b.p, deadline_in(CALL_MS));
	}
}

/*
 * Each goes to QEMU as soon as it is made, and QEMU opens it while the next one is. What was sent when one fails is
 * answered before the question for the nodes with which create_undo() begins, since QEMU does one thing after the other.
 */
static int add_overlays(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e)
{
	struct adding a = { vm, ds, s };

	if (overlays_make(vm, s, send_overlay, &a, e) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks; j++)
		for (int image = 0; s->disks[j].external && image < 2; image++) {
			auto_buf struct buf b = { 0 };

			put_overlay(&a, j, image, &b);
			if (call_with(vm, "blockdev-add", &b, e) < 0)
				return err_at(e, "%s", s->disks[j].disk);
		}
	return 0;
}

int diskshot_prepare(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e)
{
	if (add_overlays(vm, ds, s, e) == 0)
		return 0;
	mon_ahead_forget(kvm_mon(vm->kvm)); /* another try may send the same again */
	return e->code;
}

int diskshot_live(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, uint64_t freeze_ms,
	uint64_t *frozen_ms, struct err *e)
{
	if (diskshot_prepare(vm, ds, s, e) < 0)
		return e->code;
	return freeze_ms ? switch_frozen(vm, ds, s, freeze_ms, frozen_ms, e) : diskshot_switch(vm, ds, s, e);
}
