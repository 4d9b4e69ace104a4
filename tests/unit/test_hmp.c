/* monitor/hmp.c: which HMP output means failure. The texts are from QEMU 7.2 and 10.0. */
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

static void hmp_output_is_error(void **state)
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
			{ PEER_EXPECT, "\"human-monitor-command\",\"arguments\":{\"command-line\":\"savevm s1\"}", 0 },
			{ PEER_SEND, answer, 0 }, { 0 } });
		rc = mon_hmp(m, "savevm s1", SOON, &e);
		assert_int_equal(rc, t[i].error ? -EREMOTEIO : 0);
		if (t[i].error)
			assert_string_equal(e.msg, t[i].error);
		mon_close(m);
		peer_end(&p);
	}
}

/* A command that prints text on success: only output that begins with "Error: " is an error. */
static void hmp_text_refused(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(mon_hmp_refused("info block", "vda: Error: none\r\n", &e), 0);
	assert_int_equal(mon_hmp_refused("info block", "", &e), 0);
	assert_int_equal(mon_hmp_refused("device_add x", "Error: 'x' is not a valid device model name\r\n", &e), -EREMOTEIO);
	assert_string_equal(e.msg, "QEMU refused 'device_add x': 'x' is not a valid device model name");
}

static void hmp_text_returned(void **state)
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
	assert_string_equal(e.msg, "QEMU's answer to 'savevm' is not text");
	assert_int_equal(mon_hmp(m, "savevm", SOON, &e), -EREMOTEIO);
	mon_close(m);
	peer_end(&p);
}

static void hmp_guest_memory_address(void **state)
{
	static const struct {
		const char *answer;
		uint64_t at; /* 0: refused */
		int code;
	} t[] = {
		{ "Host virtual address for 0x0 (ram0) is 0x7f681a8f8000\\r\\n", 0x7f681a8f8000, 0 },
		{ "Host virtual address for 0x0 (ram0) is 0x7f681a8f8000", 0x7f681a8f8000, 0 },
		{ "Host virtual address for 0x0 (virt.flash0) is 0x7f681a8f8000\\r\\n", 0, -ENOENT },
		{ "Host virtual address for 0x0 (xram0) is 0x7f681a8f8000\\r\\n", 0, -ENOENT },
		{ "Host virtual address for 0x0 (ram0) is 0x7f68zz\\r\\n", 0, -EPROTO },
		{ "Host virtual address for 0x0 (ram0) is 0x0\\r\\n", 0, -EPROTO },
		{ "No memory is mapped at address 0x0\\r\\n", 0, -ENOENT },
		{ "Memory at address 0x0is not RAM\\r\\n", 0, -ENOENT },
		{ "unknown command: 'gpa2hva'\\r\\n", 0, -EPROTO },
		{ "", 0, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_free char *answer = str_fmt("{\"return\": \"%s\", \"id\": $ID}", t[i].answer);
		struct err e = { 0 };
		uint64_t at = 1;
		struct peer p;
		struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
			{ PEER_EXPECT, "{\"command-line\":\"gpa2hva 0x40000000\"}", 0 }, { PEER_SEND, answer, 0 }, { 0 } });

		assert_int_equal(mon_hmp_memory(m, "ram0", 0x40000000, SOON, &at, &e), t[i].code);
		if (t[i].at)
			assert_int_equal(at, t[i].at);
		mon_close(m);
		peer_end(&p);
	}
}

static bool is_ours(void *ctx, const char *name, uint64_t bytes)
{
	*(uint64_t *)ctx = bytes;
	return !strcmp(name, "ram0") || str_ends(name, ".rom");
}

static void hmp_first_foreign_ram_block(void **state)
{
#define HEAD "  Block Name    PSize              Offset\\r\\n"
	static const struct {
		const char *answer, *name;
		uint64_t bytes; /* of the last block */
	} t[] = {
		{ HEAD, "", 0 },
		{ HEAD "  ram0    4 KiB  0x0000000000000000\\r\\n  pc.rom    4 KiB  0x1\\r\\n", "", 0 },
		{ HEAD "  ram0    4 KiB  0x0\\r\\n  0000:00:02.0/vga.vram    4 KiB  0x1\\r\\n  pc.rom  4 KiB\\r\\n", "0000:00:02.0/vga.vram", 0 },
		{ HEAD "  dimm  4 KiB  0x0 0x1000 0x4000000", "dimm", 0x4000000 },
		{ HEAD "  dimm  4 KiB  0x0 0x1000 0x3000 0x7f0000000000  rw\\r\\n", "dimm", 0x3000 },
		{ HEAD "  ram0  4 KiB  0x0\\r\\n  dimm  2 MiB  0x0 0x1000 0x5000 0x7f0000000000  ro\\r\\n", "dimm", 0x5000 },
		{ HEAD "  dimm  4 KiB  0x0 0x1000 0x2000\\r\\n", "dimm", 0x2000 },
		{ "", "", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_free char *answer = str_fmt("{\"return\": \"%s\", \"id\": $ID}", t[i].answer);
		struct err e = { 0 };
		uint64_t bytes = 0;
		char name[128];
		struct peer p;
		struct mon *m = opened(&p, (struct peer_step[]){ PEER_GREETS,
			{ PEER_EXPECT, "{\"command-line\":\"info ramblock\"}", 0 }, { PEER_SEND, answer, 0 }, { 0 } });

		assert_int_equal(mon_hmp_block(m, SOON, is_ours, &bytes, name, &e), 0);
		if (t[i].bytes)
			assert_int_equal(bytes, t[i].bytes);
		assert_string_equal(name, t[i].name);
		mon_close(m);
		peer_end(&p);
	}
}

static void hmp_argument_quoted(void **state)
{
	auto_buf struct buf b = { 0 };

	(void)state;
	mon_hmp_quote(&b, "a b\"c\\d\ne");
	assert_string_equal(buf_str(&b), "\"a b\\\"c\\\\d\\ne\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(hmp_output_is_error), cmocka_unit_test(hmp_text_returned), cmocka_unit_test(hmp_argument_quoted), cmocka_unit_test(hmp_guest_memory_address),
		cmocka_unit_test(hmp_first_foreign_ram_block), cmocka_unit_test(hmp_text_refused) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
