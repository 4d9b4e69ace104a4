/* img snapshot */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "init/img/img.h"

static const char *format, *create, *apply, *delete;
static struct cmd_list lists, creates, applies, deletes;
static bool share, quiet;
static const struct opt opts[] = {
	{ 'l', "list", NULL, "list them (default)", OPT_LIST(&lists) },
	{ 'c', "create", "NAME", "take one", OPT_LIST(&creates) },
	{ 'a', "apply", "ID|NAME", "go back to one", OPT_LIST(&applies) },
	{ 'd', "delete", "NAME", "delete one", OPT_LIST(&deletes) },
	OPT_FORMAT(format),
	OPT_SHARE(share),
	OPT_QUIET(quiet),
	OPT_NODE,
	OPT_OBJECT,
	{ 0 }
};

static int take(struct qcow2 *q, struct err *e)
{
	struct qcow2_snap_new s = { .name = create };
	struct timespec now;

	/* Like qemu-img, which leaves the instruction counter at 0, not at "was not on". */
	clock_gettime(CLOCK_REALTIME, &now);
	s.date_s = (uint32_t)now.tv_sec;
	s.date_ns = (uint32_t)now.tv_nsec;
	return qcow2_snap_create(q, &s, e) < 0 ? err_at(e, "could not create snapshot '%s'", create) : 0;
}

/* As qemu-img: an id goes before a name to apply, and to delete it takes the name. */
static int find(struct qcow2 *q, struct err *e)
{
	int i = apply ? qcow2_snap_find(q, apply, QCOW2_BY_ID) : qcow2_snap_find(q, delete, QCOW2_BY_NAME);

	if (i < 0 && apply)
		i = qcow2_snap_find(q, apply, QCOW2_BY_NAME);
	return i < 0 ? err_set(e, -ENOENT, "snapshot not found") : i;
}

static int change(struct qcow2 *q, struct err *e)
{
	int i;

	if (create)
		return take(q, e);
	i = find(q, e);
	if (i < 0 || (apply ? qcow2_snap_apply(q, (unsigned)i, e) : qcow2_snap_delete(q, (unsigned)i, e)) < 0)
		return err_at(e, "could not %s snapshot '%s'", apply ? "apply" : "delete", apply ? apply : delete);
	return 0;
}

static int run(int argc, char **argv, struct err *e)
{
	auto_image struct image *img = NULL;
	auto_name struct image_name *name = NULL;
	bool write;

	(void)argc;
	create = creates.v[0];
	apply = applies.v[0];
	delete = deletes.v[0];
	write = create || apply || delete;
	if (lists.n + creates.n + applies.n + deletes.n > 1)
		return err_set(e, ERR_USAGE, "cannot mix '-l', '-a', '-c', '-d'");
	if (write && share)
		return err_set(e, ERR_USAGE, "-U only goes with -l: an image in use is not changed");
	if (img_name(argv[0], format, &name, e) < 0)
		return e->code;
	if (write)
		return img_open_rw(name, false, &img, e) < 0 ? e->code : change(img->q, e);
	if (img_open(name, share ? QCOW2_SHARE : 0, &img, e) < 0)
		return e->code;
	if (img->q)
		img_print_snaps(img->q);
	return 0;
}

const struct cmd cmd_img_snapshot = { "snapshot", "[-l | -c NAME | -a ID|NAME | -d NAME] FILE", NULL,
	"internal snapshots of an image", NULL, opts, 1, 1, run };
