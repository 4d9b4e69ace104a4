/* What was cut off is finished or undone: the top of the engine, above every room. */
#ifndef ENGINE_RECOVER_H
#define ENGINE_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

struct fermata_vm;
struct mon_job;
struct record_job;

/* ---- running.c ---- */

/*
 * What runs is what the definition has: -EBUSY names a disk that is open for writing and that no [disk] has, unless it is left out
 * there; with @memory also a device that was plugged in or unplugged since the start. VM off: the disks of its [qemu] args.
 */
int running_check(struct fermata_vm *vm, bool memory, struct err *e) MUST_CHECK;

/* ---- definition.c ---- */

/* -EINVAL: a disk that the record has another image for was begun with another file than the definition names now. */
int definition_heeded(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- block_flush.c ---- */

/*
 * Flush the images that @j changes, by QEMU and in the kernel. @over: it has come to its end, and what is no active layer is
 * read-only again.
 */
int job_flush(struct fermata_vm *vm, const struct record_job *j, bool over, struct err *e) MUST_CHECK;

/* The same of what the kernel has of them, for a job that no QEMU has any more. */
int job_flush_files(const struct record_job *j, struct err *e) MUST_CHECK;

/* All is copied, and the job waits: flush, let it end, and take from @job how it did. */
int job_finalize(struct fermata_vm *vm, const struct record_job *j, struct mon_job *job, struct err *e) MUST_CHECK;

/* ---- recover.c ---- */

/* Finish or undo what is pending. */
int vm_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- open.c ---- */

/* For kvm_guard_call(), with the VM: when the command has died with the guest stopped, what the next command would do. */
void recover_now(void *vm);

/* The disks are about to change: no saved memory goes with them any more. Commit point: the record. */
int saved_forget(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- recover.c ---- */

/* What is pending goes on record once more, with what has been found out since. Nothing has been changed yet. */
int pending_again(struct fermata_vm *vm, struct err *e) MUST_CHECK;
uint64_t now_ns(void);

#endif
