/* What a commit overwrites: snapshots that it makes worthless, and chains that must not be below it. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/blockjob/blockjob.h"
#include "engine/blockjob/internal.h"
#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/chain/needs.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/text.h"

static size_t first_committed(const struct record_job *j)
{
	return j->op == FERMATA_COMMIT;
}

static bool loses(const struct record_job *j, const struct fermata_snap_disk *d)
{
	size_t top = first_committed(j), end = j->n_images;

	if (strcmp(d->disk, j->disk))
		return false;
	/* What was frozen below the top is overwritten, or is backed by what is; an inner one goes with its image. */
	for (size_t i = d->external ? top + 1 : top; i < (d->external ? end : end - 1); i++)
		if (same_file(j->images[i], d->file))
			return true;
	return false;
}

static bool loses_snap(const struct record_job *j, const struct fermata_snap *s)
{
	for (size_t k = 0; k < s->n_disks; k++)
		if (loses(j, &s->disks[k]))
			return true;
	return false;
}

const struct fermata_snap *job_first_lost(const struct fermata_vm *vm, const struct record_job *j)
{
	bool commits = j->op == FERMATA_COMMIT || j->op == FERMATA_ACTIVE_COMMIT;

	for (size_t i = 0; commits && i < vm->rec->n_snaps; i++)
		if (loses_snap(j, vm->rec->snaps[i]))
			return vm->rec->snaps[i];
	return NULL;
}

/* ---- snapshots inside images ------------------------------------------------------------------------------- */

static bool has_inner(const struct fermata_snap *s)
{
	for (size_t k = 0; k < s->n_disks; k++)
		if (!s->disks[k].external)
			return true;
	return false;
}

const struct fermata_snap *job_inner_lost(const struct fermata_vm *vm, const struct record_job *j)
{
	for (size_t i = vm->rec->n_snaps; i-- > 0;)
		if (has_inner(vm->rec->snaps[i]) && loses_snap(j, vm->rec->snaps[i]))
			return vm->rec->snaps[i];
	return NULL;
}

int job_may_drop(struct fermata_vm *vm, const struct record_job *j, struct err *e)
{
	for (size_t i = 0; i < vm->rec->n_snaps; i++) {
		const struct fermata_snap *s = vm->rec->snaps[i];

		if (!has_inner(s) || !loses_snap(j, s))
			continue;
		if (jobs_none(vm, e) < 0)
			return e->code;
		if (fermata_snap_external(s)) {
			err_set(e, -EBUSY, "snapshot '%s' is inside one disk's image and froze another's: this would leave a half of it", s->name);
			return err_hint(e, "delete it first: 'fermata snapshot-delete %s %s'", vm->name, s->name);
		}
		if (vm_alive(vm) && tags_reached(vm, s, e) < 0)
			return e->code;
	}
	return 0;
}

/* Whether a file has a name as overlay_name() gives them. */
static bool name_is_ours(const char *file)
{
	const char *p = strrchr(file, '-');
	uint64_t id;

	if (!p)
		return false;
	p++;
	return text_take_num(&p, 0, &id) && !strcmp(p, ".qcow2");
}

/* @file is frozen no more: it and the overlays below go, if nothing else needs them. */
static int trash_chain(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct err *e)
{
	char at[PATH_MAX], next[PATH_MAX];
	bool raw = d->raw;
	struct err ignored;

	snprintf(at, sizeof at, "%s", d->file);
	while (name_is_ours(at)) {
		if (record_trash(vm->rec, at, e) < 0)
			return e->code;
		if (raw || chain_next(at, next, &raw, &ignored) < 0)
			break;
		memcpy(at, next, sizeof at);
	}
	return 0;
}

int job_forget_lost(struct fermata_vm *vm, const struct record_job *j, struct err *e)
{
	const struct fermata_snap *lost;

	while ((lost = job_first_lost(vm, j))) {
		struct fermata_snap *s = record_take(vm->rec, lost->id);
		int rc = trash_memory(vm, s, e);

		/* Whatever its other disks froze and nothing else needs. */
		for (size_t k = 0; rc == 0 && k < s->n_disks; k++)
			if (s->disks[k].external && strcmp(s->disks[k].disk, j->disk))
				rc = trash_chain(vm, &s->disks[k], e);
		snap_free(s);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int block_commit_alone(struct fermata_vm *vm, const struct block_plan *p, struct err *e)
{
	/* A deletion sees to all that is backed by what it commits; a job only to the chain in use. */
	const char *top = p->chain.layers[p->deleting ? p->top : p->chain.n_layers - 1].file;

	if (image_spares_all(vm, p->chain.disk, top, p->chain.layers[p->base].file, p->deleting, e) < 0)
		return err_hint(e, "pull instead, or delete that first");
	return 0;
}
