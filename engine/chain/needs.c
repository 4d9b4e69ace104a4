/* See needs.h. */

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

static int spared_by_others(struct fermata_vm *vm, const char *file, struct err *e)
{
	auto_free char *who = needed_by_whom(vm, file);

	return who ? err_set(e, -EBUSY, "another VM, '%s', needs %s", who, file) : 0;
}

/* ---- writing into a base ----------------------------------------------------------------------------------- */

struct sparing {
	const char *disk, *top, *base;
	uint64_t but;
	struct file_set own; /* @top's chain */
};

static int spare(void *ctx, const struct root *r, struct err *e)
{
	struct sparing *s = ctx;
	auto_file_set struct file_set below = { 0 };

	if (r->snap && r->snap->id == s->but)
		return 0;
	/* What this disk itself has of the chain: lost or kept, that is another question. */
	if (!strcmp(r->disk, s->disk) && file_set_has(&s->own, r->file))
		return 0;
	file_set_add(&below, r->file, r->raw);
	return !file_set_has(&below, s->base) || file_set_has(&below, s->top) ? 0 : busy(r, s->base, e);
}

int image_spares_all(struct fermata_vm *vm, const char *disk, const char *top, const char *base, uint64_t but, struct err *e)
{
	struct sparing s = { disk, top, base, but, { 0 } };
	int rc;

	file_set_add(&s.own, top, false);
	rc = each_root(vm, spare, &s, e);
	file_set_done(&s.own);
	return rc < 0 ? rc : spared_by_others(vm, base, e);
}

/* ---- going back to an image -------------------------------------------------------------------------------- */

struct taking {
	const char *disk, *file;
};

static int take_from(void *ctx, const struct root *r, struct err *e)
{
	const struct taking *t = ctx;
	auto_file_set struct file_set below = { 0 };
	bool own = !strcmp(r->disk, t->disk);

	if (own && (r->active || (!r->external && same_file(r->file, t->file))))
		return 0;
	file_set_add(&below, r->file, r->raw);
	return file_set_has(&below, t->file) ? busy(r, t->file, e) : 0;
}

int image_can_be_active(struct fermata_vm *vm, const char *disk, const char *file, struct err *e)
{
	struct taking t = { disk, file };

	return each_root(vm, take_from, &t, e) < 0 ? e->code : spared_by_others(vm, file, e);
}
