/* lib/table.c: listings as virsh lays them out, and the progress line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/harness/allocfail.h"
#include "lib/own.h"
#include "lib/text.h"

static char *printed(struct table *t)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	struct err e = { 0 };

	assert_int_equal(table_print(t, f, &e), 0);
	fclose(f);
	return text;
}

static void rows(void **state)
{
	struct table t;
	auto_free char *text = NULL;

	(void)state;
	table_init(&t, 3, (const char *const[]){ "Id", "Name", "State" });
	table_cell(&t, "-");
	table_cell(&t, "koan");
	table_cell(&t, "shut off");
	table_cellf(&t, "%d", 4711);
	table_cell(&t, "");
	table_cellf(&t, "%s", "running");
	text = printed(&t);
	table_done(&t);
	assert_string_equal(text, " Id     Name   State\n"
				  "-------------------------\n"
				  " -      koan   shut off\n"
				  " 4711          running\n");
}

static void only_head(void **state)
{
	struct table t;
	auto_free char *text = NULL;

	(void)state;
	table_init(&t, 2, (const char *const[]){ "A", "Bc" });
	text = printed(&t);
	table_done(&t);
	assert_string_equal(text, " A   Bc\n---------\n");
}

/* A letter counts once, however many bytes it has. */
static void letters(void **state)
{
	struct table t;
	auto_free char *text = NULL;

	(void)state;
	table_init(&t, 2, (const char *const[]){ "Name", "X" });
	table_cell(&t, "caf\xc3\xa9s");
	table_cell(&t, "1");
	text = printed(&t);
	table_done(&t);
	assert_string_equal(text, " Name    X\n------------\n caf\xc3\xa9s   1\n");
}

static void no_memory(void **state)
{
	struct table t;
	struct err e = { 0 };
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	(void)state;
	alloc_fail(0, true);
	table_init(&t, 1, (const char *const[]){ "A" });
	alloc_normal();
	assert_int_equal(table_print(&t, f, &e), -ENOMEM);
	fclose(f);
	assert_string_equal(text, "");
	free(text);
	table_done(&t);
}

/* Where nobody looks, nothing is drawn. */
static void silent(void **state)
{
	int keep = dup(2), p[2];
	char c;

	(void)state;
	assert_int_equal(pipe(p), 0);
	dup2(p[1], 2);
	close(p[1]);
	progress("Job", 1, 2);
	progress_end();
	dup2(keep, 2);
	close(keep);
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows),
		cmocka_unit_test(only_head),
		cmocka_unit_test(letters),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(silent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
