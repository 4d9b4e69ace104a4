/* monitor/hmp.c: prose that means failure. The texts are QEMU 7.2's and 10.0's. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "lib/own.h"
#include "monitor/monitor.h"
#include "tests/harness/peer.h"

#define SOON deadline_in(60000)

static struct mon *opened(struct peer *p, const struct peer_step *steps)
{
	struct err e = { 0 };
	struct mon *m = NULL;

	peer_start(p, steps);
	if (mon_open(p->fd, SOON, &m, &e) < 0)
		fail_msg("%s", e.msg);
	return m;
}

static void verdicts(void **state)
{
	static const struct {
		const char *answer, *error; /* NULL: success */
	} t[] = {
		{ "\"\"", NULL },
		{ "\"Error: Device 'r0' is writable but does not support snapshots\\r\\n\"",
		  "QEMU refused 'savevm s1': Device 'r0' is writable but does not support snapshots" },
		{ "\"failed to save SaveStateEntry with id(name): 2(ram): -5\\r\\nError: Error while writing VM state: "
		  "Input/output error\\r\\n\"",
		  "QEMU refused 'savevm s1': failed to save SaveStateEntry with id(name): 2(ram): -5; Error while writing "
		  "VM state: Input/output error" },
		{ "\"unknown command: 'bogus'\\r\\n\"", "QEMU refused 'savevm s1': unknown command: 'bogus'" },
		{ "\"savevm: extraneous characters at the end of line\\r\\nTry \\\"help savevm\\\" for more information\\r\\n\"",
		  "QEMU refused 'savevm s1': savevm: extraneous characters at the end of line; Try \"help savevm\" for "
		  "more information" },
		{ "\"\\r\\n\"", "QEMU refused 'savevm s1': no reason given" },
		{ "\"Error: \\n\"", "QEMU refused 'savevm s1': no reason given" },
		{ "\"no line end\"", "QEMU refused 'savevm s1': no line end" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		char answer[512];
		struct err e = { 0 };
		struct peer p;
		struct mon *m;
		int rc;

		strcpy(answer, "{\"return\": ");
		strcat(strcat(answer, t[i].answer), ", \"id\": $ID}");
		m = opened(&p, (struct peer_step[]){ PEER_GREETS,
			{ PEER_EXPECT, "\"human-monitor-command\", \"arguments\": {\"command-line\": \"savevm s1\"}", 0 },
			{ PEER_SEND, answer, 0 }, { 0 } });
		rc = mon_hmp(m, "savevm s1", SOON, &e);
		assert_int_equal(rc, t[i].error ? -EREMOTEIO : 0);
		if (t[i].error)
			assert_string_equal(e.msg, t[i].error);
		mon_close(m);
		peer_end(&p);
	}
}

static void text(void **state)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	struct peer p;
	struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
		PEER_ASKED("human-monitor-command", "{\"return\": \"a\\r\\nb\\r\\n\", \"id\": $ID}"),
		PEER_ASKED("human-monitor-command", "{\"return\": {}, \"id\": $ID}"),
		PEER_ASKED("human-monitor-command",
			   "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"nix\"}, \"id\": $ID}"),
		{ 0 } });

	(void)state;
	assert_int_equal(mon_hmp_text(m, "info status", SOON, &b, &e), 0);
	assert_string_equal(buf_str(&b), "a\r\nb\r\n");
	assert_int_equal(mon_hmp(m, "savevm", SOON, &e), -EPROTO);
	assert_string_equal(e.msg, "QEMU answered 'savevm' with no text");
	assert_int_equal(mon_hmp(m, "savevm", SOON, &e), -EREMOTEIO);
	mon_close(m);
	peer_end(&p);
}

static void quote(void **state)
{
	auto_buf struct buf b = { 0 };

	(void)state;
	mon_hmp_quote(&b, "a b\"c\\d\ne");
	assert_string_equal(buf_str(&b), "\"a b\\\"c\\\\d\\ne\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(verdicts), cmocka_unit_test(text), cmocka_unit_test(quote) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
