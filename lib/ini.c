#include "lib/ini.h"

#include <stdlib.h>
#include <string.h>

#include "lib/own.h"

static const char blanks[] = " \t\r";

/* Strip leading and trailing blanks, in place. */
static char *trim_blanks(char *s)
{
	char *end;

	s += strspn(s, blanks);
	for (end = s + strlen(s); end > s && strchr(blanks, end[-1]); end--)
		;
	*end = '\0';
	return s;
}

/* A '#' starts a comment at the start of a line and after a blank; elsewhere it is part of the value. */
static void drop_comment(char *s)
{
	for (char *p = s; *p; p++)
		if (*p == '#' && (p == s || strchr(blanks, p[-1]))) {
			*p = '\0';
			return;
		}
}

/* Parse "[disk vda]". @s starts with the bracket. */
static int read_section_head(char *s, struct ini_line *l, struct err *e)
{
	char *end = strchr(s, ']'), *name;

	if (!end)
		return err_set(e, -EINVAL, "a section's head has no ']'");
	if (end[1])
		return err_set(e, -EINVAL, "'%s' after a section's head", trim_blanks(end + 1));
	*end = '\0';
	s = trim_blanks(s + 1);
	if (!*s)
		return err_set(e, -EINVAL, "a section without a name");
	name = s + strcspn(s, blanks);
	if (*name)
		*name++ = '\0';
	l->section = s;
	l->name = trim_blanks(name);
	l->key = l->value = NULL;
	return 0;
}

/* Parse one line, without its newline, into @l. 1: a head or a key; 0: blank or a comment. */
static int read_ini_line(char *s, struct ini_line *l, struct err *e)
{
	char *eq;

	drop_comment(s);
	s = trim_blanks(s);
	if (!*s)
		return 0;
	if (*s == '[')
		return read_section_head(s, l, e) < 0 ? e->code : 1;
	eq = strchr(s, '=');
	if (!eq)
		return err_set(e, -EINVAL, "'%s' is neither 'key = value' nor a [section]", s);
	*eq = '\0';
	l->key = trim_blanks(s);
	l->value = trim_blanks(eq + 1);
	if (!*l->key)
		return err_set(e, -EINVAL, "a value without a key");
	return 1;
}

int ini_parse(const char *file, const char *text, size_t len,
	int (*line_fn)(void *ctx, const struct ini_line *l, struct err *e), void *ctx, struct err *e)
{
	struct ini_line l = { .file = file, .section = "", .name = "" };
	auto_free char *copy = malloc(len + 1);

	if (!copy)
		return err_nomem(e, "read a definition");
	memcpy(copy, text, len);
	copy[len] = '\0';
	for (char *s = copy, *next; s < copy + len; s = next) {
		char *end = memchr(s, '\n', (size_t)(copy + len - s));
		int r;

		if (!end)
			end = copy + len;
		next = end + 1;
		*end = '\0';
		l.line++;
		if (strlen(s) != (size_t)(end - s))
			r = err_set(e, -EINVAL, "a NUL byte");
		else
			r = read_ini_line(s, &l, e);
		if (r > 0)
			r = line_fn(ctx, &l, e);
		if (r < 0)
			return err_at(e, "%s:%u", file, l.line);
	}
	return 0;
}
