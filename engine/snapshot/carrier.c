/* See carrier.h. */

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/snapshot/carrier.h"
#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/chain/needs.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/lock.h"
#include "qcow2/qcow2.h"

#define CHUNK (1u << 20)

bool carriers_differ(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	for (size_t j = 0; j < s->n_disks; j++)
		if (carrier_differs(vm, &s->disks[j]) < vm->def->n_disks)
			return true;
	return false;
}

/* ---- a copy of its own --------------------------------------------------------------------------------------- */

static int copy_bytes(int from, int to, const char *path, struct err *e)
{
	auto_free char *buf = malloc(CHUNK);
	off_t end = lseek(from, 0, SEEK_END), at = 0, hole;

	if (!buf)
		return err_nomem(e, "copy an image");
	while (at < end) {
		at = lseek(from, at, SEEK_DATA);
		if (at < 0 && errno == ENXIO)
			break;
		hole = at < 0 ? -1 : lseek(from, at, SEEK_HOLE);
		if (hole < 0 || lseek(from, at, SEEK_SET) < 0 || lseek(to, at, SEEK_SET) < 0)
			return err_sys(e, errno, "cannot read the image that %s is to be a copy of", path);
		while (at < hole) {
			size_t n = hole - at < (off_t)CHUNK ? (size_t)(hole - at) : CHUNK;

			if (io_read_full(from, buf, n, path, e) < 0 || io_write_full(to, buf, n, path, e) < 0)
				return e->code;
			at += (off_t)n;
		}
	}
	return ftruncate(to, end) < 0 || fsync(to) < 0 ? err_sys(e, errno, "cannot write %s", path) : 0;
}

static int copy_file(struct fermata_vm *vm, const char *from, const char *to, struct err *e)
{
	auto_fd int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
	auto_free char *dir = path_beside(to, ".");
	uint64_t need, has;

	if (in < 0)
		return err_sys(e, errno, "cannot open %s", from);
	if (!dir)
		return err_nomem(e, "copy an image");
	if (image_lock(in, from, false, e) < 0 || file_free_space(dir, &has, e) < 0)
		return e->code;
	if (file_measure(from, NULL, &need) && has < need)
		return err_set(e, -ENOSPC, "a copy of %s takes %llu MiB, %s has %llu MiB free", from, (unsigned long long)(need >> 20), dir,
			(unsigned long long)(has >> 20));
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return err_sys(e, errno, "cannot create %s", to);
	return give_to_user(vm, out, to, e) < 0 || copy_bytes(in, out, to, e) < 0 ? e->code : file_flush_name(to, e);
}

/* Delete the snapshots inside @file that are called @tag, or (@others) all that are not. */
static int strip(const char *file, const char *tag, bool others, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	const struct qcow2_snap *s;
	unsigned n;

	if (qcow2_open(file, QCOW2_RW, &q, e) < 0)
		return e->code;
	s = qcow2_snaps(q, &n);
	for (unsigned i = n; i-- > 0; s = qcow2_snaps(q, &n))
		if (!strcmp(s[i].name, tag) != others && qcow2_snap_delete(q, i, e) < 0)
			return e->code;
	return 0;
}

/* Snapshot @s's disk @j moves into a copy of the image that carries it: the same content, and no other snapshot. */
static int move_out(struct fermata_vm *vm, struct fermata_snap *s, size_t j, struct err *e)
{
	struct fermata_snap_disk *d = &s->disks[j];
	auto_free char *to = NULL, *from = strdup(d->file);
	char next[PATH_MAX];
	struct err why;
	bool raw = false;

	if (!from)
		return err_nomem(e, "copy an image");
	if (overlay_name(vm, carrier_differs(vm, d), s->name, vm->rec->next_id++, &to, e) < 0)
		return e->code;
	/* What is cut off here is on the list of what may go, as nothing needs it. */
	if (record_trash(vm->rec, to, e) < 0 || record_save(vm->rec, e) < 0 || copy_file(vm, from, to, e) < 0 ||
		strip(to, d->tag, true, e) < 0 || chain_next(from, next, &raw, e) < 0 ||
		(next[0] && off_stand_on(to, next, raw, false, e) < 0) || record_string(&d->file, to, e) < 0)
		return e->code;
	if (record_save(vm->rec, e) < 0) {
		if (record_string(&d->file, from, &why) < 0)
			err_also(e, "%s", why.msg);
		return e->code;
	}
	if (vm_alive(vm) || strip(from, d->tag, false, &why) < 0)
		vm_notice(vm, "%s: %s keeps its '%s' as well", d->disk, from, d->tag);
	return 0;
}

/* ---- going back ------------------------------------------------------------------------------------------------ */

static int check_one(struct fermata_vm *vm, const struct fermata_snap *s, size_t j, bool copy, struct err *e)
{
	const struct fermata_snap_disk *d = &s->disks[j];
	struct fermata_snap *own = record_by_id(vm->rec, s->id);
	struct err why;

	if (image_can_be_active(vm, d->disk, d->file, &why) == 0)
		return 0;
	if (copy && own)
		return move_out(vm, own, j, e);
	err_set(e, -EBUSY, "'%s' is inside %s, but %s", d->tag, d->file, why.msg);
	return err_hint(e, "--copy goes back to it as an image of its own; or delete that first");
}

int carriers_check(struct fermata_vm *vm, const struct fermata_snap *s, bool copy, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++) {
		size_t i = carrier_differs(vm, &s->disks[j]);

		if (i == vm->def->n_disks)
			continue;
		if (!vm_alive(vm) && overlay_unused(fermata_vm_disk_file(vm, i), e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
		if (check_one(vm, s, j, copy, e) < 0 || chain_check(vm, s->disks[j].file, false, e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
	}
	return 0;
}

int carriers_look(struct fermata_vm *vm, const struct fermata_snap *s, struct disks *ds, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++) {
		size_t i = disk_index(ds, s->disks[j].disk);

		if (i == ds->n || carrier_differs(vm, &s->disks[j]) == vm->def->n_disks)
			continue;
		qcow2_close(ds->d[i].image);
		ds->d[i].image = NULL;
		ds->d[i].snaps = NULL;
		ds->d[i].file = s->disks[j].file;
		if (qcow2_open(ds->d[i].file, QCOW2_SHARE, &ds->d[i].image, e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
	}
	return 0;
}

