/* The chain of images behind every disk, followed without trusting what the images say. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/chain/chain.h"
#include "engine/chain/internal.h"
#include "engine/fermata.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/limits.h"
#include "lib/own.h"
#include "qcow2/image/image.h"
#include "qcow2/qcow2.h"

#define MAX_LAYERS (MAX_BACKING_DEPTH + 1)

/* A chain while it is followed: the active layer first. */
struct walk {
	struct kvm_layer *layers;
	size_t n;
	struct file_set vouched; /* the images that the record names, once they are asked for */
	bool asked;
};

static void layer_free(const struct kvm_layer *l)
{
	free((char *)l->file);
	free((char *)l->data);
}

static void walk_done(struct walk *w)
{
	for (size_t i = 0; i < w->n; i++)
		layer_free(&w->layers[i]);
	free(w->layers);
	file_set_done(&w->vouched);
}

static bool same_id(const struct stat *a, const struct stat *b)
{
	return a->st_ino && a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* @file is none that the chain has already. */
static int look_new(const struct walk *w, const char *file, struct stat *id, struct err *e)
{
	if (stat(file, id) < 0)
		return err_sys(e, errno, "cannot find image %s", file);
	for (size_t i = 0; i < w->n; i++)
		if (same_id(&w->layers[i].id, id) || same_id(&w->layers[i].data_id, id))
			return err_set(e, -EUCLEAN, "the chain comes back to %s", file);
	return 0;
}

static int push(struct walk *w, const char *file, enum def_format format, struct err *e)
{
	struct kvm_layer *layers = reallocarray(w->layers, w->n + 1, sizeof *layers), l = { .format = format };

	if (!layers)
		return err_nomem(e, "follow a chain");
	w->layers = layers;
	if (look_new(w, file, &l.id, e) < 0)
		return e->code;
	if (w->n == MAX_LAYERS)
		return err_set(e, -EFBIG, "the chain has more than %d images", MAX_LAYERS);
	l.file = strdup(file);
	if (!l.file)
		return err_nomem(e, "follow a chain");
	layers[w->n++] = l;
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
	const struct fermata_snap *pending = vm->rec->pending.snap;

	if (dir_allows(real, vm->state_dir, true) || dir_allows(real, vm->def->snapshot_dir, true))
		return true;
	for (size_t i = 0; i < vm->def->backing_dirs.n; i++)
		if (dir_allows(real, vm->def->backing_dirs.v[i], true))
			return true;
	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (dir_allows(real, vm->def->disks[i].file, false))
			return true;
	/* A place that was asked for when a snapshot was taken: the record vouches for it. */
	for (size_t i = 0, n = w->asked ? 0 : vm->rec->n_snaps; i < n; i++)
		for (size_t j = 0; j < vm->rec->snaps[i]->n_disks; j++)
			file_set_add(&w->vouched, vm->rec->snaps[i]->disks[j].file, true);
	for (size_t i = 0, n = w->asked ? 0 : vm->rec->n_stays; i < n; i++)
		file_set_add(&w->vouched, vm->rec->stays[i].file, true);
	for (size_t i = 0, n = w->asked ? 0 : vm->rec->n_disks; i < n; i++)
		if (vm->rec->disks[i].active)
			file_set_add(&w->vouched, vm->rec->disks[i].active, true);
	for (size_t i = 0, n = w->asked ? 0 : vm->rec->n_jobs; i < n; i++)
		for (size_t j = 0; j < vm->rec->jobs[i]->n_images; j++)
			file_set_add(&w->vouched, vm->rec->jobs[i]->images[j], true);
	for (size_t j = 0, n = w->asked || !pending ? 0 : pending->n_disks; j < n; j++)
		file_set_add(&w->vouched, pending->disks[j].file, true);
	w->asked = true;
	return !w->vouched.all && file_set_has(&w->vouched, real);
}

int chain_alone(const char *image, struct err *e)
{
	char next[PATH_MAX], data[PATH_MAX];
	bool raw;

	if (read_names(image, next, &raw, data, e) < 0)
		return e->code;
	return next[0] || data[0] ? err_set(e, -EOPNOTSUPP, "%s: it has a %s file, %s", image, next[0] ? "backing" : "data",
		next[0] ? next : data) : 0;
}

static int refuse_outside(struct fermata_vm *vm, const char *image, const char *what, const char *real, struct err *e)
{
	err_set(e, -EACCES, "%s: its %s %s lies outside the folders that the definition names", image, what, real);
	return err_hint(e, "name its folder in %s, if that is meant: backing-dir = FOLDER", vm->def->path);
}

/* The guest reads and writes there as it does in the image. */
static int push_data(struct fermata_vm *vm, struct walk *w, const char *data, struct err *e)
{
	struct kvm_layer *l = &w->layers[w->n - 1];
	char real[PATH_MAX];
	struct stat id;

	/* QEMU looks for it in the folder that it was started in, and not beside the image. */
	if (data[0] != '/') {
		err_set(e, -EINVAL, "%s: the name of its data file, '%s', is not absolute", l->file, data);
		return err_hint(e, "fermata img amend -o data_file=/PATH/%s %s", data, l->file);
	}
	if (!realpath(data, real))
		return err_sys(e, errno, "%s: cannot find its data file '%s'", l->file, data);
	if (!allowed(vm, w, real))
		return refuse_outside(vm, l->file, "data file", real, e);
	if (look_new(w, real, &id, e) < 0)
		return e->code;
	l->data = strdup(real);
	l->data_id = id;
	return l->data ? 0 : err_nomem(e, "follow a chain");
}

static int follow(struct fermata_vm *vm, const char *file, bool raw, struct walk *w, struct err *e)
{
	char next[PATH_MAX], data[PATH_MAX];

	if (push(w, file, raw ? FORMAT_RAW : FORMAT_QCOW2, e) < 0)
		return e->code;
	while (!raw) {
		const char *image = w->layers[w->n - 1].file;

		if (read_names(image, next, &raw, data, e) < 0 || (data[0] && push_data(vm, w, data, e) < 0))
			return e->code;
		if (!next[0])
			break;
		if (!allowed(vm, w, next))
			return refuse_outside(vm, image, "backing file", next, e);
		if (push(w, next, raw ? FORMAT_RAW : FORMAT_QCOW2, e) < 0)
			return e->code;
	}
	/* All of them are allowed: they may be read. The lowest that was replaced is the one to name. */
	for (size_t i = w->n; i-- > 1;)
		if (base_check(vm, w->layers[i - 1].file, w->layers[i].file, w->layers[i].format == FORMAT_RAW, e) < 0)
			return e->code;
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
		rc = err_set(e, -EFBIG, "%s is backed by %d images already", file, MAX_BACKING_DEPTH);
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
		layer_free(&c->layers[j]);
	free((void *)c->layers);
}

void chains_done(struct chains *c)
{
	for (size_t i = 0; i < DEF_MAX_DISKS; i++)
		chain_done(&c->chain[i]);
}
