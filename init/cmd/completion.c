/* completion: scripts for bash and zsh, made from the command table */
#include <stdio.h>
#include <string.h>

#include "init/cli/cmd.h"

static void put_names(const struct cmd *const *table)
{
	for (; *table; table++)
		printf("%s ", (*table)->name);
}

static void put_options(const struct cmd *const *table, const char *before)
{
	for (; *table; table++) {
		if (!(*table)->opts)
			continue;
		printf("\t%s%s) opts='", before, (*table)->name);
		for (const struct opt *o = (*table)->opts; o->help; o++)
			if (o->name)
				printf("--%s ", o->name);
		puts("--help' ;;");
	}
}

static void put_script(void)
{
	puts("_fermata() {\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} cmd= sub= i opts=\n"
	     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "\t\tcase ${COMP_WORDS[i]} in\n"
	     "\t\t--root) ((i++)) ;;\n"
	     "\t\t-*) ;;\n"
	     "\t\t*) if [ -z \"$cmd\" ]; then cmd=${COMP_WORDS[i]}; elif [ -z \"$sub\" ]; then sub=${COMP_WORDS[i]}; fi ;;\n"
	     "\t\tesac\n"
	     "\tdone");
	printf("\tif [ -z \"$cmd\" ]; then COMPREPLY=($(compgen -W '");
	put_names(cli.commands);
	printf("%shelp --root --version' -- \"$cur\")); return; fi\n", cli.img_commands ? "img " : "");
	puts("\tcase \"$cmd\" in");
	put_options(cli.commands, "");
	puts("\tesac");
	if (cli.img_commands) {
		printf("\tif [ \"$cmd\" = img ] && [ -z \"$sub\" ]; then COMPREPLY=($(compgen -W '");
		put_names(cli.img_commands);
		puts("' -- \"$cur\")); return; fi\n\tif [ \"$cmd\" = img ]; then\n\tcase \"$sub\" in");
		put_options(cli.img_commands, "");
		puts("\tesac\n\tfi");
	}
	puts("\tcase \"$cur\" in\n"
	     "\t-*) COMPREPLY=($(compgen -W \"$opts\" -- \"$cur\")) ;;\n"
	     "\t*) if [ \"$cmd\" = img ]; then COMPREPLY=($(compgen -f -- \"$cur\"))\n"
	     "\t   elif [ -z \"$sub\" ]; then COMPREPLY=($(compgen -W \"$(fermata list --all --name 2>/dev/null)\" -- \"$cur\"))\n"
	     "\t   else COMPREPLY=($(compgen -W \"$(fermata snapshot-list --name \"$sub\" 2>/dev/null)\" -- \"$cur\")); fi ;;\n"
	     "\tesac\n"
	     "}\n"
	     "complete -F _fermata fermata");
}

static int run(int argc, char **argv, struct err *e)
{
	(void)argc;
	if (strcmp(argv[0], "bash") && strcmp(argv[0], "zsh"))
		return err_set(e, ERR_USAGE, "completion: '%s' is neither bash nor zsh", argv[0]);
	if (!strcmp(argv[0], "zsh"))
		puts("autoload -U +X bashcompinit && bashcompinit");
	put_script();
	return 0;
}

const struct cmd cmd_completion = { "completion", "bash|zsh", NULL, "a completion script for the shell",
	"Use it as: source <(fermata completion bash)\n", NULL, 1, 1, run };
