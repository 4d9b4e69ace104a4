/* The commit record: what is on disk about a VM, and what is pending. */
#ifndef ENGINE_RECORD_RECORD_H
#define ENGINE_RECORD_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/fermata.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "monitor/monitor.h"

struct fermata_vm;
struct pending;
struct record_job;

/* ---- snap.c ---- */

/* Whether a snapshot may be called so. -EINVAL. */
int snap_check_name(const char *name, struct err *e) MUST_CHECK;

/* ---- job.c ---- */

/* Its id in QEMU. */
void block_id(const struct record_job *j, char id[MON_JOB_ID]);

/* -EBUSY while a job runs: snapshots and jobs do not mix. */
int jobs_none(const struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- pending.c ---- */

/* A number that nothing was ever marked with. */
uint64_t pending_new_mark(void);

/* Put @p on record before the first change, with a new mark unless it has one. Takes p.snap over, also when it fails. */
int pending_begin(struct fermata_vm *vm, struct pending p, struct err *e) MUST_CHECK;

/* Nothing is pending any more. */
int pending_end(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* What is pending goes on record once more, with what has been found out since. Nothing has been changed yet. */
int pending_again(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* The disks are about to change: no saved memory goes with them any more. Commit point: the record. */
int saved_forget(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- snap.c ---- */

/* What a QEMU has to map for @in, of @s. NULL: it is no instant checkpoint. Borrowed from @s. */
const char *instant_map(const struct fermata_snap *s);

enum pending_op { PENDING_NONE, PENDING_CREATE, PENDING_DELETE, PENDING_REVERT, PENDING_SAVE, PENDING_RESTORE,
	PENDING_IMPORT };

/*
 * How what a pending operation makes in one image is known again; a name alone would be anybody's.
 *
 * @id, @date_s, @date_ns: of the internal snapshot that it creates ("": it creates none). Live, QEMU chooses the time: then
 *                         it is the earliest, and @date_ns PENDING_ABOUT.
 * @l1:                    apply: where the active layer's L1 table lies once the snapshot is applied; 0: not known
 */
struct pending_mark {
	char id[24];
	uint32_t date_s, date_ns;
	uint64_t l1;
};
#define PENDING_ABOUT UINT32_MAX

/* What was about to be done when the record was last written: enough to finish or to undo it. */
struct pending {
	enum pending_op op;
	bool live;         /* through a running QEMU */
	bool run;          /* revert, restore: let the guest run at the end; save, create: it ran */
	uint64_t replaces; /* create: id of the snapshot that gives way, or 0 */
	struct fermata_snap *snap; /* create: what it becomes; delete, revert: a copy of what it is about;
	                              save, restore: its memory file and machine;
	                              import: what it becomes, with the overlays that disks without an image get */
	char *guard;       /* revert with the VM off: the tag that keeps the present until the checkpoint has loaded; or NULL */
	bool switched;     /* revert to a checkpoint: its QEMU is the only one, and the disks are its */
	bool keep_time;    /* revert, restore: leave the guest's clock alone at the end */
	uint64_t since_ns; /* the clock's time when it went on record */
	uint64_t mark;     /* what it makes is known by, of this operation alone; 0: a record from before there was one */
	struct pending_mark marks[DEF_MAX_DISKS]; /* of the disks of @snap, in their order */
};

/* A block job of QEMU's: it may outlive the command that started it, and even its QEMU. One for each disk. */
struct record_job {
	uint64_t id; /* of the job: "fermata-block-ID" */
	enum fermata_job op;
	char *disk;
	/*
	 * Pull: the image that is filled, and its backing file afterwards. Commit: the image above, then from the top to
	 * the base; active commit: from the top to the base. Copy: the disk's image, and the copy.
	 */
	char **images;
	size_t n_images;
	bool raw;    /* the last of them is raw */
	bool remove; /* commit: images that are of no use afterwards go */
	bool reused; /* copy: the file was there before */
	uint64_t mark, inode; /* copy: what the file that was made is known by, and where it has no mark; 0: not known */
	bool begun;  /* commit: data is written into the base, snapshots between are gone from the record */
	bool pivot;  /* the guest is paused until the disk has changed over */
	bool run;    /* ... and goes on then */
	bool ended;
	char *error; /* why it failed; "" */
};

struct record_disk {
	char *name;
	char *active; /* image in use instead of the definition's; NULL: the definition's */
	char *defined; /* the definition's, when @active took its place; NULL: not known */
	bool raw;     /* @active is raw, not qcow2 */
	bool reclaim; /* an aborted checkpoint left VM state behind the disk's end: give it back when the VM is off */
};

/*
 * An image that a snapshot froze which is deleted. Something kept it from being merged then; a later deletion that takes away
 * the last reason merges or removes it.
 */
struct record_stay {
	char *disk, *file;
	bool raw;
};

/*
 * An image below a disk's, as it was seen last: another one in its place would be read as what the images above it were written
 * over. Where it lies and when it was changed changes with every copy; then the content decides.
 */
struct record_base {
	char *file;            /* its real path */
	char *name;            /* what the image above it, or the snapshot that froze it, calls it: links may lead elsewhere by now */
	uint64_t size;         /* of the disk, bytes; 0: a device, which may be given more at any time */
	uint64_t span, print;  /* a hash over samples of the first @span bytes, as they read through all images below */
	uint64_t ino, mtime_ns; /* of the file; 0: a device */
	uint64_t above;        /* inode of the image over it; 0: not known */
};

/* What became of the VM's boots. Strings: NULL when there is nothing to say. */
struct record_boot {
	uint64_t tries; /* attempts begun since the VM was last healthy: raised and on disk before each of them */
	int64_t since;  /* epoch seconds of the last change */
	bool kept;      /* the present was kept before the first of them */
	bool saved;     /* there was a managed save before the first of them: it is the first choice */
	uint64_t aside; /* number of the first managed save that they set aside; 0: none */
	char *good;     /* what to boot from in place of the definition's "from" */
	char *guard;    /* the checkpoint that a guarded command goes back to: before everything else */
	uint64_t guard_id; /* the snapshot that it is, or the last one was: what else has its name is not ours */
	uint64_t kept_id;  /* the same of the present that was kept */
	bool cut;       /* who guarded is gone, and the guest went on: the user decides what becomes of it, no boot does */
	char *from;     /* what was tried last */
	char *result;   /* "trying", "healthy", or why it failed */
};

struct record {
	char *path;
	const struct def *def; /* of its VM, to note what its disks' images are in the place of; NULL: not now */
	bool none; /* it stands for one that cannot be read, and is never saved */
	uint64_t next_id;
	uint64_t current; /* id of the snapshot that the present comes from, or 0 */
	struct fermata_snap **snaps; /* in the order of their ids */
	size_t n_snaps;
	struct record_disk *disks; /* only those with something to say */
	size_t n_disks;
	char **trash; /* files that nothing needs any more, to be removed when a walk over all chains says so too */
	size_t n_trash;
	struct record_stay *stays;
	size_t n_stays;
	struct record_base *bases;
	size_t n_bases;
	bool bases_new; /* not as they are on disk */
	struct record_job **jobs;
	size_t n_jobs;
	struct pending pending;
	uint64_t saved; /* nonce of the saved memory that goes with the disks as they are: nothing has changed them since; or 0 */
	struct record_boot boot;
	struct fermata_snap *standby; /* what a second QEMU waits with, and its overlays; NULL: there is none */
	uint64_t standby_mark; /* what these are known by */
};

/* ---- state_json.c ---- */

/* Read the record at @path; an empty one when there is no such file. -EPROTO: damaged, with where. */
int record_load(const char *path, struct record **out, struct err *e) MUST_CHECK;

/* An empty one in the place of the record at @path, which cannot be read. */
int record_none(const char *path, struct record **out, struct err *e) MUST_CHECK;

/*
 * Write it whole. Commit point: the rename in file_replace(). On failure the old record is there; FERMATA_PENDING: it may be
 * either, and the next command goes by what it finds.
 */
int record_save(struct record *r, struct err *e) MUST_CHECK;

/* ---- record.c ---- */

void record_free(struct record *r);
void record_freep(struct record **r);
#define auto_record __attribute__((cleanup(record_freep)))

/* ---- state_json.c ---- */

/* Remove what a record_save() that was cut off has left beside it. Only under the VM's lock. */
void record_clean(const struct record *r);

/* ---- record.c ---- */

/* Append @s, which the record then owns. */
int record_add(struct record *r, struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Take @id out; its children move to its parent, and so does "current". Caller owns what is returned; NULL if unknown. */
struct fermata_snap *record_take(struct record *r, uint64_t id);
struct fermata_snap *record_by_id(const struct record *r, uint64_t id);
struct fermata_snap *record_by_name(const struct record *r, const char *name);
struct record_disk *record_disk(const struct record *r, const char *name);

/* The entry of disk @name, made if it is not there; NULL when memory ran out. */
struct record_disk *record_disk_need(struct record *r, const char *name);

/* ---- snap.c ---- */

struct fermata_snap *snap_new(const char *name, const char *description);
struct fermata_snap *snap_copy(const struct fermata_snap *s); /* NULL when memory ran out */

/* Add a copy of @d; strings that are NULL become "". */
int snap_add_disk(struct fermata_snap *s, const struct fermata_snap_disk *d, struct err *e) MUST_CHECK;
void snap_disk_done(struct fermata_snap_disk *d);
void snap_free(struct fermata_snap *s);

static inline void snap_freep(struct fermata_snap **s)
{
	snap_free(*s);
}
#define auto_snap __attribute__((cleanup(snap_freep)))

/* ---- record.c ---- */

/* The job of a disk, or NULL. */
struct record_job *record_job(const struct record *r, const char *disk);
int record_job_add(struct record *r, struct record_job *j, struct err *e) MUST_CHECK;

/* Take it out and free it. */
void record_job_drop(struct record *r, struct record_job *j);
int job_image(struct record_job *j, const char *file, struct err *e) MUST_CHECK; /* add a copy to its images */
void job_free(struct record_job *j);

/* Put a copy of @file on the list of what is to be removed, and of what stays in no chain. */
int record_trash(struct record *r, const char *file, struct err *e) MUST_CHECK;

/* Take @file off that list again. */
void record_keep(struct record *r, const char *file);

/* ---- stay.c ---- */

/* @file stays in @disk's chain, though no snapshot froze it any more; once, however often it is said. */
int record_stay(struct record *r, const char *disk, const char *file, bool raw, struct err *e) MUST_CHECK;

/* Take number @i off that list. */
void record_stay_drop(struct record *r, size_t i);

/* What was @from is @to now. */
int record_stay_move(struct record *r, const char *from, const char *to, bool raw, struct err *e) MUST_CHECK;

/* ---- base.c ---- */

/* What is known of @file, an image below a disk's; NULL: nothing. */
struct record_base *record_base(const struct record *r, const char *file);

/* What is known of the image that was called @name, wherever that leads to now. */
struct record_base *record_base_named(const struct record *r, const char *name);

/* It is as @seen says, whose own names are not looked at. */
int record_base_put(struct record *r, const char *file, const char *name, const struct record_base *seen,
	struct err *e) MUST_CHECK;

/* Nothing is known of it any more: it may change from here on. That is on record before the first change. */
void record_base_drop(struct record *r, const char *file);
void record_base_forget(struct record *r, size_t i);

/* ---- state_json.c ---- */

/* The pending operation's name, or "". */
const char *record_pending(const struct record *r);

/* ---- record.c ---- */

/* Put a copy of @s (or NULL) in @at's place. */
int record_string(char **at, const char *s, struct err *e) MUST_CHECK;

/* Where the pending revert takes the disk called @disk, or NULL. Borrowed from the record. */
const char *carrier_pending(const struct record *r, const char *disk);

#endif
