/*
 * What a pending operation makes is known again when it has to be undone: by a mark that is on record before anything is
 * made. An image has it in its header, and is put in its place with it; saved memory has a place for it, too; any other file
 * is known by its time. What has none of these was put there by somebody else, and stays.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"

#define SECOND_NS 1000000000u

static struct timespec stamp_of(const struct pending *p)
{
	return (struct timespec){ .tv_sec = (time_t)(p->since_ns / SECOND_NS), .tv_nsec = (long)(p->mark % SECOND_NS) };
}

int made_stamp(struct fermata_vm *vm, int fd, const char *path, struct err *e)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, stamp_of(&vm->rec->pending) };

	return vm->rec->pending.mark && futimens(fd, t) < 0 ? err_sys(e, errno, "cannot set the time of %s", path) : 0;
}

bool made_stamped(struct fermata_vm *vm, const char *path)
{
	struct timespec t = stamp_of(&vm->rec->pending);
	struct stat st;

	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_mtim.tv_sec != t.tv_sec)
		return false;
	/* Where a file system has whole seconds, or hundreds of nanoseconds, that is what is left of it. */
	return st.st_mtim.tv_nsec == t.tv_nsec || st.st_mtim.tv_nsec == t.tv_nsec - t.tv_nsec % 100 || !st.st_mtim.tv_nsec;
}

int made_image(const char *path, uint64_t mark, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_info info;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "cannot look at %s", path);
	if (!S_ISREG(st.st_mode))
		return 0;
	/* No header, or not one of this format: it has never been one of ours. What is only damaged may have been. */
	if (qcow2_open(path, QCOW2_SHARE, &q, e) < 0)
		return e->code == -EINVAL || e->code == -ENODATA ? 0 : e->code;
	qcow2_get_info(q, &info);
	return info.mark == mark;
}

void made_stays(struct fermata_vm *vm, const char *path)
{
	vm_notice(vm, "%s stays: it is there, and not what '%s' has made", path, vm->rec->pending.snap ? vm->rec->pending.snap->name : vm->name);
}

static int remove_made(struct fermata_vm *vm, const char *path, uint64_t mark, bool ours, struct err *e)
{
	auto_free char *tmp = made_tmp(path, mark);

	if (!tmp)
		return err_nomem(e, "undo what was made");
	/* A read-only file system says so of what is not there, too. */
	if (mark && unlink(tmp) < 0 && file_exists(tmp))
		return err_sys(e, errno, "cannot remove %s", tmp);
	if (!mark || ours)
		return overlay_remove(path, e);
	if (file_exists(path))
		made_stays(vm, path);
	return 0;
}

int made_remove_image(struct fermata_vm *vm, const char *path, uint64_t mark, struct err *e)
{
	struct err ignored;

	/* What cannot be told stays, too. */
	return remove_made(vm, path, mark, made_image(path, mark, &ignored) == 1, e);
}

int made_remove_file(struct fermata_vm *vm, const char *path, struct err *e)
{
	return remove_made(vm, path, vm->rec->pending.mark, made_stamped(vm, path), e);
}

int made_overlays(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t j = 0; vm->rec->pending.mark && j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];
		int rc;

		if (!d->external || d->reused || !file_exists(d->overlay))
			continue;
		rc = made_image(d->overlay, vm->rec->pending.mark, e);
		if (rc < 0)
			return err_at(e, "%s", d->disk);
		if (rc == 1)
			continue;
		err_set(e, -EEXIST, "%s: %s is not the overlay that '%s' has made", d->disk, d->overlay, s->name);
		return err_hint(e, "move it away, or put the overlay back");
	}
	return 0;
}
