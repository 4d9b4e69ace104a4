/* Going back to a snapshot. The present is given up only when the target has shown that it loads. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/managed.h"
#include "engine/snapshot/carrier.h"
#include "engine/snapshot/internal.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

int revert_keep(struct fermata_vm *vm, const struct fermata_snap *s, const char *name, struct err *e)
{
	return fermata_snapshot_create(vm,
		&(struct fermata_create){ .name = name, .description = "kept before a revert",
			.disk_only = fermata_snap_external(s) },
		NULL, e);
}

static int revert_any(struct fermata_vm *vm, const struct fermata_snap *s, const struct fermata_revert *r, struct err *e)
{
	if (s->nvram && !file_exists(s->nvram))
		return err_set(e, -ENOENT, "its copy of the nvram, %s, is gone", s->nvram);
	if (r->keep && revert_keep(vm, s, r->keep, e) < 0)
		return e->code;
	if (!CONFIG_MEMORY && s->kind == FERMATA_CHECKPOINT_EXTERNAL)
		return err_set(e, -EOPNOTSUPP, "built without CONFIG_MEMORY");
	if ((CONFIG_MEMORY && carriers_differ(vm, s) && standby_give_up(vm, "a disk changes its image", e) < 0) ||
		carriers_check(vm, s, r->copy, e) < 0)
		return e->code;
	return fermata_snap_external(s) ? revert_external(vm, s, r, e) : revert_internal(vm, s, r, e);
}

int fermata_snapshot_revert(struct fermata_vm *vm, const char *name, const struct fermata_revert *r, struct err *e)
{
	const struct fermata_snap *s;
	auto_free char *save = NULL;
	struct err also;
	int rc;

	if (jobs_none(vm, e) < 0)
		return err_at(e, "%s", vm->name);
	if (fermata_snap_find(vm, name, &s, e) < 0)
		return e->code;
	if (CONFIG_MEMORY && !vm_alive(vm) && (r->force ? managed_set_aside(vm, &save, e) : managed_none(vm, false, e)) < 0)
		return err_at(e, "%s: cannot revert to '%s'", vm->name, name);
	rc = revert_any(vm, s, r, e);
	vm_ask_anew(vm);
	if (rc == 0)
		trash_empty(vm);
	/* A refusal costs nothing, nor does it cost the save. */
	if (CONFIG_MEMORY && rc < 0 && e->code != FERMATA_PENDING && !vm_alive(vm) && managed_put_back(vm, save, &also) < 0)
		err_also(e, "and: %s", also.msg);
	else if (CONFIG_MEMORY && rc == 0)
		managed_tell(vm, save);
	return rc < 0 ? err_at(e, "%s: cannot revert to '%s'", vm->name, name) : 0;
}
