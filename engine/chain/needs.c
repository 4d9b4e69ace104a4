/* See needs.h. */

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/chain/needs.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

/* Where a chain of this VM begins. */
struct root {
	const char *disk, *file;
	bool raw;
	const struct fermata_snap *snap; /* NULL: a disk itself */
	bool external;                   /* the snapshot froze it */
	bool active;
	bool standby;
};

typedef int root_fn(void *ctx, const struct root *r, struct err *e);

static int each_of_snap(const struct fermata_snap *s, root_fn *fn, void *ctx, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];

		if (fn(ctx, &(struct root){ .disk = d->disk, .file = d->file, .raw = d->raw && d->external, .snap = s,
				    .external = d->external }, e) < 0)
			return e->code;
	}
	return 0;
}

static int each_root(struct fermata_vm *vm, root_fn *fn, void *ctx, struct err *e)
{
	const struct record *r = vm->rec;

	for (size_t i = 0; i < vm->def->n_disks; i++) {
		const struct def_disk *def = &vm->def->disks[i];
		const struct record_disk *d = record_disk(r, def->name);
		bool moved = d && d->active;

		if (fn(ctx, &(struct root){ .disk = def->name, .file = def->file, .raw = def->format == FORMAT_RAW, .active = !moved }, e) < 0 ||
			(moved && fn(ctx, &(struct root){ .disk = def->name, .file = d->active, .raw = d->raw, .active = true }, e) < 0))
			return e->code;
	}
	for (size_t i = 0; i < r->n_snaps; i++)
		if (each_of_snap(r->snaps[i], fn, ctx, e) < 0)
			return e->code;
	for (size_t j = 0; r->standby && j < r->standby->n_disks; j++)
		if (r->standby->disks[j].external && fn(ctx, &(struct root){ .disk = r->standby->disks[j].disk,
				.file = r->standby->disks[j].overlay, .standby = true }, e) < 0)
			return e->code;
	return 0;
}

static int busy(const struct root *r, const char *file, struct err *e)
{
	if (r->standby)
		return err_set(e, -EBUSY, "the standby's disk %s is backed by %s", r->disk, file);
	if (r->snap && r->external && same_file(r->file, file))
		return err_set(e, -EBUSY, "snapshot '%s' froze %s", r->snap->name, file);
	if (r->snap)
		return err_set(e, -EBUSY, "snapshot '%s' is backed by %s", r->snap->name, file);
	return err_set(e, -EBUSY, "disk %s of this VM %s %s", r->disk, same_file(r->file, file) ? "is" : "is backed by", file);
}

/* In doubt it does: what cannot be read now may be there again tomorrow. */
static int in_doubt(const struct root *r, const char *file, struct err *e)
{
	char what[300];

	if (r->snap)
		snprintf(what, sizeof what, "snapshot '%s'", r->snap->name);
	else
		snprintf(what, sizeof what, "disk %s of this VM", r->disk);
	return err_at(e, "cannot tell whether %s needs %s", what, file);
}

static int spared_by_others(struct fermata_vm *vm, const char *file, struct err *e)
{
	auto_free char *who = needed_by_whom(vm, file);

	return who ? err_set(e, -EBUSY, "another VM, '%s', needs %s", who, file) : 0;
}

/*
 * Whether @r's chain comes to @base, and not to @top before: 1, 0, or -1 when it cannot be told. @fine: files that have been
 * come by on the way to 0, and are not followed again: what is asked grows with the images, not with the chains. @e: why it cannot.
 */
static int reaches(const struct root *r, const char *base, const char *top, struct file_set *fine, struct err *e)
{
	char at[PATH_MAX], next[PATH_MAX];
	bool raw = r->raw;

	snprintf(at, sizeof at, "%s", r->file);
	/* The definition's image, which its disk does not use any more. */
	if (!r->snap && !r->active && !r->standby && !file_exists(at))
		return 0;
	for (;;) {
		if (!at[0] || (top && same_file(at, top)))
			return 0;
		if (same_file(at, base))
			return 1;
		if (!file_exists(at)) {
			err_set(e, -ENOENT, "%s is not there", at);
			return -1;
		}
		if (!file_set_put(fine, at, raw)) {
			if (fine->all)
				err_nomem(e, "follow a chain");
			return fine->all ? -1 : 0;
		}
		if (raw)
			return 0;
		if (chain_next(at, next, &raw, e) < 0)
			return -1;
		memcpy(at, next, sizeof at);
	}
}

/* ---- writing into a base ----------------------------------------------------------------------------------- */

struct sparing {
	const char *disk, *top, *base;
	uint64_t but;
	struct file_set own; /* @top's chain */
	struct file_set fine;
};

static int spare(void *ctx, const struct root *r, struct err *e)
{
	struct sparing *s = ctx;
	int rc;

	if (r->snap && r->snap->id == s->but)
		return 0;
	/* What this disk itself has of the chain: lost or kept, that is another question. */
	if (!strcmp(r->disk, s->disk) && file_set_has(&s->own, r->file))
		return 0;
	rc = reaches(r, s->base, s->top, &s->fine, e);
	return rc < 0 ? in_doubt(r, s->base, e) : rc ? busy(r, s->base, e) : 0;
}

int image_spares_all(struct fermata_vm *vm, const char *disk, const char *top, const char *base, uint64_t but, struct err *e)
{
	struct sparing s = { .disk = disk, .top = top, .base = base, .but = but };
	int rc;

	file_set_add(&s.own, top, false);
	rc = each_root(vm, spare, &s, e);
	file_set_done(&s.own);
	file_set_done(&s.fine);
	return rc < 0 ? rc : spared_by_others(vm, base, e);
}

/* ---- going back to an image -------------------------------------------------------------------------------- */

struct taking {
	const char *disk, *file;
	struct file_set fine;
};

static int take_from(void *ctx, const struct root *r, struct err *e)
{
	struct taking *t = ctx;
	bool own = !strcmp(r->disk, t->disk);
	int rc;

	if (own && (r->active || (!r->external && same_file(r->file, t->file))))
		return 0;
	rc = reaches(r, t->file, NULL, &t->fine, e);
	return rc < 0 ? in_doubt(r, t->file, e) : rc ? busy(r, t->file, e) : 0;
}

int image_can_be_active(struct fermata_vm *vm, const char *disk, const char *file, struct err *e)
{
	struct taking t = { .disk = disk, .file = file };
	int rc = each_root(vm, take_from, &t, e);

	file_set_done(&t.fine);
	return rc < 0 ? rc : spared_by_others(vm, file, e);
}
