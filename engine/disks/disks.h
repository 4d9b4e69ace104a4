/* The disks as they are now, by QEMU or in the files; switching them in one transaction. */
#ifndef ENGINE_DISKS_DISKS_H
#define ENGINE_DISKS_DISKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvm/def.h"
#include "lib/clock.h"
#include "lib/err.h"

struct fermata_snap;
struct fermata_vm;
struct json;
struct json_doc;
struct mon;
struct qcow2;

struct disk_state {
	const struct def_disk *def;
	const char *file;        /* the active layer */
	char node[32];           /* its node; "" when the VM is off */
	bool snapshots;          /* writable, and of a format that holds snapshots */
	const struct json *snaps; /* live: the node's list */
	const struct json *cache; /* live: how the node is cached */
	const struct json *bitmaps; /* live: the node's dirty bitmaps */
	struct qcow2 *image;      /* off: opened without a lock, read-only */
};

struct disks {
	struct disk_state d[DEF_MAX_DISKS]; /* the nvram last, if it is a qcow2 image */
	size_t n;
	struct json_doc *doc;
};

/* ---- disks.c ---- */

/* Look at every disk: through QEMU if it runs, else in the files. @ds: out; disks_done(). */
int disks_look(struct fermata_vm *vm, struct disks *ds, struct err *e) MUST_CHECK;

/* Look at @ds once more. @same: each disk still has the node it had, which saves QEMU a question a disk. */
int disks_look_again(struct fermata_vm *vm, struct disks *ds, bool same, struct err *e) MUST_CHECK;

/* Send those questions to QEMU now, for the look that comes next (mon_ahead()). @ds: of a look before, or what one fills. */
void disks_ahead(struct mon *m, const struct disks *ds);
void disks_done(struct disks *ds);

static inline void disks_donep(struct disks *ds)
{
	disks_done(ds);
}
#define auto_disks __attribute__((cleanup(disks_donep)))

/* The file that @node of query-named-block-nodes has open, directly or through the node below it; "": none. Caller frees. */
char *node_path(const struct json *node);

/* ---- node.c ---- */

/* The format node of disk @d->def that has @file open, or NULL. Borrowed from ds. */
const char *disk_node(const struct disks *ds, const struct disk_state *d, const char *file);

/* ---- disks.c ---- */

/* The disk called @name, or ds->n. */
size_t disk_index(const struct disks *ds, const char *name);

/* What QEMU lists of its node @node, or NULL. Borrowed from @ds. */
const struct json *disks_node(const struct disks *ds, const char *node);

/* One snapshot as an image has it. */
struct tag {
	const char *id, *name;
	uint64_t vmstate, clock_ns;
	int64_t created;
};

/* ---- tags.c ---- */

/* Call @fn for every snapshot of a disk, in the image's order, until it returns false. */
void disk_tags(const struct disk_state *d, bool (*fn)(void *ctx, const struct tag *t), void *ctx);

/* Whether the disk has a snapshot called @name; @t: out if not NULL. */
bool disk_has_tag(const struct disk_state *d, const char *name, struct tag *t);

/* ---- switch.c ---- */

/*
 * Make the overlays of @s, add them to QEMU, and switch all of its disks in one QMP transaction: blockdev-snapshot for
 * the external ones, blockdev-snapshot-internal-sync for the others. The guest is not stopped.
 * @freeze_ms: freeze its file systems around that, giving the freeze this long; 0: do not
 * @frozen_ms: out, how long they were frozen; as it was, if they were not
 * Whatever fails, no disk has switched; what was made before stays for create_undo().
 */
int diskshot_live(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, uint64_t freeze_ms,
	uint64_t *frozen_ms, struct err *e) MUST_CHECK;

/* Its two halves: the overlays made and known to QEMU, which has changed nothing; and the transaction. */
int diskshot_prepare(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e) MUST_CHECK;
int diskshot_switch(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Take the overlays of @s out of the running QEMU. -EBUSY: a disk uses one, so the transaction did happen. */
int diskshot_drop(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* ---- node.c ---- */

/* A number that no node of the disk has had in this QEMU: one above the highest. */
unsigned node_next(const struct disks *ds, const char *disk);

/*
 * QMP blockdev-add, twice, of an image that is no disk's yet: NODE.file and NODE. @backing: the node of its backing file;
 * NULL: none, whatever its header says, since that is open already or not wanted.
 */
int node_add(struct fermata_vm *vm, const struct disk_state *d, const char *node, const char *file, bool raw,
	const char *backing, struct err *e) MUST_CHECK;

/* QMP blockdev-del of the protocol node "NODE.file", which goes behind NODE. What QEMU refuses stays, and is no error. */
void node_delete_file(struct fermata_vm *vm, const char *node);

/* ---- switch.c ---- */

/*
 * QMP blockdev-reopen of @node of disk @d, as it is but for @read_only; which flushes it. @backing: the node below it, or NULL.
 * -EREMOTEIO: it cannot be flushed, or QEMU will not have it so.
 */
int node_reopen(struct fermata_vm *vm, const struct disks *ds, const struct disk_state *d, const char *node, bool raw,
	const char *backing, bool read_only, struct deadline until, struct err *e) MUST_CHECK;

/* ---- switched.c ---- */

/*
 * Put on record, with a notice, what QEMU has a disk on that was switched by hand. Commit point: the record. What fails is a notice:
 * QEMU is asked on the way to something else.
 */
void disks_note_switched(struct fermata_vm *vm);

/* The same, and -EBUSY if a disk is on a node that is not one of ours: what changes disks live has no hold on it. */
int disks_unswitched(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- running.c ---- */

/*
 * What runs is what the definition has: -EBUSY names a disk that is open for writing and that no [disk] has, unless it is left out
 * there; with @memory also a device that was plugged in or unplugged since the start. VM off: the disks of its [qemu] args.
 */
int running_check(struct fermata_vm *vm, bool memory, struct err *e) MUST_CHECK;

#endif
