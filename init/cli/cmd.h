/* The command table: one struct tells the parser, the usage line, the help and the completion about a command. */
#ifndef INIT_CLI_CMD_H
#define INIT_CLI_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

/* Exit statuses. `img check` and `img compare` keep qemu-img's own by returning a positive number from run(). */
#define ERR_USAGE (-4001) /* wrong usage: exit 2; 1 in `fermata img`, where scripts know qemu-img's statuses */
#define ERR_EXIT(status) (-4100 - (status)) /* failed, with an exit status of its own */

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_PENDING = 3 };

/* Values of an option that may be given more than once, in order. Borrowed from argv. */
struct cmd_list {
	const char *v[64];
	size_t n;
};

/*
 * One option; the table ends with an entry whose help is NULL. A switch that is kept in a list stands there as its own
 * name: this very pointer. Kind and target are one macro, so that they fit each other and an entry stays small.
 */
struct opt {
	char c;           /* one letter, or 0 */
	const char *name; /* --name, or NULL when there is only the letter */
	const char *arg;  /* what the value is called; NULL: a switch */
	const char *help;
	void *to;
	char kind; /* what @to points to */
};

enum { OPT_KIND_FLAG, OPT_KIND_STR, OPT_KIND_NUM, OPT_KIND_SIZE, OPT_KIND_SPAN, OPT_KIND_LIST, OPT_KIND_WORD };
#define OPT_TO(k, type, p) (1 ? (p) : (type *)0), (k)
#define OPT_FLAG(p)        OPT_TO(OPT_KIND_FLAG, bool, p)
#define OPT_STR(p)         OPT_TO(OPT_KIND_STR, const char *, p)
#define OPT_NUM(p)         OPT_TO(OPT_KIND_NUM, uint64_t, p)  /* a whole number */
#define OPT_SIZE(p)        OPT_TO(OPT_KIND_SIZE, uint64_t, p) /* bytes, with K, M, G, T */
#define OPT_SPAN(p)        OPT_TO(OPT_KIND_SPAN, uint64_t, p) /* milliseconds, with ms, s, m, h */
#define OPT_WORD(p)        OPT_TO(OPT_KIND_WORD, const char *, p) /* behind a "=", or none: then "" */
#define OPT_LIST(p)        OPT_TO(OPT_KIND_LIST, struct cmd_list, p)

struct cmd {
	const char *name;
	const char *args;    /* as shown: "VM [NAME] [DESCRIPTION]" */
	const char *named;   /* the names under which virsh takes the same arguments as options: "domain name description" */
	const char *summary; /* one line without a full stop */
	const char *help;    /* what else to know, ends with a newline, or NULL */
	const struct opt *opts;
	int min, max; /* arguments; max < 0: any number, and options end with the min-th */
	int (*run)(int argc, char **argv, struct err *e);
};

/*
 * This run of the program, as main() has found it out. The tables are handed on here, so that what is in them can read
 * them (completion) without calling up.
 */
struct cli {
	const char *root;   /* the directory that --root or FERMATA_ROOT names, or "" for the real places */
	const char *prefix; /* what help and hints call the program: "fermata", "fermata img" or "qemu-img" */
	const struct cmd *const *commands;     /* every command, in the order of the help; ends with NULL */
	const struct cmd *const *img_commands; /* those of `fermata img`; NULL: there are none */
};
extern struct cli cli;

/*
 * Take options and arguments apart. @argv[0] is the command's name. @args: out, max entries (or argc when max < 0),
 * unset ones NULL; @n_args: how many. Options may stand anywhere before "--". ERR_USAGE with what is wrong.
 */
int cmd_parse(const struct cmd *c, int argc, char **argv, char **args, int *n_args, struct err *e) MUST_CHECK;

const struct cmd *cmd_find(const struct cmd *const *table, const char *name);

/* ERR_USAGE: no such command, with what was perhaps meant. */
int cmd_unknown(const struct cmd *const *table, const char *name, struct err *e);

void cmd_print_help(const char *prefix, const struct cmd *c);
void cmd_print_list(const char *prefix, const struct cmd *const *table);

/* "human" or "json" of an --output option: true for JSON; ERR_USAGE for anything else. NULL is human. */
int cmd_output_json(const char *value, bool *json, struct err *e) MUST_CHECK;

struct buf;

/* @s as a terminal may see it (text_put_safe); valid until eight more are asked for. */
const char *cmd_shown(const char *s);

/* Print a finished JSON text and a line end. -ENOMEM if parts of it were lost. */
int cmd_put_json(const struct buf *b, struct err *e) MUST_CHECK;

#define OPT_OUTPUT(var) { 0, "output", "human|json", "how to print the result", OPT_STR(&(var)) }

#endif
