#include "init/cli/cmd.h"

#include <stdio.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/text.h"

struct cli cli = { .root = "", .prefix = "fermata" };

const struct cmd *cmd_find(const struct cmd *const *table, const char *name)
{
	for (; *table; table++)
		if (!strcmp((*table)->name, name))
			return *table;
	return NULL;
}

int cmd_unknown(const struct cmd *const *table, const char *name, struct err *e)
{
	const char *best = NULL;
	unsigned near = 4;

	for (; *table; table++) {
		unsigned d = text_distance(name, (*table)->name);

		if (d < near && d < strlen(name)) {
			near = d;
			best = (*table)->name;
		}
	}
	err_set(e, ERR_USAGE, "there is no command '%s'", name);
	return best ? err_hint(e, "did you mean '%s'?", best) : err_hint(e, "'%s help' lists them", cli.prefix);
}

static int add_to_list(struct cmd_list *l, const char *shown, const char *value, struct err *e)
{
	if (l->n == sizeof l->v / sizeof l->v[0])
		return err_set(e, ERR_USAGE, "%s is given more than %zu times", shown, l->n);
	l->v[l->n++] = value;
	return 0;
}

static int set_value(const struct opt *o, const char *shown, const char *value, struct err *e)
{
	int rc = 0;

	switch (o->kind) {
	case OPT_KIND_FLAG: *(bool *)o->to = true; break;
	case OPT_KIND_STR:
	case OPT_KIND_WORD: *(const char **)o->to = value; break;
	case OPT_KIND_NUM: rc = text_num(value, 0, UINT64_MAX, shown, o->to, e); break;
	case OPT_KIND_SIZE: rc = text_size(value, 1, shown, o->to, e); break;
	case OPT_KIND_SPAN: rc = text_span(value, shown, o->to, e); break;
	case OPT_KIND_LIST: rc = add_to_list(o->to, shown, value, e); break;
	}
	if (rc < 0)
		e->code = ERR_USAGE;
	return rc < 0 ? ERR_USAGE : 0;
}

static const struct opt *find_long(const struct cmd *c, const char *name, size_t len)
{
	for (const struct opt *o = c->opts; o && o->help; o++)
		if (o->name && strlen(o->name) == len && !strncmp(o->name, name, len))
			return o;
	return NULL;
}

static const struct opt *find_short(const struct cmd *c, char letter)
{
	for (const struct opt *o = c->opts; o && o->help; o++)
		if (o->c == letter)
			return o;
	return NULL;
}

static int unknown_option(const struct cmd *c, const char *arg, struct err *e)
{
	const char *best = NULL;
	unsigned near = 4;

	for (const struct opt *o = c->opts; o && o->help; o++) {
		unsigned d = o->name && arg[1] == '-' ? text_distance(arg + 2, o->name) : 32;

		if (d < near) {
			near = d;
			best = o->name;
		}
	}
	err_set(e, ERR_USAGE, "%s: there is no option '%s'", c->name, arg);
	return best ? err_hint(e, "did you mean '--%s'?", best) :
		      err_hint(e, "'%s help %s' lists them", cli.prefix, c->name);
}

/* Which argument virsh calls @name (of @len letters), or -1. */
static int named_arg(const struct cmd *c, const char *name, size_t len)
{
	const char *p = c->named;

	for (int i = 0; p && *p; i++) {
		size_t n = strcspn(p, " ");

		if (n == len && !strncmp(p, name, len))
			return i;
		p += n + (p[n] == ' ');
	}
	return -1;
}

/* One "--name", "--name=value" or "--name value". @i: index of the argument, moved past a value that is taken. */
static int long_option(const struct cmd *c, int argc, char **argv, int *i, char **args, struct err *e)
{
	const char *name = argv[*i] + 2, *eq = strchr(name, '='), *value = eq ? eq + 1 : NULL;
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const struct opt *o = find_long(c, name, len);
	int at = o ? -1 : named_arg(c, name, len);
	char shown[64];

	snprintf(shown, sizeof shown, "%s: --%.*s", c->name, (int)len, name);
	if (!o && at < 0)
		return unknown_option(c, argv[*i], e);
	if (o && !o->arg) {
		if (value)
			return err_set(e, ERR_USAGE, "%s takes no value", shown);
		return set_value(o, shown, o->name, e);
	}
	if (!value && o && o->kind == OPT_KIND_WORD)
		value = "";
	if (!value && *i + 1 < argc)
		value = argv[++*i];
	if (!value)
		return err_set(e, ERR_USAGE, "%s needs a value", shown);
	if (o)
		return set_value(o, shown, value, e);
	if (args[at])
		return err_set(e, ERR_USAGE, "%s is given twice", shown);
	args[at] = (char *)value;
	return 0;
}

/* One "-abc", "-xVALUE" or "-x VALUE". */
static int short_options(const struct cmd *c, int argc, char **argv, int *i, struct err *e)
{
	for (const char *p = argv[*i] + 1; *p; p++) {
		const struct opt *o = find_short(c, *p);
		char shown[64];
		const char *value;

		snprintf(shown, sizeof shown, "%s: -%c", c->name, *p);
		if (!o)
			return unknown_option(c, argv[*i], e);
		if (!o->arg) {
			if (set_value(o, shown, o->name, e) < 0)
				return e->code;
			continue;
		}
		value = p[1] ? p + 1 : *i + 1 < argc ? argv[++*i] : NULL;
		if (!value)
			return err_set(e, ERR_USAGE, "%s needs a value", shown);
		return set_value(o, shown, value, e);
	}
	return 0;
}

static int add_arg(const struct cmd *c, char *arg, char **args, int *n, struct err *e)
{
	int at = 0;

	if (c->max < 0) {
		args[(*n)++] = arg;
		return 0;
	}
	while (at < c->max && args[at])
		at++;
	if (at == c->max)
		return err_set(e, ERR_USAGE, "%s: '%s' is one argument too many", c->name, arg);
	args[at] = arg;
	return 0;
}

int cmd_parse(const struct cmd *c, int argc, char **argv, char **args, int *n_args, struct err *e)
{
	bool no_more = false;

	*n_args = 0;
	for (int i = 1; i < argc; i++) {
		char *a = argv[i];
		int rc;

		/* "-1G" is an argument where no option has a digit. */
		if (no_more || a[0] != '-' || !a[1] || (a[1] >= '0' && a[1] <= '9')) {
			rc = add_arg(c, a, args, n_args, e);
			no_more = no_more || (c->max < 0 && *n_args >= c->min);
		} else if (!strcmp(a, "--")) {
			no_more = true;
			rc = 0;
		} else {
			rc = a[1] == '-' ? long_option(c, argc, argv, &i, args, e) : short_options(c, argc, argv, &i, e);
		}
		if (rc < 0)
			return err_hint(e, "usage: %s %s %s", cli.prefix, c->name, c->args);
	}
	for (int i = 0; i < c->max; i++)
		if (args[i])
			*n_args = i + 1;
	for (int i = 0; i < c->min; i++)
		if (i >= *n_args || !args[i]) {
			err_set(e, ERR_USAGE, "%s: an argument is missing", c->name);
			return err_hint(e, "usage: %s %s %s", cli.prefix, c->name, c->args);
		}
	return 0;
}

void cmd_print_help(const char *prefix, const struct cmd *c)
{
	printf("usage: %s %s%s%s\n\n  %s\n", prefix, c->name, *c->args ? " " : "", c->args, c->summary);
	if (c->help)
		printf("\n%s", c->help);
	for (const struct opt *o = c->opts; o && o->help; o++) {
		char left[64], letter[4] = "";

		if (o == c->opts)
			puts("\noptions:");
		if (o->c)
			snprintf(letter, sizeof letter, "-%c", o->c);
		snprintf(left, sizeof left, "%2s%s %s%s%s%s", letter, o->c && o->name ? "," : o->c ? "" : " ",
			o->name ? "--" : "", o->name ? o->name : "", o->arg && o->kind != OPT_KIND_WORD ? " " : "", o->arg ? o->arg : "");
		printf("  %-30s %s\n", left, o->help);
	}
}

void cmd_print_list(const char *prefix, const struct cmd *const *table)
{
	printf("usage: %s COMMAND [ARGUMENTS]; '%s help COMMAND' tells more\n\n", prefix, prefix);
	for (; *table; table++)
		printf("  %-22s %s\n", (*table)->name, (*table)->summary);
}

int cmd_output_json(const char *value, bool *json, struct err *e)
{
	*json = value && !strcmp(value, "json");
	if (!value || *json || !strcmp(value, "human"))
		return 0;
	return err_set(e, ERR_USAGE, "--output '%s' is neither human nor json", value);
}

int cmd_put_json(const struct buf *b, struct err *e)
{
	if (buf_check(b, "print the result", e) < 0)
		return e->code;
	puts(buf_str(b));
	return 0;
}

const char *cmd_shown(const char *s)
{
	static struct buf shown[8];
	static unsigned next;
	struct buf *b = &shown[next++ % (sizeof shown / sizeof shown[0])];

	buf_done(b);
	text_put_safe(b, s);
	return b->oom ? "?" : buf_str(b);
}
