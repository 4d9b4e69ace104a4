/* Pull, commit, copy: plan, start, follow, what would be lost. */
#ifndef ENGINE_BLOCKJOB_BLOCKJOB_H
#define ENGINE_BLOCKJOB_BLOCKJOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/fermata.h"
#include "kvm/kvm.h"
#include "lib/err.h"

struct fermata_vm;
struct record_job;

/* What is to be done with a chain, images by their place in it. */
struct block_plan {
	enum fermata_job op;
	size_t disk;
	struct kvm_chain chain; /* layers[0] is the base */
	size_t top, base;       /* layers; base NO_LAYER: none */
	const char *dest;
	bool dest_raw, reuse, shallow, remove, drop, relative;
	uint64_t speed;
	uint64_t deleting; /* the id of the snapshot that a commit is part of the deletion of, or 0 */
};
#define NO_LAYER SIZE_MAX

/* ---- start.c ---- */

/* Whether @p could begin now. -ENOSPC, -EBUSY, -EOPNOTSUPP. */
int block_check(struct fermata_vm *vm, const struct block_plan *p, struct err *e) MUST_CHECK;

/* Check, put on record, start. */
int block_begin(struct fermata_vm *vm, const struct block_plan *p, struct err *e) MUST_CHECK;

/* Do what a user asked for. What is inside images and would be lost has been deleted before: see block_inner_lost(). */
int block_start(struct fermata_vm *vm, const struct fermata_block *b, struct err *e) MUST_CHECK;

/*
 * A snapshot inside images that commit @b would overwrite, the youngest one; NULL: there is none. A job takes it from one
 * disk only; to be deleted whole, from every disk, it has to be deleted before the job begins. All else has been checked:
 * @b could begin then.
 */
int block_inner_lost(struct fermata_vm *vm, const struct fermata_block *b, const struct fermata_snap **lost, struct err *e) MUST_CHECK;

/* ---- job.c ---- */

/* Wait for its end, or until it is ready; pivot then. -EREMOTEIO: it failed. */
int job_carry_out(struct fermata_vm *vm, struct record_job *j, struct err *e) MUST_CHECK;

/* Look at every job that is on record. */
int jobs_settle(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
