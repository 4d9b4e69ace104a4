/* snapshot-dumpxml: a snapshot in libvirt's layout, for the tools that read that */
#include <stdio.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "init/cmd/snapshot.h"
#include "kvm/def.h"

static void put_text(const char *s)
{
	for (s = cmd_shown(s); *s; s++)
		switch (*s) {
		case '<': fputs("&lt;", stdout); break;
		case '>': fputs("&gt;", stdout); break;
		case '&': fputs("&amp;", stdout); break;
		case '\'': fputs("&apos;", stdout); break;
		case '"': fputs("&quot;", stdout); break;
		default: putchar(*s);
		}
}

static void put_element(int indent, const char *name, const char *text)
{
	printf("%*s<%s>", indent, "", name);
	put_text(text);
	printf("</%s>\n", name);
}

static const struct fermata_snap_disk *disk_of(const struct fermata_snap *s, const char *name)
{
	for (size_t i = 0; i < s->n_disks; i++)
		if (str_eq(s->disks[i].disk, name))
			return &s->disks[i];
	return NULL;
}

/* The image that took the writes from disk @name after @s: what a later snapshot froze, or what is in use. */
static const char *overlay_of(struct fermata_vm *vm, const struct fermata_snap *s, size_t disk)
{
	const struct fermata_snap *const *all;
	struct err ignored;
	size_t n;

	if (s == fermata_snap_current(vm))
		return fermata_vm_disk_file(vm, disk);
	for (size_t i = fermata_snaps(vm, &all, &n, &ignored) < 0 ? n : 0; i < n; i++) {
		const struct fermata_snap_disk *d = all[i]->parent == s->id ? disk_of(all[i], fermata_vm_def(vm)->disks[disk].name) : NULL;

		if (d)
			return d->file;
	}
	return NULL;
}

/* One disk of a snapshot; @file: its overlay, or NULL. */
static void put_disk(const char *name, const char *mode, const char *format, const char *file)
{
	fputs("    <disk name='", stdout);
	put_text(name);
	if (mode)
		printf("' snapshot='%s", mode);
	if (!format && !file) {
		puts("'/>");
		return;
	}
	puts("' type='file'>");
	if (format)
		printf("      <driver type='%s'/>\n", format);
	if (file) {
		fputs("      <source file='", stdout);
		put_text(file);
		puts("'/>");
	}
	puts("    </disk>");
}

static void put_memory(const char *mode, const char *file)
{
	printf("  <memory snapshot='%s", mode);
	if (file && file[0]) {
		fputs("' file='", stdout);
		put_text(file);
	}
	puts("'/>");
}

/* The disks as they were: what a reader looks up the frozen images in. */
static void put_domain(struct fermata_vm *vm, const struct fermata_snap *s)
{
	const struct def *def = fermata_vm_def(vm);

	printf("  <domain type='%s'>\n", def->accel == ACCEL_TCG ? "qemu" : "kvm");
	put_element(4, "name", def->name);
	printf("    <memory unit='KiB'>%llu</memory>\n    <vcpu>%u</vcpu>\n", (unsigned long long)def->memory >> 10, def->vcpus);
	printf("    <os>\n      <type arch='x86_64' machine='%s'>hvm</type>\n    </os>\n    <devices>\n",
		s->machine[0] ? s->machine : def->machine);
	for (size_t i = 0; i < s->n_disks; i++) {
		printf("      <disk type='file' device='disk'>\n        <driver name='qemu' type='%s'/>\n        <source file='",
			s->disks[i].raw ? "raw" : "qcow2");
		put_text(s->disks[i].file);
		printf("'/>\n        <target dev='%s'/>\n      </disk>\n", s->disks[i].disk);
	}
	puts("    </devices>\n  </domain>");
}

int snap_print_xml(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	const struct fermata_snap *parent = fermata_snap_by_id(vm, s->parent);
	const struct def *def = fermata_vm_def(vm);

	(void)e;
	puts("<domainsnapshot>");
	put_element(2, "name", s->name);
	if (s->description[0])
		put_element(2, "description", s->description);
	put_element(2, "state", snap_state_word(s));
	if (parent) {
		puts("  <parent>");
		put_element(4, "name", parent->name);
		puts("  </parent>");
	}
	printf("  <creationTime>%lld</creationTime>\n", (long long)s->created);
	put_memory(s->kind == FERMATA_CHECKPOINT_INTERNAL ? "internal" : s->kind == FERMATA_CHECKPOINT_EXTERNAL ? "external" : "no",
		s->memory);
	puts("  <disks>");
	for (size_t i = 0; i < def->n_disks; i++) {
		const struct fermata_snap_disk *d = disk_of(s, def->disks[i].name);
		bool external = d && d->external;

		put_disk(def->disks[i].name, !d ? "no" : external ? "external" : "internal", external ? "qcow2" : NULL,
			external ? overlay_of(vm, s, i) : NULL);
	}
	puts("  </disks>");
	put_domain(vm, s);
	puts("</domainsnapshot>\n");
	return 0;
}

int snap_print_plan(const struct fermata_create *c)
{
	static const char *const modes[] = { NULL, "internal", "external", "no" };

	puts("<domainsnapshot>");
	if (c->name)
		put_element(2, "name", c->name);
	if (c->description)
		put_element(2, "description", c->description);
	if (c->memory_file)
		put_memory("external", c->memory);
	if (c->n_specs)
		puts("  <disks>");
	for (size_t i = 0; i < c->n_specs; i++)
		put_disk(c->specs[i].disk, modes[c->specs[i].mode], c->specs[i].qcow2 ? "qcow2" : NULL, c->specs[i].file);
	if (c->n_specs)
		puts("  </disks>");
	puts("</domainsnapshot>\n");
	return 0;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	const struct fermata_snap *s;

	(void)argc;
	if (vm_get(argv[0], FERMATA_READ, "snapshot-dumpxml", &vm, e) < 0 || fermata_snap_find(vm, argv[1], &s, e) < 0)
		return e->code;
	return snap_print_xml(vm, s, e);
}

const struct cmd cmd_snapshot_dumpxml = { "snapshot-dumpxml", "VM NAME", "domain snapshotname",
	"a snapshot as XML in libvirt's layout", NULL, NULL, 2, 2, run };
