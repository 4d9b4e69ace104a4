/* The chain of images behind every disk, followed without trusting what the images say. */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/limits.h"
#include "lib/own.h"
#include "qcow2/image.h"

#define MAX_LAYERS (MAX_BACKING_DEPTH + 1)

/* A chain while it is followed: the active layer first. */
struct walk {
	struct kvm_layer *layers;
	struct stat *seen;
	size_t n;
	struct file_set vouched; /* the images that the record's snapshots froze, once they are asked for */
};

static void walk_done(struct walk *w)
{
	for (size_t i = 0; i < w->n; i++)
		free((char *)w->layers[i].file);
	free(w->layers);
	free(w->seen);
	file_set_done(&w->vouched);
}

static int push(struct walk *w, const char *file, enum def_format format, struct err *e)
{
	struct kvm_layer *layers = reallocarray(w->layers, w->n + 1, sizeof *layers);
	struct stat *seen = reallocarray(w->seen, w->n + 1, sizeof *seen);

	if (layers)
		w->layers = layers;
	if (seen)
		w->seen = seen;
	if (!layers || !seen)
		return err_nomem(e, "follow a chain");
	if (stat(file, &seen[w->n]) < 0)
		return err_sys(e, errno, "cannot find image %s", file);
	if (w->n == MAX_LAYERS)
		return err_set(e, -EFBIG, "the chain has more than %d images", MAX_LAYERS);
	for (size_t i = 0; i < w->n; i++)
		if (seen[i].st_dev == seen[w->n].st_dev && seen[i].st_ino == seen[w->n].st_ino)
			return err_set(e, -EUCLEAN, "the chain comes back to %s", file);
	layers[w->n] = (struct kvm_layer){ strdup(file), format };
	if (!layers[w->n].file)
		return err_nomem(e, "follow a chain");
	w->n++;
	return 0;
}

/* Whether @file lies below one of the folders that the definition itself names. Both are real paths. */
static bool below(const char *file, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(file, dir, n) && (file[n] == '/' || (n && dir[n - 1] == '/'));
}

static bool dir_allows(const char *real, const char *path, bool is_dir)
{
	char dir[PATH_MAX];
	char *slash;

	if (!path)
		return false;
	if (!realpath(path, dir)) {
		/* A disk whose own image was never made: its folder is named all the same. */
		auto_free char *parent = is_dir ? NULL : strndup(path, (size_t)(strrchr(path, '/') - path) + 1);

		return parent && dir_allows(real, parent, true);
	}
	slash = strrchr(dir, '/');
	if (!is_dir && slash)
		slash[slash == dir] = '\0';
	return below(real, dir);
}

static bool allowed(struct fermata_vm *vm, struct walk *w, const char *real)
{
	if (dir_allows(real, vm->state_dir, true) || dir_allows(real, vm->def->snapshot_dir, true))
		return true;
	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (dir_allows(real, vm->def->disks[i].file, false))
			return true;
	/* A place that was asked for when a snapshot was taken: the record vouches for it. */
	for (size_t i = 0, n = w->vouched.n ? 0 : vm->rec->n_snaps; i < n; i++)
		for (size_t j = 0; j < vm->rec->snaps[i]->n_disks; j++)
			file_set_add(&w->vouched, vm->rec->snaps[i]->disks[j].file, true);
	return !w->vouched.all && file_set_has(&w->vouched, real);
}

static int follow(struct fermata_vm *vm, const char *file, bool raw, struct walk *w, struct err *e)
{
	char next[PATH_MAX];

	if (push(w, file, raw ? FORMAT_RAW : FORMAT_QCOW2, e) < 0)
		return e->code;
	while (!raw) {
		const char *image = w->layers[w->n - 1].file;

		if (chain_next(image, next, &raw, e) < 0)
			return e->code;
		if (!next[0])
			break;
		if (!allowed(vm, w, next)) {
			err_set(e, -EACCES, "%s: its backing file %s lies outside the folders that the definition names", image, next);
			return err_hint(e, "set snapshot-dir in %s to a folder above it, if that is meant", vm->def->path);
		}
		if (push(w, next, raw ? FORMAT_RAW : FORMAT_QCOW2, e) < 0)
			return e->code;
	}
	return 0;
}

static int chain_find_from(struct fermata_vm *vm, size_t i, const char *file, bool raw, struct kvm_chain *out, struct err *e)
{
	struct walk w = { 0 };

	if (follow(vm, file, raw, &w, e) < 0) {
		walk_done(&w);
		return err_at(e, "%s", vm->def->disks[i].name);
	}
	for (size_t a = 0, b = w.n - 1; a < b; a++, b--) {
		struct kvm_layer t = w.layers[a];

		w.layers[a] = w.layers[b];
		w.layers[b] = t;
	}
	free(w.seen);
	file_set_done(&w.vouched);
	*out = (struct kvm_chain){ vm->def->disks[i].name, w.layers, w.n };
	return 0;
}

int chain_find(struct fermata_vm *vm, size_t i, struct kvm_chain *out, struct err *e)
{
	return chain_find_from(vm, i, fermata_vm_disk_file(vm, i), fermata_vm_disk_raw(vm, i), out, e);
}

int chain_check(struct fermata_vm *vm, const char *file, bool raw, struct err *e)
{
	struct walk w = { 0 };
	int rc = follow(vm, file, raw, &w, e);

	if (rc == 0 && w.n == MAX_LAYERS)
		rc = err_set(e, -EFBIG, "%s stands on %d images already", file, MAX_BACKING_DEPTH);
	walk_done(&w);
	return rc;
}

int chains_find(struct fermata_vm *vm, struct chains *c, struct err *e)
{
	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (chain_find(vm, i, &c->chain[i], e) < 0)
			return e->code;
	return 0;
}

/* The overlay of disk @i in @s, or NULL. */
static const char *overlay_in(const struct fermata_vm *vm, const struct fermata_snap *s, size_t i)
{
	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && s->disks[j].overlay[0] && !strcmp(s->disks[j].disk, vm->def->disks[i].name))
			return s->disks[j].overlay;
	return NULL;
}

int chains_find_on(struct fermata_vm *vm, const struct fermata_snap *s, struct chains *c, struct err *e)
{
	for (size_t i = 0; i < vm->def->n_disks; i++) {
		const char *overlay = overlay_in(vm, s, i);

		if ((overlay ? chain_find_from(vm, i, overlay, false, &c->chain[i], e) : chain_find(vm, i, &c->chain[i], e)) < 0)
			return e->code;
	}
	return 0;
}

void chain_done(struct kvm_chain *c)
{
	for (size_t j = 0; j < c->n_layers; j++)
		free((char *)c->layers[j].file);
	free((void *)c->layers);
}

void chains_done(struct chains *c)
{
	for (size_t i = 0; i < DEF_MAX_DISKS; i++)
		chain_done(&c->chain[i]);
}
