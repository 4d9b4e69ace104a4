/* standby.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/own.h"

bool standby_ready(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_free char *dir = standby_dir(vm);

	return vm->rec->standby && vm->rec->standby->id == s->id && dir && checkpoint_stands(dir);
}

static int end(const struct fermata_vm *vm, const char *dir, struct err *e)
{
	if (kvm_destroy(dir, 0, false, e) < 0)
		return e->code;
	kvm_remove(dir, vm->run_dir);
	return 0;
}

int standby_drop(struct fermata_vm *vm, struct err *e)
{
	struct fermata_snap *s = vm->rec->standby;
	auto_free char *dir = standby_dir(vm), *next = checkpoint_beside(vm);

	if (!dir || !next)
		return err_nomem(e, "end a standby");
	/* Where it is made, too; no other command has anything there now. */
	if (end(vm, dir, e) < 0 || end(vm, next, e) < 0)
		return e->code;
	for (size_t j = 0; j < s->n_disks; j++)
		if (s->disks[j].external && made_remove_image(vm, s->disks[j].overlay, vm->rec->standby_mark, e) < 0)
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
	return standby_drop(vm, e);
}

int standby_recover(struct fermata_vm *vm, struct err *e)
{
	auto_free char *dir = standby_dir(vm);

	if (!vm->rec->standby)
		return 0;
	if (!dir)
		return err_nomem(e, "look for a standby");
	return kvm_pid(dir) ? 0 : standby_give_up(vm, "its QEMU has ended", e);
}

int standby_take(struct fermata_vm *vm, struct err *e)
{
	auto_free char *dir = standby_dir(vm), *next = checkpoint_beside(vm);

	if (!dir || !next)
		return err_nomem(e, "revert");
	return rename(dir, next) < 0 && errno != ENOENT ? err_sys(e, errno, "cannot create %s", next) : 0;
}
