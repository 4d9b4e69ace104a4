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
static int decide(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, const struct users *u, enum fate *fate,
	struct err *why, struct err *e)
{
	bool given = is_given(vm, d->file) || (!d->raw && has_inner(d->file)), spared;
	uint64_t down, up;

	*fate = u->n ? STAYS : GOES;
	if (!u->n || is_frozen(vm->rec, id, d->file))
		return 0;
	for (size_t i = 0; i < u->n; i++)
		if (has_inner(u->file[i])) {
			err_set(why, -EBUSY, "snapshots inside %s read from it", u->file[i]);
			return 0;
		}
	if (costs(u, &down, &up, e) < 0)
		return e->code;
	if (u->n > 1) {
		*fate = given || needed_by_others(vm, d->file) || up > file_allocated(d->file) ? STAYS : UP;
		return 0;
	}
	spared = image_spares_all(vm, d->disk, u->file[0], d->file, id, why) == 0;
	if (spared)
		*fate = given || down <= up ? DOWN : UP;
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

/* The plan for the chain in use. @is_in: out, whether the image is part of that at all. */
static int plan_live(struct fermata_vm *vm, const struct fermata_snap_disk *d, enum fate fate, struct block_plan *p, bool *is_in,
	struct err *e)
{
	size_t at = 0;

	*is_in = false;
	if (!vm_alive(vm))
		return 0;
	if (disk_pick(vm, d->disk, &p->disk, e) < 0 || chain_find(vm, p->disk, &p->chain, e) < 0)
		return e->code;
	while (at < p->chain.n_layers && !same_file(p->chain.layers[at].file, d->file))
		at++;
	*is_in = at + 1 < p->chain.n_layers;
	if (*is_in)
		plan(p, at, fate);
	return 0;
}

static int check_live(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, enum fate fate, bool *is_in, struct err *e)
{
	struct block_plan p = { .deleting = id };
	int rc = plan_live(vm, d, fate, &p, is_in, e);

	if (rc == 0 && *is_in)
		rc = block_check(vm, &p, e);
	chain_done(&p.chain);
	return rc;
}

static int merge_live(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, enum fate fate, struct err *e)
{
	struct block_plan p = { .deleting = id };
	bool is_in;
	int rc = plan_live(vm, d, fate, &p, &is_in, e);

	if (rc == 0)
		/* It was in use when that was asked: QEMU has ended since, and nothing is merged. */
		rc = is_in ? run_job(vm, &p, e) : err_set(e, -EREMOTEIO, "QEMU has ended");
	chain_done(&p.chain);
	return rc;
}

/* One that a command before us began. */
static int merge_on(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct err *e)
{
	return run_job(vm, &(struct block_plan){ .chain.disk = d->disk }, e);
}

/* ---- both ------------------------------------------------------------------------------------------------- */

static struct off_change *add_change(struct merge *m)
{
	struct off_change *all = reallocarray(m->off, m->n_off + 1, sizeof *all);

	if (!all)
		return NULL;
	m->off = all;
	all[m->n_off] = (struct off_change){ 0 };
	return &all[m->n_off++];
}

/* Its overlays, as far as they are open in no QEMU. */
static int begin_up(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct merge *m, struct err *e)
{
	for (size_t i = 0; i < m->u.n; i++) {
		struct off_change *c;

		if (in_use(vm, d->disk, m->u.file[i]))
			continue;
		c = add_change(m);
		if (!c)
			return err_nomem(e, "merge images");
		if (off_pull_begin(vm, m->u.file[i], 2, false, c, e) < 0)
			return e->code;
	}
	return 0;
}

/* The only overlay goes into the image below; what is backed by that one is backed by this one then. QEMU sees to its own. */
static int begin_down(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct merge *m, struct err *e)
{
	auto_users struct users above = { 0 };
	struct off_change *c = m->live ? NULL : add_change(m);

	if (!m->live && !c)
		return err_nomem(e, "merge images");
	if ((c && off_commit_begin(vm, NULL, m->u.file[0], 1, false, c, e) < 0) || find_users(vm, m->u.file[0], &above, e) < 0)
		return e->code;
	for (size_t i = 0; i < above.n; i++) {
		if (in_use(vm, d->disk, above.file[i]))
			continue;
		c = add_change(m);
		if (!c)
			return err_nomem(e, "merge images");
		if (off_stand_begin(above.file[i], d->file, d->raw, false, c, e) < 0)
			return e->code;
	}
	return 0;
}

int merge_begin(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, struct merge *m, struct err *e)
{
	int rc;

	*m = (struct merge){ .fate = STAYS };
	rc = find_users(vm, d->file, &m->u, e);
	if (rc == 0)
		rc = decide(vm, d, id, &m->u, &m->fate, &m->why, e);
	if (rc == 0 && (m->fate == UP || m->fate == DOWN))
		rc = check_live(vm, d, id, m->fate, &m->live, e);
	if (rc == 0 && m->fate == UP)
		rc = begin_up(vm, d, m, e);
	if (rc == 0 && m->fate == DOWN)
		rc = begin_down(vm, d, m, e);
	if (rc == 0)
		return 0;
	merge_done(m);
	return err_at(e, "%s", d->disk);
}

void merge_done(struct merge *m)
{
	for (size_t i = 0; i < m->n_off; i++)
		off_change_done(&m->off[i]);
	free(m->off);
	users_done(&m->u);
	*m = (struct merge){ .fate = m->fate };
}

static int change_all(struct merge *m, struct err *e)
{
	for (size_t i = 0; i < m->n_off; i++)
		if (off_change_commit(&m->off[i], e) < 0)
			return e->code;
	return 0;
}

/* In memory: what the overlay was is the image below. */
static int note_down(struct fermata_vm *vm, const struct fermata_snap_disk *d, const struct merge *m, struct err *e)
{
	const struct record_disk *r = record_disk(vm->rec, d->disk);
	const char *file = m->u.file[0];

	if (frozen_move(vm, file, d->file, d->raw, e) < 0 ||
		(r && r->active && same_file(r->active, file) && disk_use(vm, d->disk, d->file, d->raw, e) < 0))
		return e->code;
	return record_trash(vm->rec, file, e);
}

static int carry_out(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, struct merge *m, struct err *e)
{
	int rc = 0;

	switch (m->fate) {
	case STAYS:
		if (m->why.code)
			vm_notice(vm, "%s: %s stays in the chain: %s", d->disk, d->file, m->why.msg);
		return record_stay(vm->rec, d->disk, d->file, d->raw, e);
	case DOWN:
		/* Its job goes first: what is backed by the overlay reads the same from either. */
		if (m->live)
			rc = merge_live(vm, d, id, DOWN, e);
		return rc < 0 || change_all(m, e) < 0 ? e->code : note_down(vm, d, m, e);
	case UP:
		/* Branches first, as they are open in no QEMU. */
		rc = change_all(m, e);
		if (rc == 0 && m->live)
			rc = merge_live(vm, d, id, UP, e);
		break;
	case GOES:
		break;
	}
	return rc < 0 ? rc : record_trash(vm->rec, d->file, e);
}

int merge_carry_out(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, struct merge *m, struct err *e)
{
	int rc = carry_out(vm, d, id, m, e);

	merge_done(m);
	return rc < 0 ? err_at(e, "%s", d->disk) : 0;
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

int merge_redo(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, enum fate *fate, struct err *e)
{
	struct merge m;

	*fate = UP;
	if (was_merged(vm, d->disk))
		return record_trash(vm->rec, d->file, e);
	if (vm_alive(vm) && job_begun(vm, d->disk))
		return merge_on(vm, d, e) < 0 ? err_at(e, "%s", d->disk) : record_trash(vm->rec, d->file, e);
	if (merge_begin(vm, d, id, &m, e) < 0)
		return e->code;
	*fate = m.fate;
	return merge_carry_out(vm, d, id, &m, e);
}
