/* Looking snapshots up. */
#include <string.h>

#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/text.h"

int fermata_snaps(struct fermata_vm *vm, const struct fermata_snap *const **list, size_t *n, struct err *e)
{
	if (vm_adopt(vm, e) < 0)
		return e->code;
	*list = (const struct fermata_snap *const *)vm->rec->snaps;
	*n = vm->rec->n_snaps;
	return 0;
}

int fermata_snap_find(struct fermata_vm *vm, const char *name, const struct fermata_snap **out, struct err *e)
{
	/* What is on record goes before what others made under that name: only for theirs are the images looked at. */
	*out = record_by_name(vm->rec, name);
	if (*out)
		return 0;
	if (vm_adopt(vm, e) < 0)
		return e->code;
	*out = record_by_name(vm->rec, name);
	if (*out)
		return 0;
	err_set(e, -ENOENT, "%s: there is no snapshot '%s'", vm->name, name);
	for (size_t i = 0; i < vm->rec->n_snaps; i++)
		if (text_distance(vm->rec->snaps[i]->name, name) <= 2)
			return err_hint(e, "did you mean '%s'?", vm->rec->snaps[i]->name);
	return err_hint(e, "'fermata snapshot-list %s' shows those that there are", vm->name);
}

const struct fermata_snap *fermata_snap_by_id(struct fermata_vm *vm, uint64_t id)
{
	return record_by_id(vm->rec, id);
}

const struct fermata_snap *fermata_snap_current(struct fermata_vm *vm)
{
	return record_by_id(vm->rec, vm->rec->current);
}
