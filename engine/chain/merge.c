/* Merging images that no QEMU uses, natively: a layer with those below it, and the block jobs of a VM that is off. */
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

int off_pull(struct fermata_vm *vm, const char *top, size_t n, bool relative, bool dry, struct err *e)
{
	struct chain_job job = { on_progress, vm, 0 };
	auto_image struct image *img = NULL;
	auto_free char *name = NULL;
	struct chain_cost cost;
	struct image *base;

	if (image_open_chain(top, "qcow2", 0, &img, e) < 0)
		return e->code;
	base = below(img, n);
	if (chain_pull_cost(img, base, &cost, e) < 0 || need_room(top, &cost, e) < 0)
		return e->code;
	if (dry)
		return image_reopen_rw(img, e);
	if (base && backing_name_for(top, base->path, relative, &name, e) < 0)
		return e->code;
	return image_reopen_rw(img, e) < 0 || chain_pull(img, base, name, base ? base->format : NULL, &job, e) < 0 ? e->code : 0;
}

int off_commit(struct fermata_vm *vm, const char *top, size_t n, bool dry, struct err *e)
{
	struct chain_job job = { on_progress, vm, 0 };
	auto_image struct image *img = NULL;
	struct chain_cost cost;
	struct image *base;

	if (image_open_chain(top, "qcow2", 0, &img, e) < 0)
		return e->code;
	base = below(img, n);
	if (chain_commit_cost(img, base, &cost, e) < 0 || need_room(base->path, &cost, e) < 0)
		return e->code;
	if (dry)
		return image_reopen_rw(base, e);
	return image_reopen_rw(base, e) < 0 || chain_commit(img, base, &job, e) < 0 ? e->code : 0;
}

int off_stand_on(const char *file, const char *base, bool raw, bool relative, struct err *e)
{
	auto_free char *name = NULL;
	auto_qcow2 struct qcow2 *q = NULL;

	if (backing_name_for(file, base, relative, &name, e) < 0)
		return e->code;
	return qcow2_open(file, QCOW2_RW, &q, e) < 0 ? e->code : qcow2_set_backing(q, name, raw ? "raw" : "qcow2", e);
}
