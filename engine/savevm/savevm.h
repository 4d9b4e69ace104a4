/* Internal checkpoints: by QEMU's jobs, or natively when the VM is off. */
#ifndef ENGINE_SAVEVM_SAVEVM_H
#define ENGINE_SAVEVM_SAVEVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/chain/chain.h"
#include "engine/vm/vm.h"
#include "lib/err.h"

struct disks;
struct fermata_snap;
struct mon;
struct pending_mark;
struct qcow2;
struct qcow2_change;

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

/* NATIVE_APPLY_MARKED: the snapshot that the marks tell of is applied. */
enum native_op { NATIVE_CREATE, NATIVE_APPLY, NATIVE_APPLY_MARKED, NATIVE_DELETE };

struct native_disk {
	enum native_op op;
	const struct fermata_snap_disk *of; /* borrowed from the snapshot */
	struct qcow2 *q;
	int at;                      /* where its tag stands, or -1 */
	struct qcow2_change *change; /* NULL: there is nothing to do */
};

/* The images of a snapshot's internal disks, open under their locks from the check to the change. */
struct native {
	struct native_disk d[DEF_MAX_DISKS];
	size_t n;
	struct nvram_change nvram;
	bool touched; /* an image was changed, or may have been */
};
#define auto_native __attribute__((cleanup(native_done)))

/*
 * Open and lock every image for what is to be done to it, and write all that it needs beside what is there: after this only
 * one sector of each image is left to be written. Nothing is changed yet. What could not be finished is refused here,
 * before it goes on record.
 *
 * @marks: NULL, or of @s's disks. CREATE, APPLY: what will be made is put in; an apply leaves alone what it finds done.
 *         DELETE, APPLY_MARKED: only what they tell of.
 */
int native_begin(struct fermata_vm *vm, enum native_op op, const struct fermata_snap *s, struct pending_mark *marks,
	struct native *n, struct err *e) MUST_CHECK;

/* While QEMU has the images: what can be said of an apply before they can be locked. */
int native_check(const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Commit points: each image's header. */
int native_commit(struct native *n, struct err *e) MUST_CHECK;

/* Close all; what was not committed is dropped. */
void native_done(struct native *n);

/* Both at once, for what is on record. */
int native_apply(struct fermata_vm *vm, const struct fermata_snap *s, struct pending_mark *marks, struct err *e) MUST_CHECK;
int native_apply_marked(struct fermata_vm *vm, const struct fermata_snap *s, struct pending_mark *marks, struct err *e) MUST_CHECK;

/* Delete the tag from every disk of @s that has it; all disks are tried, the first error is returned. */
int native_delete(struct fermata_vm *vm, const struct fermata_snap *s, const struct pending_mark *marks, struct err *e) MUST_CHECK;

/* Whether every disk of @s has it, and the one with the VM state all of that. */
int native_complete(struct fermata_vm *vm, const struct fermata_snap *s, const struct pending_mark *marks, bool *complete,
	struct err *e) MUST_CHECK;

/* Whether the pending revert was cut off before it changed anything. */
int native_untouched(struct fermata_vm *vm, const struct pending *p, bool *untouched, struct err *e) MUST_CHECK;

/* Whether somebody wrote to its disks long after it was cut off. */
bool native_written_since(const struct pending *p);

/* Give back what aborted checkpoints left behind the disks' ends; the record says where. */
int native_reclaim(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- delete.c ---- */

/* Delete @s's tags from the images, live or native, as the VM stands, and see that none is left. @marks: as native_delete(). */
int remove_tags(struct fermata_vm *vm, const struct fermata_snap *s, const struct pending_mark *marks, struct err *e) MUST_CHECK;

/* 0 if the QEMU that runs can delete them: none is in an image that was frozen since, which it has open for reading only. */
int tags_reached(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

#endif
