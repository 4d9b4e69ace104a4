/* lib/err.c: messages that fit, wherever they are added to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/err.h"

static void plain(void **state)
{
	struct err e = { .hint = "old" };

	(void)state;
	assert_int_equal(err_set(&e, -EUCLEAN, "entry %d", 3), -EUCLEAN);
	assert_int_equal(e.code, -EUCLEAN);
	assert_string_equal(e.msg, "entry 3");
	assert_string_equal(e.hint, ""); /* a new failure has no hint yet */
	assert_int_equal(err_at(&e, "vd%c", 'a'), -EUCLEAN);
	assert_int_equal(err_at(&e, "koan"), -EUCLEAN);
	assert_int_equal(err_also(&e, "and could not %s", "thaw"), -EUCLEAN);
	assert_string_equal(e.msg, "koan: vda: entry 3; and could not thaw");
	assert_int_equal(err_hint(&e, "do %s", "this"), -EUCLEAN);
	err_hint(&e, "do that");
	assert_string_equal(e.hint, "do this");
}

static void system_call(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(err_sys(&e, ENOENT, "cannot open %s", "/x"), -ENOENT);
	assert_string_equal(e.msg, "cannot open /x: No such file or directory");
	assert_int_equal(err_nomem(&e, "build it"), -ENOMEM);
	assert_string_equal(e.msg, "cannot build it: out of memory");
}

/* What is read from others must not break the line or the terminal. */
static void one_line(void **state)
{
	struct err e;

	(void)state;
	err_set(&e, -EINVAL, "a%s", "\nb\x1b[31mc\x7f\r\td");
	assert_string_equal(e.msg, "a b [31mc   d");
	err_at(&e, "x\ny");
	err_also(&e, "z\n");
	assert_string_equal(e.msg, "x y: a b [31mc   d; z ");
}

static void long_ones(void **state)
{
	char s[1000];
	struct err e;

	(void)state;
	memset(s, 'x', sizeof s - 1);
	s[sizeof s - 1] = '\0';
	for (size_t n = sizeof(e.msg) - 8; n < sizeof(e.msg) + 8; n++) {
		err_set(&e, -EINVAL, "%.*s", (int)n, s);
		assert_int_equal(strlen(e.msg), n < sizeof e.msg ? n : sizeof e.msg - 1);
		assert_int_equal(strcmp(e.msg + strlen(e.msg) - 3, "...") == 0, n >= sizeof e.msg);
		err_at(&e, "where");
		assert_memory_equal(e.msg, "where: xxx", 10);
		assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
		assert_int_equal(strcmp(e.msg + sizeof e.msg - 4, "...") == 0, n + 7 >= sizeof e.msg);
		err_also(&e, "more");
		assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
	}
	err_set(&e, -EINVAL, "short");
	err_at(&e, "%s", s);
	assert_in_range(strlen(e.msg), sizeof e.msg - 8, sizeof e.msg - 1);
	err_set(&e, -EINVAL, "short");
	err_also(&e, "%s", s);
	assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
	assert_memory_equal(e.msg, "short; xxx", 10);
	err_hint(&e, "%s", s);
	assert_int_equal(strlen(e.hint), sizeof e.hint - 1);
	err_sys(&e, ENOENT, "%s", s);
	assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(system_call),
		cmocka_unit_test(one_line),
		cmocka_unit_test(long_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
