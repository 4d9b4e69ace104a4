/*
 * Internal snapshots inside images that are not their disk's active layer: under an overlay that an external snapshot brought,
 * or in a branch that a revert has left. A revert makes the image that carries the snapshot the active layer.
 */
#ifndef ENGINE_CARRIER_H
#define ENGINE_CARRIER_H

#include "engine/fermata.h"
#include "engine/record/record.h"
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

/*
 * In @s, which is to be the pending revert's: what its disks use until then. As long as it is pending, the VM's disks are the
 * images that carry it (fermata_vm_disk_file()), and on record those that it comes from.
 */
int carriers_note(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;

/* In memory: the pending revert has succeeded. The disks use those images from now on, what they used before may go. */
int carriers_take(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Where the pending revert takes the disk called @disk, or NULL. Borrowed from the record. */
const char *carrier_pending(const struct record *r, const char *disk);

#endif
