/* lib/text.c: what people type, and what they read. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/own.h"
#include "lib/text.h"

static void numbers(void **state)
{
	static const struct {
		const char *s;
		int code;
		uint64_t v;
		const char *msg;
	} t[] = {
		{ "3", 0, 3, NULL },
		{ "007", 0, 7, NULL },
		{ "100", 0, 100, NULL },
		{ "2", -ERANGE, 0, "n '2' is out of range (3 to 100)" },
		{ "101", -ERANGE, 0, "n '101' is out of range (3 to 100)" },
		{ "18446744073709551615", -ERANGE, 0, "n '18446744073709551615' is out of range (3 to 100)" },
		{ "18446744073709551616", -ERANGE, 0, "n '18446744073709551616' is too large" },
		{ "", -EINVAL, 0, "n '' is not a whole number" },
		{ "5x", -EINVAL, 0, "n '5x' is not a whole number" },
		{ " 5", -EINVAL, 0, "n ' 5' is not a whole number" },
		{ "5 ", -EINVAL, 0, "n '5 ' is not a whole number" },
		{ "-5", -EINVAL, 0, "n '-5' is not a whole number" },
		{ "+5", -EINVAL, 0, "n '+5' is not a whole number" },
		{ "0x5", -EINVAL, 0, "n '0x5' is not a whole number" },
		{ "5.0", -EINVAL, 0, "n '5.0' is not a whole number" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err e = { 0 };
		uint64_t v = 77;

		assert_int_equal(text_num(t[i].s, 3, 100, "n", &v, &e), t[i].code);
		assert_int_equal(v, t[i].code ? 77 : t[i].v);
		if (t[i].msg)
			assert_string_equal(e.msg, t[i].msg);
	}
}

static void take_num(void **state)
{
	static const struct {
		const char *s;
		char sep;
		bool ok;
		uint64_t v;
		const char *rest;
	} t[] = {
		{ "12", 0, true, 12, "" },
		{ " \t12x", 0, true, 12, "x" },
		{ "18446744073709551615.", 0, true, UINT64_MAX, "." },
		{ "18446744073709551616", 0, false, 0, "18446744073709551616" },
		{ ".7", '.', true, 7, "" },
		{ ".7", 0, false, 0, ".7" },
		{ ". .7 8", '.', true, 7, " 8" },
		{ "", 0, false, 0, "" },
		{ "-1", 0, false, 0, "-1" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		const char *p = t[i].s;
		uint64_t v = 0;

		assert_int_equal(text_take_num(&p, t[i].sep, &v), t[i].ok);
		assert_int_equal(v, t[i].v);
		assert_string_equal(p, t[i].rest);
	}
}

static void take_word(void **state)
{
	static const struct { const char *list, *words[4]; } cases[] = {
		{ "", { "" } }, { "a", { "a" } }, { "a,b=c", { "a", "b=c" } }, { "a,,b,c", { "a,b", "c" } }, { ",", { "", "" } },
		{ "a,", { "a", "" } }, { ",,", { "," } }, { ",,,", { ",", "" } }, { "x,,,y", { "x,", "y" } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *p = cases[i].list;
		char word[16];
		size_t n = 0;

		for (; text_take_word(&p, word); n++) {
			assert_non_null(cases[i].words[n]);
			assert_string_equal(word, cases[i].words[n]);
		}
		assert_null(cases[i].words[n]);
	}
}

static void sizes(void **state)
{
	static const struct {
		const char *s;
		uint64_t unit;
		int code;
		uint64_t v;
	} t[] = {
		{ "0", 1, 0, 0 },
		{ "512", 1, 0, 512 },
		{ "512", 1048576, 0, 536870912 },
		{ "512B", 1048576, 0, 512 },
		{ "1k", 1, 0, 1024 },
		{ "1K", 1, 0, 1024 },
		{ "1KiB", 1, 0, 1024 },
		{ "1kb", 1, 0, 1024 },
		{ "3M", 1, 0, 3145728 },
		{ "1.5G", 1, 0, 1610612736 },
		{ "0.5k", 1, 0, 512 },
		{ "1.", 1, 0, 1 },
		{ "2t", 1, 0, 2199023255552 },
		{ "1P", 1, 0, 1125899906842624 },
		{ "15E", 1, 0, 15ull << 60 },
		{ "16E", 1, -ERANGE, 0 },
		{ "15.9999999E", 1, 0, (15ull << 60) + 1152920351685342369ull },
		{ "18446744073709551615", 1, 0, UINT64_MAX },
		{ "18446744073709551616", 1, -ERANGE, 0 },
		{ "18446744073709551615", 2, -ERANGE, 0 },
		{ "", 1, -EINVAL, 0 },
		{ ".5G", 1, -EINVAL, 0 },
		{ "-1", 1, -EINVAL, 0 },
		{ "1X", 1, -EINVAL, 0 },
		{ "1Mi", 1, -EINVAL, 0 },
		{ "1MiBs", 1, -EINVAL, 0 },
		{ "1 M", 1, -EINVAL, 0 },
		{ "M", 1, -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err e = { 0 };
		uint64_t v = 77;

		if (text_size(t[i].s, t[i].unit, "size", &v, &e) != t[i].code)
			fail_msg("%s: %s", t[i].s, e.msg);
		if (!t[i].code && v != t[i].v)
			fail_msg("%s is %" PRIu64 ", not %" PRIu64, t[i].s, t[i].v, v);
	}
}

/* The words of qemu-img for the same numbers. */
static void size_words(void **state)
{
	static const struct {
		uint64_t v;
		const char *s;
	} t[] = {
		{ 0, "0 B" },
		{ 1, "1 B" },
		{ 999, "999 B" },
		{ 1000, "0.977 KiB" },
		{ 1024, "1 KiB" },
		{ 196616, "192 KiB" },
		{ 1536ull << 20, "1.5 GiB" },
		{ 64ull << 20, "64 MiB" },
		{ 1023ull << 20, "0.999 GiB" },
		{ 1ull << 40, "1 TiB" },
		{ UINT64_MAX, "16 EiB" },
	};
	char s[TEXT_SIZE_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		text_fmt_size(t[i].v, s);
		assert_string_equal(s, t[i].s);
	}
}

static void spans(void **state)
{
	static const struct {
		const char *s;
		int code;
		uint64_t ms;
	} t[] = {
		{ "0", 0, 0 },
		{ "5", 0, 5000 },
		{ "5s", 0, 5000 },
		{ "5ms", 0, 5 },
		{ "2m", 0, 120000 },
		{ "2min", 0, 120000 },
		{ "1h", 0, 3600000 },
		{ "18446744073709551615ms", 0, UINT64_MAX },
		{ "18446744073709551615", -ERANGE, 0 },
		{ "99999999999999999999ms", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "5x", -EINVAL, 0 },
		{ "5 s", -EINVAL, 0 },
		{ "-5", -EINVAL, 0 },
		{ "1.5s", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err e = { 0 };
		uint64_t ms = 77;

		if (text_span(t[i].s, "time", &ms, &e) != t[i].code)
			fail_msg("%s: %s", t[i].s, e.msg);
		if (!t[i].code)
			assert_int_equal(ms, t[i].ms);
	}
}

static void distances(void **state)
{
	static const struct {
		const char *a, *b;
		unsigned n;
	} t[] = {
		{ "", "", 0 },
		{ "", "abc", 3 },
		{ "abc", "", 3 },
		{ "start", "start", 0 },
		{ "strat", "start", 2 },
		{ "stat", "start", 1 },
		{ "kitten", "sitting", 3 },
		{ "1234567890123456789012345678901", "1234567890123456789012345678901", 0 },
		{ "12345678901234567890123456789012", "12345678901234567890123456789012", 32 },
		{ "a", "12345678901234567890123456789012", 32 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(text_distance(t[i].a, t[i].b), t[i].n);
}

/* A shell reads back what was quoted. */
static void quotes(void **state)
{
	static const char *const words[] = { "abc", "a-b_c.d,e=f:g/h+i@j%k", "", " ", "a b", "it's", "''", "$HOME", "`x`", "a\\b", "\"",
		"*", "~", "#", "a\nb", "\t", "-n", "!", "\xc3\xa9" };
	auto_buf struct buf cmd = { 0 };
	char got[256];
	size_t n, want = 0;
	FILE *f;

	(void)state;
	buf_adds(&cmd, "printf '%s\\0'");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		buf_addc(&cmd, ' ');
		text_shell_quote(&cmd, words[i]);
		want += strlen(words[i]) + 1;
	}
	f = popen(buf_str(&cmd), "r");
	n = fread(got, 1, sizeof got, f);
	assert_int_equal(pclose(f), 0);
	assert_int_equal(n, want);
	for (size_t i = 0, at = 0; i < ARRAY_SIZE(words); at += strlen(words[i++]) + 1)
		assert_string_equal(got + at, words[i]);
	buf_clear(&cmd);
	text_shell_quote(&cmd, "plain-word");
	assert_string_equal(buf_str(&cmd), "plain-word");
}

static void cuts(void **state)
{
	static const struct {
		const char *s;
		size_t max, n;
	} t[] = {
		{ "", 4, 0 },
		{ "abc", 4, 3 },
		{ "abcd", 4, 4 },
		{ "abcde", 4, 4 },
		{ "abc\u00e9", 4, 3 },
		{ "ab\u00e9x", 4, 4 },
		{ "abc\u706b", 4, 3 },
		{ "ab\u706b", 4, 2 },
		{ "a\u706bx", 4, 4 },
		{ "\U0001d110x", 4, 4 },
		{ "a\U0001d110", 4, 1 },
		{ "\x80\x80\x80\x80\x80\x80", 4, 4 }, /* no text at all */
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		assert_int_equal(text_cut(t[i].s, t[i].max), t[i].n);
}

static void utf8_and_safe(void **state)
{
	static const struct {
		const char *s, *safe;
		bool utf8;
	} t[] = {
		{ "", "", true },
		{ "plain text", "plain text", true },
		{ "caf\u00e9 \u706b \U0001d110", "caf\u00e9 \u706b \U0001d110", true },
		{ "x\033]0;title\007y", "x\\x1b]0;title\\x07y", true },
		{ "a\nb\tc\177", "a\\x0ab\\x09c\\x7f", true },
		{ "\302\2332J", "\\xc2\\x9b2J", true },
		{ "\u202egnp", "\\xe2\\x80\\xaegnp", true },
		{ "caf\351", "caf\\xe9", false },
		{ "\xc0\xaf", "\\xc0\\xaf", false },
		{ "\xe0\x80\x80", "\\xe0\\x80\\x80", false },
		{ "\xed\xa0\x80", "\\xed\\xa0\\x80", false },
		{ "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", false },
		{ "\xf0\x9d\x84", "\\xf0\\x9d\\x84", false },
		{ "\xff", "\\xff", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct buf b = { 0 };

		text_put_safe(&b, t[i].s);
		assert_string_equal(buf_str(&b), t[i].safe);
		assert_int_equal(text_is_utf8(t[i].s), t[i].utf8);
		buf_done(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(take_num),
		cmocka_unit_test(take_word),
		cmocka_unit_test(sizes),
		cmocka_unit_test(size_words),
		cmocka_unit_test(spans),
		cmocka_unit_test(distances),
		cmocka_unit_test(quotes),
		cmocka_unit_test(utf8_and_safe),
		cmocka_unit_test(cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
