/*
 * What the record says of a guarded command, held against who is there: while one is guarded, its process holds a lock in the
 * run folder. A guard that is gone while the guest goes on is the user's to decide about, for what the guest does from then
 * on is not the command's any more.
 */
#include <string.h>
#include <time.h>

#include "engine/record/record.h"
#include "engine/vm/guarded.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

#define LONG_S 86400 /* a boot does not go back further than this */

char *guard_lock(const struct fermata_vm *vm)
{
	return str_fmt("%s/guard", vm->run_dir);
}

bool guard_is_held(const struct fermata_vm *vm)
{
	auto_free char *path = guard_lock(vm);
	char who[100];

	return path && lock_holder(path, who, sizeof who);
}

bool guard_is_cut(const struct fermata_vm *vm)
{
	return vm->rec->boot.guard && (vm->rec->boot.cut || !guard_is_held(vm));
}

bool guard_is_first(const struct fermata_vm *vm)
{
	const struct record_boot *b = &vm->rec->boot;
	const struct fermata_snap *s = record_by_id(vm->rec, b->guard_id);

	/* Another's by that name is not what was guarded. */
	return b->guard && !b->cut && (!b->guard_id || (s && !strcmp(s->name, b->guard)));
}

int guard_look(struct fermata_vm *vm, struct err *e)
{
	struct record_boot *b = &vm->rec->boot;

	if (!b->guard || b->cut)
		return 0;
	if (time(NULL) - b->since <= LONG_S && (!vm_alive(vm) || b->tries || guard_is_held(vm)))
		return 0;
	b->cut = true;
	if (record_string(&b->result, "the guard was cut off", e) < 0 || record_save(vm->rec, e) < 0)
		return e->code;
	guard_tell(vm);
	return 0;
}

void guard_tell(struct fermata_vm *vm)
{
	if (guard_is_cut(vm))
		vm_notice(vm, "a guard was cut off: 'fermata recover %s --guard=back' goes back to '%s', --guard=keep keeps the present%s",
			vm->name, vm->rec->boot.guard, vm->rec->boot.cut ? "" : "; the next boot would go back");
}
