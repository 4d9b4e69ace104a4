/* snapshot-list: as a table, a tree, names or JSON, of all or of some */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "init/cmd/snapshot.h"
#include "lib/clock.h"
#include "lib/own.h"
#include "lib/text.h"

static struct {
	bool parent, roots, leaves, no_leaves, tree, name, internal, external, disk_only, active, inactive, descendants, current;
	bool metadata, no_metadata, topological;
	const char *from, *output;
} args;
static const struct opt opts[] = {
	{ 0, "parent", NULL, "and the parent of each", OPT_FLAG(&args.parent) },
	{ 0, "roots", NULL, "only those without a parent", OPT_FLAG(&args.roots) },
	{ 0, "leaves", NULL, "only those without children", OPT_FLAG(&args.leaves) },
	{ 0, "no-leaves", NULL, "only those with children", OPT_FLAG(&args.no_leaves) },
	{ 0, "active", NULL, "only those of a VM that ran or was paused", OPT_FLAG(&args.active) },
	{ 0, "inactive", NULL, "only those of a VM that was off", OPT_FLAG(&args.inactive) },
	{ 0, "internal", NULL, "only internal ones", OPT_FLAG(&args.internal) },
	{ 0, "external", NULL, "only external ones", OPT_FLAG(&args.external) },
	{ 0, "disk-only", NULL, "only those without memory, taken of a running VM", OPT_FLAG(&args.disk_only) },
	{ 0, "metadata", NULL, "only those on record", OPT_FLAG(&args.metadata) },
	{ 0, "no-metadata", NULL, "only those that are in the images alone", OPT_FLAG(&args.no_metadata) },
	{ 0, "topological", NULL, "parents before children, not by name", OPT_FLAG(&args.topological) },
	{ 0, "tree", NULL, "as a tree", OPT_FLAG(&args.tree) },
	{ 0, "from", "NAME", "only the children of this one", OPT_STR(&args.from) },
	{ 0, "current", NULL, "as --from with the current snapshot", OPT_FLAG(&args.current) },
	{ 0, "descendants", NULL, "with --from: also the children of the children", OPT_FLAG(&args.descendants) },
	{ 0, "name", NULL, "names only, one a line", OPT_FLAG(&args.name) },
	OPT_OUTPUT(args.output),
	{ 0 },
};

struct listing {
	struct fermata_vm *vm;
	const struct fermata_snap *const *all;
	size_t n;
	const struct fermata_snap *from;
};

static bool has_children(const struct listing *l, const struct fermata_snap *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->all[i]->parent == s->id)
			return true;
	return false;
}

static bool below(const struct listing *l, const struct fermata_snap *s)
{
	if (s->parent == l->from->id)
		return true;
	for (s = fermata_snap_by_id(l->vm, s->parent); args.descendants && s; s = fermata_snap_by_id(l->vm, s->parent))
		if (s->parent == l->from->id)
			return true;
	return false;
}

static bool wanted(const struct listing *l, const struct fermata_snap *s)
{
	if ((args.roots && s->parent) || (l->from && !below(l, s)))
		return false;
	if (args.leaves != args.no_leaves && has_children(l, s) == args.leaves)
		return false;
	if (args.internal != args.external && fermata_snap_external(s) == args.internal)
		return false;
	if (args.metadata != args.no_metadata && s->adopted == args.metadata)
		return false;
	/* Three kinds of state, of which any may be asked for. */
	return !(args.active || args.inactive || args.disk_only) ||
		(s->state == FERMATA_SNAP_DISK ? args.disk_only : s->state == FERMATA_SNAP_SHUTOFF ? args.inactive : args.active);
}

static int by_name(const void *a, const void *b)
{
	const struct fermata_snap *x = *(const struct fermata_snap *const *)a, *y = *(const struct fermata_snap *const *)b;
	int order = strcasecmp(x->name, y->name);

	return order ? order : x->id < y->id ? -1 : x->id > y->id;
}

static void indent_back(struct buf *indent, size_t n)
{
	if (indent->n) {
		indent->n -= n;
		indent->p[indent->n] = '\0';
	}
}

/* virsh's tree, to the blank: a line with "|" before the first child, an empty one after the last of a branch. */
static void print_tree(const struct listing *l, const struct fermata_snap *s, bool root, bool last, struct buf *indent)
{
	const struct fermata_snap *last_child = NULL;

	for (size_t i = 0; i < l->n; i++)
		if (l->all[i]->parent == s->id)
			last_child = l->all[i];
	printf("%s%s%s\n", buf_str(indent), root ? "" : "+- ", cmd_shown(s->name));
	if (!root)
		buf_adds(indent, last ? "  " : "| ");
	if (last_child)
		printf("%s  |\n", buf_str(indent));
	buf_adds(indent, "  ");
	for (size_t i = 0; i < l->n; i++)
		if (l->all[i]->parent == s->id)
			print_tree(l, l->all[i], false, l->all[i] == last_child, indent);
	indent_back(indent, 2);
	if (!last_child && last)
		printf("%s\n", buf_str(indent));
	if (!root)
		indent_back(indent, 2);
}

static int print_table(const struct listing *l, const struct fermata_snap **some, size_t n, struct err *e)
{
	static const char *const head[] = { "Name", "Creation Time", "State", "Parent" };
	struct table t;
	int rc;

	table_init(&t, args.parent ? 4 : 3, head);
	for (size_t i = 0; i < n; i++) {
		const struct fermata_snap *p = fermata_snap_by_id(l->vm, some[i]->parent);
		char date[CLOCK_DATE_MAX];

		clock_fmt_date(some[i]->created, date);
		table_cell(&t, some[i]->name);
		table_cell(&t, date);
		table_cell(&t, snap_state_word(some[i]));
		if (args.parent)
			table_cell(&t, p ? p->name : "");
	}
	rc = table_print(&t, stdout, e);
	putchar('\n');
	table_done(&t);
	return rc;
}

static int print_json(const struct listing *l, const struct fermata_snap **some, size_t n, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct json_out w;

	json_out_init(&w, &b, true);
	json_arr(&w, NULL);
	for (size_t i = 0; i < n; i++)
		snap_put_json(&w, l->vm, some[i]);
	json_arr_end(&w);
	return cmd_put_json(&b, e);
}

static int check_args(struct err *e)
{
	if (args.tree && (args.parent || args.roots || args.name))
		return err_set(e, ERR_USAGE, "--tree excludes --parent, --roots and --name");
	if (args.from && args.current)
		return err_set(e, ERR_USAGE, "--from and --current exclude each other");
	if (args.roots && (args.parent || args.from || args.current))
		return err_set(e, ERR_USAGE, "--roots excludes --parent, --from and --current");
	if (args.descendants && !args.from && !args.current)
		return err_set(e, ERR_USAGE, "--descendants needs --from or --current");
	return 0;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	auto_free const struct fermata_snap **some = NULL, **sorted = NULL;
	auto_buf struct buf indent = { 0 };
	struct listing l = { 0 };
	size_t n = 0;
	bool json;

	(void)argc;
	if (check_args(e) < 0 || cmd_output_json(args.output, &json, e) < 0 ||
		vm_get(argv[0], FERMATA_READ, "snapshot-list", &vm, e) < 0 || fermata_snaps(vm, &l.all, &l.n, e) < 0)
		return e->code;
	l.vm = vm;
	if (args.from && fermata_snap_find(vm, args.from, &l.from, e) < 0)
		return e->code;
	if (args.current && !(l.from = fermata_snap_current(vm)))
		return err_set(e, -ENOENT, "%s: no snapshot is current", argv[0]);
	some = calloc(l.n + 1, sizeof *some);
	sorted = calloc(l.n + 1, sizeof *sorted);
	if (!some || !sorted)
		return err_nomem(e, "list the snapshots");
	memcpy(sorted, l.all, l.n * sizeof *sorted);
	if (!args.topological)
		qsort(sorted, l.n, sizeof *sorted, by_name);
	l.all = sorted;
	if (args.tree && !json) {
		for (size_t i = 0; i < l.n; i++)
			if (l.from ? l.all[i] == l.from : !l.all[i]->parent)
				print_tree(&l, l.all[i], true, true, &indent);
		return buf_check(&indent, "print the tree", e);
	}
	for (size_t i = 0; i < l.n; i++)
		if (wanted(&l, l.all[i]))
			some[n++] = l.all[i];
	if (json)
		return print_json(&l, some, n, e);
	for (size_t i = 0; args.name && i < n; i++)
		puts(cmd_shown(some[i]->name));
	return args.name ? 0 : print_table(&l, some, n, e);
}

const struct cmd cmd_snapshot_list = { "snapshot-list", "VM", "domain", "list a VM's snapshots",
	"Snapshots that others made with savevm or qemu-img are listed too.\n", opts, 1, 1, run };
