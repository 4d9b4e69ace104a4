/* standby: prepare a second QEMU for a checkpoint, tell of it, end it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/managed.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/own.h"

static int make(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_free char *dir = standby_dir(vm), *next = checkpoint_beside(vm);
	struct fermata_snap *copy = snap_copy(s);

	if (!dir || !next || !copy) {
		snap_free(copy);
		return err_nomem(e, "make a standby");
	}
	if (revert_ext_name(vm, copy, e) < 0) {
		snap_free(copy);
		return e->code;
	}
	vm->rec->standby = copy;
	vm->rec->standby_mark = pending_new_mark();
	if (record_save(vm->rec, e) < 0) {
		vm->rec->standby = NULL;
		snap_free(copy);
		return e->code;
	}
	if (revert_ext_make(vm, copy, e) < 0 || checkpoint_load(vm, copy, false, e) < 0)
		return e->code;
	return rename(next, dir) < 0 ? err_sys(e, errno, "cannot create %s", dir) : 0;
}

int fermata_standby(struct fermata_vm *vm, const char *name, struct err *e)
{
	const struct fermata_snap *s;
	struct err also;

	if (fermata_snap_find(vm, name, &s, e) < 0)
		return e->code;
	if (s->kind != FERMATA_CHECKPOINT_EXTERNAL) {
		err_set(e, -EOPNOTSUPP, "%s: '%s' is no checkpoint with its memory in a file", vm->name, name);
		return err_hint(e, "snapshot-create-as --instant takes one");
	}
	if (standby_ready(vm, s))
		return 0;
	if (jobs_none(vm, e) < 0 || managed_none(vm, false, e) < 0 || standby_give_up(vm, NULL, e) < 0 || checkpoint_check(vm, s, false, false, e) < 0 ||
		revert_ext_check(vm, s, e) < 0)
		return err_at(e, "%s: cannot keep a standby for '%s'", vm->name, name);
	if (make(vm, s, e) == 0)
		return 0;
	if (vm->rec->standby && standby_drop(vm, &also) < 0)
		err_also(e, "and could not undo: %s", also.msg);
	return err_at(e, "%s: cannot keep a standby for '%s'", vm->name, name);
}

int fermata_standby_end(struct fermata_vm *vm, struct err *e)
{
	return standby_give_up(vm, NULL, e) < 0 ? err_at(e, "%s", vm->name) : 0;
}

const struct fermata_snap *fermata_standby_for(const struct fermata_vm *vm)
{
	return vm->rec->standby;
}
