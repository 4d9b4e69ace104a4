/* dominfo, domblklist, domblkinfo, domdisplay-argv */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/vm/policy.h"
#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "kvm/kvm.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

static const char *output;
static const struct opt output_opts[] = { OPT_OUTPUT(output), { 0 } };

/* ---- dominfo ------------------------------------------------------------------------------------------------ */

static int run_dominfo(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	auto_buf struct buf b = { 0 };
	struct fermata_status st;
	const struct def *def;
	uint64_t used = 0;
	struct json_out w;
	bool json;

	(void)argc;
	if (cmd_output_json(output, &json, e) < 0 || vm_get(argv[0], FERMATA_LOOK, "dominfo", &vm, e) < 0 ||
		fermata_vm_status(vm, &st, e) < 0)
		return e->code;
	def = fermata_vm_def(vm);
	if (st.pid && kvm_memory_used(st.pid, &used, e) < 0)
		used = 0;
	if (json) {
		json_out_init(&w, &b, true);
		json_obj(&w, NULL);
		json_put_str(&w, "name", def->name);
		json_put_str(&w, "state", fermata_state_name(st.state));
		json_put_str(&w, "reason", st.reason);
		json_put_int(&w, "pid", st.pid);
		json_put_uint(&w, "vcpus", def->vcpus);
		json_put_uint(&w, "max-memory", def->memory);
		json_put_uint(&w, "used-memory", used);
		json_put_str(&w, "machine", def->machine);
		json_put_bool(&w, "autostart", policy_of(def)->autostart);
		json_put_str(&w, "definition", def->path);
		json_obj_end(&w);
		return cmd_put_json(&b, e);
	}
	if (st.pid)
		printf("%-15s %d\n", "Id:", (int)st.pid);
	else
		printf("%-15s %s\n", "Id:", "-");
	printf("%-15s %s\n%-15s %s\n%-15s %u\n", "Name:", def->name, "State:", fermata_state_name(st.state), "CPU(s):", def->vcpus);
	printf("%-15s %llu KiB\n%-15s %llu KiB\n", "Max memory:", (unsigned long long)(def->memory >> 10),
		"Used memory:", (unsigned long long)(used >> 10));
	if (CONFIG_MEMORY)
		printf("%-15s %s\n", "Managed save:", fermata_managed(vm) ? "yes" : "no");
	printf("%-15s %s\n%-15s %s\n%-15s %s\n\n", "Machine:", def->machine, "Autostart:", policy_of(def)->autostart ? "enable" : "disable",
		"Definition:", def->path);
	return 0;
}

const struct cmd cmd_dominfo = { "dominfo", "VM", "domain", "what the VM is and how it stands", NULL, output_opts, 1, 1, run_dominfo };

/* ---- domblklist --------------------------------------------------------------------------------------------- */

static struct {
	bool details;
	const char *output;
} list_args;
static const struct opt blklist_opts[] = {
	{ 0, "details", NULL, "and the kind of each", OPT_FLAG(&list_args.details) },
	OPT_OUTPUT(list_args.output),
	{ 0 },
};

static const char *type_of(const char *file)
{
	struct stat st;

	return stat(file, &st) == 0 && S_ISBLK(st.st_mode) ? "block" : "file";
}

static int run_domblklist(int argc, char **argv, struct err *e)
{
	static const char *const heads[] = { "Type", "Device", "Target", "Source" };
	auto_vm struct fermata_vm *vm = NULL;
	auto_buf struct buf b = { 0 };
	const struct def *def;
	struct json_out w;
	struct table t;
	bool json;
	int rc;

	(void)argc;
	if (cmd_output_json(list_args.output, &json, e) < 0 || vm_get(argv[0], FERMATA_READ, "domblklist", &vm, e) < 0)
		return e->code;
	def = fermata_vm_def(vm);
	table_init(&t, list_args.details ? 4 : 2, heads + (list_args.details ? 0 : 2));
	json_out_init(&w, &b, true);
	json_arr(&w, NULL);
	for (size_t i = 0; i < def->n_disks; i++) {
		const char *file = fermata_vm_disk_file(vm, i);

		if (list_args.details) {
			table_cell(&t, type_of(file));
			table_cell(&t, "disk");
		}
		table_cell(&t, def->disks[i].name);
		table_cell(&t, file);
		json_obj(&w, NULL);
		json_put_str(&w, "type", type_of(file));
		json_put_str(&w, "device", "disk");
		json_put_str(&w, "target", def->disks[i].name);
		json_put_str(&w, "source", file);
		json_put_str(&w, "format", fermata_vm_disk_raw(vm, i) ? "raw" : "qcow2");
		json_put_bool(&w, "readonly", def->disks[i].readonly);
		json_obj_end(&w);
	}
	for (size_t i = 0; i < def->n_cdroms; i++) {
		const char *file = def->cdroms[i].file;

		if (list_args.details) {
			table_cell(&t, file ? type_of(file) : "file");
			table_cell(&t, "cdrom");
		}
		table_cell(&t, def->cdroms[i].name);
		table_cell(&t, file ? file : "-");
		json_obj(&w, NULL);
		json_put_str(&w, "type", file ? type_of(file) : "file");
		json_put_str(&w, "device", "cdrom");
		json_put_str(&w, "target", def->cdroms[i].name);
		if (file)
			json_put_str(&w, "source", file);
		else
			json_put_null(&w, "source");
		json_put_str(&w, "format", "raw");
		json_put_bool(&w, "readonly", true);
		json_obj_end(&w);
	}
	json_arr_end(&w);
	rc = json ? cmd_put_json(&b, e) : table_print(&t, stdout, e);
	if (rc == 0 && !json)
		putchar('\n');
	table_done(&t);
	return rc;
}

const struct cmd cmd_domblklist = { "domblklist", "VM", "domain", "the VM's disks and the files they use now", NULL, blklist_opts, 1, 1,
	run_domblklist };

/* ---- domblkinfo ------------------------------------------------------------------------------------------------ */

static struct {
	bool human, all;
	const char *output;
} info_args;
static const struct opt blkinfo_opts[] = {
	{ 0, "human", NULL, "sizes for people", OPT_FLAG(&info_args.human) },
	{ 0, "all", NULL, "of every disk, as a table", OPT_FLAG(&info_args.all) },
	OPT_OUTPUT(info_args.output),
	{ 0 },
};

static void fmt_bytes(uint64_t bytes, char out[TEXT_SIZE_MAX])
{
	if (info_args.human)
		text_fmt_size(bytes, out);
	else
		snprintf(out, TEXT_SIZE_MAX, "%llu", (unsigned long long)bytes);
}

static void blkinfo_row(struct table *t, struct json_out *w, const char *disk, const struct fermata_disk_size *s)
{
	char capacity[TEXT_SIZE_MAX], allocation[TEXT_SIZE_MAX], physical[TEXT_SIZE_MAX];

	fmt_bytes(s->capacity, capacity);
	fmt_bytes(s->allocation, allocation);
	fmt_bytes(s->physical, physical);
	table_cell(t, disk);
	table_cell(t, capacity);
	table_cell(t, allocation);
	table_cell(t, physical);
	json_obj(w, NULL);
	json_put_str(w, "target", disk);
	json_put_uint(w, "capacity", s->capacity);
	json_put_uint(w, "allocation", s->allocation);
	json_put_uint(w, "physical", s->physical);
	json_obj_end(w);
	if (!info_args.all && !info_args.output)
		printf("%-15s %s\n%-15s %s\n%-15s %s\n\n", "Capacity:", capacity, "Allocation:", allocation, "Physical:", physical);
}

static int run_domblkinfo(int argc, char **argv, struct err *e)
{
	static const char *const head[] = { "Target", "Capacity", "Allocation", "Physical" };
	auto_vm struct fermata_vm *vm = NULL;
	auto_buf struct buf b = { 0 };
	const struct def *def;
	struct json_out w;
	struct table t;
	bool json, found = false;
	int rc = 0;

	(void)argc;
	if (cmd_output_json(info_args.output, &json, e) < 0)
		return e->code;
	if (!argv[1] != info_args.all)
		return err_set(e, ERR_USAGE, "domblkinfo: give either a disk or --all");
	if (vm_get(argv[0], FERMATA_READ, "domblkinfo", &vm, e) < 0)
		return e->code;
	def = fermata_vm_def(vm);
	table_init(&t, 4, head);
	json_out_init(&w, &b, true);
	json_arr(&w, NULL);
	for (size_t i = 0; rc == 0 && i < def->n_disks; i++) {
		struct fermata_disk_size s;

		if (argv[1] && strcmp(argv[1], def->disks[i].name) && strcmp(argv[1], fermata_vm_disk_file(vm, i)))
			continue;
		found = true;
		rc = fermata_vm_disk_size(vm, i, &s, e);
		if (rc == 0)
			blkinfo_row(&t, &w, def->disks[i].name, &s);
	}
	json_arr_end(&w);
	if (rc == 0 && argv[1] && !found)
		rc = err_set(e, -ENOENT, "%s: there is no disk '%s'", argv[0], argv[1]);
	else if (rc == 0 && json)
		rc = cmd_put_json(&b, e);
	else if (rc == 0 && info_args.all)
		rc = table_print(&t, stdout, e);
	table_done(&t);
	return rc;
}

const struct cmd cmd_domblkinfo = { "domblkinfo", "VM [DISK]", "domain device", "how large a disk is, and what it takes on the host",
	"Capacity is what the guest sees, allocation what the file takes on the host, physical the file's length.\n", blkinfo_opts, 1, 2,
	run_domblkinfo };

/* ---- domdisplay-argv --------------------------------------------------------------------------------------------- */

static int run_argv(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	auto_buf struct buf b = { 0 };
	auto_free char *words = NULL;

	(void)argc;
	if (vm_get(argv[0], FERMATA_READ, "domdisplay-argv", &vm, e) < 0 || fermata_vm_argv(vm, &words, e) < 0)
		return e->code;
	for (const char *w = words; *w; w += strlen(w) + 1) {
		/* One option a line, its value beside it. */
		if (w != words)
			buf_adds(&b, *w == '-' ? " \\\n  " : " ");
		text_shell_quote(&b, w);
	}
	if (buf_check(&b, "print the command line", e) < 0)
		return e->code;
	puts(buf_str(&b));
	return 0;
}

const struct cmd cmd_domdisplay_argv = { "domdisplay-argv", "VM", "domain", "QEMU's exact command line, ready for a shell",
	"Descriptors 3 to 6 are the listening sockets that fermata hands over.\n", NULL, 1, 1, run_argv };
