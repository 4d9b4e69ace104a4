/* From what is asked (--top, --base, ...) to images by their place in the chain. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/blockjob/blockjob.h"
#include "engine/blockjob/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/text.h"

/* "vda[2]": so many images below the active one, which is vda[0]. */
static bool layer_number(const struct kvm_chain *c, const char *name, size_t *at)
{
	size_t n = strlen(c->disk);
	uint64_t below;

	if (strncmp(name, c->disk, n) || name[n] != '[')
		return false;
	name += n + 1;
	if (!text_take_num(&name, 0, &below) || strcmp(name, "]") || below >= c->n_layers)
		return false;
	*at = c->n_layers - 1 - below;
	return true;
}

/* The layer that a user calls @name: a file of the chain, its number there, or the snapshot that froze it. */
static int layer_pick(const struct fermata_vm *vm, const struct kvm_chain *c, const char *name, size_t *at, struct err *e)
{
	const struct fermata_snap *s = record_by_name(vm->rec, name);
	const char *file = name;

	if (layer_number(c, name, at))
		return 0;
	for (size_t j = 0; s && j < s->n_disks; j++)
		if (s->disks[j].external && !strcmp(s->disks[j].disk, c->disk))
			file = s->disks[j].file;
	for (*at = 0; *at < c->n_layers; ++*at)
		if (same_file(c->layers[*at].file, file))
			return 0;
	err_set(e, -ENOENT, "'%s' is neither an image of the disk's chain nor a snapshot that froze one", name);
	return err_hint(e, "'fermata domblkchain %s' shows the chain", vm->name);
}

int plan_commit(struct fermata_vm *vm, const struct fermata_block *b, struct block_plan *p, struct err *e)
{
	size_t active = p->chain.n_layers - 1;

	p->top = active;
	if (b->top && layer_pick(vm, &p->chain, b->top, &p->top, e) < 0)
		return e->code;
	p->base = b->shallow && p->top ? p->top - 1 : 0;
	if (b->base && layer_pick(vm, &p->chain, b->base, &p->base, e) < 0)
		return e->code;
	if (!p->top)
		return err_set(e, -EINVAL, "%s has no backing file", p->chain.layers[0].file);
	if (p->base >= p->top)
		return err_set(e, -EINVAL, "%s is not backed by %s", p->chain.layers[p->top].file, p->chain.layers[p->base].file);
	if (p->top < active)
		return b->active ? err_set(e, -EINVAL, "%s is not the active layer", p->chain.layers[p->top].file) : 0;
	if (!b->active) {
		err_set(e, -EINVAL, "commit of '%s' active layer requires active flag", p->chain.disk);
		return err_hint(e, "--active");
	}
	p->op = FERMATA_ACTIVE_COMMIT;
	return 0;
}

int plan_rest(struct fermata_vm *vm, const struct fermata_block *b, struct block_plan *p, struct err *e)
{
	p->top = p->chain.n_layers - 1;
	p->base = NO_LAYER;
	if (p->op == FERMATA_COPY) {
		if (b->shallow && (!p->top || b->dest_raw))
			return err_set(e, -EINVAL, p->top ? "a raw file has no backing file" : "the disk's image has no backing file");
		return 0;
	}
	if (!p->top)
		return err_set(e, -EINVAL, "the disk's image has no backing file");
	if (b->base && layer_pick(vm, &p->chain, b->base, &p->base, e) < 0)
		return e->code;
	return p->base == p->top ? err_set(e, -EINVAL, "the base is the active layer") : 0;
}
