/* lib/buf.c: strings that grow, and memory that runs out. */
#include <stdint.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/harness/allocfail.h"
#include "lib/buf.h"
#include "lib/own.h"

static void appends(void **state)
{
	auto_buf struct buf b = { 0 };
	struct err e;

	(void)state;
	assert_string_equal(buf_str(&b), "");
	buf_adds(&b, "ab");
	buf_addc(&b, 'c');
	buf_add(&b, "d\0e", 3);
	buf_addf(&b, "%d%s", 42, "");
	buf_add(&b, NULL, 0);
	assert_int_equal(b.n, 8);
	assert_memory_equal(b.p, "abcd\0e42", 9); /* and its NUL */
	assert_int_equal(buf_check(&b, "x", &e), 0);
	buf_clear(&b);
	assert_int_equal(b.n, 0);
	assert_string_equal(buf_str(&b), "");
}

/* Every length around the doublings, byte by byte, so that the sanitizer sees one too many. */
static void grows(void **state)
{
	auto_buf struct buf b = { 0 };

	(void)state;
	for (int i = 0; i < 1030; i++) {
		buf_addc(&b, (char)('a' + i % 26));
		assert_int_equal(b.p[b.n], '\0');
	}
	for (int i = 0; i < 1030; i++)
		assert_int_equal(b.p[i], 'a' + i % 26);
}

static void room(void **state)
{
	auto_buf struct buf b = { 0 };

	(void)state;
	for (size_t n = 0; n < 200; n++) {
		char *p = buf_room(&b, n);

		memset(p, 'x', n);
		buf_grew(&b, n);
		assert_int_equal(strlen(buf_str(&b)), b.n);
	}
	assert_null(buf_room(&b, SIZE_MAX));
	assert_true(b.oom);
}

static void takes(void **state)
{
	struct buf b = { 0 };
	auto_free char *empty = NULL, *full = NULL;

	(void)state;
	empty = buf_take(&b);
	assert_string_equal(empty, "");
	assert_null(b.p);
	buf_adds(&b, "x");
	full = buf_take(&b);
	assert_string_equal(full, "x");
	assert_int_equal(b.n + b.cap, 0);
}

/* What is lost is said once, at the end, and what follows is ignored. */
static void no_memory(void **state)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	(void)state;
	buf_adds(&b, "kept");
	alloc_fail(0, false);
	buf_addf(&b, "%200s", "lost");
	assert_true(alloc_normal());
	buf_adds(&b, "ignored");
	assert_string_equal(buf_str(&b), "kept");
	assert_int_equal(buf_check(&b, "write a letter", &e), -ENOMEM);
	assert_string_equal(e.msg, "cannot write a letter: out of memory");
	assert_null(buf_take(&b));
	alloc_fail(0, true);
	assert_null(str_fmt("%d", 1));
	alloc_normal();
	buf_clear(&b);
	buf_adds(&b, "again");
	assert_int_equal(buf_check(&b, "x", &e), 0);
}

static void strings(void **state)
{
	auto_free char *s = str_fmt("%s-%03d", "a", 7);

	(void)state;
	assert_string_equal(s, "a-007");
	assert_true(str_eq("a", "a") && str_eq(NULL, NULL));
	assert_false(str_eq("a", "b") || str_eq("a", NULL) || str_eq(NULL, "a"));
	assert_true(str_starts("abc", "ab") && str_starts("abc", "") && str_starts("abc", "abc"));
	assert_false(str_starts("abc", "b") || str_starts("ab", "abc"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(appends),
		cmocka_unit_test(grows),
		cmocka_unit_test(room),
		cmocka_unit_test(takes),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
