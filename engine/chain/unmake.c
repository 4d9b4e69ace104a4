/* Undoing what a pending operation made: what has its mark goes, what somebody else has put there stays. See made.c. */
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

void made_stays(struct fermata_vm *vm, const char *path)
{
	const struct fermata_snap *s = vm->rec->pending.snap;

	vm_notice(vm, "%s stays: it is there, and not what '%s' has made", path, s ? s->name : vm->name);
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
