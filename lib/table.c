/* struct table and progress() of lib/text.h. */
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "lib/say.h"
#include "lib/text.h"
#include "lib/muldiv.h"

#define MAX_COLS 12

/* Columns on a terminal, one per character: UTF-8 continuation bytes are not counted. */
static size_t text_columns(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void table_init(struct table *t, unsigned cols, const char *const head[])
{
	*t = (struct table){ .cols = cols };
	for (unsigned i = 0; i < cols; i++)
		table_cell(t, head[i]);
}

void table_cell(struct table *t, const char *s)
{
	text_put_safe(&t->text, s);
	buf_addc(&t->text, '\0');
	t->n_cells++;
}

void table_cellf(struct table *t, const char *fmt, ...)
{
	char cell[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cell, sizeof cell, fmt, ap);
	va_end(ap);
	table_cell(t, cell);
}

int table_print(struct table *t, FILE *f, struct err *e)
{
	size_t wide[MAX_COLS] = { 0 }, total = 0;
	const char *p = t->text.p;

	if (buf_check(&t->text, "print a table", e) < 0)
		return e->code;
	for (size_t i = 0; i < t->n_cells; i++, p += strlen(p) + 1)
		if (text_columns(p) > wide[i % t->cols])
			wide[i % t->cols] = text_columns(p);
	p = t->text.p;
	for (size_t i = 0; i < t->n_cells; i++, p += strlen(p) + 1) {
		bool last = i % t->cols == t->cols - 1;

		fprintf(f, " %s%*s", p, last ? 0 : (int)(wide[i % t->cols] - text_columns(p) + 2), "");
		if (last)
			putc('\n', f);
		if (i == t->cols - 1) {
			for (unsigned c = 0; c < t->cols; c++)
				total += wide[c] + 3;
			while (total--)
				putc('-', f);
			putc('\n', f);
		}
	}
	return 0;
}

void table_done(struct table *t)
{
	buf_done(&t->text);
}

static bool on_line, wanted;

void progress_always(void)
{
	wanted = true;
}

void progress(const char *label, uint64_t done, uint64_t total)
{
	if (!wanted && !isatty(STDERR_FILENO))
		return;
	char line[160];
	int n = snprintf(line, sizeof line, "\r%s: [%3u %%]", label, total ? (unsigned)mul_div(done, 100, total, NULL) : 0);

	say_if_free(line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
	on_line = true;
}

void progress_end(void)
{
	if (on_line)
		say("\n", 1);
	on_line = false;
}
