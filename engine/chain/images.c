/* Every image behind a disk: the chain that it uses, and the branches that snapshots keep. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/dev.h"
#include "lib/err.h"
#include "lib/file.h"
#include "qcow2/qcow2.h"

#define MAX_LAYERS 200

struct images {
	struct fermata_image *v;
	struct stat *id; /* st_ino 0: not there */
	size_t n;
};

void fermata_images_free(struct fermata_image *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].file);
	free(list);
}

static size_t find(const struct images *l, const char *file)
{
	struct stat st;
	size_t i = 0;

	while (i < l->n && strcmp(l->v[i].file, file))
		i++;
	if (i == l->n && stat(file, &st) == 0)
		for (i = 0; i < l->n && (l->id[i].st_ino != st.st_ino || l->id[i].st_dev != st.st_dev);)
			i++;
	return i;
}

static void measure(struct fermata_image *m, struct stat *st)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_info info;
	struct err ignored;

	m->missing = stat(m->file, st) < 0;
	if (m->missing)
		return;
	m->missing = !file_measure(m->file, &m->capacity, &m->allocation);
	if (m->raw)
		return;
	m->missing = qcow2_open(m->file, QCOW2_SHARE, &q, &ignored) < 0;
	if (m->missing)
		return;
	qcow2_get_info(q, &info);
	m->capacity = info.size;
}

/* @file and all below it, as far as they are not known. A chain that breaks off is no error: it is shown as it is. */
static int add(struct images *l, const char *file, bool raw, bool in_use, struct err *e)
{
	char at[PATH_MAX], next[PATH_MAX];
	struct fermata_image *all;
	struct stat *id;
	struct err ignored;

	snprintf(at, sizeof at, "%s", file);
	for (int depth = 0; at[0] && depth <= MAX_LAYERS && find(l, at) == l->n; depth++) {
		all = reallocarray(l->v, l->n + 1, sizeof *all);
		if (all)
			l->v = all;
		id = reallocarray(l->id, l->n + 1, sizeof *id);
		if (id)
			l->id = id;
		if (!all || !id)
			return err_nomem(e, "list images");
		id[l->n] = (struct stat){ 0 };
		all[l->n] = (struct fermata_image){ .file = strdup(at), .raw = raw, .in_use = in_use, .backing = SIZE_MAX };
		if (!all[l->n].file)
			return err_nomem(e, "list images");
		measure(&all[l->n], &id[l->n]);
		l->n++;
		next[0] = '\0';
		if (!raw && chain_next(at, next, &raw, &ignored) < 0)
			break;
		memcpy(at, next, sizeof at);
	}
	return 0;
}

static int gather(struct fermata_vm *vm, size_t disk, struct images *l, struct err *e)
{
	const struct record *r = vm->rec;

	if (add(l, fermata_vm_disk_file(vm, disk), fermata_vm_disk_raw(vm, disk), true, e) < 0)
		return e->code;
	for (size_t i = 0; i < r->n_snaps; i++)
		for (size_t j = 0; j < r->snaps[i]->n_disks; j++) {
			const struct fermata_snap_disk *d = &r->snaps[i]->disks[j];
			size_t at;

			if (strcmp(d->disk, vm->def->disks[disk].name))
				continue;
			if (add(l, d->file, d->raw, false, e) < 0)
				return e->code;
			at = find(l, d->file);
			if (d->external && at < l->n)
				l->v[at].frozen = r->snaps[i];
		}
	return 0;
}

int fermata_images(struct fermata_vm *vm, size_t i, struct fermata_image **list, size_t *n, struct err *e)
{
	struct images l = { 0 };
	char next[PATH_MAX];
	struct err ignored;
	bool raw;

	if (i >= vm->def->n_disks)
		return err_set(e, -EINVAL, "%s: there is no disk number %zu", vm->name, i);
	if (gather(vm, i, &l, e) < 0) {
		fermata_images_free(l.v, l.n);
		free(l.id);
		return err_at(e, "%s: %s", vm->name, vm->def->disks[i].name);
	}
	for (size_t k = 0; k < l.n; k++) {
		l.v[k].backing = l.n;
		if (!l.v[k].raw && chain_next(l.v[k].file, next, &raw, &ignored) == 0 && next[0])
			l.v[k].backing = find(&l, next);
	}
	free(l.id);
	*list = l.v;
	*n = l.n;
	return 0;
}

int fermata_vm_disk_size(struct fermata_vm *vm, size_t i, struct fermata_disk_size *out, struct err *e)
{
	const char *file = fermata_vm_disk_file(vm, i);
	auto_qcow2 struct qcow2 *q = NULL;
	struct dev *d = NULL;
	struct qcow2_info info;
	struct stat st;

	if (!file)
		return err_set(e, -EINVAL, "%s: there is no disk number %zu", vm->name, i);
	if (dev_open(file, O_RDONLY, &d, e) < 0)
		return err_at(e, "%s", vm->def->disks[i].name);
	out->physical = out->capacity = d->size;
	out->allocation = fstat(dev_fd(d), &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : d->size;
	dev_close(d);
	if (fermata_vm_disk_raw(vm, i))
		return 0;
	if (qcow2_open(file, QCOW2_SHARE, &q, e) < 0)
		return err_at(e, "%s", vm->def->disks[i].name);
	qcow2_get_info(q, &info);
	out->capacity = info.size;
	return 0;
}
