/* Delete a snapshot's tags from the images, live or off. */
#include <stdlib.h>
#include <string.h>

#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "lib/file.h"

/* Which disks of @ds have @s. */
static uint32_t who_has(const struct disks *ds, const struct fermata_snap *s)
{
	uint32_t on = 0;

	for (size_t i = 0; i < ds->n; i++)
		for (size_t j = 0; j < s->n_disks; j++)
			if (!s->disks[j].external && !strcmp(s->disks[j].disk, ds->d[i].def->name) && disk_has_tag(&ds->d[i], s->disks[j].tag, NULL))
				on |= 1u << i;
	return on;
}

static int remove_live(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_disks struct disks ds = { 0 };
	uint32_t on;

	if (disks_look(vm, &ds, e) < 0)
		return e->code;
	on = who_has(&ds, s);
	if (!on)
		return 0;
	if (savevm_run(vm, SAVEVM_DELETE, s, &ds, on, 0, e) < 0 || disks_look_again(vm, &ds, true, e) < 0)
		return e->code;
	savevm_dismiss(vm, SAVEVM_DELETE, s->id);
	return who_has(&ds, s) ? err_set(e, -EREMOTEIO, "QEMU says that it deleted '%s', but it is still there", s->name) : 0;
}

int remove_tags(struct fermata_vm *vm, const struct fermata_snap *s, const struct pending_mark *marks, struct err *e)
{
	size_t j = 0;

	while (j < s->n_disks && s->disks[j].external)
		j++;
	if (j == s->n_disks)
		return 0;
	return vm_alive(vm) ? remove_live(vm, s, e) : native_delete(vm, s, marks, e);
}

int tags_reached(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t j = 0; j < s->n_disks; j++)
		for (size_t i = 0; i < vm->def->n_disks; i++) {
			const struct fermata_snap_disk *d = &s->disks[j];

			if (d->external || strcmp(d->disk, vm->def->disks[i].name) || same_file(d->file, fermata_vm_disk_file(vm, i)))
				continue;
			err_set(e, -EBUSY, "%s: '%s' is inside %s, which is frozen while the VM runs", d->disk, d->tag, d->file);
			return err_hint(e, "shut the VM down first");
		}
	return 0;
}
