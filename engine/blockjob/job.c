/* Block jobs, how they go on: looked at, ended, changed over, and noted on record by whoever comes next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/blockjob/blockjob.h"
#include "engine/blockjob/internal.h"
#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "monitor/mon.h"
#include "monitor/monitor.h"

#define LOOK_MS 100
#define PIVOT_MS 30000

/* ---- the nodes that QEMU still has ------------------------------------------------------------------------- */

/* Highest numbers first, so that overlays go before their backing files. */
static int by_node(const void *a, const void *b)
{
	return -strverscmp(*(const char *const *)a, *(const char *const *)b);
}

/* A protocol node whose image QEMU was never told of */
static void sweep_file(struct fermata_vm *vm, const struct disks *ds, const char *name)
{
	char node[48];

	snprintf(node, sizeof node, "%.*s", (int)(strlen(name) - strlen(".file")), name);
	if (!disks_node(ds, node))
		node_delete_file(vm, node);
}

/* QEMU refuses what something is backed by or works with: no error. */
int node_sweep(struct fermata_vm *vm, const char *disk, struct err *e)
{
	auto_disks struct disks ds = { 0 };
	auto_free const char **all = NULL;
	struct err ignored;
	size_t n = 0;

	if (disks_look(vm, &ds, e) < 0)
		return e->code;
	json_each(v, json_root(ds.doc))
		n++;
	all = calloc(n + 1, sizeof *all);
	if (!all)
		return err_nomem(e, "close images");
	n = 0;
	for (size_t i = 0; i < ds.n; i++) {
		size_t len = strlen(ds.d[i].def->name);

		json_each(v, json_root(ds.doc)) {
			const char *name = json_str(json_get(v, "node-name"), "");

			if ((disk && strcmp(disk, ds.d[i].def->name)) || strncmp(name, ds.d[i].def->name, len) || name[len] != '.')
				continue;
			if (str_ends(name, ".file"))
				sweep_file(vm, &ds, name);
			else if (strcmp(name, ds.d[i].node))
				all[n++] = name;
		}
	}
	qsort(all, n, sizeof *all, by_node);
	for (size_t i = 0; i < n; i++) {
		char args[64];

		snprintf(args, sizeof args, "{\"node-name\":\"%.40s\"}", all[i]);
		if (mon_call(kvm_mon(vm->kvm), "blockdev-del", args, deadline_in(CALL_MS), NULL, &ignored) == 0)
			node_delete_file(vm, all[i]);
	}
	return 0;
}

/* ---- what it did --------------------------------------------------------------------------------------------- */

int job_note(struct fermata_vm *vm, struct record_job *j, bool done, const char *error, struct err *e)
{
	const char *last = j->images[j->n_images - 1];
	int rc = 0;

	if (done && j->op == FERMATA_COMMIT)
		rc = frozen_move(vm, j->images[1], last, j->raw, e);
	else if (done && j->op != FERMATA_PULL)
		rc = disk_use(vm, j->disk, last, j->raw, e);
	if (rc == 0 && error[0] && j->op == FERMATA_COPY)
		rc = copy_drop(vm, j, e);
	for (size_t i = j->op == FERMATA_COMMIT; rc == 0 && done && j->remove && i + 1 < j->n_images; i++)
		rc = record_trash(vm->rec, j->images[i], e);
	if (rc < 0 || (error != j->error && set_string(&j->error, error, e) < 0))
		return e->code;
	j->ended = true;
	rc = record_save(vm->rec, e);
	if (rc < 0)
		j->ended = false;
	return rc;
}

/* Let QEMU forget the job, if it still knows it. */
static int dismiss(struct fermata_vm *vm, const struct record_job *j, struct err *e)
{
	char id[MON_JOB_ID];
	struct mon_job job;
	struct mon *m = kvm_mon(vm->kvm);
	int rc;

	block_id(j, id);
	rc = mon_job_find(m, &job, id, deadline_in(CALL_MS), e);
	if (rc == 1)
		rc = mon_job_end(m, &job, deadline_in(CALL_MS), NULL, e);
	return rc == -EREMOTEIO || rc > 0 ? 0 : rc;
}

/* After a pivot that is on record: the guest goes on, then QEMU forgets. */
static int go_on(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	char status[KVM_STATUS_MAX];
	struct kvm *k;

	if (vm_alive(vm) && (fermata_vm_kvm(vm, &k, e) < 0 || kvm_status(k, status, e) < 0 ||
		(j->run && strcmp(status, "running") && kvm_cont(k, deadline_in(CALL_MS), e) < 0) || dismiss(vm, j, e) < 0 ||
		node_sweep(vm, j->disk, e) < 0))
		return e->code;
	j->pivot = false;
	if (record_save(vm->rec, e) < 0)
		return e->code;
	trash_empty(vm);
	return 0;
}

/* Whether the header of the image above says that a pull or a commit is complete. */
static int header_says(const struct record_job *j, bool *done, struct err *e)
{
	char next[4096];
	bool raw;

	*done = false;
	if (j->op != FERMATA_PULL && j->op != FERMATA_COMMIT)
		return 0;
	if (chain_next(j->images[0], next, &raw, e) < 0)
		return e->code;
	*done = j->n_images > 1 ? same_file(next, j->images[j->n_images - 1]) : !next[0];
	return 0;
}

/* QEMU is gone. What the images and the record say is what happened. */
static int note_dead(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	bool done;

	vm_hang_up(vm);
	if ((j->begun && job_forget_lost(vm, j, e) < 0) || header_says(j, &done, e) < 0)
		return e->code;
	if (done && job_flush_files(j, e) < 0)
		return e->code;
	j->pivot = false;
	vm_notice(vm, "%s: %s %s", j->disk, fermata_job_name(j->op), done ? "is complete" : "was cut off; the disk is as it was");
	if (job_note(vm, j, done, done ? "" : "it was cut off", e) < 0)
		return e->code;
	trash_empty(vm);
	return 0;
}

/*
 * QEMU has done with it, or (@error NULL) does not know it: a pull that has ended, or one that was killed before QEMU
 * heard of it. Did the disk change over? Its node tells.
 */
static int note_ended(struct fermata_vm *vm, struct record_job *j, const char *error, struct err *e)
{
	auto_disks struct disks ds = { 0 };
	bool done;

	if (header_says(j, &done, e) < 0)
		return e->code;
	if (j->op == FERMATA_ACTIVE_COMMIT || j->op == FERMATA_COPY) {
		if (disks_look(vm, &ds, e) < 0)
			return e->code;
		done = same_file(ds.d[disk_index(&ds, j->disk)].file, j->images[j->n_images - 1]);
	}
	if (done && job_flush(vm, j, true, e) < 0)
		return e->code;
	if (!error)
		error = done ? "" : "QEMU gave it up";
	if (error[0] && j->error[0])
		error = j->error; /* we had told it to */
	if (j->pivot)
		return job_note(vm, j, done, error, e) < 0 ? e->code : go_on(vm, j, e);
	/* What nobody would look for later goes before the record says that all is done. */
	if ((j->op == FERMATA_COMMIT && dismiss(vm, j, e) < 0) || node_sweep(vm, j->disk, e) < 0 || job_note(vm, j, done, error, e) < 0 ||
		dismiss(vm, j, e) < 0)
		return e->code;
	trash_empty(vm);
	return 0;
}

/* Find the job in QEMU. 1: there; 0: not there; it is not tracked. */
static int find(struct fermata_vm *vm, const struct record_job *j, struct mon_job *job, struct err *e)
{
	char id[MON_JOB_ID];
	struct kvm *k;
	int rc;

	block_id(j, id);
	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	rc = mon_job_find(kvm_mon(k), job, id, deadline_in(CALL_MS), e);
	mon_job_forget(kvm_mon(k), job);
	return rc;
}

int job_look(struct fermata_vm *vm, struct record_job *j, struct fermata_block_info *info, struct err *e)
{
	struct fermata_block_info none;
	struct mon_job job = { 0 };
	int rc = 0;

	info = info ? info : &none;
	if (!j->ended && !vm_alive(vm))
		rc = note_dead(vm, j, e);
	else if (!j->ended && (rc = find(vm, j, &job, e)) == 1 && job.status == JOB_PENDING)
		rc = job_finalize(vm, j, &job, e) < 0 ? e->code : job.status != JOB_NULL;
	if (rc == 0 && !j->ended && vm_alive(vm))
		rc = note_ended(vm, j, job.error[0] ? job.error : NULL, e);
	if (rc < 0)
		return rc;
	*info = (struct fermata_block_info){ .id = j->id, .op = j->op };
	if (!j->ended) {
		info->current = job.current;
		info->total = job.total;
		info->ready = job.status == JOB_READY;
		if (!j->begun && (j->op == FERMATA_COMMIT || j->op == FERMATA_ACTIVE_COMMIT)) {
			j->begun = true;
			if (job_forget_lost(vm, j, e) < 0 || record_save(vm->rec, e) < 0)
				return e->code;
		}
		if (job.status == JOB_CONCLUDED && note_ended(vm, j, job.error, e) < 0)
			return e->code;
	}
	info->ended = j->ended;
	snprintf(info->error, sizeof info->error, "%.255s", j->error);
	return 0;
}

/* ---- changing over --------------------------------------------------------------------------------------------- */

static int complete(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	char id[MON_JOB_ID];
	struct mon *m = kvm_mon(vm->kvm);
	struct mon_job job;
	struct err ignored;
	int rc;

	block_id(j, id);
	rc = mon_job_find(m, &job, id, deadline_in(CALL_MS), e);
	if (rc <= 0)
		return rc;
	/* Refused where a command that was cut off said it before. */
	if (job.status == JOB_READY && mon_job_do(m, &job, "job-complete", deadline_in(CALL_MS), &ignored) < 0)
		rc = 1;
	rc = mon_job_wait(m, &job, JOB_CONCLUDED, deadline_in(PIVOT_MS), NULL, e);
	mon_job_forget(m, &job);
	return rc;
}

/*
 * While the guest is paused, the old images and the new one hold the same: whichever the record names when everything
 * breaks off, nothing is lost. Done again, it goes on where it was.
 */
static int change_over(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	char status[KVM_STATUS_MAX];
	struct err also;
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0 || kvm_status(k, status, e) < 0)
		return e->code;
	if (!j->pivot) {
		j->run = !strcmp(status, "running");
		j->pivot = true;
		if (record_save(vm->rec, e) < 0) {
			j->pivot = false;
			return e->code;
		}
	}
	if ((strcmp(status, "running") || kvm_stop(k, deadline_in(CALL_MS), e) == 0) && complete(vm, j, e) == 0 &&
		job_look(vm, j, NULL, e) == 0)
		return j->error[0] ? err_set(e, -EREMOTEIO, "%s failed: %s", fermata_job_name(j->op), j->error) : 0;
	/* It may be half way: the record keeps it, but the guest goes on. */
	if (vm_alive(vm) && j->run && kvm_cont(k, deadline_in(CALL_MS), &also) < 0)
		err_also(e, "and could not let the guest go on: %s", also.msg);
	e->code = FERMATA_PENDING;
	return e->code;
}

static int pivot(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	struct kvm_guard guard;
	int rc;

	/* Most of what is to be flushed then, while the guest still runs. */
	if (job_flush_files(j, e) < 0 || kvm_guard_call(vm_rescue, vm, &guard, e) < 0)
		return e->code;
	rc = change_over(vm, j, e);
	kvm_guard_end(&guard);
	return rc;
}

int jobs_settle(struct fermata_vm *vm, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < vm->rec->n_jobs; i++) {
		struct record_job *j = vm->rec->jobs[i];

		if (j->ended)
			rc = j->pivot ? go_on(vm, j, e) : 0;
		else
			rc = j->pivot && vm_alive(vm) ? pivot(vm, j, e) : job_look(vm, j, NULL, e);
		/* A QEMU that does not answer must not keep anybody from ending it. */
		if (rc == -ETIMEDOUT)
			rc = 0;
		if (rc < 0)
			err_at(e, "%s", j->disk);
	}
	return rc;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000 }, NULL);
}

int job_carry_out(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	struct fermata_block_info info;

	for (;;) {
		if (job_look(vm, j, &info, e) < 0)
			return e->code;
		if (info.ready && !info.ended)
			return pivot(vm, j, e);
		if (info.ended)
			return info.error[0] ? err_set(e, -EREMOTEIO, "%s failed: %s", fermata_job_name(j->op), info.error) : 0;
		if (vm->host->progress)
			vm->host->progress(vm->host->progress_ctx, "Merging", info.current, info.total);
		nap();
	}
}

/* ---- what users ask for ------------------------------------------------------------------------------------------ */

static int need_job(struct fermata_vm *vm, const char *disk, struct record_job **j, struct err *e)
{
	size_t i;

	if (disk_pick(vm, disk, &i, e) < 0)
		return e->code;
	*j = record_job(vm->rec, vm->def->disks[i].name);
	return *j && !(*j)->ended ? 0 : err_set(e, -ENOENT, "%s: no current block job for %s", vm->name, disk);
}

/* QMP query-block-jobs: the speed stands nowhere else. */
static uint64_t speed_of(struct fermata_vm *vm, const struct record_job *j)
{
	auto_json struct json_doc *doc = NULL;
	char id[MON_JOB_ID];
	struct err ignored;

	block_id(j, id);
	if (mon_call(kvm_mon(vm->kvm), "query-block-jobs", NULL, deadline_in(CALL_MS), &doc, &ignored) == 0)
		json_each(v, json_root(doc))
			if (str_eq(json_str(json_get(v, "device"), NULL), id))
				return json_uint(json_get(v, "speed"), 0);
	return 0;
}

int fermata_block_info(struct fermata_vm *vm, const char *disk, struct fermata_block_info *out, struct err *e)
{
	struct record_job *j;
	size_t i;

	*out = (struct fermata_block_info){ 0 };
	if (disk_pick(vm, disk, &i, e) < 0)
		return e->code;
	j = record_job(vm->rec, vm->def->disks[i].name);
	if (!j)
		return 0;
	if (job_look(vm, j, out, e) < 0)
		return err_at(e, "%s: %s", vm->name, disk);
	if (!out->ended) {
		out->speed = speed_of(vm, j);
		return 0;
	}
	record_job_drop(vm->rec, j);
	return record_save(vm->rec, e);
}

static int tell(struct fermata_vm *vm, const struct record_job *j, const char *command, const char *more, struct err *e)
{
	char id[MON_JOB_ID];
	auto_buf struct buf b = { 0 };

	block_id(j, id);
	buf_addf(&b, "{\"device\":\"%s\"%s}", id, more);
	if (buf_check(&b, "speak to a job", e) < 0)
		return e->code;
	return mon_call(kvm_mon(vm->kvm), command, b.p, deadline_in(CALL_MS), NULL, e) < 0 ? err_at(e, "%s: %s", vm->name, j->disk) : 0;
}

int fermata_block_speed(struct fermata_vm *vm, const char *disk, uint64_t speed, struct err *e)
{
	struct record_job *j;
	char more[40];

	snprintf(more, sizeof more, ",\"speed\":%llu", (unsigned long long)speed);
	return need_job(vm, disk, &j, e) < 0 ? e->code : tell(vm, j, "block-job-set-speed", more, e);
}

int fermata_block_abort(struct fermata_vm *vm, const char *disk, bool wait, struct err *e)
{
	struct fermata_block_info info = { 0 };
	struct record_job *j;

	if (need_job(vm, disk, &j, e) < 0)
		return e->code;
	if (tell(vm, j, "block-job-cancel", "", e) < 0 || set_string(&j->error, "aborted", e) < 0)
		return e->code;
	while (wait && !info.ended) {
		if (job_look(vm, j, &info, e) < 0)
			return err_at(e, "%s: %s", vm->name, disk);
		if (!info.ended)
			nap();
	}
	return 0;
}

int fermata_block_pivot(struct fermata_vm *vm, const char *disk, struct err *e)
{
	struct fermata_block_info info;
	struct record_job *j;

	if (need_job(vm, disk, &j, e) < 0 || job_look(vm, j, &info, e) < 0)
		return e->code;
	if (!info.ready || info.ended) {
		err_set(e, -EBUSY, "%s: disk '%s' not ready for pivot yet", vm->name, disk);
		return err_hint(e, "only active commits and copies get ready");
	}
	return pivot(vm, j, e) < 0 ? err_at(e, "%s: %s", vm->name, disk) : 0;
}
