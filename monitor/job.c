/*
 * Jobs: start, follow by events, read the error, dismiss. Events alone are not enough: only query-jobs says
 * why a job failed, and BLOCK_JOB_COMPLETED arrives before the job has concluded.
 */
#include <stdio.h>
#include <string.h>

#include "lib/own.h"
#include "monitor/mon.h"

#define ASK_PROGRESS_MS 200
#define ASK_ANYWAY_MS	2000 /* also without a progress function, so that a lost event does not block for ever */

void mon_job_forget(struct mon *m, struct mon_job *j)
{
	for (struct mon_job **at = &m->jobs; *at; at = &(*at)->next)
		if (*at == j) {
			*at = j->next;
			j->next = NULL;
			return;
		}
}

static int track_job(struct mon *m, struct mon_job *j, const char *id, struct err *e)
{
	if (!*id || strlen(id) >= sizeof j->id)
		return err_set(e, -EINVAL, "job id '%s' is not 1 to %d bytes long", id, MON_JOB_ID - 1);
	*j = (struct mon_job){ .next = m->jobs };
	strcpy(j->id, id);
	m->jobs = j;
	return 0;
}

int mon_job_start(struct mon *m, struct mon_job *j, const char *command, const char *args, const char *id,
		  struct deadline d, struct err *e)
{
	if (track_job(m, j, id, e) < 0)
		return e->code;
	if (mon_call(m, command, args, d, NULL, e) < 0)
		mon_job_forget(m, j);
	else
		return 0;
	return e->code;
}

/*
 * Update the job by query-jobs. @listed: out. An event that arrived after the answer may have been processed
 * before the answer is read here: it is newer, so its status is kept.
 */
static int look_at_job(struct mon *m, struct mon_job *j, struct deadline d, bool *listed, struct err *e)
{
	auto_json struct json_doc *doc = NULL;

	j->newer = *listed = false;
	if (mon_call(m, "query-jobs", NULL, d, &doc, e) < 0)
		return e->code;
	json_each(v, json_root(doc)) {
		if (!str_eq(json_str(json_get(v, "id"), NULL), j->id))
			continue;
		*listed = true;
		if (!j->newer)
			mon_job_set_status(j, json_str(json_get(v, "status"), ""));
		snprintf(j->type, sizeof j->type, "%s", json_str(json_get(v, "type"), ""));
		snprintf(j->error, sizeof j->error, "%s", json_str(json_get(v, "error"), ""));
		j->current = json_uint(json_get(v, "current-progress"), 0);
		j->total = json_uint(json_get(v, "total-progress"), 0);
	}
	if (!*listed && !j->newer)
		mon_job_set_status(j, "null");
	return 0;
}

int mon_job_query(struct mon *m, struct mon_job *j, struct deadline d, struct err *e)
{
	bool listed;

	return look_at_job(m, j, d, &listed, e);
}

int mon_job_find(struct mon *m, struct mon_job *j, const char *id, struct deadline d, struct err *e)
{
	int rc = track_job(m, j, id, e);

	if (!rc)
		rc = mon_job_query(m, j, d, e);
	if (!rc && j->status != JOB_NULL)
		return 1;
	mon_job_forget(m, j);
	return rc;
}

int mon_job_verdict(const struct mon_job *j, struct err *e)
{
	return j->error[0] ? err_set(e, -EREMOTEIO, "QEMU's job '%s' failed: %s", j->type[0] ? j->type : j->id, j->error) : 0;
}

bool mon_job_succeeded(const struct mon_job *j)
{
	return j->seen & 1u << JOB_PENDING && !(j->seen & 1u << JOB_ABORTING);
}

static bool job_reached(const struct mon_job *j, enum mon_job_status want)
{
	return j->status == want || j->status == JOB_CONCLUDED || j->status == JOB_NULL;
}

/*
 * Wait for the job's events, for @ms or until the deadline, whichever is first. 1: check again; 0: the
 * deadline has passed.
 */
static int wait_for_job_events(struct mon *m, struct mon_job *j, enum mon_job_status want, uint64_t ms, struct deadline d,
			struct err *e)
{
	struct deadline turn = deadline_in(ms);
	struct chan_wait w = chan_wait(turn.at_ms < d.at_ms ? turn : d);
	int rc = 1;

	while (!job_reached(j, want) && rc > 0)
		rc = mon_pump(m, &w, e);
	return rc < 0 ? rc : job_reached(j, want) || deadline_left_ms(d) != 0;
}

int mon_job_wait(struct mon *m, struct mon_job *j, enum mon_job_status want, struct deadline d,
		 const struct mon_progress *progress, struct err *e)
{
	struct chan_wait w = chan_wait(d);
	int rc;

	while (!job_reached(j, want)) {
		rc = wait_for_job_events(m, j, want, progress ? ASK_PROGRESS_MS : ASK_ANYWAY_MS, d, e);
		if (rc > 0 && !job_reached(j, want)) {
			rc = mon_job_query(m, j, d, e);
			if (!rc && progress)
				progress->fn(progress->ctx, j->current, j->total);
			if (!rc)
				continue;
		}
		if (rc == 0 || rc == -ETIMEDOUT)
			return err_set(e, -ETIMEDOUT, "job '%s' was still %s, not %s, after %llu ms", j->id,
				       mon_job_status_name(j->status), mon_job_status_name(want), chan_waited_ms(&w));
		if (rc < 0)
			return err_at(e, "cannot follow job '%s'", j->id);
	}
	return 0;
}

int mon_job_do(struct mon *m, struct mon_job *j, const char *command, struct deadline d, struct err *e)
{
	auto_buf struct buf args = { 0 };
	struct json_out w;

	json_out_init(&w, &args, false);
	json_obj(&w, NULL);
	json_put_str(&w, "id", j->id);
	json_obj_end(&w);
	if (buf_check(&args, "build the request", e) < 0)
		return e->code;
	return mon_call(m, command, args.p, d, NULL, e);
}

/*
 * Errors are ignored: the job's work is done. A job left behind is found by its id, a dead QEMU by the next
 * call.
 */
static void dismiss_job(struct mon *m, struct mon_job *j, struct deadline d)
{
	struct err ignored;

	if (mon_job_do(m, j, "job-dismiss", d, &ignored) < 0)
		return;
}

/* Read the result of a job that has ended, and dismiss it. */
static int read_result(struct mon *m, struct mon_job *j, struct deadline d, struct err *e)
{
	bool listed = false;

	if (j->status == JOB_CONCLUDED) {
		if (look_at_job(m, j, d, &listed, e) < 0)
			return err_at(e, "cannot read the result of job '%s'", j->id);
		if (j->status == JOB_CONCLUDED)
			dismiss_job(m, j, d);
	}
	if (!listed && !mon_job_succeeded(j))
		snprintf(j->error, sizeof j->error, "it vanished without a result");
	return mon_job_verdict(j, e);
}

int mon_job_end(struct mon *m, struct mon_job *j, struct deadline d, const struct mon_progress *progress,
		struct err *e)
{
	int rc = mon_job_wait(m, j, JOB_CONCLUDED, d, progress, e);

	if (!rc)
		rc = read_result(m, j, d, e);
	mon_job_forget(m, j);
	return rc;
}

int mon_job_run(struct mon *m, const char *command, const char *args, const char *id, struct deadline d,
		const struct mon_progress *progress, struct err *e)
{
	struct mon_job j;

	if (mon_job_start(m, &j, command, args, id, d, e) < 0)
		return e->code;
	return mon_job_end(m, &j, d, progress, e);
}
