/* lib/json.c: what is refused, what is kept, and that what we write reads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/json.h"
#include "lib/own.h"

/* Parsed from a copy of exactly its length, so the sanitizer sees a read past the end. */
static int parse(const char *text, size_t len, size_t nodes, struct json_doc **doc, struct err *e)
{
	auto_free char *copy = malloc(len ? len : 1);

	memcpy(copy, text, len);
	return json_parse(copy, len, nodes, doc, e);
}

/* Parse and write again, compact. */
static char *again(const char *text, bool pretty)
{
	auto_json struct json_doc *doc = NULL;
	struct buf b = { 0 };
	struct json_out w;
	struct err e = { 0 };

	if (parse(text, strlen(text), 1000, &doc, &e) < 0)
		fail_msg("%s: %s", text, e.msg);
	json_out_init(&w, &b, pretty);
	json_put(&w, NULL, json_root(doc));
	return buf_take(&b);
}

static void round_trip(void **state)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{ "null", "null" },
		{ " true\r\n", "true" },
		{ "false", "false" },
		{ "0", "0" },
		{ "-0", "0" },
		{ "[1,-1]", "[1, -1]" },
		{ "9223372036854775807", NULL },
		{ "-9223372036854775808", NULL },
		{ "9223372036854775808", NULL },
		{ "18446744073709551615", NULL },
		{ "18446744073709551616", NULL },
		{ "-9223372036854775809", NULL },
		{ "1.50", NULL },
		{ "-0.0e+10", NULL },
		{ "1E400", NULL },
		{ "\"\"", NULL },
		{ "\"a\\\"b\\\\c\\/d\\b\\f\\n\\r\\t\\u0001\\u007f\"", "\"a\\\"b\\\\c/d\\b\\f\\n\\r\\t\\u0001\\u007f\"" },
		{ "\"\\u00e9\\u20ac\\ud83d\\ude00\\uFFFD\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd\"" },
		{ "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"", NULL },
		{ "{\"a\":1,\"b\":{\"c\":[null,\"x\"]}}", "{\"a\": 1, \"b\": {\"c\": [null, \"x\"]}}" },
		{ "[]", "[]" },
		{ "{}", "{}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_free char *got = again(t[i].in, false);

		assert_string_equal(got, t[i].out ? t[i].out : t[i].in);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *in, *why;
	} t[] = {
		{ "", "ends too early" },
		{ " \n", "ends too early" },
		{ "nul", "a value is missing" },
		{ "nulll", "something follows" },
		{ "1 2", "something follows" },
		{ "+1", "a value is missing" },
		{ "01", "something follows" },
		{ ".5", "a value is missing" },
		{ "[1.]", "a digit is missing" },
		{ "[1e]", "a digit is missing" },
		{ "[-]", "a digit is missing" },
		{ "[1,]", "a value is missing" },
		{ "[1 2]", "',' or ']' is missing" },
		{ "{\"a\" 1}", "':' is missing" },
		{ "{\"a\":1,}", "name is missing" },
		{ "{a:1}", "name is missing" },
		{ "{\"a\":1]", "',' or '}' is missing" },
		{ "{\"a\":1,\"b\":2,\"a\":3}", "'a' appears twice" },
		{ "{\"a\":1,\"\\u0061\":3}", "'a' appears twice" },
		{ "{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"5\":0}", "'5' appears twice" },
		{ "\"\\x\"", "unknown escape" },
		{ "\"\\u12g4\"", "four hexadecimal" },
		{ "\"\\u0000\"", "NUL inside" },
		{ "\"\\ud800\"", "surrogate" },
		{ "\"\\ud800x\"", "surrogate" },
		{ "\"\\ud800\\u0041\"", "surrogate" },
		{ "\"\\ude00\\ud83d\"", "surrogate" },
		{ "\"\\ud800\\ue000\"", "surrogate" },
		{ "\"\x01\"", "control character" },
		{ "\"a\nb\"", "control character" },
		{ "\"\x80\"", "not UTF-8" },
		{ "\"\xc0\xaf\"", "not UTF-8" },
		{ "\"\xe0\x9f\xbf\"", "not UTF-8" },
		{ "\"\xed\xa0\x80\"", "not UTF-8" },
		{ "\"\xf0\x8f\xbf\xbf\"", "not UTF-8" },
		{ "\"\xf4\x90\x80\x80\"", "not UTF-8" },
		{ "\"\xf5\x80\x80\x80\"", "not UTF-8" },
		{ "\"\xe2\x82\"", "not UTF-8" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct json_doc *doc = NULL;
		struct err e = { 0 };

		assert_int_equal(parse(t[i].in, strlen(t[i].in), 1000, &doc, &e), -EPROTO);
		assert_null(doc);
		if (!strstr(e.msg, t[i].why) || !strstr(e.msg, "cannot read JSON: byte "))
			fail_msg("%s: got '%s', want '%s'", t[i].in, e.msg, t[i].why);
	}
}

static void nul_byte(void **state)
{
	struct json_doc *doc = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(parse("\"a\0b\"", 5, 10, &doc, &e), -EPROTO);
	assert_int_equal(parse("1\0", 2, 10, &doc, &e), -EPROTO);
}

static void depth(void **state)
{
	char text[4 * JSON_MAX_DEPTH];
	struct err e = { 0 };

	(void)state;
	for (size_t n = JSON_MAX_DEPTH; n <= JSON_MAX_DEPTH + 1; n++) {
		auto_json struct json_doc *doc = NULL;
		int rc;

		memset(text, '[', n);
		memset(text + n, ']', n);
		rc = parse(text, 2 * n, 1000, &doc, &e);
		assert_int_equal(rc, n > JSON_MAX_DEPTH ? -EPROTO : 0);
	}
	assert_non_null(strstr(e.msg, "nested too deeply"));
}

static void node_cap(void **state)
{
	auto_json struct json_doc *doc = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(parse("[1,2,3]", 7, 3, &doc, &e), -EFBIG);
	assert_int_equal(parse("[1,2,3]", 7, 4, &doc, &e), 0);
	assert_int_equal(json_root(doc)->count, 3);
}

static const char sample[] =
	"{\"return\": [{\"id\": \"j\\u00e9\\ud83d\\ude00\", \"n\": -12, \"r\": 1.5e3, \"t\": true, \"z\": null}, []]}";

/* Every prefix is an error and reads nothing past its end; only the whole is a value. */
static void every_truncation(void **state)
{
	struct json_doc *doc = NULL;
	struct err e = { 0 };

	(void)state;
	for (size_t n = 0; n < sizeof sample - 1; n++) {
		assert_int_equal(parse(sample, n, 1000, &doc, &e), -EPROTO);
		assert_null(doc);
	}
	assert_int_equal(parse(sample, sizeof sample - 1, 1000, &doc, &e), 0);
	json_free(doc);
}

/* Every byte replaced by every value: no crash, and what is taken can be written and read again. */
static void every_byte(void **state)
{
	char text[sizeof sample];

	(void)state;
	for (size_t i = 0; i < sizeof sample - 1; i++)
		for (int c = 0; c < 256; c++) {
			auto_json struct json_doc *doc = NULL, *back = NULL;
			auto_buf struct buf b = { 0 };
			struct json_out w;
			struct err e = { 0 };

			memcpy(text, sample, sizeof sample);
			text[i] = (char)c;
			if (parse(text, sizeof sample - 1, 100, &doc, &e) < 0)
				continue;
			json_out_init(&w, &b, c & 1);
			json_put(&w, NULL, json_root(doc));
			assert_int_equal(parse(b.p, b.n, 100, &back, &e), 0);
		}
}

static void members(void **state)
{
	auto_json struct json_doc *doc = NULL;
	const char text[] = "{\"s\":\"x\",\"i\":-5,\"u\":18446744073709551615,\"b\":true,\"a\":[1,2],\"r\":1.25}";
	const struct json *o, *a;
	struct err e = { 0 };
	const char *s;
	uint64_t u;
	int64_t i;
	bool b;
	int n = 0;

	(void)state;
	assert_int_equal(parse(text, strlen(text), 100, &doc, &e), 0);
	o = json_root(doc);
	assert_int_equal(json_need_str(o, "s", &s, &e), 0);
	assert_string_equal(s, "x");
	assert_int_equal(json_need_int(o, "i", &i, &e), 0);
	assert_int_equal(i, -5);
	assert_int_equal(json_need_uint(o, "u", &u, &e), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(json_need_bool(o, "b", &b, &e), 0);
	assert_true(b);
	assert_int_equal(json_need(o, "a", JSON_ARRAY, &a, &e), 0);
	json_each(v, a)
		n += (int)v->i;
	assert_int_equal(n, 3);
	assert_string_equal(json_get(o, "r")->s, "1.25");

	assert_int_equal(json_need_str(o, "nix", &s, &e), -EPROTO);
	assert_string_equal(e.msg, "member 'nix' is missing");
	assert_int_equal(json_need_str(o, "i", &s, &e), -EPROTO);
	assert_string_equal(e.msg, "member 'i' is an integer, not a string");
	assert_int_equal(json_need_uint(o, "i", &u, &e), -EPROTO);
	assert_int_equal(json_need_int(o, "u", &i, &e), -EPROTO);
	assert_string_equal(e.msg, "member 'u' is out of range");
	assert_int_equal(json_need_int(o, "r", &i, &e), -EPROTO);

	assert_int_equal(json_int(json_get(o, "u"), 7), 7);
	assert_int_equal(json_uint(json_get(o, "i"), 7), 7);
	assert_string_equal(json_str(json_get(json_get(o, "a"), "x"), "none"), "none");
	assert_null(json_get(NULL, "x"));
	assert_true(json_bool(NULL, true));
	json_each(v, json_get(o, "s"))
		fail();
}

static void iterate(void **state)
{
	struct json_iter it = json_iter(sample, sizeof sample - 1), in;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(json_iter_next(&it, &e), 1);
	assert_true(json_span_is(it.key, "return"));
	in = json_iter(it.val.p, it.val.len);
	assert_int_equal(json_iter_next(&in, &e), 1);
	assert_int_equal(in.val.p[0], '{');
	assert_int_equal(json_iter_next(&in, &e), 1);
	assert_true(json_span_is(in.val, "[]"));
	assert_int_equal(json_iter_next(&in, &e), 0);
	assert_int_equal(json_iter_next(&it, &e), 0);
}

static void iterate_broken(void **state)
{
	static const char *const t[] = { "", "1", "\"a\"", "[1 2]", "[1,]", "[", "[1", "{\"a\"}", "{\"a\":}", "{1:2}",
					 "{\"a", "{\"a\\", "[[}]", "[]]", "{\"a\":1}x", "[\"a\\\"]", "[,]", "[:]" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		size_t len = strlen(t[i]);
		auto_free char *copy = malloc(len ? len : 1);
		struct json_iter it = json_iter(copy, len);
		struct err e = { 0 };
		int rc;

		memcpy(copy, t[i], len);
		while ((rc = json_iter_next(&it, &e)) > 0)
			;
		if (rc != -EPROTO)
			fail_msg("'%s' was taken", t[i]);
	}
}

static void pretty(void **state)
{
	auto_free char *got = again("{\"a\":[1,{\"b\":[],\"c\":{}}],\"d\":\"x\"}", true);

	(void)state;
	assert_string_equal(got, "{\n"
				 "    \"a\": [\n"
				 "        1,\n"
				 "        {\n"
				 "            \"b\": [\n"
				 "            ],\n"
				 "            \"c\": {\n"
				 "            }\n"
				 "        }\n"
				 "    ],\n"
				 "    \"d\": \"x\"\n"
				 "}");
}

static void writer(void **state)
{
	auto_buf struct buf b = { 0 };
	struct json_out w;

	(void)state;
	json_out_init(&w, &b, false);
	json_obj(&w, NULL);
	json_put_str(&w, "s", "a\xff\xc3\xa9");
	json_put_str(&w, "none", NULL);
	json_put_int(&w, "i", INT64_MIN);
	json_put_uint(&w, "u", UINT64_MAX);
	json_arr(&w, "a\n");
	json_put_bool(&w, NULL, true);
	json_put_raw(&w, NULL, "{}");
	json_arr_end(&w);
	json_put_bool(&w, "b", false);
	json_obj_end(&w);
	assert_string_equal(b.p, "{\"s\": \"a\\ufffd\xc3\xa9\", \"none\": null, \"i\": -9223372036854775808, "
				 "\"u\": 18446744073709551615, \"a\\n\": [true, {}], \"b\": false}");
}

/* A hostile object of very many members is checked for doubles in reasonable time. */
static void many_members(void **state)
{
	auto_buf struct buf b = { 0 };
	auto_json struct json_doc *doc = NULL;
	struct err e = { 0 };

	(void)state;
	for (int i = 0; i < 100000; i++)
		buf_addf(&b, "%c\"m%d\":%d", i ? ',' : '{', i, i);
	buf_addc(&b, '}');
	assert_int_equal(json_parse(b.p, b.n, 200000, &doc, &e), 0);
	assert_int_equal(json_root(doc)->count, 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),	  cmocka_unit_test(refused),	 cmocka_unit_test(nul_byte),
		cmocka_unit_test(depth),	  cmocka_unit_test(node_cap),	 cmocka_unit_test(every_truncation),
		cmocka_unit_test(every_byte),	  cmocka_unit_test(members),	 cmocka_unit_test(iterate),
		cmocka_unit_test(iterate_broken), cmocka_unit_test(pretty),	 cmocka_unit_test(writer),
		cmocka_unit_test(many_members),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
