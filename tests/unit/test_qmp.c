/* monitor/: QMP against a peer that follows the protocol, and against peers that break it. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/own.h"
#include "monitor/monitor.h"
#include "tests/harness/allocfail.h"
#include "tests/harness/peer.h"

#define SOON  deadline_in(60000) /* for answers that must arrive: never reached */
#define SHORT 40		/* ms, for answers that must not arrive */

static struct mon *opened(struct peer *p, const struct peer_step *steps)
{
	struct err e = { 0 };
	struct mon *m = NULL;

	peer_start(p, steps);
	if (mon_open(p->fd, SOON, &m, &e) < 0)
		fail_msg("%s", e.msg);
	return m;
}

static void closed(struct peer *p, struct mon *m)
{
	mon_close(m);
	peer_end(p);
}

static void says(const struct err *e, int rc, int code, const char *text)
{
	if (rc != code || e->code != code || !strstr(e->msg, text))
		fail_msg("got %d '%s', want %d '%s'", rc, e->msg, code, text);
}

/* ---- opening ---- */

static void greeting_gives_version(void **state)
{
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { 0 } });

	(void)state;
	assert_int_equal(mon_version(m)->major, 7);
	assert_int_equal(mon_version(m)->minor, 2);
	assert_int_equal(mon_version(m)->micro, 22);
	assert_string_equal(mon_version(m)->package, "Debian 1:7.2");
	assert_int_equal(mon_fd(m), p.fd);
	closed(&p, m);
}

/* qmp_capabilities is sent before the greeting arrives. If QEMU refuses oob, it is sent again without. */
static void capabilities_sent_before_greeting(void **state)
{
	struct peer p;

	(void)state;
	closed(&p, opened(&p, (struct peer_step[]){ { PEER_EXPECT, "\"oob\"", 0 }, { PEER_SEND, PEER_GREETING, 0 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { 0 } }));
	closed(&p, opened(&p, (struct peer_step[]){ { PEER_SEND, PEER_GREETING, 0 }, { PEER_EXPECT, "\"oob\"", 0 },
		{ PEER_SEND, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no oob\"}, \"id\": $ID}", 0 },
		{ PEER_EXPECT, "\"qmp_capabilities\",\"id\"", 0 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { 0 } }));
}

static void open_refuses_bad_peers(void **state)
{
	static const struct {
		struct peer_step steps[6];
		int code;
		const char *text;
	} t[] = {
		{ { { PEER_HANG, NULL, 0 } }, -ETIMEDOUT, "no greeting from QEMU's monitor within" },
		{ { { PEER_CLOSE, NULL, 0 } }, -ECONNRESET, "QEMU closed the connection" },
		{ { { PEER_SEND, "hello", 0 } }, -EPROTO, "QEMU sent a broken message: cannot read JSON: byte 0" },
		{ { { PEER_SEND, "[]", 0 } }, -EPROTO, "not an object" },
		{ { { PEER_SEND, "{\"return\": {}}", 0 } }, -EPROTO, "sent no greeting first" },
		{ { { PEER_SEND, "{\"QMP\": {}}", 0 } }, -EPROTO, "greeting has no version" },
		{ { { PEER_SEND, "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7]}}}", 0 } }, -EPROTO, "broken" },
		{ { { PEER_SEND, PEER_GREETING, 0 }, { PEER_SEND, PEER_GREETING, 0 } }, -EPROTO, "greeted twice" },
		{ { { PEER_SEND, PEER_GREETING, 0 }, { PEER_HANG, NULL, 0 } }, -ETIMEDOUT, "cannot run 'qmp_capabilities'" },
		{ { { PEER_SEND, PEER_GREETING, 0 }, { PEER_EXPECT, "qmp_cap", 0 }, { PEER_CLOSE, NULL, 0 } },
		  -ECONNRESET, "cannot run 'qmp_capabilities': QEMU closed" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		uint64_t from = clock_mono_ms(), ms;
		struct err e = { 0 };
		struct mon *m = NULL;
		struct peer p;
		int rc;

		peer_start(&p, t[i].steps);
		/* Where the greeting must arrive before the timeout, the timeout is longer. */
		ms = t[i].code != -ETIMEDOUT ? 60000 : t[i].steps[0].op == PEER_HANG ? SHORT : 1500;
		rc = mon_open(p.fd, deadline_in(ms), &m, &e);
		says(&e, rc, t[i].code, t[i].text);
		assert_null(m);
		assert_true(clock_mono_ms() - from < 45000);
		peer_end(&p);
	}
}

/* QEMU sends an answer to the client that is connected when it is ready: ours differ from an earlier client's by their ids. */
static void earlier_clients_answers_skipped(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ { PEER_SEND, "{\"return\": [], \"id\": 11}", 0 },
							 { PEER_SEND, "{\"event\": \"STOP\"}", 0 },
							 { PEER_SEND, PEER_GREETING, 0 },
							 { PEER_SEND, "{\"return\": {}, \"id\": \"libvirt-7\"}", 0 },
							 { PEER_EXPECT, "qmp_capabilities", 0 },
							 { PEER_SEND, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"x\"}, \"id\": 12}", 0 },
							 { PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 },
							 PEER_ASKED("stop", "{\"return\": {}, \"id\": $ID}"),
							 { 0 } });

	(void)state;
	assert_int_equal(mon_call(m, "stop", NULL, SOON, NULL, &e), 0);
	closed(&p, m);
}

/* ---- calling ---- */

static void call_returns_answer(void **state)
{
	auto_json struct json_doc *doc = NULL;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){
		PEER_GREETS,
		{ PEER_EXPECT, "{\"execute\":\"query-x\",\"arguments\":{\"a\":1},\"id\":", 0 },
		{ PEER_BYTES, "{\"id\": $ID, \"return\": {\"status\": \"running\"}}", 0 },
		{ PEER_EXPECT, "{\"execute\":\"query-y\",\"id\":", 0 },
		{ PEER_SPLIT, "{\"return\": [1, 2, 3], \"later\": {\"x\": [\"}\"]}, \"id\": $ID}", 7 },
		{ 0 } });

	(void)state;
	assert_int_equal(mon_call(m, "query-x", "{\"a\": 1}", SOON, &doc, &e), 0);
	assert_string_equal(json_str(json_get(json_root(doc), "status"), ""), "running");
	json_free(doc);
	assert_int_equal(mon_call(m, "query-y", NULL, SOON, &doc, &e), 0);
	assert_int_equal(json_root(doc)->count, 3);
	closed(&p, m);
}

static void call_reports_refusal(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){
		PEER_GREETS,
		PEER_ASKED("a", "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command a has not been found\"}, \"id\": $ID}"),
		PEER_ASKED("b", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Could not \\\"x\\\"\"}, \"id\": $ID}"),
		PEER_ASKED("c", "{\"error\": {}, \"id\": $ID}"),
		PEER_ASKED("d", "{\"error\": {\"class\": 1]}, \"id\": $ID}"),
		{ 0 } });

	(void)state;
	assert_string_equal(mon_error_class(m), "");
	says(&e, mon_call(m, "a", NULL, SOON, NULL, &e), -EREMOTEIO,
	     "QEMU refused 'a': The command a has not been found (CommandNotFound)");
	assert_string_equal(mon_error_class(m), "CommandNotFound");
	says(&e, mon_call(m, "b", NULL, SOON, NULL, &e), -EREMOTEIO, "QEMU refused 'b': Could not \"x\"");
	assert_null(strstr(e.msg, "GenericError"));
	assert_string_equal(mon_error_class(m), "GenericError");
	says(&e, mon_call(m, "c", NULL, SOON, NULL, &e), -EREMOTEIO, "no reason given");
	says(&e, mon_call(m, "d", NULL, SOON, NULL, &e), -EPROTO, "broken");
	closed(&p, m);
}

/* Each message breaks the connection: the call fails with the given error, and so does every later call, at once. */
static void protocol_breach_breaks_connection(void **state)
{
	static const struct {
		struct peer_step step;
		int code;
		const char *text;
	} t[] = {
		{ { PEER_SEND, "{\"return\": {}, \"id\": 4711}", 0 }, -EPROTO, "QEMU answered with a wrong id: 4711, not " },
		{ { PEER_SEND, "{\"return\": {}, \"id\": $ID0}", 0 }, -EPROTO, "wrong id" },
		{ { PEER_SEND, "{\"return\": {}, \"id\": \"$ID\"}", 0 }, -EPROTO, "wrong id: \"" },
		{ { PEER_SEND, "{\"return\": {}}", 0 }, -EPROTO, "wrong id: none" },
		{ { PEER_SEND, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}", 0 }, -EPROTO,
		  "could not read': JSON parse error" },
		{ { PEER_SEND, "{\"return\": {}, \"id\": $ID", 0 }, -EPROTO, "ends too early" },
		{ { PEER_SEND, "{\"return\": {} \"id\": $ID}", 0 }, -EPROTO, "',' is missing" },
		{ { PEER_SEND, "{\"return\": {}, \"id\": $ID}}", 0 }, -EPROTO, "something follows" },
		{ { PEER_SEND, "{\"return\": {}, \"return\": {}, \"id\": $ID}", 0 }, -EPROTO, "duplicate member 'return'" },
		{ { PEER_SEND, "{\"return\": {}, \"error\": {}, \"id\": $ID}", 0 }, -EPROTO, "neither an answer nor an event" },
		{ { PEER_SEND, "{\"id\": $ID}", 0 }, -EPROTO, "neither an answer nor an event" },
		{ { PEER_SEND, "", 0 }, -EPROTO, "broken message" },
		{ { PEER_SEND, "42", 0 }, -EPROTO, "broken message" },
		{ { PEER_SEND, "[]", 0 }, -EPROTO, "not an object" },
		{ { PEER_SEND, PEER_GREETING, 0 }, -EPROTO, "greeted twice" },
		{ { PEER_SEND, "{\"event\": 7}", 0 }, -EPROTO, "broken event" },
		{ { PEER_SEND, "{\"event\": \"STOP\", \"data\": {\"a\": 01}}", 0 }, -EPROTO, "broken event" },
		{ { PEER_CLOSE, NULL, 0 }, -ECONNRESET, "cannot run 'x': QEMU closed the connection" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err e = { 0 }, again = { 0 };
		struct peer p;
		struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 }, t[i].step, { 0 } });

		says(&e, mon_call(m, "x", NULL, SOON, NULL, &e), t[i].code, t[i].text);
		assert_int_equal(mon_call(m, "y", NULL, SOON, NULL, &again), t[i].code);
		assert_int_equal(mon_process(m, &again), t[i].code);
		assert_int_equal(mon_wait_event(m, MON_EVENTS("A"), SOON, NULL, &again), t[i].code);
		closed(&p, m);
	}
}

/* Each pipelined request is sent once, its answers can be claimed in any order, and an error fails only its own call. */
static void pipelined_requests_sent_once(void **state)
{
	auto_json struct json_doc *a = NULL, *b = NULL;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){
		PEER_GREETS,
		{ PEER_EXPECT, "{\"execute\":\"a\",\"arguments\":{\"n\":1},\"id\":", 0 },
		{ PEER_SEND, "{\"return\": 1, \"id\": $ID}", 0 },
		PEER_ASKED("b", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no b\"}, \"id\": $ID}"),
		PEER_ASKED("c", "{\"return\": 3, \"id\": $ID}"),
		PEER_ASKED("a", "{\"return\": 4, \"id\": $ID}"),
		{ 0 } });

	(void)state;
	mon_ahead(m, "a", "{\"n\": 1}", SOON);
	mon_ahead(m, "b", NULL, SOON);
	mon_ahead(m, "a", "{\"n\": 1}", SOON);
	mon_ahead(m, "c", NULL, SOON);
	assert_int_equal(mon_call(m, "c", NULL, SOON, &a, &e), 0);
	assert_int_equal(json_int(json_root(a), 0), 3);
	says(&e, mon_call(m, "b", NULL, SOON, NULL, &e), -EREMOTEIO, "no b");
	assert_int_equal(mon_call(m, "a", "{\"n\": 1}", SOON, &b, &e), 0);
	assert_int_equal(json_int(json_root(b), 0), 1);
	json_free(b);
	assert_int_equal(mon_call(m, "a", "{\"n\": 1}", SOON, &b, &e), 0); /* an answer is claimed once */
	assert_int_equal(json_int(json_root(b), 0), 4);
	closed(&p, m);
}

/* A call that was not pipelined discards the pipelined answers: it may have changed what they say. */
static void pipelined_answers_discarded_by_call(void **state)
{
	auto_json struct json_doc *doc = NULL;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){
		PEER_GREETS,
		PEER_ASKED("query-x", "{\"return\": \"before\", \"id\": $ID}"),
		PEER_ASKED("stop", "{\"return\": {}, \"id\": $ID}"),
		PEER_ASKED("query-x", "{\"return\": \"after\", \"id\": $ID}"),
		{ 0 } });

	(void)state;
	mon_ahead(m, "query-x", NULL, SOON);
	assert_int_equal(mon_call(m, "stop", NULL, SOON, NULL, &e), 0);
	assert_int_equal(mon_call(m, "query-x", NULL, SOON, &doc, &e), 0);
	assert_string_equal(json_str(json_root(doc), ""), "after");
	closed(&p, m);
}

/* After mon_ahead_forget() a pipelined command is sent again, and its old answer is skipped. */
static void pipelined_answers_discarded_on_demand(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){
		PEER_GREETS,
		PEER_ASKED("add-x", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no x\"}, \"id\": $ID}"),
		PEER_ASKED("add-x", "{\"return\": {}, \"id\": $ID}"),
		{ 0 } });

	(void)state;
	mon_ahead(m, "add-x", NULL, SOON);
	mon_ahead_forget(m);
	mon_ahead(m, "add-x", NULL, SOON);
	assert_int_equal(mon_call(m, "add-x", NULL, SOON, NULL, &e), 0);
	closed(&p, m);
}

/* Blanks between tokens are removed, blanks within strings are kept. */
static void requests_have_no_blanks(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){
		PEER_GREETS,
		{ PEER_EXPECT, "{\"execute\":\"x\",\"arguments\":{\"a b\":[\" c, \\\" d\\\\\",1,\"\\\\\\\"\"],\"e\":{\"f\":null}},\"id\":1}\n", 0 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { 0 } });

	(void)state;
	assert_int_equal(mon_call(m, "x", "{\"a b\": [\" c, \\\" d\\\\\", 1, \"\\\\\\\"\" ], \"e\" : {\"f\":  null}}", SOON, NULL, &e), 0);
	closed(&p, m);
}

static void duplicate_answer_breaks_connection(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 },
		{ PEER_RAW, "{\"return\": {}, \"id\": $ID}\r\n{\"return\": {}, \"id\": $ID}\r\n", 0 }, { 0 } });

	(void)state;
	assert_int_equal(mon_call(m, "x", NULL, SOON, NULL, &e), 0);
	says(&e, mon_call(m, "y", NULL, SOON, NULL, &e), -EPROTO, "cannot run 'y': QEMU answered with a wrong id");
	closed(&p, m);
}

/* A broken value fails its own call, not the connection. */
static void broken_value_fails_its_call_only(void **state)
{
	auto_json struct json_doc *doc = NULL;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		PEER_ASKED("x", "{\"return\": {\"a\": 1, \"a\": 2}, \"id\": $ID}"),
		PEER_ASKED("y", "{\"return\": 5, \"id\": $ID}"), { 0 } });

	(void)state;
	says(&e, mon_call(m, "x", NULL, SOON, &doc, &e), -EPROTO, "QEMU's answer to 'x': cannot read JSON");
	assert_int_equal(mon_call(m, "y", NULL, SOON, &doc, &e), 0);
	assert_int_equal(json_int(json_root(doc), 0), 5);
	closed(&p, m);
}

static void silent_peer_times_out(void **state)
{
	uint64_t from = clock_mono_ms(), took;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 }, { PEER_HANG, NULL, 0 }, { 0 } });

	(void)state;
	from = clock_mono_ms();
	says(&e, mon_call(m, "x", NULL, deadline_in(SHORT), NULL, &e), -ETIMEDOUT, "cannot run 'x': no answer from QEMU within ");
	took = clock_mono_ms() - from;
	assert_in_range(took, SHORT, SHORT + 40000);
	closed(&p, m);
}

/* The late answer to a request that timed out is not taken for the next one's. */
static void late_qmp_answer_skipped(void **state)
{
	auto_json struct json_doc *doc = NULL;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){
		PEER_GREETS,
		{ PEER_EXPECT, "\"x\"", 0 }, { PEER_EXPECT, "\"y\"", 0 }, { PEER_SEND, "{\"return\": \"old\", \"id\": $OLD}", 0 },
		{ PEER_SEND, "{\"return\": \"new\", \"id\": $ID}", 0 },
		PEER_ASKED("z", "{\"return\": \"newer\", \"id\": $ID}"),
		{ 0 } });

	(void)state;
	assert_int_equal(mon_call(m, "x", NULL, deadline_in(SHORT), NULL, &e), -ETIMEDOUT);
	assert_int_equal(mon_call(m, "y", NULL, SOON, &doc, &e), 0);
	assert_string_equal(json_str(json_root(doc), ""), "new");
	json_free(doc);
	assert_int_equal(mon_call(m, "z", NULL, SOON, &doc, &e), 0);
	assert_string_equal(json_str(json_root(doc), ""), "newer");
	closed(&p, m);
}

/* Single bytes without a newline never extend the deadline. */
static void trickle_never_extends_deadline(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 },
		{ PEER_DRIP, "{\"return\": \"", 0 }, { 0 } });

	(void)state;
	says(&e, mon_call(m, "x", NULL, deadline_in(SHORT), NULL, &e), -ETIMEDOUT, "no answer");
	closed(&p, m);
}

static void answer_of_many_megabytes(void **state)
{
	auto_json struct json_doc *doc = NULL;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		{ PEER_EXPECT, "\"x\"", 0 }, { PEER_BIG, NULL, 10 << 20 },
		{ PEER_EXPECT, "\"y\"", 0 }, { PEER_BIG, NULL, 3 }, { 0 } });

	(void)state;
	assert_int_equal(mon_call(m, "x", NULL, SOON, &doc, &e), 0);
	assert_int_equal(json_root(doc)->len, 10 << 20);
	json_free(doc);
	assert_int_equal(mon_call(m, "y", NULL, SOON, &doc, &e), 0);
	assert_string_equal(json_str(json_root(doc), ""), "aaa");
	closed(&p, m);
}

/* A few bytes over the limit: refused even if the end of the message arrives in the same read. */
static void answer_over_limit_refused(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 }, { PEER_BIG, NULL, 64 << 20 }, { 0 } });

	(void)state;
	says(&e, mon_call(m, "x", NULL, SOON, NULL, &e), -EFBIG, "more than 64 MiB");
	closed(&p, m);
}

/* A peer that reads nothing: the request times out, and a partly sent one breaks the connection. */
static void send_times_out(void **state)
{
	auto_buf struct buf args = { 0 };
	uint64_t from;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_HANG, NULL, 0 }, { 0 } });

	(void)state;
	buf_adds(&args, "{\"a\": \"");
	for (int i = 0; i < 1 << 20; i++)
		buf_addc(&args, 'a');
	buf_adds(&args, "\"}");
	says(&e, mon_call(m, "x", args.p, deadline_in(SHORT), NULL, &e), -ETIMEDOUT, "cannot run 'x': QEMU did not take the request within");
	from = clock_mono_ms();
	says(&e, mon_call(m, "y", NULL, SOON, NULL, &e), -ETIMEDOUT, "cannot run 'y': QEMU did not take the request within");
	assert_true(clock_mono_ms() - from < 45000);
	closed(&p, m);
}

static void descriptor_passed(void **state)
{
	int fds[2];
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT_FD, "\"getfd\"", 0 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { 0 } });
	char c = 0;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	/* An invalid descriptor: nothing is sent, so the next call has no answer to wait for. */
	says(&e, mon_call_fd(m, "getfd", "{\"fdname\": \"f\"}", 9999, SOON, NULL, &e), -EBADF, "cannot send to QEMU");
	assert_int_equal(mon_call_fd(m, "getfd", "{\"fdname\": \"f\"}", fds[1], SOON, NULL, &e), 0);
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(c, 'x');
	assert_int_equal(read(fds[0], &c, 1), 0); /* end of file: the peer has closed its copy, the last one */
	close(fds[0]);
	closed(&p, m);
}

/* QEMU with oob might give the descriptor to an earlier command: it is not sent while an answer is due. */
static void descriptor_held_back_while_answer_due(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"slow\"", 0 }, { PEER_SLEEP, NULL, 1500 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { PEER_EXPECT_FD, "\"two\"", 0 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { 0 } });

	int fd = open("/dev/null", O_WRONLY);

	(void)state;
	assert_true(fd >= 0);
	says(&e, mon_call(m, "slow", NULL, deadline_in(SHORT), NULL, &e), -ETIMEDOUT, "cannot run 'slow'");
	says(&e, mon_call_fd(m, "getfd", "{\"fdname\": \"one\"}", fd, deadline_in(SHORT), NULL, &e), -ETIMEDOUT,
		"cannot run 'getfd': no answer from QEMU to an earlier request within");
	assert_int_equal(mon_call_fd(m, "getfd", "{\"fdname\": \"two\"}", fd, SOON, NULL, &e), 0);
	close(fd);
	closed(&p, m);
}

static void raw_request_and_answer(void **state)
{
	static const char *const wrong[] = { "", "{", "[]", "{}", "{\"execute\": 1}", "{\"execute\": \"x\", \"arguments\": []}",
					     "{\"execute\": \"x\", \"nix\": 1}", "{\"execute\": \"x\"} {}" };
	struct json_span t;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		{ PEER_EXPECT, "{\"execute\":\"q\",\"arguments\":{\"a\":[1,{}]},\"id\":", 0 },
		{ PEER_SEND, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": $ID}", 0 }, { 0 } });

	(void)state;
	says(&e, mon_call_raw(m, "{\"execute\":\"q\",\"id\":\"mine\",\"arguments\":{\"a\":[1,{}]}}", SOON, &t, &e), -EREMOTEIO, "refused 'q': no");
	assert_memory_equal(t.p, "{\"error\": {\"class\"", 18);
	assert_int_equal(t.p[t.len - 1], '}');
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		says(&e, mon_call_raw(m, wrong[i], SOON, &t, &e), -EINVAL, "the request");
	closed(&p, m);
}

static void schema_queries(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		PEER_ASKED("query-commands", "{\"return\": [{\"name\": \"snapshot-save\"}, {\"name\": \"stop\"}], \"id\": $ID}"),
		PEER_ASKED("query-qmp-schema", "{\"return\": ["
			"{\"name\": \"stop\", \"ret-type\": \"1\", \"meta-type\": \"command\", \"arg-type\": \"0\"}, "
			"{\"arg-type\": \"9\", \"name\": \"commit\", \"meta-type\": \"command\"}, "
			"{\"name\": \"9\", \"members\": [{\"name\": \"job-id\", \"default\": null, \"type\": \"str\"}, "
			"{\"name\": \"mask\", \"type\": \"bool\"}], \"meta-type\": \"object\"}], \"id\": $ID}"),
		PEER_ASKED("query-qmp-schema", "{\"return\": [{\"name\": \"commit\", \"arg-type\": \"9\"}], \"id\": $ID}"),
		PEER_ASKED("query-qmp-schema", "{\"return\": [{\"name\": \"commit\" 1}], \"id\": $ID}"),
		{ 0 } });

	(void)state;
	assert_int_equal(mon_has_command(m, "snapshot-save", SOON, &e), 1);
	assert_int_equal(mon_has_command(m, "snapshot", SOON, &e), 0);
	assert_int_equal(mon_has_command(m, "stop", SOON, &e), 1);
	assert_int_equal(mon_has_arg(m, "commit", "mask", SOON, &e), 1);
	assert_int_equal(mon_has_arg(m, "commit", "mask", SOON, &e), 0);
	says(&e, mon_has_arg(m, "commit", "mask", SOON, &e), -EPROTO, "'query-qmp-schema'");
	closed(&p, m);
}

/* ---- events ---- */

#define EVENT(name, data) \
	"{\"timestamp\": {\"seconds\": 1795186150, \"microseconds\": 855288}, \"event\": \"" name "\", \"data\": " data "}"

static void events_queued_in_order(void **state)
{
	struct mon_event *ev;
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		{ PEER_SEND, EVENT("ONE", "{\"n\": 1}"), 0 },
		{ PEER_EXPECT, "\"x\"", 0 },
		{ PEER_SEND, "{\"event\": \"TWO\"}", 0 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 },
		{ PEER_SEND, EVENT("THREE", "{}"), 0 },
		{ PEER_SEND, EVENT("TWO", "{}"), 0 },
		{ 0 } });

	(void)state;
	assert_int_equal(mon_call(m, "x", NULL, SOON, NULL, &e), 0);
	assert_int_equal(mon_wait_event(m, MON_EVENTS("TWO", "FOUR"), SOON, &ev, &e), 0);
	assert_string_equal(ev->name, "TWO");
	assert_null(ev->data);
	assert_int_equal(ev->usec, 0);
	mon_event_free(ev);
	assert_int_equal(mon_wait_event(m, MON_EVENTS("THREE"), SOON, NULL, &e), 0);
	ev = mon_next_event(m);
	assert_string_equal(ev->name, "ONE");
	assert_int_equal(json_int(json_get(ev->data, "n"), 0), 1);
	assert_true(ev->usec == 1795186150855288);
	mon_event_free(ev);
	assert_int_equal(mon_wait_event(m, MON_EVENTS("TWO"), SOON, NULL, &e), 0);
	assert_null(mon_next_event(m));
	says(&e, mon_wait_event(m, MON_EVENTS("A", "B"), deadline_in(SHORT), NULL, &e), -ETIMEDOUT,
	     "no A or B event from QEMU within ");
	closed(&p, m);
}

/* Lines in the same packet as an answer are processed with it, so a poll() on the descriptor misses none. */
static void packet_read_whole(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 },
		{ PEER_RAW, "{\"return\": {}, \"id\": $ID}\r\n{\"event\": \"A\"}\r\n{\"event\": \"B\"}\r\nbroken\r\n", 0 }, { 0 } });
	struct mon_event *ev;

	(void)state;
	assert_int_equal(mon_call(m, "x", NULL, SOON, NULL, &e), 0);
	assert_string_equal((ev = mon_next_event(m))->name, "A");
	mon_event_free(ev);
	assert_int_equal(mon_wait_event(m, MON_EVENTS("B"), SOON, NULL, &e), 0);
	says(&e, mon_process(m, &e), -EPROTO, "broken");
	closed(&p, m);
}

static void process_does_not_wait(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { PEER_EXPECT, "go", 0 },
		{ PEER_SEND, "{\"event\": \"A\"}", 0 }, { PEER_CLOSE, NULL, 0 }, { 0 } });
	struct pollfd pf = { .fd = mon_fd(m), .events = POLLIN };
	struct mon_event *ev;
	int rc;

	(void)state;
	assert_int_equal(mon_call(m, "x", NULL, SOON, NULL, &e), 0);
	assert_int_equal(mon_process(m, &e), 0);
	assert_null(mon_next_event(m));
	assert_int_equal(write(mon_fd(m), "go\n", 3), 3);
	assert_int_equal(poll(&pf, 1, 60000), 1);
	while ((rc = mon_process(m, &e)) == 0)
		poll(&pf, 1, 60000);
	says(&e, rc, -ECONNRESET, "QEMU closed");
	assert_non_null(ev = mon_next_event(m)); /* events from before the end are kept */
	mon_event_free(ev);
	closed(&p, m);
}

/* A flood drops the oldest events that are not watched, and never a watched one. */
static void flood_drops_unwatched_events(void **state)
{
	struct err e = { 0 };
	struct mon_event *ev;
	struct peer p;
	unsigned n = 0;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		{ PEER_EXPECT, "\"x\"", 0 },
		{ PEER_SEND, "{\"event\": \"KEEP\"}", 0 },
		{ PEER_FLOOD, EVENT("NOISE", "{\"a\": [1, 2, 3]}"), 20000 },
		{ PEER_SEND, "{\"event\": \"LAST\"}", 0 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { 0 } });

	(void)state;
	mon_watch(m, MON_EVENTS("KEEP"));
	assert_int_equal(mon_call(m, "x", NULL, SOON, NULL, &e), 0);
	assert_int_equal(mon_dropped(m), 20002 - MON_QUEUE_MAX);
	assert_string_equal((ev = mon_next_event(m))->name, "KEEP");
	mon_event_free(ev);
	assert_int_equal(mon_wait_event(m, MON_EVENTS("LAST"), SOON, NULL, &e), 0);
	for (; (ev = mon_next_event(m)); n++)
		mon_event_free(ev);
	assert_int_equal(n, MON_QUEUE_MAX - 2);
	closed(&p, m);
}

/* An endless flood does not extend a deadline, and the awaited event is found in it. */
static void flood_never_extends_deadline(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		{ PEER_FLOOD, EVENT("NOISE", "{}"), 2000 }, { PEER_SEND, "{\"event\": \"A\"}", 0 },
		{ PEER_FLOOD, EVENT("NOISE", "{}"), PEER_ENDLESS }, { 0 } });

	(void)state;
	assert_int_equal(mon_wait_event(m, MON_EVENTS("A"), SOON, NULL, &e), 0);
	says(&e, mon_wait_event(m, MON_EVENTS("A"), deadline_in(SHORT), NULL, &e), -ETIMEDOUT, "no A event");
	closed(&p, m);
}

/* After the deadline there is one more read, and the rest stays in the socket. */
static void flood_read_once_after_deadline(void **state)
{
	const int all = 600 * (int)strlen(EVENT("NOISE", "{}") "\r\n");
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "go", 0 },
							 { PEER_FLOOD, EVENT("NOISE", "{}"), 600 }, { 0 } });
	int there = 0;

	(void)state;
	assert_int_equal(write(mon_fd(m), "go\n", 3), 3);
	while (there < all) {
		poll(NULL, 0, 1);
		assert_int_equal(ioctl(mon_fd(m), FIONREAD, &there), 0);
	}
	says(&e, mon_wait_event(m, MON_EVENTS("A"), deadline_in(0), NULL, &e), -ETIMEDOUT, "no A event");
	assert_int_equal(ioctl(mon_fd(m), FIONREAD, &there), 0);
	assert_in_range(there, all / 2, all - 1);
	closed(&p, m);
}

static void flood_of_watched_events_fails(void **state)
{
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 },
		{ PEER_FLOOD, "{\"event\": \"KEEP\"}", MON_QUEUE_MAX + 1 },
		{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }, { 0 } });

	(void)state;
	mon_watch(m, MON_EVENTS("KEEP"));
	says(&e, mon_call(m, "x", NULL, SOON, NULL, &e), -EFBIG, "events before they were read");
	closed(&p, m);
}

/* ---- sockets and memory ---- */

static void connect_to_any_path(void **state)
{
	char dir[PEER_DIR_MAX], path[300], longer[300];
	struct peer p;
	struct mon *m = NULL;
	struct err e = { 0 };
	int fd;

	(void)state;
	peer_mkdir(dir);
	snprintf(path, sizeof path, "%s/s", dir);
	says(&e, mon_connect(path, SOON, &fd, &e), -ENOENT, "cannot connect to");
	peer_listen(&p, path, (struct peer_step[]){ { PEER_ACCEPT, NULL, 0 }, PEER_GREETS, { PEER_CLOSE, NULL, 0 },
						    { PEER_ACCEPT, NULL, 0 }, { PEER_HANG, NULL, 0 }, { 0 } });
	assert_int_equal(mon_open_path(path, SOON, &m, &e), 0);
	assert_true(fcntl(mon_fd(m), F_GETFD) & FD_CLOEXEC);
	mon_close(m);

	/* A directory whose name alone is longer than a socket address. */
	snprintf(longer, sizeof longer, "%s/%0150d", dir, 1);
	assert_int_equal(symlink(".", longer), 0);
	strcat(longer, "/s");
	m = NULL;
	says(&e, mon_open_path(longer, deadline_in(SHORT), &m, &e), -ETIMEDOUT, "no greeting");
	assert_non_null(strstr(e.msg, "/s: "));
	assert_non_null(strstr(e.hint, "another program may hold the monitor"));
	peer_end(&p);
	says(&e, mon_connect(path, SOON, &fd, &e), -ECONNREFUSED, "cannot connect to");
	unlink(path);
	*strrchr(longer, '/') = '\0';
	unlink(longer);
	rmdir(dir);
}

/* Every allocation fails in turn: an error each time, and nothing leaks. */
static void qmp_out_of_memory(void **state)
{
	static const struct peer_step steps[] = { PEER_GREETS, { PEER_EXPECT, "\"x\"", 0 },
		{ PEER_SEND, EVENT("A", "{\"a\": 1}"), 0 },
		{ PEER_SEND, "{\"return\": {\"a\": [\"text\", 1.5], \"b\": {}}, \"id\": $ID}", 0 }, { 0 } };
	bool hit = true;

	(void)state;
	for (uint64_t at = 0; hit; at++) {
		struct json_doc *doc = NULL;
		struct mon *m = NULL;
		struct err e = { 0 };
		struct peer p;
		int rc;

		peer_start(&p, steps);
		alloc_fail(at, false);
		rc = mon_open(p.fd, SOON, &m, &e);
		if (!rc) {
			mon_ahead(m, "x", "{\"a\": 1}", SOON);
			rc = mon_call(m, "x", "{\"a\": 1}", SOON, &doc, &e);
		}
		hit = alloc_normal();
		if (hit && rc < 0)
			says(&e, rc, -ENOMEM, "out of memory");
		else
			assert_int_equal(rc, 0);
		json_free(doc);
		mon_close(m);
		peer_stop(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greeting_gives_version),
		cmocka_unit_test(capabilities_sent_before_greeting),
		cmocka_unit_test(open_refuses_bad_peers),
		cmocka_unit_test(earlier_clients_answers_skipped),
		cmocka_unit_test(call_returns_answer),
		cmocka_unit_test(call_reports_refusal),
		cmocka_unit_test(protocol_breach_breaks_connection),
		cmocka_unit_test(pipelined_requests_sent_once),
		cmocka_unit_test(pipelined_answers_discarded_by_call),
		cmocka_unit_test(pipelined_answers_discarded_on_demand),
		cmocka_unit_test(requests_have_no_blanks),
		cmocka_unit_test(duplicate_answer_breaks_connection),
		cmocka_unit_test(broken_value_fails_its_call_only),
		cmocka_unit_test(silent_peer_times_out),
		cmocka_unit_test(late_qmp_answer_skipped),
		cmocka_unit_test(trickle_never_extends_deadline),
		cmocka_unit_test(answer_of_many_megabytes),
		cmocka_unit_test(answer_over_limit_refused),
		cmocka_unit_test(send_times_out),
		cmocka_unit_test(descriptor_passed),
		cmocka_unit_test(descriptor_held_back_while_answer_due),
		cmocka_unit_test(raw_request_and_answer),
		cmocka_unit_test(schema_queries),
		cmocka_unit_test(events_queued_in_order),
		cmocka_unit_test(packet_read_whole),
		cmocka_unit_test(process_does_not_wait),
		cmocka_unit_test(flood_drops_unwatched_events),
		cmocka_unit_test(flood_never_extends_deadline),
		cmocka_unit_test(flood_read_once_after_deadline),
		cmocka_unit_test(flood_of_watched_events_fails),
		cmocka_unit_test(connect_to_any_path),
		cmocka_unit_test(qmp_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
