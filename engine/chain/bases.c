/* Remembering the images below all disks of a VM, for the checks to come. */
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/chain/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/err.h"

/* Whether the chains have @file below another image. */
static bool is_below(const struct chains *c, size_t n, const char *file)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k + 1 < c->chain[i].n_layers; k++)
			if (!strcmp(c->chain[i].layers[k].file, file))
				return true;
	return false;
}

/* By its name: a link may lead to another image by now. */
static bool was_frozen(const struct record *r, const char *name)
{
	for (size_t i = 0; i < r->n_snaps; i++)
		for (size_t j = 0; j < r->snaps[i]->n_disks; j++)
			if (r->snaps[i]->disks[j].external && !strcmp(r->snaps[i]->disks[j].file, name))
				return true;
	return false;
}

void bases_note(struct fermata_vm *vm, const struct chains *c)
{
	struct record *r = vm->rec;
	size_t n = vm->def->n_disks;

	/* What a job fills is not what it will be. */
	for (size_t i = 0; i < r->n_jobs; i++)
		if (!r->jobs[i]->ended)
			return;
	/* What a guest may write to again, and what is not used any more, may change. */
	for (size_t i = r->n_bases; i-- > 0;)
		if (!is_below(c, n, r->bases[i].file) && !frozen_by(r, r->bases[i].file) && !was_frozen(r, r->bases[i].name))
			record_base_forget(r, i);
	for (size_t i = 0; i < n; i++) {
		const struct kvm_chain *chain = &c->chain[i];

		for (size_t k = 0; k + 1 < chain->n_layers; k++)
			base_note(vm, chain->layers[k + 1].file, chain->layers[k].file, chain->layers[k].format == FORMAT_RAW);
	}
	/* And what is below no disk now, but may be again. */
	for (size_t i = 0; i < r->n_snaps; i++)
		for (size_t j = 0; j < r->snaps[i]->n_disks; j++) {
			const struct fermata_snap_disk *d = &r->snaps[i]->disks[j];

			if (d->external && !record_base_named(r, d->file) && !record_base(r, d->file))
				base_note(vm, NULL, d->file, d->raw);
		}
}

void bases_note_all(struct fermata_vm *vm)
{
	auto_chains struct chains c = { 0 };
	struct err ignored;

	/* A chain that cannot be followed is for who needs it. */
	if (chains_find(vm, &c, &ignored) == 0)
		bases_note(vm, &c);
}

int fermata_accept_images(struct fermata_vm *vm, struct err *e)
{
	struct record *r = NULL;

	/* What a recovery that failed half way has noted in memory is not so. */
	if (record_load(vm->rec->path, &r, e) < 0)
		return err_at(e, "%s", vm->name);
	record_free(vm->rec);
	vm->rec = r;
	while (r->n_bases)
		record_base_forget(r, 0);
	return r->bases_new && record_save(r, e) < 0 ? err_at(e, "%s", vm->name) : 0;
}
