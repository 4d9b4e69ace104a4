/* guard: a checkpoint before a command, and back to it if the guest is unwell afterwards. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/boot/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/err.h"

#define GUARD     "before-update"

int fermata_guard_begin(struct fermata_vm *vm, struct err *e)
{
	const struct fermata_create c = { .name = GUARD, .description = "kept by guard", .replace = true };
	const struct fermata_snap *s;

	if (fermata_snapshot_create(vm, &c, &s, e) < 0)
		return e->code;
	if (record_string(&vm->rec->boot.guard, GUARD, e) < 0 || note_attempt(vm, 0, NULL, "guarded", e) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

int fermata_guard_end(struct fermata_vm *vm, bool keep, struct err *e)
{
	static const struct fermata_revert as_it_was;
	static const struct fermata_delete whole;
	struct err also;

	if (!keep && fermata_snapshot_revert(vm, GUARD, &as_it_was, e) < 0)
		return e->code;
	if (note_healthy(vm, NULL, e) < 0)
		return e->code;
	/* Not in the way of anything: the next guard replaces it. */
	if (fermata_snapshot_delete(vm, GUARD, &whole, &also) < 0)
		vm_notice(vm, "'%s' stays: %s", GUARD, also.msg);
	return 0;
}
