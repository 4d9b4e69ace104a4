/* QEMU's snapshot-save, snapshot-load and snapshot-delete, or HMP's savevm, loadvm and delvm where it lacks them. */
#include <stdio.h>
#include <string.h>

#include "engine/internal.h"
#include "lib/json.h"

static const struct {
	const char *job, *hmp;
} words[] = {
	[SAVEVM_SAVE] = { "snapshot-save", "savevm" },
	[SAVEVM_LOAD] = { "snapshot-load", "loadvm" },
	[SAVEVM_DELETE] = { "snapshot-delete", "delvm" },
};

static void job_id(enum savevm_op op, const struct fermata_snap *s, char id[MON_JOB_ID])
{
	snprintf(id, MON_JOB_ID, "fermata-%s-%llu", words[op].job, (unsigned long long)s->id);
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

/* Wait for the tracked job's end. Its failure is -EREMOTEIO, and then it is dismissed. */
static int follow(struct mon *m, struct mon_job *j, struct err *e)
{
	if (mon_job_wait(m, j, JOB_CONCLUDED, deadline_in(JOB_MS), NULL, e) < 0 ||
		mon_job_query(m, j, deadline_in(CALL_MS), e) < 0) {
		mon_job_forget(m, j);
		return e->code;
	}
	if (j->error[0])
		return mon_job_end(m, j, deadline_in(CALL_MS), NULL, e);
	mon_job_forget(m, j);
	return 0;
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

	for (size_t i = 0; i < s->n_disks && !tag[0]; i++)
		tag = s->disks[i].tag;
	job_id(op, s, id);
	if (fermata_vm_kvm(vm, &k, e) < 0 || job_args(&args, id, op, tag, ds, on, vmstate, e) < 0)
		return e->code;
	m = kvm_mon(k);
	if (mon_job_start(m, &job, words[op].job, args.p, id, deadline_in(JOB_MS), e) < 0) {
		if (e->code == -EREMOTEIO && !strcmp(mon_error_class(m), "CommandNotFound"))
			return by_hmp(m, op, tag, e);
		return e->code;
	}
	return follow(m, &job, e);
}

void savevm_dismiss(struct fermata_vm *vm, enum savevm_op op, const struct fermata_snap *s)
{
	auto_json struct json_doc *reply = NULL;
	auto_buf struct buf args = { 0 };
	struct err ignored;
	char id[MON_JOB_ID];

	job_id(op, s, id);
	buf_addf(&args, "{\"id\":\"%s\"}", id);
	if (vm->kvm && buf_check(&args, "dismiss a job", &ignored) == 0 &&
		mon_call(kvm_mon(vm->kvm), "job-dismiss", args.p, deadline_in(CALL_MS), &reply, &ignored) < 0)
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
	job_id(op, s, id);
	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	rc = mon_job_find(kvm_mon(k), &job, id, deadline_in(JOB_MS), e);
	if (rc <= 0)
		return rc;
	*found = true;
	if (follow(kvm_mon(k), &job, e) == 0)
		return 0;
	if (e->code != -EREMOTEIO)
		return e->code;
	snprintf(failed, 256, "%.255s", job.error[0] ? job.error : e->msg);
	return 0;
}
