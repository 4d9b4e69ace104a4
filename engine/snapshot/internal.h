/* engine/snapshot/internal.h */
#ifndef ENGINE_SNAPSHOT_INTERNAL_H
#define ENGINE_SNAPSHOT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/savevm/savevm.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "lib/err.h"

struct fermata_create;
struct fermata_diskspec;
struct fermata_revert;
struct fermata_snap;
struct plan;
struct record;

/* ---- merge_disk.c ---- */

/*
 * What becomes of the image that a snapshot froze when that is deleted. GOES: nothing is backed by it. DOWN: it takes over what
 * its one overlay has, and is in that one's place. UP: its overlays take over what it has. STAYS: it is in their chains as before.
 */
enum fate { GOES, DOWN, UP, STAYS };

/* What is to become of one image, decided; what no QEMU has open of it is open here, under its locks. */
struct merge {
	enum fate fate;
	struct err why; /* STAYS: the reason, if there is something to say */
	bool live;      /* a part of it is QEMU's to do */
	struct users u;
	struct off_change *off;
	size_t n_off;
};

/* Decide what becomes of what @d of snapshot number @id froze, check, open and lock. Nothing is changed. */
int merge_begin(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, struct merge *m, struct err *e) MUST_CHECK;

/*
 * Do it, and put what nothing needs then on the record's list; or note that it stays. Every step can be repeated, from
 * merge_begin() on. Ends @m. -EREMOTEIO: QEMU could not.
 */
int merge_carry_out(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, struct merge *m, struct err *e) MUST_CHECK;
void merge_done(struct merge *m);

/* Both at once for what is on record, and what a command before us may have begun. */
int merge_redo(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t id, enum fate *fate, struct err *e) MUST_CHECK;

/* Whether another snapshot than number @id froze @file. */
bool is_frozen(const struct record *r, uint64_t id, const char *file);

/* ---- delete_external.c ---- */

/*
 * The pending deletion's tags and images are seen to. What stayed when earlier snapshots were deleted, and has no reason to
 * any more, is merged as a part of it; then it is ended. Commit point: the record, for each image.
 */
int remove_end(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* A deletion, from its check to its end. */
struct removal {
	bool off; /* no QEMU ran at the check: @tags are open for it */
	struct native tags;
	struct merge m[DEF_MAX_DISKS]; /* of the snapshot's external disks, in its order */
};

/* Whether @s can be deleted now: there is room to move the data, nothing is in the way, and what no QEMU has is locked. */
int remove_begin(struct fermata_vm *vm, const struct fermata_snap *s, struct removal *rm, struct err *e) MUST_CHECK;

/* Delete what is pending, a copy of that @s. Errors as of remove_ext_redo(). */
int remove_carry_out(struct fermata_vm *vm, struct removal *rm, struct err *e) MUST_CHECK;
void removal_done(struct removal *rm);
#define auto_removal __attribute__((cleanup(removal_done)))

/* ---- revert_external.c ---- */

/*
 * New overlays on what @s froze; the VM is off before the disks switch and, unless asked otherwise, after. Overlays that
 * only the present used are removed. Commit point: the record.
 */
int revert_external(struct fermata_vm *vm, const struct fermata_snap *s, const struct fermata_revert *r, struct err *e) MUST_CHECK;

/* ---- choose.c ---- */

const struct fermata_diskspec *diskspec_of(const struct plan *p, size_t i);
int choose_disks(struct plan *p, struct err *e);
int choose_vmstate(struct fermata_vm *vm, struct plan *p, struct err *e);

/* ---- create_end.c ---- */

void read_new_tags(struct fermata_vm *vm, const struct disks *ds, bool *whole);
int overlays_written(struct fermata_vm *vm, const struct fermata_snap *s, bool *written, struct err *e);

/* ---- revert_internal.c ---- */

int revert_internal(struct fermata_vm *vm, const struct fermata_snap *s, const struct fermata_revert *r, struct err *e);

/* What is asked for, and what was found out before anything is touched. */
struct plan {
	const struct fermata_create *c;
	const char *name;
	struct fermata_snap *replaced;
	bool live, memory, running;
	bool file;         /* memory in a file, all disks external */
	bool handover;     /* ... which is the one that QEMU has mapped */
	bool lost;         /* ... and could not be kept: the disks' part is */
	uint32_t on;       /* disks with an internal snapshot: bit i of ds */
	uint32_t external; /* disks with an external one */
	size_t vmstate;    /* the disk that carries the memory */
	struct disks ds;
	struct native off; /* VM off: the images, open for what becomes of them */
};

/* What keeps the present on the disks of a VM that is off while it is tried whether a checkpoint loads; and a nonce. */
#define GUARD_TAG "fermata-before-revert"

#endif
