/* main(): finds the command, runs it, and is the only place that prints an error. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "init/cli/cmd.h"
#include "lib/own.h"
#include "lib/say.h"
#include "lib/text.h"

extern const struct cmd *const commands[], *const img_commands[];

static int usage_status = EXIT_USAGE;

/* The errors of `fermata img` are fermata's, those of a link named qemu-img are qemu-img's: scripts look for the name. */
static int report(const char *who, const struct err *e)
{
	fprintf(stderr, "%s: %s%s%s\n", who, cmd_shown(e->msg), e->hint[0] ? "; " : "", cmd_shown(e->hint));
	if (e->code <= ERR_EXIT(1) && e->code >= ERR_EXIT(255))
		return ERR_EXIT(0) - e->code;
	return e->code == ERR_USAGE ? usage_status : e->code == FERMATA_PENDING ? EXIT_PENDING : EXIT_FAILED;
}

/* What was printed must have arrived: a full disk behind "> list.txt" is a failure like any other. */
static int flush_output(struct err *e)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	return err_sys(e, errno ? errno : EIO, "cannot write to standard output");
}

static int run_command(const struct cmd *const *table, int argc, char **argv, struct err *e)
{
	const struct cmd *c = cmd_find(table, argv[0]);
	auto_free char **args = NULL;
	int n, rc;

	if (!c)
		return cmd_unknown(table, argv[0], e);
	/*
	 * What cannot be said to QEMU, nor on record, is refused before anything is touched. Images alone are known by their bytes,
	 * and behind guard's "--" is another program's line.
	 */
	for (int i = 1; i < argc && table == cli.commands && (c->max >= 0 || strcmp(argv[i], "--")); i++)
		if (!text_is_utf8(argv[i]))
			return err_set(e, ERR_USAGE, "%s: '%s' is not UTF-8", c->name, argv[i]);
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], "--help") || (table == cli.img_commands && !strcmp(argv[i], "-h"))) {
			cmd_print_help(cli.prefix, c);
			return 0;
		}
	}
	args = calloc((size_t)(argc > c->max ? argc : c->max) + 1, sizeof *args);
	if (!args)
		return err_nomem(e, "run a command");
	if (cmd_parse(c, argc, argv, args, &n, e) < 0)
		return e->code;
	rc = c->run(n, args, e);
	return rc < 0 ? e->code : rc;
}

/* From here on it is qemu-img: for its scripts wrong usage is status 1, and 2 of `check` is a corrupt image. */
static const struct cmd *const *enter_img(const char *called)
{
	cli.prefix = called;
	usage_status = EXIT_FAILED;
	return cli.img_commands;
}

static bool is_img(const struct cmd *const *table, const char *word)
{
	return CONFIG_IMG && table == cli.commands && !strcmp(word, "img");
}

static int help(const struct cmd *const *table, int argc, char **argv, struct err *e)
{
	const struct cmd *c = argc > 1 ? cmd_find(table, argv[1]) : NULL;

	if (argc > 1 && is_img(table, argv[1]))
		return help(enter_img("fermata img"), argc - 1, argv + 1, e);
	if (argc > 1 && !c)
		return cmd_unknown(table, argv[1], e);
	if (c)
		cmd_print_help(cli.prefix, c);
	else
		cmd_print_list(cli.prefix, table);
	if (!c && CONFIG_IMG && table == cli.img_commands)
		puts("\nSupported formats: qcow2 raw");
	return 0;
}

/* qemu-img's -T and --trace, which may stand before a command, are taken: there is nothing in here to trace. How many words. */
static int trace_words(int argc, char **argv)
{
	int n = 0;

	while (n < argc) {
		bool alone = !strcmp(argv[n], "-T") || !strcmp(argv[n], "--trace");

		if (alone ? n + 1 == argc : strncmp(argv[n], "-T", 2) != 0 && strncmp(argv[n], "--trace=", 8) != 0)
			break;
		n += alone ? 2 : 1;
	}
	return n;
}

static int dispatch(const struct cmd *const *table, int argc, char **argv, struct err *e)
{
	if (CONFIG_IMG && table == cli.img_commands) {
		int n = trace_words(argc, argv);

		argc -= n;
		argv += n;
	}
	if (argc < 1) {
		cmd_print_list(cli.prefix, table);
		return usage_status;
	}
	if (!strcmp(argv[0], "help") || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))
		return help(table, argc, argv, e);
	if (is_img(table, argv[0]))
		return dispatch(enter_img("fermata img"), argc - 1, argv + 1, e);
	return run_command(table, argc, argv, e);
}

/* Options before the command. Returns how many words they take, or an error. */
static int global_options(int argc, char **argv, struct err *e)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (!strncmp(argv[i], "--root=", 7)) {
			cli.root = argv[i] + 7;
		} else if (!strcmp(argv[i], "--root")) {
			if (i + 1 == argc)
				return err_set(e, ERR_USAGE, "--root needs a folder");
			cli.root = argv[++i];
		} else {
			break;
		}
	}
	return i;
}

/* Scripts read a version of qemu-img's: the one whose words and statuses these are. */
static int put_version(const char *who)
{
	printf("%s%s%s\n", strcmp(who, "fermata") ? "qemu-img version 7.2 (fermata " : "fermata ", FERMATA_VERSION,
		strcmp(who, "fermata") ? ")" : "");
	return 0;
}

/*
 * Started with one of them closed, the first image that is opened would be descriptor 1 or 2, and what is meant for the user
 * would be written over its header. A host that has no /dev yet has at least a root folder, which nothing can be written to.
 */
static void open_standard(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0 && open("/", O_RDONLY | O_DIRECTORY) < 0)
			_exit(EXIT_FAILED);
}

int main(int argc, char **argv)
{
	const char *name = argc ? strrchr(argv[0], '/') : NULL;
	const char *env = getenv("FERMATA_ROOT");
	const char *who = "fermata";
	struct err e = { 0 };
	int rc = 1, skip = 1;

	open_standard();
	cli.commands = commands;
	cli.img_commands = CONFIG_IMG ? img_commands : NULL;
	name = name ? name + 1 : argc ? argv[0] : "";
	if (env)
		cli.root = env;
	if (CONFIG_IMG && !strcmp(name, "qemu-img")) {
		who = name;
	} else {
		rc = skip = global_options(argc, argv, &e);
	}
	if (rc > 0 && skip < argc && (!strcmp(argv[skip], "--version") || !strcmp(argv[skip], "-V")))
		rc = put_version(who);
	else if (CONFIG_INIT && rc > 0 && !strcmp(name, "init") && getpid() == 1)
		rc = dispatch(cli.commands, 1, (char *[]){ "init", NULL }, &e); /* the words are the kernel's */
	else if (rc > 0)
		rc = dispatch(CONFIG_IMG && who == name ? enter_img(name) : cli.commands, argc - skip, argv + skip, &e);
	say_rest();
	if (rc < 0) {
		fflush(stdout);
		return report(who, &e);
	}
	return flush_output(&e) < 0 ? report(who, &e) : rc;
}
