/* Block jobs, how they begin: what is asked for is checked, put on record, and handed to QEMU. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/blockjob/blockjob.h"
#include "engine/blockjob/internal.h"
#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/managed.h"
#include "engine/vm/program.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"

/* ---- what must not be lost ---------------------------------------------------------------------------- */

static int check_lost(struct fermata_vm *vm, const struct record_job *j, const struct block_plan *p, struct err *e)
{
	const struct fermata_snap *s = job_first_lost(vm, j);

	if (block_commit_alone(vm, p, e) < 0)
		return e->code;
	if (!s)
		return 0;
	if (p->drop)
		return p->deleting ? 0 : job_may_drop(vm, j, e);
	err_set(e, -EBUSY, "snapshot '%s' would be lost: %s is overwritten", s->name, j->images[j->n_images - 1]);
	return err_hint(e, "--drop-snapshots gives up such snapshots; snapshot-delete and blockpull keep all others whole");
}

/* QEMU does not ask what snapshots inside an image read from below it. */
static int check_inner(const char *file, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	const struct qcow2_snap *s;
	unsigned n;

	if (qcow2_open(file, QCOW2_SHARE, &q, e) < 0)
		return e->code;
	s = qcow2_snaps(q, &n);
	if (!n)
		return 0;
	err_set(e, -EOPNOTSUPP, "the snapshot '%s' inside %s reads from the images below", s[0].name, file);
	return err_hint(e, "delete it, or do this while the VM is off");
}

/* Room in @file's file system for what layers [@from, @to) hold; a @file that is there grows to the disk's size at most. */
static int check_room(struct fermata_vm *vm, const struct block_plan *p, size_t from, size_t to, const char *file, struct err *e)
{
	uint64_t need = 0, has, used = file_allocated(file);
	struct fermata_disk_size size;
	auto_free char *dir = NULL;

	if (fermata_vm_disk_size(vm, p->disk, &size, e) < 0)
		return e->code;
	for (; from < to; from++)
		need += file_allocated(p->chain.layers[from].file);
	if (need + used > size.capacity)
		need = size.capacity > used ? size.capacity - used : 0;
	dir = file_exists(file) ? strdup(file) : path_beside(file, ".");
	if (!dir)
		return err_nomem(e, "look for room");
	if (file_free_space(dir, &has, e) < 0)
		return e->code;
	if (has >= need)
		return 0;
	err_set(e, -ENOSPC, "%s may take %llu MiB more, its file system has %llu MiB free", file, (unsigned long long)(need >> 20),
		(unsigned long long)(has >> 20));
	return err_hint(e, "free some space there");
}

/* ---- what QEMU is told ------------------------------------------------------------------------------------ */

/* ---- putting it on record -------------------------------------------------------------------------------- */

/* The entry for the record, in its own order of images. */
static int describe(struct fermata_vm *vm, const struct block_plan *p, struct record_job *j, struct err *e)
{
	const struct kvm_layer *l = p->chain.layers;
	size_t stop = p->op == FERMATA_PULL ? p->top : p->op == FERMATA_COPY ? p->chain.n_layers - 1 : p->base;
	int rc = 0;

	*j = (struct record_job){ .id = vm->rec->next_id++, .op = p->op, .disk = strdup(p->chain.disk), .error = strdup(""),
		.remove = p->remove, .reused = p->reuse, .mark = p->op == FERMATA_COPY ? pending_new_mark() : 0 };
	if (!j->disk || !j->error)
		return err_nomem(e, "describe a job");
	j->raw = p->op == FERMATA_COPY ? p->dest_raw : p->base != NO_LAYER && l[p->base].format == FORMAT_RAW;
	for (size_t i = p->top + (p->op == FERMATA_COMMIT); rc == 0; i--) {
		rc = job_image(j, l[i].file, e);
		if (i == stop)
			break;
	}
	if (rc == 0 && (p->op == FERMATA_COPY || (p->op == FERMATA_PULL && p->base != NO_LAYER)))
		rc = job_image(j, p->op == FERMATA_COPY ? p->dest : l[p->base].file, e);
	return rc;
}

/* @off: VM off: open and locked for it. */
static int check(struct fermata_vm *vm, const struct block_plan *p, const struct record_job *j, struct off_change *off, struct err *e)
{
	const char *top = p->chain.layers[p->top].file;
	size_t n = p->chain.n_layers;

	switch (p->op) {
	case FERMATA_PULL:
		if (!vm_alive(vm))
			return off_pull_begin(vm, top, p->base == NO_LAYER ? n : p->top - p->base, p->relative, off, e);
		if (check_inner(top, e) < 0)
			return e->code;
		return check_room(vm, p, p->base == NO_LAYER ? 0 : p->base + 1, p->top, top, e);
	case FERMATA_COMMIT:
	case FERMATA_ACTIVE_COMMIT:
		if (check_lost(vm, j, p, e) < 0)
			return e->code;
		if (!vm_alive(vm))
			return off_commit_begin(vm, p->op == FERMATA_COMMIT ? j->images[0] : NULL, top, p->top - p->base, p->relative, off, e);
		return check_room(vm, p, p->base + 1, p->top + 1, p->chain.layers[p->base].file, e);
	case FERMATA_COPY:
		break;
	}
	if (file_exists(p->dest) != p->reuse)
		return err_set(e, p->reuse ? -ENOENT : -EEXIST, "%s %s", p->dest, p->reuse ? "is not there" : "is there already");
	if (p->reuse && output_spare(vm, p->dest, e) < 0)
		return e->code;
	return check_room(vm, p, p->shallow ? n - 1 : 0, n, p->dest, e);
}

/* QEMU knows what the job is about under the names that lead there now: an image that was moved meanwhile could not be merged. */
static int check_nodes(struct fermata_vm *vm, const struct block_plan *p, struct err *e)
{
	auto_disks struct disks ds = { 0 };

	if (!vm_alive(vm))
		return 0;
	if (disks_look(vm, &ds, e) < 0)
		return e->code;
	for (size_t i = p->base == NO_LAYER ? 0 : p->base; i <= p->top; i++)
		if (!disk_node(&ds, &ds.d[p->disk], p->chain.layers[i].file)) {
			err_set(e, -EBUSY, "QEMU has not opened %s: it was moved since the start", p->chain.layers[i].file);
			return err_hint(e, "put it back where it was, or do this with the VM off");
		}
	return 0;
}

int block_check(struct fermata_vm *vm, const struct block_plan *p, struct err *e)
{
	struct record_job *j = calloc(1, sizeof *j);
	struct off_change off = { 0 };
	int rc = !j ? err_nomem(e, "describe a job") :
		describe(vm, p, j, e) < 0 || check_nodes(vm, p, e) < 0 ? e->code : check(vm, p, j, &off, e);

	off_change_done(&off);
	job_free(j);
	return rc;
}

/* It did not start: nothing has happened, and nothing stays but the file of a copy, which goes. */
static int refuse(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	struct err also;

	if (j->op == FERMATA_COPY && copy_drop(vm, j, &also) < 0)
		err_also(e, "%s", also.msg);
	record_job_drop(vm->rec, j);
	if (record_save(vm->rec, &also) < 0 || (vm_alive(vm) && node_sweep(vm, NULL, &also) < 0))
		err_also(e, "%s", also.msg);
	trash_empty(vm);
	return e->code;
}

/* A commit destroys what others froze from its first write on. */
static int forget(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	if (j->op != FERMATA_COMMIT && j->op != FERMATA_ACTIVE_COMMIT)
		return 0;
	j->begun = true;
	return job_forget_lost(vm, j, e) < 0 || record_save(vm->rec, e) < 0 ? e->code : 0;
}

static int begin_live(struct fermata_vm *vm, struct start *s, struct err *e)
{
	if (start_job_live(vm, s, e) < 0)
		return vm_alive(vm) && e->code != -ETIMEDOUT ? refuse(vm, s->j, e) : e->code;
	if (forget(vm, s->j, e) < 0) {
		e->code = FERMATA_PENDING;
		return err_hint(e, "the job has begun; the next command sees to the record");
	}
	trash_empty(vm);
	return 0;
}

static int begin_off(struct fermata_vm *vm, struct start *s, struct err *e)
{
	struct err also;
	int rc;

	if (forget(vm, s->j, e) < 0)
		return e->code;
	rc = off_change_commit(&s->off, e);
	off_change_done(&s->off);
	if (rc == 0) {
		if (job_note(vm, s->j, true, "", e) < 0)
			return e->code;
		trash_empty(vm);
		return 0;
	}
	if (e->code == -ECANCELED)
		err_hint(e, "the disk reads as before; the same command again completes it");
	if (job_note(vm, s->j, false, e->msg, &also) < 0)
		err_also(e, "%s", also.msg);
	return e->code;
}

static int begin(struct fermata_vm *vm, struct start *s, struct disks *ds, struct err *e)
{
	const struct block_plan *p = s->p;
	struct record_job *j = record_job(vm->rec, p->chain.disk);

	if (j && !j->ended)
		return jobs_none(vm, e);
	if (j)
		record_job_drop(vm->rec, j);
	j = calloc(1, sizeof *j);
	if (!j || describe(vm, p, j, e) < 0 || check(vm, p, j, &s->off, e) < 0 || disks_look(vm, ds, e) < 0 ||
		record_job_add(vm->rec, j, e) < 0) {
		job_free(j);
		return e->code;
	}
	s->j = j;
	s->d = &ds->d[p->disk];
	vm->rec->saved = 0; /* the images are about to change */
	if (j->op == FERMATA_COMMIT || j->op == FERMATA_ACTIVE_COMMIT)
		record_base_drop(vm->rec, j->images[j->n_images - 1]);
	if (record_save(vm->rec, e) < 0) {
		record_job_drop(vm->rec, j);
		return e->code;
	}
	/* As was checked, not as it is now: when QEMU has died since, the job has not begun. */
	return s->off.img ? begin_off(vm, s, e) : begin_live(vm, s, e);
}

int block_begin(struct fermata_vm *vm, const struct block_plan *p, struct err *e)
{
	auto_disks struct disks ds = { 0 };
	struct start s = { .p = p, .ds = &ds };
	int rc = begin(vm, &s, &ds, e);

	off_change_done(&s.off);
	return rc;
}

/* ---- what users ask for ------------------------------------------------------------------------------------ */

typedef int plan_fn(struct fermata_vm *vm, const struct block_plan *p, void *ctx, struct err *e);

/* Make a plan of what is asked for, and hand it to @fn. */
static int with_plan(struct fermata_vm *vm, const struct fermata_block *b, plan_fn *fn, void *ctx, struct err *e)
{
	struct block_plan p = { .op = b->op, .dest_raw = b->dest_raw, .reuse = b->reuse, .shallow = b->shallow, .remove = b->remove,
		.drop = b->drop, .relative = b->relative, .speed = b->speed };
	auto_free char *dest = NULL;
	struct kvm *k;
	int rc;

	if (disk_pick(vm, b->disk, &p.disk, e) < 0 || ((vm_alive(vm) || p.op == FERMATA_COPY) && fermata_vm_kvm(vm, &k, e) < 0))
		return e->code;
	if (b->dest && path_typed(b->dest, &dest, e) < 0)
		return err_at(e, "%s", vm->name);
	p.dest = dest;
	if (CONFIG_MEMORY && managed_none(vm, false, e) < 0)
		return err_at(e, "%s: %s", vm->name, vm->def->disks[p.disk].name);
	if (CONFIG_MEMORY && standby_give_up(vm, "the images change", e) < 0)
		return err_at(e, "%s", vm->name);
	if (disks_unswitched(vm, e) < 0)
		return err_at(e, "%s", vm->name);
	/* Snapshots that others made are as easily lost as ours. */
	if (p.op == FERMATA_COMMIT && vm_adopt(vm, e) < 0)
		return e->code;
	rc = vm->def->disks[p.disk].readonly ? err_set(e, -EROFS, "the disk is readonly") : chain_find(vm, p.disk, &p.chain, e);
	if (rc == 0)
		rc = p.op == FERMATA_COMMIT ? plan_commit(vm, b, &p, e) : plan_rest(vm, b, &p, e);
	if (rc == 0)
		rc = fn(vm, &p, ctx, e);
	chain_done(&p.chain);
	return rc < 0 ? err_at(e, "%s: %s", vm->name, vm->def->disks[p.disk].name) : 0;
}

static int begin_plan(struct fermata_vm *vm, const struct block_plan *p, void *ctx, struct err *e)
{
	(void)ctx;
	return block_begin(vm, p, e);
}

int block_start(struct fermata_vm *vm, const struct fermata_block *b, struct err *e)
{
	return with_plan(vm, b, begin_plan, NULL, e);
}

static int note_inner_lost(struct fermata_vm *vm, const struct block_plan *p, void *ctx, struct err *e)
{
	struct record_job *j = calloc(1, sizeof *j);
	struct off_change off = { 0 };
	int rc = !j ? err_nomem(e, "describe a job") : describe(vm, p, j, e) < 0 || check(vm, p, j, &off, e) < 0 ? e->code : 0;

	off_change_done(&off);
	if (rc == 0)
		*(const struct fermata_snap **)ctx = job_inner_lost(vm, j);
	job_free(j);
	return rc;
}

int block_inner_lost(struct fermata_vm *vm, const struct fermata_block *b, const struct fermata_snap **lost, struct err *e)
{
	return with_plan(vm, b, note_inner_lost, lost, e);
}
