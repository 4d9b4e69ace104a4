/* monitor/job.c: jobs as QEMU 7.2 and 10.0 report them, in every order of events and answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/own.h"
#include "monitor/monitor.h"
#include "tests/harness/peer.h"

#define SOON  deadline_in(60000)

#define STATUS(s) \
	{ PEER_SEND, "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"JOB_STATUS_CHANGE\", " \
		     "\"data\": {\"status\": \"" s "\", \"id\": \"j1\"}}", 0 }
#define CHANGE(s) "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"" s "\", \"id\": \"j1\"}}\r\n"
#define BURST(s1, s2) { PEER_RAW, CHANGE(s1) CHANGE(s2), 0 } /* in one packet */
#define OK { PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }
#define STARTS { PEER_EXPECT, "\"snapshot-save\",\"arguments\":{\"job-id\":\"j1\"}", 0 }
#define JOBS(what) PEER_ASKED("query-jobs", "{\"return\": [{\"current-progress\": 1, \"status\": \"running\", " \
	"\"total-progress\": 9, \"type\": \"stream\", \"id\": \"other\"}" what "], \"id\": $ID}")
#define JOB(status, more) JOBS(", {\"current-progress\": 3, \"status\": \"" status "\", \"total-progress\": 4, " \
	"\"type\": \"snapshot-save\", \"id\": \"j1\"" more "}")
#define DISMISS { PEER_EXPECT, "{\"execute\":\"job-dismiss\",\"arguments\":{\"id\":\"j1\"}", 0 }, STATUS("null"), OK
#define ARGS "{\"job-id\": \"j1\"}"

static struct mon *opened(struct peer *p, const struct peer_step *steps)
{
	struct err e = { 0 };
	struct mon *m = NULL;

	peer_start(p, steps);
	if (mon_open(p->fd, SOON, &m, &e) < 0)
		fail_msg("%s", e.msg);
	return m;
}

/* mon_job_run(): what the peer does after the start, and the result. */
static void job_run_results(void **state)
{
	static const struct {
		struct peer_step steps[24];
		int code;
		const char *text;
	} t[] = {
		/* as measured on QEMU: most events arrive before the answer */
		{ { STARTS, STATUS("created"), STATUS("running"), STATUS("waiting"), STATUS("pending"), STATUS("concluded"), OK,
		    JOB("concluded", ""), DISMISS },
		  0, "" },
		/* all events after the answer */
		{ { STARTS, STATUS("created"), STATUS("running"), OK, { PEER_SLEEP, NULL, 20 }, STATUS("waiting"), STATUS("pending"),
		    STATUS("concluded"), JOB("concluded", ""), DISMISS },
		  0, "" },
		/* only query-jobs has the error */
		{ { STARTS, STATUS("created"), STATUS("running"), OK, STATUS("aborting"), STATUS("concluded"),
		    JOB("concluded", ", \"error\": \"Snapshot 's1' already exists in one or more devices\""), DISMISS },
		  -EREMOTEIO, "QEMU's job 'snapshot-save' failed: Snapshot 's1' already exists in one or more devices" },
		/* refused at once: nothing to dismiss */
		{ { STARTS, { PEER_SEND, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Job ID 'j1' already in use\"}, \"id\": $ID}", 0 } },
		  -EREMOTEIO, "QEMU refused 'snapshot-save': Job ID 'j1' already in use" },
		/* a job that dismisses itself: after success, and after failure */
		{ { STARTS, STATUS("created"), STATUS("running"), OK, STATUS("pending"), BURST("concluded", "null") }, 0, "" },
		{ { STARTS, STATUS("created"), STATUS("running"), OK, STATUS("pending"), STATUS("concluded"), JOBS(""), STATUS("null") },
		  0, "" },
		{ { STARTS, STATUS("created"), STATUS("running"), OK, STATUS("aborting"), BURST("concluded", "null") },
		  -EREMOTEIO, "vanished without a result" },
		{ { STARTS, STATUS("created"), STATUS("pending"), OK, STATUS("aborting"), BURST("concluded", "null") },
		  -EREMOTEIO, "vanished without a result" },
		{ { STARTS, STATUS("created"), STATUS("pending"), OK, STATUS("aborting"), STATUS("concluded"), JOBS("") },
		  -EREMOTEIO, "vanished without a result" },
		/* job-dismiss fails: the job's work is done all the same */
		{ { STARTS, STATUS("created"), STATUS("pending"), STATUS("concluded"), OK, JOB("concluded", ""),
		    PEER_ASKED("job-dismiss", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Job not found\"}, \"id\": $ID}") },
		  0, "" },
		/* QEMU dies meanwhile */
		{ { STARTS, STATUS("created"), OK, { PEER_CLOSE, NULL, 0 } }, -ECONNRESET, "cannot follow job 'j1': QEMU closed" },
		{ { STARTS, STATUS("created"), STATUS("concluded"), OK, { PEER_EXPECT, "query-jobs", 0 }, { PEER_CLOSE, NULL, 0 } },
		  -ECONNRESET, "cannot read the result of job 'j1'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct peer_step all[32] = { PEER_GREETS };
		struct err e = { 0 };
		struct peer p;
		struct mon *m;
		int rc;

		memcpy(all + 3, t[i].steps, sizeof t[i].steps);
		m = opened(&p, all);
		rc = mon_job_run(m, "snapshot-save", ARGS, "j1", SOON, NULL, &e);
		if (rc != t[i].code || !strstr(e.msg, t[i].text))
			fail_msg("case %zu: %d '%s'", i, rc, e.msg);
		assert_null(mon_next_event(m));
		mon_close(m);
		peer_end(&p);
	}
}

/* QEMU's main loop is blocked while it saves: the answer and all events arrive late, in one burst. */
static void job_answer_and_events_late(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, STARTS, { PEER_SLEEP, NULL, 300 },
		STATUS("created"), STATUS("running"), STATUS("waiting"), STATUS("pending"), STATUS("concluded"), OK,
		JOB("concluded", ""), DISMISS, { 0 } });

	(void)state;
	assert_int_equal(mon_job_run(m, "snapshot-save", ARGS, "j1", SOON, NULL, &e), 0);
	mon_close(m);
	peer_end(&p);
}

static void count_progress(void *ctx, uint64_t current, uint64_t total)
{
	assert_int_equal(current, 3);
	assert_int_equal(total, 4);
	++*(int *)ctx;
}

static void job_progress_reported(void **state)
{
	struct err e = { 0 };
	struct peer p;
	int n = 0;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, STARTS, STATUS("created"), STATUS("running"), OK,
		JOB("running", ""), JOB("running", ""), STATUS("pending"), STATUS("concluded"), JOB("concluded", ""), DISMISS, { 0 } });

	(void)state;
	assert_int_equal(mon_job_run(m, "snapshot-save", ARGS, "j1", SOON, &(struct mon_progress){ count_progress, &n }, &e), 0);
	assert_int_equal(n, 2);
	mon_close(m);
	peer_end(&p);
}

/* A job that could not be started is not tracked: events with its id are another client's. */
static void job_not_started_not_tracked(void **state)
{
	struct mon_event *ev;
	struct err e = { 0 };
	struct mon_job j;
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, STARTS,
		{ PEER_RAW, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"in use\"}, \"id\": $ID}\r\n", 0 },
		{ PEER_EXPECT, "stop", 0 }, STATUS("running"), OK, { 0 } });

	(void)state;
	assert_int_equal(mon_job_start(m, &j, "snapshot-save", ARGS, "j1", SOON, &e), -EREMOTEIO);
	assert_int_equal(mon_call(m, "stop", NULL, SOON, NULL, &e), 0);
	assert_int_equal(mon_wait_event(m, MON_EVENTS("JOB_STATUS_CHANGE"), SOON, &ev, &e), 0);
	mon_event_free(ev);
	mon_close(m);
	peer_end(&p);
}

/* An event that arrives right behind query-jobs' answer is newer than the answer. */
static void job_event_newer_than_query_jobs(void **state)
{
	struct err e = { 0 };
	struct mon_job j;
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, STARTS, STATUS("created"), OK,
		{ PEER_EXPECT, "query-jobs", 0 },
		{ PEER_RAW, "{\"return\": [{\"id\": \"j1\", \"status\": \"running\"}], \"id\": $ID}\r\n" CHANGE("pending") CHANGE("concluded"), 0 },
		JOB("concluded", ""), DISMISS, { 0 } });

	(void)state;
	assert_int_equal(mon_job_start(m, &j, "snapshot-save", ARGS, "j1", SOON, &e), 0);
	assert_int_equal(mon_job_query(m, &j, SOON, &e), 0);
	assert_int_equal(j.status, JOB_CONCLUDED);
	assert_int_equal(mon_job_end(m, &j, SOON, NULL, &e), 0);
	mon_close(m);
	peer_end(&p);
}

static void job_wait_times_out(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, STARTS, STATUS("created"), STATUS("running"), OK,
							 { PEER_HANG, NULL, 0 }, { 0 } });
	int rc = mon_job_run(m, "snapshot-save", ARGS, "j1", deadline_in(1500), NULL, &e);

	(void)state;
	assert_int_equal(rc, -ETIMEDOUT);
	assert_non_null(strstr(e.msg, "job 'j1' was still running, not concluded, after "));
	mon_close(m);
	peer_end(&p);
}

/* The job's end is seen even if its events are lost. */
static void job_end_seen_without_events(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, STARTS,
		STATUS("created"), { PEER_FLOOD, "{\"event\": \"NOISE\"}", 1000 }, STATUS("concluded"),
		{ PEER_FLOOD, "{\"event\": \"NOISE\"}", 1000 }, OK, JOB("concluded", ""), DISMISS,
		STARTS, OK, JOB("concluded", ""), JOB("concluded", ""), DISMISS,
		STARTS, OK, JOBS(""), { 0 } });

	(void)state;
	assert_int_equal(mon_job_run(m, "snapshot-save", ARGS, "j1", SOON, NULL, &e), 0);
	assert_true(mon_dropped(m) > 0);
	assert_int_equal(mon_job_run(m, "snapshot-save", ARGS, "j1", SOON, NULL, &e), 0);
	assert_int_equal(mon_job_run(m, "snapshot-save", ARGS, "j1", SOON, NULL, &e), -EREMOTEIO);
	mon_close(m);
	peer_end(&p);
}

/* A job like a mirror, step by step: ready, complete, pending, finalize. Another job's events stay queued. */
static void job_ready_complete_finalize(void **state)
{
	struct mon_event *ev;
	struct mon_job j;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, STARTS, STATUS("created"), STATUS("running"), OK,
		{ PEER_SEND, "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"ready\", \"id\": \"j2\"}}", 0 },
		STATUS("ready"), { PEER_SEND, "{\"event\": \"BLOCK_JOB_READY\", \"data\": {}}", 0 },
		{ PEER_EXPECT, "\"job-complete\",\"arguments\":{\"id\":\"j1\"}", 0 }, OK, STATUS("waiting"), STATUS("pending"),
		{ PEER_EXPECT, "\"job-finalize\",\"arguments\":{\"id\":\"j1\"}", 0 }, OK,
		{ PEER_SEND, "{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {}}", 0 }, STATUS("concluded"),
		JOB("concluded", ""), DISMISS, { 0 } });

	(void)state;
	assert_int_equal(mon_job_start(m, &j, "snapshot-save", ARGS, "j1", SOON, &e), 0);
	assert_int_equal(mon_job_wait(m, &j, JOB_READY, SOON, NULL, &e), 0);
	assert_int_equal(j.status, JOB_READY);
	assert_int_equal(mon_job_do(m, &j, "job-complete", SOON, &e), 0);
	assert_int_equal(mon_job_wait(m, &j, JOB_PENDING, SOON, NULL, &e), 0);
	assert_int_equal(mon_job_do(m, &j, "job-finalize", SOON, &e), 0);
	assert_int_equal(mon_job_end(m, &j, SOON, NULL, &e), 0);
	assert_string_equal((ev = mon_next_event(m))->name, "JOB_STATUS_CHANGE");
	mon_event_free(ev);
	assert_string_equal((ev = mon_next_event(m))->name, "BLOCK_JOB_READY");
	mon_event_free(ev);
	mon_close(m);
	peer_end(&p);
}

/* The wait for "ready" ends when the job fails first. */
static void job_fails_before_ready(void **state)
{
	struct mon_job j;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, STARTS, STATUS("created"), OK, STATUS("aborting"),
		STATUS("concluded"), JOB("concluded", ", \"error\": \"No space left on device\""), DISMISS, { 0 } });

	(void)state;
	assert_int_equal(mon_job_start(m, &j, "snapshot-save", ARGS, "j1", SOON, &e), 0);
	assert_int_equal(mon_job_wait(m, &j, JOB_READY, SOON, NULL, &e), 0);
	assert_int_equal(j.status, JOB_CONCLUDED);
	assert_int_equal(mon_job_end(m, &j, SOON, NULL, &e), -EREMOTEIO);
	assert_string_equal(j.error, "No space left on device");
	mon_close(m);
	peer_end(&p);
}

/* Two jobs at once: each gets its own events. */
static void jobs_tracked_side_by_side(void **state)
{
	struct mon_job a, b;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		PEER_ASKED("one", "{\"return\": {}, \"id\": $ID}"), PEER_ASKED("two", "{\"return\": {}, \"id\": $ID}"),
		{ PEER_SEND, "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"pending\", \"id\": \"b\"}}", 0 },
		{ PEER_SEND, "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"pending\", \"id\": \"a\"}}", 0 }, { 0 } });

	(void)state;
	assert_int_equal(mon_job_start(m, &a, "one", NULL, "a", SOON, &e), 0);
	assert_int_equal(mon_job_start(m, &b, "two", NULL, "b", SOON, &e), 0);
	assert_int_equal(mon_job_wait(m, &a, JOB_PENDING, SOON, NULL, &e), 0);
	assert_int_equal(mon_job_wait(m, &b, JOB_PENDING, SOON, NULL, &e), 0);
	mon_job_forget(m, &a);
	mon_job_forget(m, &b);
	mon_job_forget(m, &b);
	mon_close(m);
	peer_end(&p);
}

/* mon_job_find() finds a job that a killed command left behind. */
static void job_left_behind_found(void **state)
{
	struct mon_job j;
	struct err e = { 0 };
	struct peer p;
	char longest[MON_JOB_ID + 1];
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, JOBS(""),
		JOB("concluded", ", \"error\": \"it failed\""), JOB("concluded", ", \"error\": \"it failed\""), DISMISS, { 0 } });

	(void)state;
	assert_int_equal(mon_job_find(m, &j, "j1", SOON, &e), 0);
	assert_int_equal(mon_job_find(m, &j, "j1", SOON, &e), 1);
	assert_string_equal(mon_job_status_name(j.status), "concluded");
	assert_string_equal(j.type, "snapshot-save");
	assert_int_equal(mon_job_end(m, &j, SOON, NULL, &e), -EREMOTEIO);
	memset(longest, 'x', MON_JOB_ID);
	longest[MON_JOB_ID] = '\0';
	assert_int_equal(mon_job_find(m, &j, longest, SOON, &e), -EINVAL);
	mon_close(m);
	peer_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(job_run_results),	       cmocka_unit_test(job_answer_and_events_late), cmocka_unit_test(job_progress_reported),
		cmocka_unit_test(job_wait_times_out),     cmocka_unit_test(job_end_seen_without_events), cmocka_unit_test(job_ready_complete_finalize),
		cmocka_unit_test(job_fails_before_ready), cmocka_unit_test(jobs_tracked_side_by_side),    cmocka_unit_test(job_left_behind_found),
		cmocka_unit_test(job_event_newer_than_query_jobs), cmocka_unit_test(job_not_started_not_tracked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
