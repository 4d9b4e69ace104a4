/* lib/ini.c: what a line says, and where a wrong one stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/ini.h"
#include "lib/own.h"

/* Every line as "N:section/name/key=value;". A key "stop" fails. */
static int record(void *ctx, const struct ini_line *l, struct err *e)
{
	if (l->key && !strcmp(l->key, "stop"))
		return err_set(e, -ENOENT, "stopped at %s", l->value);
	buf_addf(ctx, "%u:%s/%s/%s=%s;", l->line, l->section, l->name, l->key ? l->key : "-", l->value ? l->value : "-");
	return 0;
}

/* Read from a copy of exactly its length, so the sanitizer sees a read past the end. */
static int run(const char *text, size_t len, struct buf *out, struct err *e)
{
	auto_free char *copy = malloc(len ? len : 1);

	memcpy(copy, text, len);
	return ini_parse("f.conf", copy, len, record, out, e);
}

static void good(void **state)
{
	static const struct {
		const char *text, *want;
	} t[] = {
		{ "", "" },
		{ "\n\n", "" },
		{ "# a\n  # b\n\t\n", "" },
		{ "a=1", "1://a=1;" },
		{ "  a  =  1 2  \n", "1://a=1 2;" },
		{ "a = b=c", "1://a=b=c;" },
		{ "a =\n", "1://a=;" },
		{ "a = 1 # why\r\nb = x#y\t#z\r\n", "1://a=1;2://b=x#y;" },
		{ "a = #\n", "1://a=;" },
		{ "[boot]\na=1", "1:boot//-=-;2:boot//a=1;" },
		{ "\n [ disk   vda ] # first\na=1\n[boot]\na=2\n", "2:disk/vda/-=-;3:disk/vda/a=1;4:boot//-=-;5:boot//a=2;" },
		{ "[net a b]", "1:net/a b/-=-;" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_buf struct buf out = { 0 };
		struct err e = { 0 };

		if (run(t[i].text, strlen(t[i].text), &out, &e) < 0)
			fail_msg("%s: %s", t[i].text, e.msg);
		assert_string_equal(buf_str(&out), t[i].want);
	}
}

static void bad(void **state)
{
	static const struct {
		const char *text;
		size_t len; /* 0: strlen */
		const char *want;
	} t[] = {
		{ "a", 0, "f.conf:1: 'a' is neither 'key = value' nor a [section]" },
		{ "a=1\n\n# x\n oops # y\n", 0, "f.conf:4: 'oops' is neither 'key = value' nor a [section]" },
		{ "= 1", 0, "f.conf:1: a value without a key" },
		{ "[disk", 0, "f.conf:1: a section's head has no ']'" },
		{ "[disk # x]", 0, "f.conf:1: a section's head has no ']'" },
		{ "[]", 0, "f.conf:1: a section without a name" },
		{ "[ \t]", 0, "f.conf:1: a section without a name" },
		{ "[a] b", 0, "f.conf:1: 'b' after a section's head" },
		{ "a=1\nb=\0c\n", 9, "f.conf:2: a NUL byte" },
		{ "a=1\n\0", 5, "f.conf:2: a NUL byte" },
		{ "a=1\nstop=2\nstop=3\n", 0, "f.conf:2: stopped at 2" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_buf struct buf out = { 0 };
		struct err e = { 0 };
		int r = run(t[i].text, t[i].len ? t[i].len : strlen(t[i].text), &out, &e);

		assert_int_equal(r, strstr(t[i].text, "stop") ? -ENOENT : -EINVAL);
		assert_string_equal(e.msg, t[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(good), cmocka_unit_test(bad) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
