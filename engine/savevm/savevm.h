/* Internal checkpoints: by QEMU's jobs, or natively when the VM is off. */
#ifndef ENGINE_SAVEVM_SAVEVM_H
#define ENGINE_SAVEVM_SAVEVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct disks;
struct fermata_snap;
struct fermata_vm;
struct mon;

/* ---- adopt.c ---- */

/* Add to the record in memory what others made in the images. Writes nothing. vm_adopt_from(): who has looked already. */
int vm_adopt(struct fermata_vm *vm, struct err *e) MUST_CHECK;
int vm_adopt_from(struct fermata_vm *vm, const struct disks *ds, struct err *e) MUST_CHECK;

enum savevm_op { SAVEVM_SAVE, SAVEVM_LOAD, SAVEVM_DELETE };

/* ---- jobs.c ---- */

/*
 * Run savevm, loadvm or delvm for @s over the disks in @on (bit i: disk i of @ds): as a snapshot-* job, or by HMP where
 * QEMU has no such command. @vmstate: index of the disk that carries the VM state (save, load).
 * The job of a load stays in QEMU until savevm_dismiss() or the next load's savevm_clear(): as long as the record does not
 * say that it is done, the job says whether it did, or failed. (Whether a snapshot was made or deleted can be seen in the
 * images.) -EREMOTEIO: it failed.
 */
int savevm_run(struct fermata_vm *vm, enum savevm_op op, const struct fermata_snap *s, const struct disks *ds, uint32_t on,
	size_t vmstate, struct err *e) MUST_CHECK;

/*
 * Clear the job of @op on the snapshot with that id away, if QEMU still has one. Before a load: one that an earlier command
 * left behind would speak for this one. savevm_clear_ahead(): send that now (mon_ahead()). savevm_dismiss(): when all is
 * done, as far as it goes.
 */
void savevm_clear_ahead(struct mon *m, enum savevm_op op, uint64_t snap);
int savevm_clear(struct fermata_vm *vm, enum savevm_op op, uint64_t snap, struct err *e) MUST_CHECK;
void savevm_dismiss(struct fermata_vm *vm, enum savevm_op op, uint64_t snap);

/*
 * Look for the job of a command that was killed, and wait for its end. @found: out; @failed: out, its error, "" if it
 * did what it should. What becomes of the job then: as with savevm_run().
 */
int savevm_settle(struct fermata_vm *vm, enum savevm_op op, const struct fermata_snap *s, bool *found, char failed[256],
	struct err *e) MUST_CHECK;

/* ---- native.c ---- */

/* Delete @tag from every disk of @s that has it; all disks are tried, the first error is returned. */
int native_delete(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;
int native_create(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;
int native_apply(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Whether every disk of @s has it, and the one with the VM state all of that. */
int native_complete(struct fermata_vm *vm, const struct fermata_snap *s, bool *complete, struct err *e) MUST_CHECK;

/* Give back what aborted checkpoints left behind the disks' ends; the record says where. */
int native_reclaim(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- delete.c ---- */

/* Delete @s's tags from the images, live or native, as the VM stands, and see that none is left. */
int remove_tags(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

#endif
