/* Open a VM: its files, its lock, and whatever was cut off is finished or undone first. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/blockjob/blockjob.h"
#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/recover.h"
#include "engine/undefined.h"
#include "engine/vm/guarded.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

/* In a child, after the command's death: the handle is as that left it, so the VM is opened once more, which recovers it. */
static void recover_now(struct fermata_vm *vm)
{
	struct fermata_vm *again;
	struct err e;

	if (fermata_vm_open(vm->host, vm->name, FERMATA_WRITE, "recover", &again, &e) == 0)
		fermata_vm_close(again);
}

/* @lenient: a record that cannot be read is trouble, but not in the way of what does not need it. */
static int read_files(struct fermata_vm *vm, bool lenient, struct err *e)
{
	auto_free char *state = str_fmt("%s/state.json", vm->state_dir);

	if (!state)
		return err_nomem(e, "open a VM");
	if (definition_read(vm, e) < 0)
		return e->code;
	if (record_load(state, &vm->rec, e) == 0) {
		vm->rec->def = vm->def;
		return 0;
	}
	if (!lenient)
		return e->code;
	vm->trouble = *e;
	return record_none(state, &vm->rec, e);
}

/* What earlier commands left: finished or undone. */
static int settle(struct fermata_vm *vm, struct err *e)
{
	record_clean(vm->rec);
	if (!vm_alive(vm))
		kvm_clean(vm->run_dir);
	if ((CONFIG_SNAPSHOT && jobs_settle(vm, e) < 0) || vm_recover(vm, e) < 0 || (CONFIG_MEMORY && standby_recover(vm, e) < 0))
		return err_at(e, "%s", vm->name);
	trash_empty(vm);
	if (CONFIG_BOOT && guard_look(vm, e) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

/* A VM is not to find the record of another one that had its name. */
static int forget_undefined(struct fermata_vm *vm, struct err *e)
{
	bool found = false;

	if (CONFIG_DEFINE && undefined_finish(vm, &found, e) < 0)
		return e->code;
	if (found)
		vm_notice(vm, "what an undefine that was cut off had left is removed");
	return 0;
}

static int open_locked(struct fermata_vm *vm, bool steer, const char *what, struct err *e)
{
	/* The record is read under the lock, or another command could replace it in between. */
	if (vm_take_lock(vm, what, e) < 0 || forget_undefined(vm, e) < 0 || read_files(vm, steer, e) < 0)
		return e->code;
	if (vm->trouble.code)
		vm_notice(vm, "%s", vm->trouble.msg);
	if (vm->rec->none || settle(vm, e) == 0)
		return 0;
	if (!steer)
		return e->code;
	/* Whatever is pending stays so: what runs can be asked and stopped. */
	vm_notice(vm, "%s", e->msg);
	vm_ask_anew(vm);
	return 0;
}

int fermata_vm_open(struct fermata *f, const char *name, enum fermata_access access, const char *what,
	struct fermata_vm **out, struct err *e)
{
	auto_handle struct fermata_vm *vm = NULL;
	struct err bad_name;

	if (def_check_name(name, &bad_name) < 0)
		return no_such_vm(f, name, e);
	if (vm_new(f, name, &vm, e) < 0)
		return e->code;
	vm->rescue = recover_now;
	if (access == FERMATA_READ || access == FERMATA_LOOK) {
		if (read_files(vm, access == FERMATA_LOOK, e) < 0)
			return e->code;
	} else if (definition_there(vm, e) < 0 || open_locked(vm, access == FERMATA_STEER, what, e) < 0) {
		return e->code; /* a mistyped name has left no folders behind: it was asked for before the lock made them */
	}
	*out = take_ptr(&vm);
	return 0;
}
