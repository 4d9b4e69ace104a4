#include "engine/standby.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/overlay.h"
#include "engine/revert_ext.h"
#include "lib/own.h"

static char *folder(const struct fermata_vm *vm)
{
	return str_fmt("%s/standby", vm->run_dir);
}

bool standby_ready(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_free char *dir = folder(vm);

	return vm->rec->standby && vm->rec->standby->id == s->id && dir && checkpoint_stands(dir);
}

static int end(const struct fermata_vm *vm, const char *dir, struct err *e)
{
	if (kvm_destroy(dir, 0, false, e) < 0)
		return e->code;
	kvm_remove(dir, vm->run_dir);
	return 0;
}

static int drop(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->standby;
	auto_free char *dir = folder(vm), *next = checkpoint_beside(vm);

	if (!dir || !next)
		return err_nomem(e, "end a standby");
	/* Where it is made, too; no other command has anything there now. */
	if (end(vm, dir, e) < 0 || end(vm, next, e) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && overlay_remove(s->disks[j].overlay, e) < 0)
			return err_at(e, "%s", s->disks[j].disk);
	vm->rec->standby = NULL;
	if (record_save(vm->rec, e) < 0) {
		vm->rec->standby = s;
		return e->code;
	}
	snap_free(s);
	return 0;
}

int standby_give_up(struct fermata_vm *vm, const char *why, struct err *e)
{
	if (!vm->rec->standby)
		return 0;
	if (why)
		vm_notice(vm, "the standby for '%s' is given up: %s", vm->rec->standby->name, why);
	return drop(vm, e);
}

int standby_recover(struct fermata_vm *vm, struct err *e)
{
	auto_free char *dir = folder(vm);

	if (!vm->rec->standby)
		return 0;
	if (!dir)
		return err_nomem(e, "look for a standby");
	return kvm_pid(dir) ? 0 : standby_give_up(vm, "its QEMU has ended", e);
}

int standby_take(struct fermata_vm *vm, struct err *e)
{
	auto_free char *dir = folder(vm), *next = checkpoint_beside(vm);

	if (!dir || !next)
		return err_nomem(e, "revert");
	return rename(dir, next) < 0 && errno != ENOENT ? err_sys(e, errno, "cannot create %s", next) : 0;
}

static int make(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_free char *dir = folder(vm), *next = checkpoint_beside(vm);
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
	if (jobs_none(vm, e) < 0 || standby_give_up(vm, NULL, e) < 0 || checkpoint_check(vm, s, false, false, e) < 0 ||
		revert_ext_check(vm, s, e) < 0)
		return err_at(e, "%s: cannot keep a standby for '%s'", vm->name, name);
	if (make(vm, s, e) == 0)
		return 0;
	if (vm->rec->standby && drop(vm, &also) < 0)
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
