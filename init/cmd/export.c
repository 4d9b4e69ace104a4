/* snapshot-export, snapshot-import */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "lib/text.h"

/* "-" and nothing are standard input or output: NULL. */
static const char *file_of(const char *arg)
{
	return arg && strcmp(arg, "-") ? arg : NULL;
}

static int run_export(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const char *file = file_of(argv[2]);
	int rc;

	(void)argc;
	if (!file && isatty(STDOUT_FILENO))
		return err_set(e, ERR_USAGE, "an archive is nothing for a terminal: name a file, or pipe it on");
	if (vm_get_long(argv[0], "snapshot-export", &vm, e) < 0)
		return e->code;
	rc = fermata_snapshot_export(vm, argv[1], file, STDOUT_FILENO, e);
	progress_end();
	if (rc == 0 && file)
		printf("Domain snapshot %s exported to %s\n", cmd_shown(argv[1]), cmd_shown(file));
	return rc;
}

const struct cmd cmd_snapshot_export = { "snapshot-export", "VM NAME [FILE]", "domain snapshotname file",
	"a snapshot with memory and disks as one file",
	"Without FILE, or as '-': to standard output, which may be a pipe.\n", NULL, 2, 3, run_export };

static struct {
	const char *name;
	bool force;
} args;
static const struct opt import_opts[] = {
	{ 0, "name", "NAME", "call the snapshot so, not as in the archive", OPT_STR(&args.name) },
	{ 'f', "force", NULL, "although machine or disks differ; disks that the VM does not have are left out", OPT_FLAG(&args.force) },
	{ 0 },
};

static int run_import(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const struct fermata_snap *s;
	int rc;

	(void)argc;
	if (vm_get_long(argv[0], "snapshot-import", &vm, e) < 0)
		return e->code;
	rc = fermata_snapshot_import(vm,
		&(struct fermata_import){ .file = file_of(argv[1]), .fd = STDIN_FILENO, .name = args.name, .force = args.force }, &s, e);
	progress_end();
	if (rc == 0)
		printf("Domain snapshot %s imported\n", cmd_shown(s->name));
	return rc;
}

const struct cmd cmd_snapshot_import = { "snapshot-import", "VM [FILE]", "domain file", "add the snapshot of an archive to a VM",
	"What the VM uses now stays; a disk without an image gets one, and starts as it was in the snapshot.\n"
	"Without FILE, or as '-': from standard input.\n", import_opts, 1, 2, run_import };
