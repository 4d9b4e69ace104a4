/* monitor/: the guest agent, agents that misbehave, and the watchdog child that thaws for a dead parent. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/own.h"
#include "monitor/monitor.h"
#include "tests/harness/allocfail.h"
#include "tests/harness/peer.h"

#define SOON  deadline_in(60000)
#define SHORT 40

#define REFUSAL "{\"error\": {\"class\": \"GenericError\", \"desc\": \"failed to freeze /: Device busy\"}}"

static struct agent *opened(struct peer *p, const struct peer_step *steps)
{
	struct err e = { 0 };
	struct agent *a = NULL;

	peer_start(p, steps);
	if (agent_open(p->fd, SOON, &a, &e) < 0)
		fail_msg("%s", e.msg);
	return a;
}

static void closed(struct peer *p, struct agent *a)
{
	agent_close(a);
	peer_end(p);
}

static void says(const struct err *e, int rc, int code, const char *text)
{
	if (rc != code || e->code != code || !strstr(e->msg, text))
		fail_msg("got %d '%s', want %d '%s'", rc, e->msg, code, text);
}

static void agent_commands(void **state)
{
	char version[AGENT_VERSION_MAX];
	struct err e = { 0 };
	struct json_span t;
	struct peer p;
	bool frozen;
	int64_t n;
	struct agent *a = opened(&p, (struct peer_step[]){ PEER_SYNCS,
		PEER_ASKED("guest-ping", "{\"return\": {}}"),
		PEER_ASKED("guest-info", "{\"return\": {\"version\": \"7.2.22\", \"supported_commands\": []}}"),
		PEER_ASKED("guest-fsfreeze-freeze", "{\"return\": 2}"),
		PEER_ASKED("guest-fsfreeze-status", "{\"return\": \"frozen\"}"),
		PEER_ASKED("guest-fsfreeze-thaw", "{\"return\": 2}"),
		PEER_ASKED("guest-fsfreeze-status", "{\"return\": \"thawed\"}"),
		PEER_ASKED("guest-fsfreeze-status", "{\"return\": \"melting\"}"),
		{ 0 } });

	(void)state;
	assert_int_equal(agent_fd(a), p.fd);
	assert_int_equal(agent_ping(a, SOON, &e), 0);
	assert_int_equal(agent_info(a, SOON, version, &e), 0);
	assert_string_equal(version, "7.2.22");
	assert_int_equal(agent_freeze(a, SOON, 1000, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(agent_frozen(a, SOON, &frozen, &e), 0);
	assert_true(frozen);
	assert_int_equal(agent_thaw(a, SOON, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(agent_frozen(a, SOON, &frozen, &e), 0);
	assert_false(frozen);
	says(&e, agent_frozen(a, SOON, &frozen, &e), -EPROTO, "freeze state 'melting'");
	agent_close(a);
	peer_stop(&p);

	a = opened(&p, (struct peer_step[]){ PEER_SYNCS,
		{ PEER_EXPECT, "{\"execute\": \"guest-set-time\", \"arguments\": {\"time\": 1795186150855288000}}", 0 },
		{ PEER_SEND, "{\"return\": {}}", 0 },
		{ PEER_EXPECT, "{\"execute\": \"guest-set-time\"}", 0 }, { PEER_SEND, "{\"return\": {}}", 0 },
		PEER_ASKED("guest-fsfreeze-freeze", REFUSAL), PEER_ASKED("guest-fsfreeze-thaw", "{\"return\": 0}"),
		PEER_ASKED("guest-exec", "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"nix\"}}"),
		PEER_ASKED("guest-info", "{\"return\": {}}"), { 0 } });
	assert_int_equal(agent_set_time(a, 1795186150855288000, SOON, &e), 0);
	assert_int_equal(agent_set_time(a, 0, SOON, &e), 0);
	says(&e, agent_freeze(a, SOON, 1000, &n, &e), -EREMOTEIO,
	     "the guest agent refused 'guest-fsfreeze-freeze': failed to freeze /: Device busy");
	assert_null(strstr(e.msg, "thaw"));
	says(&e, agent_call_raw(a, "{\"execute\": \"guest-exec\"}", SOON, &t, &e), -EREMOTEIO, "refused 'guest-exec': nix");
	assert_memory_equal(t.p, "{\"error\"", 8);
	says(&e, agent_info(a, SOON, version, &e), -EPROTO, "'guest-info': member 'version' is missing");
	closed(&p, a);
}

/* Data that an earlier client left in the channel, whole or torn, is skipped. */
static void agent_stale_bytes_skipped(void **state)
{
	static const char *const junk[] = {
		"{\"return\": {}}\n", "{\"return\": [1, 2", "\n\n", "\"\\", "{\"return\": 7}\n\xff{\"return\": 1}\n",
		"\xff\xff", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n{\"ret",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(junk); i++) {
		struct err e = { 0 };
		struct peer p;
		struct agent *a = opened(&p, (struct peer_step[]){ { PEER_RAW, junk[i], 0 },
			{ PEER_EXPECT_FF, "guest-sync-delimited", 0 }, { PEER_RAW, junk[i], 0 },
			{ PEER_BYTES, "\xff{\"return\": $ID}", 0 }, PEER_ASKED("guest-ping", "{\"return\": {}}"), { 0 } });

		assert_int_equal(agent_ping(a, SOON, &e), 0);
		closed(&p, a);
	}
}

/* Sends a stale answer before the answer to the sync. */
#define SYNCS_BEHIND(late) { PEER_EXPECT_FF, "guest-sync-delimited", 0 }, { PEER_RAW, late "\n", 0 }, \
	{ PEER_SEND, "\xff{\"return\": $ID}", 0 }

/* The late answer to a command that timed out is not taken for the next one's. */
static void agent_late_answer_skipped(void **state)
{
	struct err e = { 0 };
	struct peer p;
	bool frozen = true;
	struct agent *a = opened(&p, (struct peer_step[]){ PEER_SYNCS,
		{ PEER_EXPECT, "guest-ping", 0 }, SYNCS_BEHIND("{\"return\": \"frozen\"}"), PEER_ASKED("guest-fsfreeze-status", "{\"return\": \"thawed\"}"), { 0 } });

	(void)state;
	says(&e, agent_ping(a, deadline_in(SHORT), &e), -ETIMEDOUT, "cannot run 'guest-ping': no answer from the guest agent within ");
	assert_int_equal(agent_frozen(a, SOON, &frozen, &e), 0);
	assert_false(frozen);
	closed(&p, a);
}

#define STRAY "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray\"}}\n"

/* The agent starts late and answers every sync that was sent: each sentinel with an error, each sync with its id. */
static void agent_answers_every_sync(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct agent *a = opened(&p, (struct peer_step[]){ { PEER_EXPECT_FF, "guest-sync-delimited", 0 },
		{ PEER_EXPECT_FF, "guest-sync-delimited", 0 },
		{ PEER_RAW, STRAY "\xff{\"return\": $OLD}\n", 0 }, { PEER_SLEEP, NULL, SHORT }, { PEER_RAW, STRAY "\xff{\"return\": $ID}\n", 0 },
		PEER_ASKED("guest-ping", "{\"return\": {}}"), { 0 } });

	(void)state;
	assert_int_equal(agent_ping(a, SOON, &e), 0);
	closed(&p, a);
}

static void agent_misbehaves(void **state)
{
	static const struct {
		struct peer_step steps[5];
		int code;
		const char *text;
	} t[] = {
		{ { { PEER_HANG, NULL, 0 } }, -ETIMEDOUT, "the guest agent did not answer within" },
		{ { { PEER_CLOSE, NULL, 0 } }, -ECONNRESET, "the guest agent closed the connection" },
		{ { { PEER_FLOOD, "{\"return\": {}}", PEER_ENDLESS } }, -ETIMEDOUT, "did not answer" },
		{ { { PEER_EXPECT_FF, "sync", 0 }, { PEER_SEND, "\xff{\"return\": 3}", 0 }, { PEER_HANG, NULL, 0 } }, -ETIMEDOUT, "did not answer" },
		{ { PEER_SYNCS, { PEER_EXPECT, "ping", 0 }, { PEER_CLOSE, NULL, 0 } }, -ECONNRESET,
		  "cannot run 'guest-ping': the guest agent closed the connection" },
		{ { PEER_SYNCS, { PEER_EXPECT, "ping", 0 }, { PEER_SEND, "broken", 0 } }, -EPROTO, "the guest agent sent a line that is not an answer" },
		{ { PEER_SYNCS, { PEER_EXPECT, "ping", 0 }, { PEER_SEND, "{\"event\": \"x\"}", 0 } }, -EPROTO, "not an answer" },
		{ { PEER_SYNCS, { PEER_EXPECT, "ping", 0 }, { PEER_SEND, "\xff{\"return\": 1}", 0 } }, -EPROTO, "not an answer" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct deadline d = deadline_in(t[i].code == -ETIMEDOUT ? 2 * SHORT : 60000);
		uint64_t from = clock_mono_ms();
		struct agent *a = NULL;
		struct err e = { 0 };
		struct peer p;
		int rc;

		peer_start(&p, t[i].steps);
		rc = agent_open(p.fd, d, &a, &e);
		if (!rc)
			rc = agent_ping(a, d, &e);
		says(&e, rc, t[i].code, t[i].text);
		assert_true(clock_mono_ms() - from < 45000);
		if (rc == -ETIMEDOUT && !a)
			assert_non_null(strstr(e.hint, "is qemu-guest-agent running"));
		agent_close(a);
		peer_stop(&p);
	}
}

/* The freeze times out: the guest is thawed before agent_freeze() returns the error. */
static void agent_freeze_timeout_thaws(void **state)
{
	struct err e = { 0 };
	struct peer p;
	int64_t n;
	struct agent *a = opened(&p, (struct peer_step[]){ PEER_SYNCS, { PEER_EXPECT, "guest-fsfreeze-freeze", 0 },
		SYNCS_BEHIND("{\"return\": 1}"), PEER_ASKED("guest-fsfreeze-thaw", "{\"return\": 1}"), { 0 } });

	(void)state;
	says(&e, agent_freeze(a, deadline_in(SHORT), 60000, &n, &e), -ETIMEDOUT, "cannot run 'guest-fsfreeze-freeze': no answer");
	assert_null(strstr(e.msg, "may be frozen"));
	closed(&p, a);

	a = opened(&p, (struct peer_step[]){ PEER_SYNCS, { PEER_EXPECT, "guest-fsfreeze-freeze", 0 }, { PEER_CLOSE, NULL, 0 }, { 0 } });
	says(&e, agent_freeze(a, SOON, SHORT, &n, &e), -ECONNRESET, "and could not thaw, so the guest may be frozen");
	closed(&p, a);

	a = opened(&p, (struct peer_step[]){ PEER_SYNCS, PEER_ASKED("guest-fsfreeze-freeze", "{\"return\": \"two\"}"),
		PEER_ASKED("guest-fsfreeze-thaw", "{\"return\": 2}"), { 0 } });
	says(&e, agent_freeze(a, SOON, 60000, &n, &e), -EPROTO, "not a number");
	closed(&p, a);
}

static void agent_shutdown_results(void **state)
{
	static const struct {
		struct peer_step then;
		int code;
	} t[] = {
		{ { PEER_CLOSE, NULL, 0 }, 0 },
		{ { PEER_HANG, NULL, 0 }, 0 },
		{ { PEER_SEND, "{\"return\": {}}", 0 }, 0 },
		{ { PEER_SEND, REFUSAL, 0 }, -EREMOTEIO },
		{ { PEER_SEND, "broken", 0 }, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err e = { 0 };
		struct peer p;
		struct agent *a = opened(&p, (struct peer_step[]){ PEER_SYNCS,
			{ PEER_EXPECT, "\"guest-shutdown\", \"arguments\": {\"mode\": \"powerdown\"}", 0 }, t[i].then, { 0 } });

		assert_int_equal(agent_shutdown(a, "powerdown", SOON, &e), t[i].code);
		closed(&p, a);
	}
}

/* ---- the watchdog ---- */

/* Run the watchdog. @byte: what the parent writes; 0: the parent is dead; -1: it is alive and silent. */
static int watch(struct agent_watch w, int byte, struct err *e)
{
	int fds[2], rc;

	assert_int_equal(pipe(fds), 0);
	w.pipe_fd = fds[0];
	if (byte > 0)
		assert_int_equal(write(fds[1], "k", 1), 1);
	if (byte >= 0)
		close(fds[1]);
	rc = agent_watchdog_run(&w, e);
	close(fds[0]);
	if (byte < 0)
		close(fds[1]);
	return rc;
}

#define THAWS PEER_SYNCS, PEER_ASKED("guest-fsfreeze-thaw", "{\"return\": 1}")

static void watchdog_parent_fine(void **state)
{
	struct peer p;
	struct err e = { 0 };

	(void)state;
	peer_start(&p, (struct peer_step[]){ { PEER_HANG, NULL, 0 }, { 0 } });
	assert_int_equal(watch((struct agent_watch){ .agent_fd = p.fd, .frozen_until = SOON, .try_ms = 60000 }, 1, &e), 0);
	close(p.fd);
	peer_end(&p);
}

static void watchdog_parent_dead(void **state)
{
	struct peer p;
	struct err e = { 0 };

	(void)state;
	/* The parent was killed in the middle of a request; the child uses the inherited connection. */
	peer_start(&p, (struct peer_step[]){ { PEER_RAW, "{\"return\": 1}\n", 0 }, THAWS, { 0 } });
	assert_int_equal(watch((struct agent_watch){ .agent_fd = p.fd, .frozen_until = SOON, .try_ms = 60000 }, 0, &e), 0);
	peer_end(&p);
}

static void watchdog_parent_hangs(void **state)
{
	uint64_t from = clock_mono_ms();
	struct peer p;
	struct err e = { 0 };

	(void)state;
	peer_start(&p, (struct peer_step[]){ THAWS, { 0 } });
	assert_int_equal(watch((struct agent_watch){ .agent_fd = p.fd, .frozen_until = deadline_in(SHORT), .try_ms = 60000 }, -1, &e), 0);
	assert_true(clock_mono_ms() - from >= SHORT);
	peer_end(&p);
}

/* Without a usable inherited connection it connects by path, and retries after a refusal or silence. */
static void watchdog_by_path(void **state)
{
	char dir[PEER_DIR_MAX], path[PEER_DIR_MAX + 4];
	struct peer p, dead;
	struct err e = { 0 };

	(void)state;
	peer_mkdir(dir);
	snprintf(path, sizeof path, "%s/s", dir);
	peer_start(&dead, (struct peer_step[]){ { PEER_CLOSE, NULL, 0 }, { 0 } });
	peer_listen(&p, path, (struct peer_step[]){ { PEER_ACCEPT, NULL, 0 }, { PEER_EXPECT_FF, "sync", 0 }, { PEER_CLOSE, NULL, 0 },
		{ PEER_ACCEPT, NULL, 0 }, PEER_SYNCS, PEER_ASKED("guest-fsfreeze-thaw", REFUSAL), { PEER_CLOSE, NULL, 0 },
		{ PEER_ACCEPT, NULL, 0 }, THAWS, { 0 } });
	assert_int_equal(watch((struct agent_watch){ .agent_fd = dead.fd, .path = path, .frozen_until = SOON, .try_ms = 60000 }, 0, &e), 0);
	peer_end(&p);
	peer_end(&dead);

	/* Nobody listens: it gives up in time and reports why. */
	says(&e, watch((struct agent_watch){ .agent_fd = -1, .path = path, .frozen_until = SOON, .try_ms = SHORT }, 0, &e),
	     -ECONNREFUSED, "cannot connect to");
	says(&e, watch((struct agent_watch){ .agent_fd = -1, .frozen_until = SOON, .try_ms = SHORT }, 0, &e), -ENOTCONN, "cannot thaw");
	unlink(path);
	rmdir(dir);
}

/* With real processes: one freezes and is killed, and its child thaws over their shared connection. */
static void watchdog_after_kill(void **state)
{
	struct err e = { 0 };
	struct peer p;
	int fds[2], status, ready[2];
	char c;
	pid_t pid;

	(void)state;
	peer_start(&p, (struct peer_step[]){ PEER_SYNCS, PEER_ASKED("guest-fsfreeze-freeze", "{\"return\": 1}"), THAWS, { 0 } });
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		struct agent *a;
		int64_t n;

		alarm(120);
		if (!fork()) {
			struct agent_watch w = { .pipe_fd = fds[0], .agent_fd = p.fd, .frozen_until = SOON, .try_ms = 60000 };

			close(fds[1]);
			close(ready[1]);
			_exit(agent_watchdog_run(&w, &e) < 0);
		}
		if (agent_open(p.fd, SOON, &a, &e) < 0 || agent_freeze(a, SOON, 1000, &n, &e) < 0 || write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
	}
	close(fds[0]);
	close(fds[1]);
	close(ready[1]);
	close(p.fd);
	assert_int_equal(read(ready[0], &c, 1), 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(ready[0]);
	peer_end(&p); /* fails unless the guest was thawed: the script ends with that */
}

static void agent_out_of_memory(void **state)
{
	static const struct peer_step steps[] = { PEER_SYNCS, PEER_ASKED("guest-fsfreeze-status", "{\"return\": \"thawed\"}"), { 0 } };
	bool hit = true;
	int late = 0;

	(void)state;
	for (uint64_t at = 0; hit; at++) {
		struct agent *a = NULL;
		struct err e = { 0 };
		struct peer p;
		bool frozen;
		int rc;

		peer_start(&p, steps);
		alloc_fail(at, false);
		rc = agent_open(p.fd, deadline_in(20 * SHORT), &a, &e);
		if (!rc)
			rc = agent_frozen(a, SOON, &frozen, &e);
		hit = alloc_normal();
		if (hit)
			assert_true(rc == -ENOMEM || rc == -ETIMEDOUT); /* a sync answer that could not be parsed is skipped */
		else if (rc == -ETIMEDOUT && late++ < 20)
			hit = true, at--; /* the machine was busy: try again */
		else
			assert_int_equal(rc, 0);
		agent_close(a);
		peer_stop(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agent_commands),
		cmocka_unit_test(agent_stale_bytes_skipped),
		cmocka_unit_test(agent_late_answer_skipped),
		cmocka_unit_test(agent_answers_every_sync),
		cmocka_unit_test(agent_misbehaves),
		cmocka_unit_test(agent_freeze_timeout_thaws),
		cmocka_unit_test(agent_shutdown_results),
		cmocka_unit_test(watchdog_parent_fine),
		cmocka_unit_test(watchdog_parent_dead),
		cmocka_unit_test(watchdog_parent_hangs),
		cmocka_unit_test(watchdog_by_path),
		cmocka_unit_test(watchdog_after_kill),
		cmocka_unit_test(agent_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
