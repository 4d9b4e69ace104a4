/* Delete an external snapshot: its images are merged into their neighbours. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/blockjob/blockjob.h"
#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/lib.h"
#include "lib/own.h"
#include "qcow2/chain.h"
#include "qcow2/image.h"
#include "qcow2/qcow2.h"

/* Whether the only overlay should go into the image below it: allowed, and less to move than the other way round. */
static int commit_is_better(struct fermata_vm *vm, const char *top, const char *frozen, bool *better, struct err *e)
{
	auto_image struct image *img = NULL;
	struct chain_cost down, up;
	unsigned snaps;

	*better = false;
	if (needed_by_others(vm, frozen))
		return 0;
	if (image_open_chain(top, "qcow2", QCOW2_SHARE, &img, e) < 0)
		return e->code;
	/* Snapshots inside the overlay would go with it. */
	qcow2_snaps(img->q, &snaps);
	if (snaps)
		return 0;
	if (chain_commit_cost(img, img->backing, &down, e) < 0 || chain_pull_cost(img, img->backing->backing, &up, e) < 0)
		return e->code;
	*better = down.copy <= up.copy;
	return 0;
}

/* What stood on @old stands on @new, which holds the same. */
static int move_users(struct fermata_vm *vm, const char *old, const char *new, bool raw, struct err *e)
{
	struct users u = { 0 };
	int rc = find_users(vm, old, &u, e);

	for (size_t i = 0; rc == 0 && i < u.n; i++)
		rc = off_stand_on(u.file[i], new, raw, e);
	free(u.file);
	return rc;
}

/* The only overlay goes into the image below. */
static int merge_down(struct fermata_vm *vm, const struct fermata_snap_disk *d, const char *top, bool dry, struct err *e)
{
	auto_free char *file = strdup(top);
	const struct record_disk *r = record_disk(vm->rec, d->disk);

	if (!file)
		return err_nomem(e, "merge images");
	if (off_commit(vm, file, 1, dry, e) < 0 || dry)
		return e->code;
	if (move_users(vm, file, d->file, d->raw, e) < 0 || frozen_move(vm, file, d->file, d->raw, e) < 0 ||
		(r && r->active && same_file(r->active, file) && disk_use(vm, d->disk, d->file, d->raw, e) < 0))
		return e->code;
	return record_trash(vm->rec, file, e);
}

/* ---- while the VM runs ------------------------------------------------------------------------------------ */

static bool has_inner(const char *file)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct err ignored;
	unsigned n = 1;

	if (qcow2_open(file, QCOW2_SHARE, &q, &ignored) == 0)
		qcow2_snaps(q, &n);
	return n;
}

/* Layer @at of the chain in use, and the one above it: the smaller one moves, if both ways are open. */
static void plan(struct fermata_vm *vm, struct block_plan *p, size_t at)
{
	const struct kvm_layer *l = p->chain.layers;
	struct err ignored;

	p->top = at + 1;
	p->base = at;
	p->remove = p->drop = true;
	p->op = at + 2 == p->chain.n_layers ? FERMATA_ACTIVE_COMMIT : FERMATA_COMMIT;
	if (file_allocated(l[at + 1].file) <= file_allocated(l[at].file) && !has_inner(l[at + 1].file) &&
		block_commit_alone(vm, p, &ignored) == 0)
		return;
	p->op = FERMATA_PULL;
	p->base = at ? at - 1 : NO_LAYER;
	p->remove = false;
}

/* A job of QEMU's, begun or found. */
static int run_job(struct fermata_vm *vm, const struct block_plan *p, struct err *e)
{
	struct record_job *j = record_job(vm->rec, p->chain.disk);
	int rc;

	if (!j && block_begin(vm, p, e) < 0)
		return e->code;
	j = record_job(vm->rec, p->chain.disk);
	rc = job_carry_out(vm, j, e);
	if (j->ended)
		record_job_drop(vm->rec, j);
	return rc;
}

/* @is_in: out, whether the image is part of the chain in use at all. */
static int merge_live(struct fermata_vm *vm, const struct fermata_snap_disk *d, bool dry, bool *is_in, struct err *e)
{
	struct block_plan p = { 0 };
	struct record_job *j;
	size_t at = 0;
	int rc;

	*is_in = false;
	if (!vm_alive(vm) || disk_pick(vm, d->disk, &p.disk, e) < 0)
		return vm_alive(vm) ? e->code : 0;
	j = record_job(vm->rec, d->disk);
	if (j && j->ended && j->error[0]) {
		record_job_drop(vm->rec, j);
		j = NULL;
	}
	/* One that a command before us began: where it is, only QEMU knows. */
	if (!dry && j) {
		*is_in = true;
		p.chain.disk = d->disk;
		return run_job(vm, &p, e);
	}
	if (chain_find(vm, p.disk, &p.chain, e) < 0)
		return e->code;
	while (at < p.chain.n_layers && !same_file(p.chain.layers[at].file, d->file))
		at++;
	rc = 0;
	if (at + 1 < p.chain.n_layers) {
		*is_in = true;
		plan(vm, &p, at);
		rc = dry ? block_check(vm, &p, e) : run_job(vm, &p, e);
	}
	chain_done(&p.chain);
	return rc;
}

/* ---- both ------------------------------------------------------------------------------------------------- */

/* Whether @file is part of the chain that a running VM's disk uses: QEMU's alone. */
static bool in_use(struct fermata_vm *vm, const char *disk, const char *file)
{
	auto_file_set struct file_set s = { 0 };
	struct err ignored;
	size_t i;

	if (!vm_alive(vm) || disk_pick(vm, disk, &i, &ignored) < 0)
		return false;
	file_set_add(&s, fermata_vm_disk_file(vm, i), fermata_vm_disk_raw(vm, i));
	return file_set_has(&s, file);
}

/*
 * A job of the pending deletion had come to its end when QEMU died: this disk is merged. To look for what is to be merged once
 * more would find the next snapshot's overlay, and write it into what that one froze.
 */
static bool was_merged(struct fermata_vm *vm, const char *disk)
{
	struct record_job *j = record_job(vm->rec, disk);

	if (vm_alive(vm) || !j || !j->ended || j->error[0])
		return false;
	record_job_drop(vm->rec, j);
	return true;
}

static int merge_disk(struct fermata_vm *vm, const struct fermata_snap_disk *d, bool dry, struct err *e)
{
	struct users u = { 0 };
	bool down = false, live = false;
	int rc;

	if (!dry && was_merged(vm, d->disk))
		return record_trash(vm->rec, d->file, e);
	rc = find_users(vm, d->file, &u, e);

	/* Branches first, as they are open in no QEMU. */
	for (size_t i = 0; rc == 0 && u.n > 1 && i < u.n; i++)
		if (!in_use(vm, d->disk, u.file[i]))
			rc = off_pull(vm, u.file[i], 2, dry, e);
	if (rc == 0)
		rc = merge_live(vm, d, dry, &live, e);
	if (rc == 0 && !live && u.n == 1 && (rc = commit_is_better(vm, u.file[0], d->file, &down, e)) == 0)
		rc = down ? merge_down(vm, d, u.file[0], dry, e) : off_pull(vm, u.file[0], 2, dry, e);
	free(u.file);
	if (rc == 0 && !dry && !down)
		rc = record_trash(vm->rec, d->file, e);
	return rc < 0 ? err_at(e, "%s", d->disk) : 0;
}

int remove_ext_check(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_native struct native n = { 0 };

	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external &&
			(chain_check(vm, s->disks[j].file, s->disks[j].raw, e) < 0 || merge_disk(vm, &s->disks[j], true, e) < 0))
			return e->code;
	/* Tags of its other disks, in images that no QEMU has. */
	return vm_alive(vm) ? 0 : native_begin(vm, NATIVE_DELETE, s, NULL, &n, e);
}

/* Disk @j is done: the snapshot is not whole any more, and the disk need not be looked at again. */
static int disk_done(struct fermata_vm *vm, size_t j, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	snap_free(record_take(vm->rec, s->id));
	/* Without this disk the memory is of no use. */
	if (trash_memory(vm, s, e) < 0)
		return e->code;
	snap_disk_done(&s->disks[j]);
	memmove(s->disks + j, s->disks + j + 1, (--s->n_disks - j) * sizeof *s->disks);
	return record_save(vm->rec, e);
}

/* QEMU could not. What is merged is merged; what is not stays in the chain, where the guest goes on. */
static int give_up(struct fermata_vm *vm, struct err *e)
{
	uint64_t id = vm->rec->pending.snap->id;
	struct err also;

	if (!record_by_id(vm->rec, id))
		err_hint(e, "the snapshot is gone, its images stay in the chain; blockpull makes that shorter");
	if (pending_end(vm, &also) < 0)
		err_also(e, "%s", also.msg);
	return e->code;
}

int remove_ext_redo(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->pending.snap;

	if ((vm_alive(vm) ? remove_tags(vm, s, NULL, e) : native_delete(vm, s, NULL, e)) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks;) {
		if (!s->disks[j].external) {
			j++;
			continue;
		}
		if (merge_disk(vm, &s->disks[j], false, e) < 0) {
			if (e->code != -EREMOTEIO)
				return e->code;
			if (vm_alive(vm))
				return give_up(vm, e);
			continue; /* QEMU has ended: now by our own hands */
		}
		if (disk_done(vm, j, e) < 0)
			return e->code;
	}
	return remove_finish(vm, e);
}
