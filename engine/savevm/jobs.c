/* QEMU's snapshot-save, snapshot-load and snapshot-delete, or HMP's savevm, loadvm and delvm where it lacks them. */
#include <stdio.h>
#include <string.h>

#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"
#include "monitor/mon.h"
#include "monitor/monitor.h"

static const struct {
	const char *job, *hmp;
} words[] = {
	[SAVEVM_SAVE] = { "snapshot-save", "savevm" },
	[SAVEVM_LOAD] = { "snapshot-load", "loadvm" },
	[SAVEVM_DELETE] = { "snapshot-delete", "delvm" },
};

static void job_id(enum savevm_op op, uint64_t snap, char id[MON_JOB_ID])
{
	snprintf(id, MON_JOB_ID, "fermata-%s-%llu", words[op].job, (unsigned long long)snap);
}

static int job_args(struct buf *b, const char *id, enum savevm_op op, const char *tag, const struct disks *ds, uint32_t on,
	size_t vmstate, struct err *e)
{
	struct json_out w;

	json_out_init(&w, b, false);
	json_obj(&w, NULL);
	json_put_str(&w, "job-id", id);
	json_put_str(&w, "tag", tag);
	if (op != SAVEVM_DELETE)
		json_put_str(&w, "vmstate", ds->d[vmstate].node);
	json_arr(&w, "devices");
	for (size_t i = 0; i < ds->n; i++)
		if (on & (1u << i))
			json_put_str(&w, NULL, ds->d[i].node);
	json_arr_end(&w);
	json_obj_end(&w);
	return buf_check(b, "ask QEMU for a snapshot", e);
}

static int by_hmp(struct mon *m, enum savevm_op op, const char *tag, struct err *e)
{
	auto_buf struct buf line = { 0 };

	buf_addf(&line, "%s ", words[op].hmp);
	mon_hmp_quote(&line, tag);
	if (buf_check(&line, "ask QEMU for a snapshot", e) < 0)
		return e->code;
	return mon_hmp(m, line.p, deadline_in(JOB_MS), e);
}

/* The arguments of job-dismiss. */
static void dismissal(struct buf *b, const char *id)
{
	buf_addf(b, "{\"id\":\"%s\"}", id);
}

/*
 * How the job went, and what is asked next if all went well, at once. What a save or a delete did stands in the images: a
 * job of theirs that by its events was a success has served its purpose. What a load did stands in the job alone.
 * @ds: or NULL
 */
static void ask_ahead(struct mon *m, const struct mon_job *j, enum savevm_op op, const struct disks *ds)
{
	auto_buf struct buf args = { 0 };

	mon_ahead(m, "query-jobs", NULL, deadline_in(CALL_MS));
	if (op == SAVEVM_LOAD) {
		mon_ahead(m, "query-status", NULL, deadline_in(CALL_MS));
		return;
	}
	dismissal(&args, j->id);
	if (args.p && mon_job_succeeded(j))
		mon_ahead(m, "job-dismiss", args.p, deadline_in(CALL_MS));
	if (ds)
		disks_ahead(m, ds);
}

/*
 * Wait for the tracked job's end. Its failure is -EREMOTEIO, and then it is dismissed; but for a load's, which alone says
 * that the guest is half another's.
 */
static int follow(struct mon *m, struct mon_job *j, enum savevm_op op, const struct disks *ds, struct err *e)
{
	int rc = mon_job_wait(m, j, JOB_CONCLUDED, deadline_in(JOB_MS), NULL, e);

	if (!rc) {
		ask_ahead(m, j, op, ds);
		rc = mon_job_query(m, j, deadline_in(CALL_MS), e);
	}
	if (!rc && j->error[0] && op != SAVEVM_LOAD)
		return mon_job_end(m, j, deadline_in(CALL_MS), NULL, e);
	mon_job_forget(m, j);
	return rc < 0 ? rc : mon_job_verdict(j, e);
}

int savevm_run(struct fermata_vm *vm, enum savevm_op op, const struct fermata_snap *s, const struct disks *ds, uint32_t on,
	size_t vmstate, struct err *e)
{
	const char *tag = "";
	auto_buf struct buf args = { 0 };
	char id[MON_JOB_ID];
	struct mon_job job;
	struct kvm *k;
	struct mon *m;
	uint64_t log = kvm_log_bytes(vm->run_dir);
	int rc;

	for (size_t i = 0; i < s->n_disks && !tag[0]; i++)
		tag = s->disks[i].tag;
	job_id(op, s->id, id);
	if (fermata_vm_kvm(vm, &k, e) < 0 || job_args(&args, id, op, tag, ds, on, vmstate, e) < 0)
		return e->code;
	m = kvm_mon(k);
	rc = mon_job_start(m, &job, words[op].job, args.p, id, deadline_in(JOB_MS), e);
	if (rc == -EREMOTEIO && !strcmp(mon_error_class(m), "CommandNotFound"))
		return by_hmp(m, op, tag, e);
	/* A deletion may find the job of one that failed before, whose command was killed before it could clear it away. */
	if (rc == -EREMOTEIO && op == SAVEVM_DELETE) {
		savevm_dismiss(vm, op, s->id);
		rc = mon_job_start(m, &job, words[op].job, args.p, id, deadline_in(JOB_MS), e);
	}
	if (rc == 0)
		rc = follow(m, &job, op, ds, e);
	/* The job says that it failed; what was wrong goes to the log. */
	if (rc == -EREMOTEIO)
		kvm_log_since(vm->run_dir, log, e);
	return rc;
}

void savevm_clear_ahead(struct mon *m, enum savevm_op op, uint64_t snap)
{
	auto_buf struct buf args = { 0 };
	char id[MON_JOB_ID];

	job_id(op, snap, id);
	dismissal(&args, id);
	if (args.p)
		mon_ahead(m, "job-dismiss", args.p, deadline_in(CALL_MS));
}

int savevm_clear(struct fermata_vm *vm, enum savevm_op op, uint64_t snap, struct err *e)
{
	auto_buf struct buf args = { 0 };
	char id[MON_JOB_ID];
	struct kvm *k;

	job_id(op, snap, id);
	dismissal(&args, id);
	if (buf_check(&args, "dismiss a job", e) < 0 || fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	/* That there is none is an error of QEMU's. */
	return mon_call(kvm_mon(k), "job-dismiss", args.p, deadline_in(CALL_MS), NULL, e) < 0 && e->code != -EREMOTEIO ? e->code : 0;
}

void savevm_dismiss(struct fermata_vm *vm, enum savevm_op op, uint64_t snap)
{
	struct err ignored;

	if (vm->kvm && savevm_clear(vm, op, snap, &ignored) < 0)
		return;
}

int savevm_settle(struct fermata_vm *vm, enum savevm_op op, const struct fermata_snap *s, bool *found, char failed[256],
	struct err *e)
{
	struct mon_job job;
	char id[MON_JOB_ID];
	struct kvm *k;
	int rc;

	*found = false;
	failed[0] = '\0';
	job_id(op, s->id, id);
	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	rc = mon_job_find(kvm_mon(k), &job, id, deadline_in(JOB_MS), e);
	if (rc <= 0)
		return rc;
	*found = true;
	if (follow(kvm_mon(k), &job, op, NULL, e) == 0)
		return 0;
	if (e->code != -EREMOTEIO)
		return e->code;
	snprintf(failed, 256, "%.255s", job.error[0] ? job.error : e->msg);
	return 0;
}
