/* define, undefine */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/own.h"

/* ---- define ------------------------------------------------------------------------------------------------ */

static struct {
	const char *name;
	bool validate;
} define_args;
static const struct opt define_opts[] = {
	{ 0, "name", "NAME", "the VM's name; default: the file's without .conf", OPT_STR(&define_args.name) },
	{ 0, "validate", NULL, "accepted for scripts: a definition is always checked", OPT_FLAG(&define_args.validate) },
	{ 0 },
};

static int read_input(const char *file, struct buf *text, struct err *e)
{
	char piece[4096];
	ssize_t n;

	if (strcmp(file, "-"))
		return file_read(file, DEF_MAX_FILE, text, e);
	while ((n = read(STDIN_FILENO, piece, sizeof piece)) > 0 && text->n <= DEF_MAX_FILE)
		buf_add(text, piece, (size_t)n);
	if (n < 0)
		return err_sys(e, errno, "cannot read standard input");
	return text->n > DEF_MAX_FILE ? err_set(e, -EFBIG, "the definition is larger than %d KiB", DEF_MAX_FILE >> 10) :
		buf_check(text, "read a definition", e);
}

/* "/tmp/koan.conf" is koan's. */
static char *name_of(const char *file)
{
	const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
	size_t n = strlen(base);

	return str_fmt("%.*s", (int)(str_ends(base, ".conf") ? n - 5 : n), base);
}

static int run_define(int argc, char **argv, struct err *e)
{
	bool piped = !strcmp(argv[0], "-");
	auto_free char *name = define_args.name ? strdup(define_args.name) : name_of(argv[0]), *from = piped ? NULL : path_beside("", argv[0]);
	auto_host struct fermata *host = NULL;
	auto_buf struct buf text = { 0 };

	(void)argc;
	if (piped && !define_args.name)
		return err_set(e, ERR_USAGE, "define -: --name says whose definition it is");
	if (!name || (!piped && !from))
		return err_nomem(e, "define a VM");
	if (read_input(argv[0], &text, e) < 0 || host_get(&host, e) < 0 ||
		fermata_define(host, name, buf_str(&text), text.n, from, e) < 0)
		return e->code;
	printf("Domain '%s' defined from %s\n", cmd_shown(name), cmd_shown(argv[0]));
	return 0;
}

const struct cmd cmd_define = { "define", "FILE", "file", "check a definition, and put it in its place",
	"FILE '-': standard input. A VM that runs takes it at its next start.\n", define_opts, 1, 1, run_define };

/* ---- undefine ---------------------------------------------------------------------------------------------- */

static struct {
	bool saves, snapshots, checkpoints, nvram, keep_nvram, storage;
} undefine_args;
static const struct opt undefine_opts[] = {
	{ 0, "managed-save", NULL, "also remove its managed saves", OPT_FLAG(&undefine_args.saves) },
	{ 0, "snapshots-metadata", NULL, "also forget its snapshots; their files stay", OPT_FLAG(&undefine_args.snapshots) },
	{ 0, "checkpoints-metadata", NULL, "accepted for scripts: there are none", OPT_FLAG(&undefine_args.checkpoints) },
	{ 0, "nvram", NULL, "also remove the file with its firmware's variables", OPT_FLAG(&undefine_args.nvram) },
	{ 0, "keep-nvram", NULL, "keep that file: the default", OPT_FLAG(&undefine_args.keep_nvram) },
	{ 0, "remove-all-storage", NULL, "also remove its images, and its snapshots with their files, unless another VM needs them", OPT_FLAG(&undefine_args.storage) },
	{ 0 },
};

static int run_undefine(int argc, char **argv, struct err *e)
{
	auto_host struct fermata *host = NULL;
	unsigned what = (undefine_args.nvram ? FERMATA_UNDEFINE_NVRAM : 0) | (undefine_args.saves ? FERMATA_UNDEFINE_SAVES : 0) |
		(undefine_args.storage ? FERMATA_UNDEFINE_STORAGE | FERMATA_UNDEFINE_SNAPSHOTS : 0) |
		(undefine_args.snapshots ? FERMATA_UNDEFINE_SNAPSHOTS : 0);

	(void)argc;
	if (undefine_args.nvram && undefine_args.keep_nvram)
		return err_set(e, ERR_USAGE, "undefine: --nvram and --keep-nvram exclude each other");
	if (host_get(&host, e) < 0 || fermata_undefine(host, argv[0], what, e) < 0)
		return e->code;
	printf("Domain '%s' has been undefined\n", cmd_shown(argv[0]));
	return 0;
}

const struct cmd cmd_undefine = { "undefine", "VM", "domain", "forget a VM that is off: its definition and its record",
	"Images stay where they are, unless --remove-all-storage is given.\n", undefine_opts, 1, 1, run_undefine };
