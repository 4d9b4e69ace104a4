/* engine/blockjob/internal.h */
#ifndef ENGINE_BLOCKJOB_INTERNAL_H
#define ENGINE_BLOCKJOB_INTERNAL_H

#include <stdbool.h>

#include "engine/blockjob/blockjob.h"
#include "engine/chain/chain.h"
#include "lib/err.h"
#include "lib/json.h"

struct disk_state;
struct disks;
struct fermata_block;
struct fermata_block_info;
struct fermata_snap;
struct fermata_vm;
struct mon_job;
struct record_job;
struct start;

/* ---- job.c ---- */

/* What a job did is noted. @done: the disk's chain is what it was to become. Commit point: the record. */
int job_note(struct fermata_vm *vm, struct record_job *j, bool done, const char *error, struct err *e) MUST_CHECK;

/* ---- lost.c ---- */

/* -EBUSY if something other than @p's own chain is backed by what a commit would write to. */
int block_commit_alone(struct fermata_vm *vm, const struct block_plan *p, struct err *e) MUST_CHECK;

/* Take from the record, in memory, the snapshots that commit @j overwrites. */
int job_forget_lost(struct fermata_vm *vm, const struct record_job *j, struct err *e) MUST_CHECK;

/* The first snapshot that it would, or NULL. */
const struct fermata_snap *job_first_lost(const struct fermata_vm *vm, const struct record_job *j);

/* The youngest of them that is inside an image, or NULL. */
const struct fermata_snap *job_inner_lost(const struct fermata_vm *vm, const struct record_job *j);

/* Whether all that are inside images can be deleted whole before @j begins. -EBUSY names the one that cannot. */
int job_may_drop(struct fermata_vm *vm, const struct record_job *j, struct err *e) MUST_CHECK;

/* ---- job.c ---- */

/* How a job stands; one that has ended is noted on record with all that it did. @info: may be NULL. */
int job_look(struct fermata_vm *vm, struct record_job *j, struct fermata_block_info *info, struct err *e) MUST_CHECK;

/* QMP blockdev-del of every node of @disk (NULL: of any) that is no active layer and that nothing is backed by. */
int node_sweep(struct fermata_vm *vm, const char *disk, struct err *e) MUST_CHECK;

/* ---- copy.c ---- */

/* The file of copy @j was made: note what it is known by before QEMU writes to it. Commit point: the record. */
int copy_note(struct fermata_vm *vm, struct record_job *j, struct err *e) MUST_CHECK;

/* In memory: what copy @j has made goes. What somebody else has put in its place stays, and the user hears of it. */
int copy_drop(struct fermata_vm *vm, const struct record_job *j, struct err *e) MUST_CHECK;

/* ---- qmp.c ---- */

int start_job_live(struct fermata_vm *vm, struct start *s, struct err *e);

/* ---- plan.c ---- */

int plan_commit(struct fermata_vm *vm, const struct fermata_block *b, struct block_plan *p, struct err *e);
int plan_rest(struct fermata_vm *vm, const struct fermata_block *b, struct block_plan *p, struct err *e);

/* A job under way: its plan, its entry on record, the nodes of the disk. */
struct start {
	const struct block_plan *p;
	struct record_job *j;
	const struct disks *ds;
	const struct disk_state *d;
	struct json_out w;
	char node[40]; /* copy: of the file made */
	struct off_change off; /* VM off: open and locked from the check over the record to the change */
};

/* ---- flush.c ---- */

/*
 * Flush the images that @j changes, by QEMU and in the kernel. @over: it has come to its end, and what is no active layer is
 * read-only again.
 */
int job_flush(struct fermata_vm *vm, const struct record_job *j, bool over, struct err *e) MUST_CHECK;

/* The same of what the kernel has of them, for a job that no QEMU has any more. */
int job_flush_files(const struct record_job *j, struct err *e) MUST_CHECK;

/* All is copied, and the job waits: flush, let it end, and take from @job how it did. */
int job_finalize(struct fermata_vm *vm, const struct record_job *j, struct mon_job *job, struct err *e) MUST_CHECK;

#endif
