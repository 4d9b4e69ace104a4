/* Disk snapshots of a running VM. */
#ifndef ENGINE_DISKSHOT_H
#define ENGINE_DISKSHOT_H

#include "engine/internal.h"

/*
 * Make the overlays of @s, add them to QEMU, and switch all of its disks in one QMP transaction: blockdev-snapshot for
 * the external ones, blockdev-snapshot-internal-sync for the others. The guest is not stopped.
 * @freeze_ms: freeze its file systems around that, giving the freeze this long; 0: do not. vm->frozen_ms tells.
 * Whatever fails, no disk has switched; what was made before stays for create_undo().
 */
int diskshot_live(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, uint64_t freeze_ms,
	struct err *e) MUST_CHECK;

/* Its two halves: the overlays made and known to QEMU, which has changed nothing; and the transaction. */
int diskshot_prepare(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e) MUST_CHECK;
int diskshot_switch(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Take the overlays of @s out of the running QEMU. -EBUSY: a disk uses one, so the transaction did happen. */
int diskshot_drop(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* A number that no node of the disk has had in this QEMU: one above the highest. */
unsigned node_next(const struct disks *ds, const char *disk);

/*
 * QMP blockdev-add of an image that is no disk's yet. @backing: the node that it stands on; NULL: none, whatever its
 * header says, since that is open already or not wanted.
 */
int node_add(struct fermata_vm *vm, const struct disk_state *d, const char *node, const char *file, bool raw,
	const char *backing, struct err *e) MUST_CHECK;

/*
 * QMP blockdev-reopen of @node of disk @d, as it is but for @read_only; which flushes it. @backing: the node below it, or NULL.
 * -EREMOTEIO: it cannot be flushed, or QEMU will not have it so.
 */
int node_reopen(struct fermata_vm *vm, const struct disks *ds, const struct disk_state *d, const char *node, bool raw,
	const char *backing, bool read_only, struct deadline until, struct err *e) MUST_CHECK;

#endif
