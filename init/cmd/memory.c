/* save, restore, save-image-info, managedsave, managedsave-remove, dump */
#include <stdio.h>
#include <string.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

static struct {
	bool direct, running, paused, verbose, force, memory_only, no_sync;
} args;

#define OPT_STATES                                                                                       \
	{ 0, "running", NULL, "let the guest run afterwards", OPT_FLAG(&args.running) },                 \
	{ 0, "paused", NULL, "leave the guest paused afterwards", OPT_FLAG(&args.paused) },              \
	{ 0, "bypass-cache", NULL, "write past the page cache", OPT_FLAG(&args.direct) },                \
	{ 0, "verbose", NULL, "show progress: on a terminal always so", OPT_FLAG(&args.verbose) }, { 0 }

static const struct opt save_opts[] = { OPT_STATES };
static const struct opt restore_opts[] = {
	{ 'f', "force", NULL, "although disks, definition or QEMU are others now", OPT_FLAG(&args.force) },
	{ 0, "no-sync-time", NULL, "leave the guest's clock alone", OPT_FLAG(&args.no_sync) }, OPT_STATES
};

static int open_vm(const char *name, const char *what, struct fermata_vm **vm, struct err *e)
{
	if (args.running && args.paused)
		return err_set(e, ERR_USAGE, "--running and --paused exclude each other");
	if (args.verbose)
		progress_always();
	return vm_get_long(name, what, vm, e);
}

static int save(const char *name, const char *file, const char *what, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	int rc;

	if (open_vm(name, what, &vm, e) < 0)
		return e->code;
	rc = fermata_save(vm,
		&(struct fermata_save){ .file = file, .direct = args.direct, .running = args.running, .paused = args.paused }, e);
	progress_end();
	if (rc == 0)
		printf(file ? "\nDomain '%s' saved to %s\n" : "\nDomain '%s' state saved by fermata\n", name, file ? cmd_shown(file) : NULL);
	return rc;
}

static int run_save(int argc, char **argv, struct err *e)
{
	(void)argc;
	return save(argv[0], argv[1], "save", e);
}

const struct cmd cmd_save = { "save", "VM FILE", "domain file", "keep a running guest's memory in FILE, and stop it",
	"The file is there, complete and flushed, or the guest runs on.\n", save_opts, 2, 2, run_save };

static int run_managedsave(int argc, char **argv, struct err *e)
{
	(void)argc;
	return save(argv[0], NULL, "managedsave", e);
}

const struct cmd cmd_managedsave = { "managedsave", "VM", "domain", "save, so that the next start goes on from there", NULL,
	save_opts, 1, 1, run_managedsave };

static bool remove_all;
static const struct opt remove_opts[] = {
	{ 0, "all", NULL, "those that were set aside, too", OPT_FLAG(&remove_all) },
	{ 0 },
};

static int do_remove(struct fermata_vm *vm, struct err *e)
{
	bool had = fermata_managed(vm);

	if (fermata_managed_remove(vm, remove_all, e) < 0)
		return e->code;
	printf(had ? "Removed managedsave image for domain '%s'\n" : "Domain '%s' has no manage save image; removal skipped\n",
		fermata_vm_name(vm));
	return 0;
}

static int run_managedsave_remove(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_do(argv[0], "managedsave-remove", do_remove, e);
}

const struct cmd cmd_managedsave_remove = { "managedsave-remove", "VM", "domain", "drop what managedsave kept", NULL, remove_opts,
	1, 1, run_managedsave_remove };

static const char *list_output;
static const struct opt list_opts[] = { OPT_OUTPUT(list_output), { 0 } };

/* The managed saves of one VM, each a row and an object. */
static int list_saves(const char *name, struct table *t, struct json_out *w, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	struct fermata_managed_save *list;
	size_t n;

	if (vm_get(name, FERMATA_READ, "managedsave-list", &vm, e) < 0 || fermata_managed_list(vm, &list, &n, e) < 0)
		return e->code;
	for (size_t i = 0; i < n; i++) {
		const char *state = list[i].damaged ? "damaged" : list[i].aside ? "set aside" : "next start";
		char date[CLOCK_DATE_MAX] = "-", size[TEXT_SIZE_MAX];

		if (list[i].created)
			clock_fmt_date(list[i].created, date);
		text_fmt_size(list[i].bytes, size);
		for (size_t k = 0; k < 5; k++)
			table_cell(t, (const char *[]){ name, state, date, size, list[i].file }[k]);
		json_obj(w, NULL);
		json_put_str(w, "name", name);
		json_put_str(w, "file", list[i].file);
		json_put_int(w, "created", list[i].created);
		json_put_uint(w, "allocation", list[i].bytes);
		json_put_bool(w, "set-aside", list[i].aside);
		json_put_bool(w, "damaged", list[i].damaged);
		json_obj_end(w);
	}
	fermata_managed_free(list, n);
	return 0;
}

static int run_managedsave_list(int argc, char **argv, struct err *e)
{
	static const char *const head[] = { "Name", "State", "Saved", "Size", "File" };
	auto_host struct fermata *host = NULL;
	auto_free char *names = NULL;
	auto_buf struct buf b = { 0 };
	struct json_out w;
	struct table t;
	bool json;
	int rc = 0;

	if (cmd_output_json(list_output, &json, e) < 0 || host_get(&host, e) < 0 || fermata_names(host, &names, e) < 0)
		return e->code;
	table_init(&t, ARRAY_SIZE(head), head);
	json_out_init(&w, &b, true);
	json_arr(&w, NULL);
	if (argc)
		rc = list_saves(argv[0], &t, &w, e);
	for (const char *n = names; !argc && rc == 0 && *n; n += strlen(n) + 1)
		rc = list_saves(n, &t, &w, e);
	json_arr_end(&w);
	if (rc == 0)
		rc = json ? cmd_put_json(&b, e) : table_print(&t, stdout, e);
	table_done(&t);
	return rc;
}

const struct cmd cmd_managedsave_list = { "managedsave-list", "[VM]", "domain", "what managedsave kept, and what was set aside",
	"A start that went past a saved state has set it aside; restore goes on from its file.\n", list_opts, 0, 1,
	run_managedsave_list };

static int run_bake(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	int rc;

	(void)argc;
	if (vm_get_long(argv[0], "snapshot-bake", &vm, e) < 0)
		return e->code;
	rc = fermata_snapshot_bake(vm, argv[1], e);
	progress_end();
	if (rc == 0)
		printf("Domain snapshot %s baked\n", cmd_shown(argv[1]));
	return rc;
}

const struct cmd cmd_snapshot_bake = { "snapshot-bake", "VM NAME", "domain snapshotname",
	"make an external checkpoint an instant one, whose memory a revert maps",
	"One that has only what differs from another is made whole. Without a QEMU: the VM may run or be off.\n", NULL, 2, 2, run_bake };

static int read_info(const char *file, struct json_doc **doc, struct err *e)
{
	auto_free char *text = NULL;

	return fermata_saved_info(file, &text, e) < 0 ? e->code : json_parse(text, strlen(text), 100000, doc, e);
}

static int run_restore(int argc, char **argv, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	auto_vm struct fermata_vm *vm = NULL;
	int rc;

	(void)argc;
	if (read_info(argv[0], &doc, e) < 0 || open_vm(json_str(json_get(json_root(doc), "vm"), ""), "restore", &vm, e) < 0)
		return e->code;
	rc = fermata_restore(vm,
		&(struct fermata_restore){ .file = argv[0], .force = args.force, .running = args.running, .paused = args.paused,
			.keep_time = args.no_sync },
		e);
	progress_end();
	if (rc == 0)
		printf("\nDomain restored from %s\n", cmd_shown(argv[0]));
	return rc;
}

const struct cmd cmd_restore = { "restore", "FILE", "file", "start a VM from what save kept",
	"Refused when the file is damaged or the disks have moved on since; the VM is then off as before.\n", restore_opts, 1, 1,
	run_restore };

static const char *output;
static const struct opt info_opts[] = { OPT_OUTPUT(output), { 0 } };

static int run_info(int argc, char **argv, struct err *e)
{
	static const char *const rows[] = { "vm", "Name:", "state", "State:", "qemu", "QEMU:", "machine", "Machine:" };
	auto_json struct json_doc *doc = NULL;
	const struct json *o;
	char text[CLOCK_DATE_MAX];
	bool json;

	(void)argc;
	if (cmd_output_json(output, &json, e) < 0 || read_info(argv[0], &doc, e) < 0)
		return e->code;
	o = json_root(doc);
	if (json) {
		auto_buf struct buf b = { 0 };
		struct json_out w;

		json_out_init(&w, &b, true);
		json_put(&w, NULL, o);
		return cmd_put_json(&b, e);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows); i += 2)
		printf("%-15s %s\n", rows[i + 1], cmd_shown(json_str(json_get(o, rows[i]), "")));
	clock_fmt_date(json_int(json_get(o, "created"), 0), text);
	printf("%-15s %s\n", "Saved:", text);
	text_fmt_size(json_uint(json_get(o, "memory"), 0), text);
	printf("%-15s %s\n", "Max memory:", text);
	json_each(d, json_get(o, "disks"))
		printf("%-15s %s %s\n", "Disk:", cmd_shown(json_str(json_get(d, "name"), "")),
			cmd_shown(json_str(json_get(d, "file"), "")));
	putchar('\n');
	return 0;
}

const struct cmd cmd_save_image_info = { "save-image-info", "FILE", "file", "what a file of saved memory holds", NULL, info_opts,
	1, 1, run_info };

static const struct opt dump_opts[] = {
	{ 0, "memory-only", NULL, "an ELF core of the memory; there is no other kind", OPT_FLAG(&args.memory_only) },
	{ 0, "bypass-cache", NULL, "write past the page cache", OPT_FLAG(&args.direct) },
	{ 0, "verbose", NULL, "show progress: on a terminal always so", OPT_FLAG(&args.verbose) },
	{ 0 },
};

static int run_dump(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	int rc;

	(void)argc;
	if (!args.memory_only)
		return err_set(e, ERR_USAGE, "dump: say --memory-only; 'save' keeps devices too");
	if (open_vm(argv[0], "dump", &vm, e) < 0)
		return e->code;
	rc = fermata_dump(vm, argv[1], args.direct, e);
	progress_end();
	if (rc == 0)
		printf("\nDomain '%s' dumped to %s\n", argv[0], cmd_shown(argv[1]));
	return rc;
}

const struct cmd cmd_dump = { "dump", "VM FILE", "domain file", "the guest's memory as an ELF core, for crash and gdb",
	"The guest is paused meanwhile.\n", dump_opts, 2, 2, run_dump };

static bool standby_end;
static const struct opt standby_opts[] = {
	{ 0, "end", NULL, "end the one that there is", OPT_FLAG(&standby_end) },
	{ 0 },
};

static int run_standby(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const struct fermata_snap *s;

	if (standby_end && argc > 1)
		return err_set(e, ERR_USAGE, "standby: --end takes no name");
	if (vm_get_long(argv[0], "standby", &vm, e) < 0)
		return e->code;
	if (argc > 1 && fermata_standby(vm, argv[1], e) < 0)
		return e->code;
	progress_end();
	if (standby_end)
		return fermata_standby_end(vm, e);
	s = fermata_standby_for(vm);
	if (s)
		printf("A standby for '%s' waits\n", cmd_shown(s->name));
	return s ? 0 : err_set(e, -ENOENT, "%s: there is no standby", argv[0]);
}

const struct cmd cmd_standby = { "standby", "VM [NAME]", "domain snapshotname", "keep a second QEMU ready to go back to a checkpoint",
	"Going back to it then takes as long as the present QEMU takes to end. It wants the memory that the\n"
	"guest does; of an instant checkpoint, only what the guest has changed. Without NAME: tell which.\n",
	standby_opts, 1, 2, run_standby };
