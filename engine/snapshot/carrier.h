/*
 * Internal snapshots inside images that are not their disk's active layer: under an overlay that an external snapshot brought,
 * or in a branch that a revert has left. A revert makes the image that carries the snapshot the active layer.
 */
#ifndef ENGINE_SNAPSHOT_CARRIER_H
#define ENGINE_SNAPSHOT_CARRIER_H

#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/vm/vm.h"
#include "lib/err.h"

/* Whether going back to @s changes the active layer of a disk in this way. */
bool carriers_differ(const struct fermata_vm *vm, const struct fermata_snap *s);

/*
 * 0 if each such image can be the active layer. -EBUSY names what needs it. @copy: then the snapshot moves into a copy of the
 * image first, which is its own. Commit point of that: the record.
 */
int carriers_check(struct fermata_vm *vm, const struct fermata_snap *s, bool copy, struct err *e) MUST_CHECK;

/* In @ds, of disks_look(): such a disk as it will be. Borrows from @s. */
int carriers_look(struct fermata_vm *vm, const struct fermata_snap *s, struct disks *ds, struct err *e) MUST_CHECK;

#endif
