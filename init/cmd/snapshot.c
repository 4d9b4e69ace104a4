/* snapshot-create-as, -list, -info, -current, -parent, -revert, -delete */
#include <stdio.h>
#include <string.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "init/cmd/snapshot.h"
#include "init/cmd/spec.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

/* ---- snapshot-create-as ------------------------------------------------------------------------------------- */

static struct {
	bool replace, halt, atomic, disk_only, reuse, quiesce, no_metadata, print_xml, live;
	uint64_t freeze_ms;
	const char *memory, *instant;
	struct cmd_list specs;
} create_args = { .freeze_ms = 10000 };
static const struct opt create_opts[] = {
	{ 0, "replace", NULL, "put it in the place of a snapshot of that name, once it is complete", OPT_FLAG(&create_args.replace) },
	{ 0, "halt", NULL, "leave the VM off afterwards", OPT_FLAG(&create_args.halt) },
	{ 0, "disk-only", NULL, "no memory; external snapshots of the disks", OPT_FLAG(&create_args.disk_only) },
	{ 0, "reuse-external", NULL, "the overlays are there already", OPT_FLAG(&create_args.reuse) },
	{ 0, "quiesce", NULL, "freeze the guest's file systems for the instant", OPT_FLAG(&create_args.quiesce) },
	{ 0, "freeze-timeout", "TIME", "give the freeze this long (default 10s)", OPT_SPAN(&create_args.freeze_ms) },
	{ 0, "diskspec", "DISK[,snapshot=internal|external|no][,driver=qcow2][,file=PATH]", "what becomes of one disk",
		OPT_LIST(&create_args.specs) },
#if CONFIG_MEMORY
	{ 0, "memspec", "[file=]PATH[,snapshot=external]", "the memory goes into a file, the disks get overlays",
		OPT_STR(&create_args.memory) },
	{ 0, "live", NULL, "with --memspec: the guest runs on while its memory is written", OPT_FLAG(&create_args.live) },
	{ 0, "instant", "[=copy|handover]", "the memory goes into a file that a revert maps, which takes no time",
		OPT_WORD(&create_args.instant) },
#endif
	{ 0, "no-metadata", NULL, "do not keep it on record", OPT_FLAG(&create_args.no_metadata) },
#if CONFIG_XML
	{ 0, "print-xml", NULL, "say as XML what would be taken; take nothing", OPT_FLAG(&create_args.print_xml) },
#endif
	{ 0, "atomic", NULL, "on all disks or on none: always so, accepted for scripts", OPT_FLAG(&create_args.atomic) },
	{ 0 },
};

static int read_specs(struct fermata_create *c, struct fermata_diskspec *specs, struct err *e)
{
	for (size_t i = 0; i < c->n_specs; i++)
		if (spec_disk((char *)create_args.specs.v[i], &specs[i], e) < 0)
			return e->code;
	return CONFIG_MEMORY && create_args.memory ? spec_memory((char *)create_args.memory, c, e) : 0;
}

static int run_create(int argc, char **argv, struct err *e)
{
	static const char *const ways[] = { "while the guest was paused", "by background snapshot, as of its start", "by pre-copy, as of its end" };
	struct fermata_diskspec specs[ARRAY_SIZE(create_args.specs.v)];
	struct fermata_create c = { .name = argv[1], .description = argv[2], .replace = create_args.replace,
		.halt = create_args.halt, .disk_only = create_args.disk_only, .reuse = create_args.reuse,
		.no_metadata = create_args.no_metadata, .quiesce = create_args.quiesce, .freeze_ms = create_args.freeze_ms, .specs = specs,
		.n_specs = create_args.specs.n };
	auto_vm struct fermata_vm *vm = NULL;
	struct fermata_taken t;
	int rc;

	(void)argc;
	if (read_specs(&c, specs, e) < 0)
		return e->code;
	c.live = create_args.live;
	c.instant = create_args.instant;
	c.handover = c.instant && !strcmp(create_args.instant, "handover");
	if (c.instant && !c.handover && create_args.instant[0] && strcmp(create_args.instant, "copy"))
		return err_set(e, ERR_USAGE, "--instant is copy or handover, not '%s'", create_args.instant);
	c.memory_file |= c.instant;
	if (CONFIG_XML && create_args.print_xml)
		return vm_get(argv[0], FERMATA_READ, "snapshot-create-as", &vm, e) < 0 ? e->code : snap_print_plan(&c);
	if ((c.memory_file ? vm_get_long(argv[0], "snapshot-create-as", &vm, e) :
			     vm_get(argv[0], FERMATA_WRITE, "snapshot-create-as", &vm, e)) < 0)
		return e->code;
	rc = fermata_snapshot_create(vm, &c, &t, e);
	progress_end();
	if (rc < 0)
		return rc;
	printf("Domain snapshot %s created\n", cmd_shown(t.name));
	if (CONFIG_MEMORY && create_args.live)
		printf("Taken %s\n", ways[t.way]);
	if (CONFIG_MEMORY && t.pause_us)
		printf("The guest was paused for %llu.%llu ms\n", (unsigned long long)t.pause_us / 1000, (unsigned long long)t.pause_us / 100 % 10);
	if (t.frozen_ms)
		printf("The guest's file systems were frozen for %llu ms\n", (unsigned long long)t.frozen_ms);
	return 0;
}

const struct cmd cmd_snapshot_create_as = { "snapshot-create-as", "VM [NAME] [DESCRIPTION]", "domain name description",
	"take a checkpoint of memory, devices and every disk",
	"A VM that is off gets a snapshot of its disks. Without NAME: the epoch's second.\n"
	"It is on every disk, complete, or on none.\n",
	create_opts, 1, 3, run_create };

/* ---- snapshot-revert ---------------------------------------------------------------------------------------- */

static struct {
	bool current, running, paused, force, verify, no_sync, copy;
	const char *keep;
} revert_args;
static const struct opt revert_opts[] = {
	{ 0, "current", NULL, "the current snapshot instead of a name", OPT_FLAG(&revert_args.current) },
	{ 0, "running", NULL, "let the guest run afterwards", OPT_FLAG(&revert_args.running) },
	{ 0, "paused", NULL, "leave the guest paused afterwards", OPT_FLAG(&revert_args.paused) },
	{ 0, "no-sync-time", NULL, "leave the guest's clock alone", OPT_FLAG(&revert_args.no_sync) },
	{ 0, "keep-current", "NAME", "first keep the present as a disk snapshot of this name", OPT_STR(&revert_args.keep) },
	{ 0, "copy", NULL, "where its image is needed by others: as an image of its own", OPT_FLAG(&revert_args.copy) },
	{ 'f', "force", NULL, "although QEMU, the machine or the disks differ", OPT_FLAG(&revert_args.force) },
#if CONFIG_MEMORY
	{ 0, "verify", NULL, "read all of an instant checkpoint's memory first", OPT_FLAG(&revert_args.verify) },
#endif
	{ 0 },
};

/* The snapshot that @name or --current names: exactly one of them. */
static int pick(struct fermata_vm *vm, const char *name, bool current, const struct fermata_snap **out, struct err *e)
{
	if (!name == !current)
		return err_set(e, ERR_USAGE, "give either a snapshot's name or --current");
	if (name)
		return fermata_snap_find(vm, name, out, e);
	*out = fermata_snap_current(vm);
	return *out ? 0 : err_set(e, -ENOENT, "%s: no snapshot is current", fermata_vm_name(vm));
}

static int run_revert(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const struct fermata_snap *s;
	auto_free char *name = NULL;

	(void)argc;
	if (revert_args.running && revert_args.paused)
		return err_set(e, ERR_USAGE, "--running and --paused exclude each other");
	if (vm_get(argv[0], FERMATA_WRITE, "snapshot-revert", &vm, e) < 0 || pick(vm, argv[1], revert_args.current, &s, e) < 0)
		return e->code;
	name = strdup(s->name);
	if (!name)
		return err_nomem(e, "revert");
	if (fermata_snapshot_revert(vm, name,
		    &(struct fermata_revert){ .running = revert_args.running, .paused = revert_args.paused,
			    .force = revert_args.force, .verify = revert_args.verify, .keep_time = revert_args.no_sync, .copy = revert_args.copy,
			    .keep = revert_args.keep },
		    e) < 0)
		return e->code;
	printf("Domain snapshot %s reverted\n", cmd_shown(name));
	return 0;
}

const struct cmd cmd_snapshot_revert = { "snapshot-revert", "VM [NAME]", "domain snapshotname", "bring the VM back to a snapshot",
	"A running VM loads it in place; one that is off is started on it.\n", revert_opts, 1, 2, run_revert };

/* ---- snapshot-delete ---------------------------------------------------------------------------------------- */

static struct {
	bool current, children, children_only, metadata;
} delete_args;
static const struct opt delete_opts[] = {
	{ 0, "current", NULL, "the current snapshot instead of a name", OPT_FLAG(&delete_args.current) },
	{ 0, "children", NULL, "it and all its descendants", OPT_FLAG(&delete_args.children) },
	{ 0, "children-only", NULL, "all its descendants, but not it", OPT_FLAG(&delete_args.children_only) },
	{ 0, "metadata", NULL, "forget it, leave the images alone", OPT_FLAG(&delete_args.metadata) },
	{ 0 },
};

static int run_delete(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const struct fermata_snap *s;
	auto_free char *name = NULL;
	struct fermata_status st;

	(void)argc;
	if (delete_args.children && delete_args.children_only)
		return err_set(e, ERR_USAGE, "--children and --children-only exclude each other");
	if (vm_get(argv[0], FERMATA_WRITE, "snapshot-delete", &vm, e) < 0 || pick(vm, argv[1], delete_args.current, &s, e) < 0)
		return e->code;
	name = strdup(s->name);
	if (!name)
		return err_nomem(e, "delete a snapshot");
	if (fermata_vm_status(vm, &st, e) < 0)
		return e->code;
	if (!st.pid)
		call_off_on_signal();
	if (fermata_snapshot_delete(vm, name,
		    &(struct fermata_delete){ delete_args.children, delete_args.children_only, delete_args.metadata }, e) < 0)
		return e->code;
	printf(delete_args.children_only ? "Domain snapshot %s children deleted\n" : "Domain snapshot %s deleted\n", cmd_shown(name));
	return 0;
}

const struct cmd cmd_snapshot_delete = { "snapshot-delete", "VM [NAME]", "domain snapshotname", "delete a snapshot from every disk",
	NULL, delete_opts, 1, 2, run_delete };

/* ---- snapshot-verify ---------------------------------------------------------------------------------------- */

static int run_verify(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	int rc;

	(void)argc;
	if (vm_get(argv[0], FERMATA_READ, "snapshot-verify", &vm, e) < 0)
		return e->code;
	rc = fermata_snapshot_verify(vm, argv[1], e);
	progress_end();
	if (rc == 0)
		printf("Domain snapshot %s is whole\n", cmd_shown(argv[1]));
	return rc;
}

const struct cmd cmd_snapshot_verify = { "snapshot-verify", "VM NAME", "domain snapshotname",
	"whether all is there that a revert needs", NULL, NULL, 2, 2, run_verify };

/* ---- snapshot-info ------------------------------------------------------------------------------------------ */

static struct {
	bool current;
	const char *output;
} info_args;
static const struct opt info_opts[] = {
	{ 0, "current", NULL, "the current snapshot instead of a name", OPT_FLAG(&info_args.current) },
	OPT_OUTPUT(info_args.output),
	{ 0 },
};

static int print_info(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	const struct fermata_snap *parent = fermata_snap_by_id(vm, s->parent), *const *all;
	size_t n, children = 0, descendants = 0;
	char date[CLOCK_DATE_MAX], size[TEXT_SIZE_MAX];
	uint64_t ms = s->clock_ns / 1000000, vmstate = 0, used, frees;
	struct err ignored;

	if (fermata_snaps(vm, &all, &n, e) < 0)
		return e->code;
	for (size_t i = 0; i < n; i++) {
		children += all[i]->parent == s->id;
		for (const struct fermata_snap *p = all[i]; p && p->parent; p = fermata_snap_by_id(vm, p->parent))
			descendants += p->parent == s->id;
	}
	for (size_t i = 0; i < s->n_disks; i++)
		vmstate += s->disks[i].vmstate;
	clock_fmt_date(s->created, date);
	text_fmt_size(vmstate, size);
	printf("%-15s %s\n%-15s %s\n%-15s %s\n%-15s %s\n", "Name:", cmd_shown(s->name), "Domain:", fermata_vm_name(vm), "Current:",
		s == fermata_snap_current(vm) ? "yes" : "no", "State:", snap_state_word(s));
	printf("%-15s %s\n%-15s %s\n%-15s %zu\n%-15s %zu\n%-15s %s\n", "Location:", fermata_snap_external(s) ? "external" : "internal", "Parent:",
		parent ? parent->name : "-", "Children:", children, "Descendants:", descendants, "Metadata:", s->adopted ? "no" : "yes");
	printf("%-15s %s\n%-15s %llu:%02u:%02u.%03u\n%-15s %s\n", "Creation Time:", date, "VM Clock:",
		(unsigned long long)(ms / 3600000), (unsigned)(ms / 60000 % 60), (unsigned)(ms / 1000 % 60), (unsigned)(ms % 1000),
		"VM Size:", size);
	if (fermata_snap_space(vm, s, &used, &frees, &ignored) == 0) {
		text_fmt_size(used, size);
		printf("%-15s %s", "Disk Use:", size);
		text_fmt_size(frees, size);
		printf(", deleting it frees %s\n", size);
	}
	if (s->machine[0])
		printf("%-15s QEMU %s, %s\n", "Made with:", s->qemu, s->machine);
	if (s->description[0])
		printf("%-15s %s\n", "Description:", cmd_shown(s->description));
	if (s->memory && s->memory[0])
		printf("%-15s %s\n", "Memory:", cmd_shown(s->memory));
	if (fermata_snap_instant(s))
		printf("%-15s %s\n", "RAM:", cmd_shown(s->ram));
	if (fermata_snap_instant(s) && s->ram_base && s->ram_base[0])
		printf("%-15s %s\n", "RAM Base:", cmd_shown(s->ram_base));
	for (size_t i = 0; i < s->n_disks; i++)
		printf("%-15s %s %s\n", i ? "" : "Disks:", s->disks[i].disk, cmd_shown(s->disks[i].file));
	putchar('\n');
	return 0;
}

static int run_info(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const struct fermata_snap *s;
	auto_buf struct buf b = { 0 };
	struct json_out w;
	bool json;

	(void)argc;
	if (cmd_output_json(info_args.output, &json, e) < 0 || vm_get(argv[0], FERMATA_READ, "snapshot-info", &vm, e) < 0 ||
		pick(vm, argv[1], info_args.current, &s, e) < 0)
		return e->code;
	if (!json)
		return print_info(vm, s, e);
	json_out_init(&w, &b, true);
	snap_put_json(&w, vm, s);
	return cmd_put_json(&b, e);
}

const struct cmd cmd_snapshot_info = { "snapshot-info", "VM [NAME]", "domain snapshotname", "what is known about a snapshot", NULL,
	info_opts, 1, 2, run_info };

/* ---- snapshot-current, snapshot-parent -------------------------------------------------------------------------- */

static struct {
	bool name;
} current_args;
static const struct opt current_opts[] = {
	{ 0, "name", NULL, "the name only (without it: the XML)", OPT_FLAG(&current_args.name) },
	{ 0 },
};

static int run_current(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const struct fermata_snap *s;

	(void)argc;
	if (vm_get(argv[0], FERMATA_READ, "snapshot-current", &vm, e) < 0 || pick(vm, NULL, true, &s, e) < 0)
		return e->code;
	if (CONFIG_XML && !current_args.name)
		return snap_print_xml(vm, s, e);
	puts(cmd_shown(s->name));
	return 0;
}

const struct cmd cmd_snapshot_current = { "snapshot-current", "VM", "domain", "the snapshot that the VM's present comes from", NULL,
	current_opts, 1, 1, run_current };

static struct {
	bool current;
} parent_args;
static const struct opt parent_opts[] = {
	{ 0, "current", NULL, "of the current snapshot instead of a name", OPT_FLAG(&parent_args.current) },
	{ 0 },
};

static int run_parent(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const struct fermata_snap *s;

	(void)argc;
	if (vm_get(argv[0], FERMATA_READ, "snapshot-parent", &vm, e) < 0 || pick(vm, argv[1], parent_args.current, &s, e) < 0)
		return e->code;
	if (!s->parent)
		return err_set(e, -ENOENT, "%s: snapshot '%s' has no parent", argv[0], s->name);
	puts(cmd_shown(fermata_snap_by_id(vm, s->parent)->name));
	return 0;
}

const struct cmd cmd_snapshot_parent = { "snapshot-parent", "VM [NAME]", "domain snapshotname", "the snapshot that another comes from",
	NULL, parent_opts, 1, 2, run_parent };
