/*
 * Block jobs: what they have changed is on disk before the record says so, and before anything that it replaces goes.
 *
 * QEMU's word that a job has concluded is no flush: a stream does not flush at all, and its header says "no backing file"
 * while the tables of what it copied are in QEMU's memory. So a job waits before its last step (auto-finalize off) until
 * its data is on disk; then comes its header, which is flushed too; then the record.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "engine/blockjob/internal.h"
#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "monitor/mon.h"
#include "monitor/monitor.h"

#define FLUSH_MS 30000

/* The images that @j writes to: the one whose header it changes or that takes all over, and the base of a commit. */
static size_t changed(const struct record_job *j, const char *file[2])
{
	const char *last = j->images[j->n_images - 1];

	file[0] = j->op == FERMATA_PULL || j->op == FERMATA_COMMIT ? j->images[0] : last;
	file[1] = last;
	return j->op == FERMATA_COMMIT ? 2 : 1;
}

static bool is_raw(const struct record_job *j, const char *file)
{
	return j->op != FERMATA_PULL && j->raw && !strcmp(file, j->images[j->n_images - 1]);
}

/*
 * QEMU flushes what it reopens, and says if it could not. A node that is no active layer is read-only from then on: from
 * QEMU 10.0 on a stream leaves it writable, and a commit above it would then not flush it.
 */
static int flush_node(struct fermata_vm *vm, const struct disks *ds, const struct record_job *j, const char *file, bool over,
	struct err *e)
{
	const struct disk_state *d = &ds->d[disk_index(ds, j->disk)];
	const char *node = disk_node(ds, d, file), *below = NULL;
	bool raw = is_raw(j, file);
	char next[PATH_MAX] = "";

	if (!node)
		return 0;
	if (!raw && chain_next(file, next, &(bool){ false }, e) < 0)
		return e->code;
	if (next[0] && !(below = disk_node(ds, d, next)))
		return err_set(e, -EPROTO, "QEMU has no node for %s", next);
	return node_reopen(vm, ds, d, node, raw, below, over && strcmp(node, d->node), deadline_in(FLUSH_MS), e);
}

int job_flush_files(const struct record_job *j, struct err *e)
{
	const char *file[2];

	for (size_t i = 0, n = changed(j, file); i < n; i++)
		if (file_flush(file[i], e) < 0)
			return e->code;
	return 0;
}

int job_flush(struct fermata_vm *vm, const struct record_job *j, bool over, struct err *e)
{
	auto_disks struct disks ds = { 0 };
	const char *file[2];

	/* Most of it here, where nobody waits; QEMU stops the world for what it flushes. */
	if (job_flush_files(j, e) < 0 || disks_look(vm, &ds, e) < 0)
		return e->code;
	if (disk_index(&ds, j->disk) == ds.n)
		return err_set(e, -ENODEV, "the VM has no disk '%s'", j->disk);
	for (size_t i = 0, n = changed(j, file); i < n; i++)
		if (flush_node(vm, &ds, j, file[i], over, e) < 0)
			return e->code;
	/* With cache = unsafe QEMU hands to the kernel what it has, and no more. */
	return job_flush_files(j, e);
}

int job_finalize(struct fermata_vm *vm, const struct record_job *j, struct mon_job *job, struct err *e)
{
	char id[MON_JOB_ID];
	struct err why = { 0 };
	struct mon *m;
	struct kvm *k;
	int rc;

	/* What cannot be flushed is not done: the disk keeps its chain. */
	if (job_flush(vm, j, false, &why) < 0 && !vm_alive(vm))
		return *e = why, e->code;
	block_id(j, id);
	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	m = kvm_mon(k);
	rc = mon_job_find(m, job, id, deadline_in(CALL_MS), e);
	if (rc <= 0)
		return rc;
	rc = mon_job_do(m, job, why.code ? "job-cancel" : "job-finalize", deadline_in(FLUSH_MS), e);
	if (rc == 0)
		rc = mon_job_wait(m, job, JOB_CONCLUDED, deadline_in(FLUSH_MS), NULL, e);
	if (rc == 0 && job->status == JOB_CONCLUDED)
		rc = mon_job_query(m, job, deadline_in(CALL_MS), e);
	mon_job_forget(m, job);
	if (why.code)
		snprintf(job->error, sizeof job->error, "cannot flush what was copied: %.200s", why.msg);
	return rc;
}
