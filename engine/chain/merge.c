/* Merging images that no QEMU uses, natively: a layer with those below it, and the block jobs of a VM that is off. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/image/chain.h"
#include "qcow2/image/image.h"
#include "qcow2/qcow2.h"

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct fermata_vm *vm = ctx;

	if (vm->host->progress)
		vm->host->progress(vm->host->progress_ctx, "Merging", done, total);
	return vm->host->cancel && *vm->host->cancel;
}

static int need_room(const char *file, const struct chain_cost *c, struct err *e)
{
	uint64_t has;

	if (file_free_space(file, &has, e) < 0)
		return e->code;
	if (has >= c->need)
		return 0;
	err_set(e, -ENOSPC, "merging into %s may take %llu MiB, its file system has %llu MiB free", file,
		(unsigned long long)(c->need >> 20), (unsigned long long)(has >> 20));
	return err_hint(e, "free some space there");
}

static struct image *below(struct image *img, size_t n)
{
	while (img && n--)
		img = img->backing;
	return img;
}

int off_pull_begin(struct fermata_vm *vm, const char *top, size_t n, bool relative, struct off_change *c, struct err *e)
{
	struct chain_cost cost;

	*c = (struct off_change){ .kind = OFF_PULL, .vm = vm };
	if (image_open_chain(top, "qcow2", 0, &c->img, e) < 0)
		return e->code;
	c->base = below(c->img, n);
	if (c->base && backing_name_for(top, c->base->path, relative, &c->name, e) < 0)
		return e->code;
	c->fmt = c->base ? c->base->format : NULL;
	if (chain_pull_cost(c->img, c->base, &cost, e) < 0 || need_room(top, &cost, e) < 0)
		return e->code;
	return image_reopen_rw(c->img, e);
}

int off_commit_begin(struct fermata_vm *vm, const char *over, const char *top, size_t n, bool relative, struct off_change *c,
	struct err *e)
{
	struct chain_cost cost;
	struct image *from;

	*c = (struct off_change){ .kind = OFF_COMMIT, .vm = vm };
	if (image_open_chain(over ? over : top, "qcow2", 0, &c->img, e) < 0)
		return e->code;
	from = over ? c->img->backing : c->img;
	c->base = below(from, n);
	if (!c->base)
		return err_set(e, -EUCLEAN, "%s is not backed by that many images any more", top);
	if (over && backing_name_for(over, c->base->path, relative, &c->name, e) < 0)
		return e->code;
	c->fmt = c->base->format;
	if (chain_commit_cost(from, c->base, &cost, e) < 0 || need_room(c->base->path, &cost, e) < 0)
		return e->code;
	return image_reopen_rw(c->base, e) < 0 || (over && image_reopen_rw(c->img, e) < 0) ? e->code : 0;
}

int off_stand_begin(const char *file, const char *base, bool raw, bool relative, struct off_change *c, struct err *e)
{
	*c = (struct off_change){ .kind = OFF_STAND, .fmt = raw ? "raw" : "qcow2" };
	return backing_name_for(file, base, relative, &c->name, e) < 0 ? e->code : image_open(file, "qcow2", QCOW2_RW, &c->img, e);
}

int off_change_commit(struct off_change *c, struct err *e)
{
	struct chain_job job = { on_progress, c->vm, 0 };

	assert(c->img); /* one that was not begun is not done */
	if (c->kind == OFF_PULL)
		return chain_pull(c->img, c->base, c->name, c->fmt, &job, e);
	if (c->kind == OFF_COMMIT && chain_commit(c->name ? c->img->backing : c->img, c->base, &job, e) < 0)
		return e->code;
	return c->name ? qcow2_set_backing(c->img->q, c->name, c->fmt, e) : 0;
}

void off_change_done(struct off_change *c)
{
	image_close(c->img);
	free(c->name);
	*c = (struct off_change){ 0 };
}

int off_stand_on(const char *file, const char *base, bool raw, bool relative, struct err *e)
{
	struct off_change c;
	int rc = off_stand_begin(file, base, raw, relative, &c, e);

	if (rc == 0)
		rc = off_change_commit(&c, e);
	off_change_done(&c);
	return rc;
}
