/* What becomes of the image that an external snapshot froze, when that is deleted: merged into its neighbours, or kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/blockjob/blockjob.h"
#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/chain/needs.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/image/chain.h"
#include "qcow2/image/image.h"
#include "qcow2/qcow2.h"

static bool has_inner(const char *file)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct err ignored;
	unsigned n = 1;

	if (qcow2_open(file, QCOW2_SHARE, &q, &ignored) == 0)
		qcow2_snaps(q, &n);
	return n;
}

/* Whether a definition's disk, or a device, is @file: it is there whatever becomes of the snapshots. */
static bool is_given(const struct fermata_vm *vm, const char *file)
{
	struct stat st;

	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (same_file(vm->def->disks[i].file, file))
			return true;
	return stat(file, &st) == 0 && S_ISBLK(st.st_mode);
}

bool is_frozen(const struct record *r, uint64_t id, const char *file)
{
	for (size_t i = 0; i < r->n_snaps; i++)
		for (size_t j = 0; j < r->snaps[i]->n_disks; j++)
			if (r->snaps[i]->id != id && r->snaps[i]->disks[j].external && same_file(r->snaps[i]->disks[j].file, file))
				return true;
	return false;
}

/* Bytes to move: @down, into the frozen image from the one overlay; @up, into all overlays from the frozen image. */
static int costs(const struct users *u, uint64_t *down, uint64_t *up, struct err *e)
{
	*down = *up = 0;
	for (size_t i = 0; i < u->n; i++) {
		auto_image struct image *img = NULL;
		struct chain_cost c;

		if (image_open_chain(u->file[i], "qcow2", QCOW2_SHARE, &img, e) < 0 || chain_pull_cost(img, img->backing->backing, &c, e) < 0)
			return e->code;
		*up += c.copy;
		if (u->n == 1 && chain_commit_cost(img, img->backing, &c, e) < 0)
			return e->code;
		*down += c.copy;
	}
	return 0;
}

/*
 * A deletion gives back space. To pull away from an image that is there afterwards all the same takes space: a definition's
 * own, a device, one that carries snapshots of its own or that something else needs. And what snapshots inside an overlay read
 * from below it must not go.
 */
static int decide(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, const struct users *u, bool dry,
	enum fate *fate, struct err *e)
{
	bool given = is_given(vm, d->file) || (!d->raw && has_inner(d->file)), spared;
	uint64_t down, up;
	struct err why;

	*fate = u->n ? STAYS : GOES;
	if (!u->n || is_frozen(vm->rec, id, d->file))
		return 0;
	for (size_t i = 0; i < u->n; i++)
		if (has_inner(u->file[i])) {
			if (!dry)
				vm_notice(vm, "%s: %s stays in the chain: snapshots inside %s read from it", d->disk, d->file, u->file[i]);
			return 0;
		}
	if (costs(u, &down, &up, e) < 0)
		return e->code;
	if (u->n > 1) {
		*fate = given || needed_by_others(vm, d->file) || up > file_allocated(d->file) ? STAYS : UP;
		return 0;
	}
	spared = image_spares_all(vm, d->disk, u->file[0], d->file, id, &why) == 0;
	if (spared)
		*fate = given || down <= up ? DOWN : UP;
	else if (!dry)
		vm_notice(vm, "%s: %s stays in the chain: %s", d->disk, d->file, why.msg);
	return 0;
}

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

/* What was backed by @old is backed by @new, which holds the same; but for a running QEMU's images, of which that sees to it. */
static int move_users(struct fermata_vm *vm, const char *disk, const char *old, const char *new, bool raw, struct err *e)
{
	struct users u = { 0 };
	int rc = file_exists(old) ? find_users(vm, old, &u, e) : 0;

	for (size_t i = 0; rc == 0 && i < u.n; i++)
		if (!in_use(vm, disk, u.file[i]))
			rc = off_stand_on(u.file[i], new, raw, false, e);
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
	if (move_users(vm, d->disk, file, d->file, d->raw, e) < 0 || frozen_move(vm, file, d->file, d->raw, e) < 0 ||
		(r && r->active && same_file(r->active, file) && disk_use(vm, d->disk, d->file, d->raw, e) < 0))
		return e->code;
	return record_trash(vm->rec, file, e);
}

/* ---- while the VM runs ------------------------------------------------------------------------------------ */

/* Layer @at of the chain in use, and the one above it. */
static void plan(struct block_plan *p, size_t at, enum fate fate)
{
	p->top = at + 1;
	p->base = at;
	if (fate == DOWN) {
		p->remove = p->drop = true;
		p->op = at + 2 == p->chain.n_layers ? FERMATA_ACTIVE_COMMIT : FERMATA_COMMIT;
		return;
	}
	p->op = FERMATA_PULL;
	p->base = at ? at - 1 : NO_LAYER;
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

/* Whether a command before us began a job on the disk: where that is, only QEMU knows. */
static struct record_job *job_begun(struct fermata_vm *vm, const char *disk)
{
	struct record_job *j = record_job(vm->rec, disk);

	if (j && j->ended && j->error[0]) {
		record_job_drop(vm->rec, j);
		return NULL;
	}
	return j;
}

/* @is_in: out, whether the image is part of the chain in use at all. */
static int merge_live(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, enum fate fate, bool dry, bool *is_in,
	struct err *e)
{
	struct block_plan p = { .deleting = id };
	size_t at = 0;
	int rc = 0;

	*is_in = false;
	if (!vm_alive(vm) || disk_pick(vm, d->disk, &p.disk, e) < 0)
		return vm_alive(vm) ? e->code : 0;
	if (!dry && job_begun(vm, d->disk)) {
		*is_in = true;
		p.chain.disk = d->disk;
		return run_job(vm, &p, e);
	}
	if (chain_find(vm, p.disk, &p.chain, e) < 0)
		return e->code;
	while (at < p.chain.n_layers && !same_file(p.chain.layers[at].file, d->file))
		at++;
	if (at + 1 < p.chain.n_layers) {
		*is_in = true;
		plan(&p, at, fate);
		rc = dry ? block_check(vm, &p, e) : run_job(vm, &p, e);
		/* Branches that are open in no QEMU. */
		if (rc == 0 && !dry && fate == DOWN)
			rc = move_users(vm, d->disk, p.chain.layers[at + 1].file, d->file, d->raw, e);
	}
	chain_done(&p.chain);
	return rc;
}

/* ---- both ------------------------------------------------------------------------------------------------- */

static int merge_as(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, const struct users *u, enum fate fate,
	bool dry, struct err *e)
{
	bool live = false;
	int rc = 0;

	/* Branches first, as they are open in no QEMU. */
	for (size_t i = 0; rc == 0 && fate == UP && i < u->n; i++)
		if (!in_use(vm, d->disk, u->file[i]))
			rc = off_pull(vm, u->file[i], 2, false, dry, e);
	if (rc == 0 && fate != GOES)
		rc = merge_live(vm, d, id, fate, dry, &live, e);
	if (rc == 0 && fate == DOWN && !live)
		rc = merge_down(vm, d, u->file[0], dry, e);
	return rc < 0 || dry || fate == DOWN ? rc : record_trash(vm->rec, d->file, e);
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

int merge_disk(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, bool dry, enum fate *fate, struct err *e)
{
	struct users u = { 0 };
	bool live;
	int rc;

	*fate = UP;
	if (!dry && was_merged(vm, d->disk))
		return record_trash(vm->rec, d->file, e);
	if (!dry && vm_alive(vm) && job_begun(vm, d->disk)) {
		rc = merge_live(vm, d, id, UP, dry, &live, e);
		return rc < 0 ? err_at(e, "%s", d->disk) : record_trash(vm->rec, d->file, e);
	}
	rc = find_users(vm, d->file, &u, e);
	if (rc == 0)
		rc = decide(vm, d, id, &u, dry, fate, e);
	if (rc == 0 && *fate != STAYS)
		rc = merge_as(vm, d, id, &u, *fate, dry, e);
	if (rc == 0 && *fate == STAYS && !dry)
		rc = record_stay(vm->rec, d->disk, d->file, d->raw, e);
	free(u.file);
	return rc < 0 ? err_at(e, "%s", d->disk) : 0;
}
