/* What the engine's own files share. */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

#include <signal.h>

#include "engine/fermata.h"
#include "engine/record.h"
#include "kvm/kvm.h"

struct fermata {
	char *conf_dir, *state_dir, *run_dir, *memory_dir;
	fermata_notice_fn *notice;
	void *notice_ctx;
	fermata_progress_fn *progress;
	void *progress_ctx;
	const volatile sig_atomic_t *cancel;
};

struct fermata_vm {
	struct fermata *host;
	char *name;
	char *run_dir;   /* sockets, pid, lock */
	char *state_dir; /* record, files that fermata makes */
	struct def *def;
	struct def_disk nvram; /* the firmware's variables as a disk, if they lie in a qcow2 image */
	struct record *rec;
	struct fermata_snap *loose; /* the last one made without metadata */
	int lock; /* -1: opened for reading */
	bool adopted; /* the images were searched for snapshots that others made */
	uint64_t frozen_ms; /* how long the last snapshot kept the guest's file systems frozen */
	uint64_t pause_us;  /* ... and the guest itself */
	bool keep_time;     /* leave a restored guest's clock alone */
	bool live;          /* a checkpoint is to be taken while the guest runs */
	enum fermata_way way;
	bool handover;      /* an instant checkpoint takes the memory's own file */
	struct err trouble; /* what is wrong with the definition or the record, where that is not in the way; code 0: nothing */
	struct kvm *kvm;
	struct kvm_caps *caps;
};

/* ---- definition.c ---- */

int no_such_vm(struct fermata *f, const char *name, struct err *e);

/* Whether there is such a VM: it has a definition, or runs. -ENOENT. */
int definition_there(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Read it into @vm; while the VM runs and its file is broken or gone, what it was started with, and vm->trouble says so. */
int definition_read(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#define CALL_MS  10000  /* an ordinary QMP command */
#define START_MS 60000  /* QEMU's own start */
#define JOB_MS   (24ull * 3600 * 1000) /* a whole savevm: as long as it takes, but not for ever */

void vm_notice(struct fermata_vm *vm, const char *fmt, ...) PRINTF(2, 3);

/* Remember why the VM is in the state it is in, for domstate --reason. Best effort: nothing depends on it. */
void vm_because(struct fermata_vm *vm, enum fermata_state state, const char *reason);

/* The caps of the definition's QEMU, asked once. */
int vm_caps(struct fermata_vm *vm, const struct kvm_caps **caps, struct err *e) MUST_CHECK;

/* Forget the connection, e.g. because the process is gone. */
void vm_hang_up(struct fermata_vm *vm);

/* What was asked ahead and not called for is old by the next call: where an operation ends before its time. */
void vm_ask_anew(struct fermata_vm *vm);

bool vm_alive(const struct fermata_vm *vm);

/* The running QEMU's versioned machine type: qom-get of /machine's "type". Caller frees. */
#define MACHINE_TYPE "{\"path\":\"/machine\",\"property\":\"type\"}" /* what it asks qom-get */
int live_machine(struct fermata_vm *vm, char **machine, struct err *e) MUST_CHECK;

/* ---- life.c ---- */

/*
 * Start QEMU stopped, on the disks' present chains. @machine: NULL for the definition's. @incoming: to wait for saved
 * memory. @map: the file that its memory begins as; NULL: empty memory. The connection is kept.
 */
int life_launch(struct fermata_vm *vm, const char *machine, bool incoming, const char *map, struct err *e) MUST_CHECK;

/*
 * The same for a second QEMU, which waits for saved memory on the overlays of @s: the record, which tells what the VM uses,
 * is neither asked for those nor changed.
 */
int life_launch_on(struct fermata_vm *vm, const struct fermata_snap *s, const char *machine, const char *map, struct err *e) MUST_CHECK;

/* Where a memory that can be handed over has its file; NULL: the VM has none. Borrowed. */
const char *life_memory_dir(const struct fermata_vm *vm);

/* End QEMU, whatever it does. */
int life_kill(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- chain.c: the images of every disk ---- */

struct chains {
	struct kvm_chain chain[DEF_MAX_DISKS]; /* in the definition's order */
};

/*
 * Follow every disk from its active layer down to its base. Names in images are untrusted: protocol names, cycles, more
 * than 200 layers, a missing backing format and paths outside the folders of the definition's own disks are errors.
 */
int chains_find(struct fermata_vm *vm, struct chains *c, struct err *e) MUST_CHECK;

/* The same for a QEMU that has the overlays of @s in place of what the record says of those disks. */
int chains_find_on(struct fermata_vm *vm, const struct fermata_snap *s, struct chains *c, struct err *e) MUST_CHECK;

/* The same for disk number @i alone; chain_done(). */
int chain_find(struct fermata_vm *vm, size_t i, struct kvm_chain *out, struct err *e) MUST_CHECK;
void chain_done(struct kvm_chain *c);
static inline void chain_donep(struct kvm_chain *c)
{
	chain_done(c);
}
#define auto_chain __attribute__((cleanup(chain_donep)))

void chains_done(struct chains *c);
static inline void chains_donep(struct chains *c)
{
	chains_done(c);
}
#define auto_chains __attribute__((cleanup(chains_donep)))

/* ---- disks.c: the disks as QEMU, or the image files, show them now ---- */

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

/* The file that QEMU's format node @node has open, or "". Borrowed from @nodes. */
const char *node_file(const struct json_doc *nodes, const char *node);

/* The format node of disk @d->def that has @file open, or NULL. Borrowed from ds. */
const char *disk_node(const struct disks *ds, const struct disk_state *d, const char *file);

/* What QEMU lists of @node, or NULL. */
const struct json *disks_node(const struct disks *ds, const char *node);

/* The disk called @name, or ds->n. */
size_t disk_index(const struct disks *ds, const char *name);

/* One snapshot as an image has it. */
struct tag {
	const char *id, *name;
	uint64_t vmstate, clock_ns;
	int64_t created;
};

/* Call @fn for every snapshot of a disk, in the image's order, until it returns false. */
void disk_tags(const struct disk_state *d, bool (*fn)(void *ctx, const struct tag *t), void *ctx);

/* Whether the disk has a snapshot called @name; @t: out if not NULL. */
bool disk_has_tag(const struct disk_state *d, const char *name, struct tag *t);

/* ---- adopt.c ---- */

/* Add to the record in memory what others made in the images. Writes nothing. vm_adopt_from(): who has looked already. */
int vm_adopt(struct fermata_vm *vm, struct err *e) MUST_CHECK;
int vm_adopt_from(struct fermata_vm *vm, const struct disks *ds, struct err *e) MUST_CHECK;

/* ---- savevm.c: what QEMU does for us, by job or by HMP ---- */

enum savevm_op { SAVEVM_SAVE, SAVEVM_LOAD, SAVEVM_DELETE };

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

/* ---- nvram.c ---- */

/* Give @s a place for its copy, if it needs one. */
int nvram_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Make the copy; tell whether it is still the same. */
int nvram_keep(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;
void nvram_compare(struct fermata_vm *vm, const struct fermata_snap *s);

/* VM off: bring the copy back. */
int nvram_apply(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* ---- native.c: the same on images of a VM that is off ---- */

/* Delete @tag from every disk of @s that has it; all disks are tried, the first error is returned. */
int native_delete(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;
int native_create(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;
int native_apply(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Whether every disk of @s has it, and the one with the VM state all of that. */
int native_complete(struct fermata_vm *vm, const struct fermata_snap *s, bool *complete, struct err *e) MUST_CHECK;

/* Give back what aborted checkpoints left behind the disks' ends; the record says where. */
int native_reclaim(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- remove.c ---- */

/* Delete @s's tags from the images, live or native, as the VM stands, and see that none is left. */
int remove_tags(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* The pending deletion's tags are gone: drop it from the record. Commit point: the record. */
int remove_finish(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- create.c ---- */

/*
 * The pending snapshot stands on every disk: note what the images say of it, make it current, drop what it replaces.
 * Commit point: the record.
 */
int create_finish(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Take back what the pending creation did. */
int create_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Whether the pending snapshot is whole on every disk. */
int create_is_whole(struct fermata_vm *vm, bool *whole, struct err *e) MUST_CHECK;

/* 0, or what in the running VM cannot be saved: QMP query-migrate. */
int vm_blockers(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Whether a snapshot may be called so. -EINVAL. */
int snap_check_name(const char *name, struct err *e) MUST_CHECK;

/* Note in @s what the running QEMU is, for the check before a revert. */
int note_qemu(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;

/* ---- revert.c ---- */

/* Whether the definition's QEMU promises to load @s. */
int check_installed_qemu(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* The pending revert is done: note it, and let the guest run if that was asked. Commit point: the record. */
int revert_finish(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Keep the present as a snapshot called @name, of the same kind as @s. */
int revert_keep(struct fermata_vm *vm, const struct fermata_snap *s, const char *name, struct err *e) MUST_CHECK;

/* VM off: take the disks back to where they were before the pending revert. */
int revert_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- block_start.c, blockjob.c: block jobs ---- */

/* What is to be done with a chain, images by their place in it. */
struct block_plan {
	enum fermata_job op;
	size_t disk;
	struct kvm_chain chain; /* layers[0] is the base */
	size_t top, base;       /* layers; base NO_LAYER: none */
	const char *dest;
	bool dest_raw, reuse, shallow, remove, drop;
	uint64_t speed;
};
#define NO_LAYER SIZE_MAX

/* The name or present file of a disk. -ENOENT. */
int disk_pick(const struct fermata_vm *vm, const char *name, size_t *i, struct err *e) MUST_CHECK;

/* The disk uses @file from now on, says the record in memory. */
int disk_use(struct fermata_vm *vm, const char *disk, const char *file, bool raw, struct err *e) MUST_CHECK;

/* What external snapshots froze in @from is in @to now. */
int frozen_move(struct fermata_vm *vm, const char *from, const char *to, bool raw, struct err *e) MUST_CHECK;

/* Whether @p could begin now. -ENOSPC, -EBUSY, -EOPNOTSUPP. */
int block_check(struct fermata_vm *vm, const struct block_plan *p, struct err *e) MUST_CHECK;

/* Check, put on record, start. */
int block_begin(struct fermata_vm *vm, const struct block_plan *p, struct err *e) MUST_CHECK;

/* What a job did is noted. @done: the disk's chain is what it was to become. Commit point: the record. */
int job_note(struct fermata_vm *vm, struct record_job *j, bool done, const char *error, struct err *e) MUST_CHECK;

/* ---- block_off.c: the same on images that no QEMU uses ---- */

/* @top takes over what the @n images below it have, but for the @n-th, on which it stands then. @dry: only look for room. */
int off_pull(struct fermata_vm *vm, const char *top, size_t n, bool dry, struct err *e) MUST_CHECK;

/* The @n-th image below @top takes over what those above it have. */
int off_commit(struct fermata_vm *vm, const char *top, size_t n, bool dry, struct err *e) MUST_CHECK;

/* Let @file name @base, which holds the same as what it stood on. */
int off_stand_on(const char *file, const char *base, bool raw, struct err *e) MUST_CHECK;

/* Carry out @p, which is on record as @j. Cut off, it is judged by the headers and the record as if QEMU had died in it. */
int off_job(struct fermata_vm *vm, const struct block_plan *p, struct record_job *j, struct err *e) MUST_CHECK;

/* Bytes that a file takes on the host; 0 when it is not there. */
uint64_t file_allocated(const char *file);

/* -EBUSY if something other than @p's own chain stands on what a commit would write to. */
int block_commit_alone(struct fermata_vm *vm, const struct block_plan *p, struct err *e) MUST_CHECK;

/* Take from the record, in memory, the snapshots that commit @j overwrites. */
int job_forget_lost(struct fermata_vm *vm, const struct record_job *j, struct err *e) MUST_CHECK;

/* The first snapshot that it would, or NULL. */
const struct fermata_snap *job_first_lost(const struct fermata_vm *vm, const struct record_job *j);

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

/* ---- blockjob.c ---- */

/* How a job stands; one that has ended is noted on record with all that it did. @info: may be NULL. */
int job_look(struct fermata_vm *vm, struct record_job *j, struct fermata_block_info *info, struct err *e) MUST_CHECK;

/* Wait for its end, or until it is ready; pivot then. -EREMOTEIO: it failed. */
int job_carry_out(struct fermata_vm *vm, struct record_job *j, struct err *e) MUST_CHECK;

/* Its id in QEMU. */
void block_id(const struct record_job *j, char id[MON_JOB_ID]);

/* QMP blockdev-del of every node of @disk (NULL: of any) that is no active layer and that nothing stands on. */
int node_sweep(struct fermata_vm *vm, const char *disk, struct err *e) MUST_CHECK;

/* Look at every job that is on record. */
int jobs_settle(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* -EBUSY while a job runs: snapshots and jobs do not mix. */
int jobs_none(const struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- after.c ---- */

/*
 * A guest runs that was restored with its memory: its network is announced (QMP announce-self), its clock set by its agent
 * unless vm->keep_time. What cannot be done is a notice. At most some two seconds.
 */
void after_restore(struct fermata_vm *vm);

/* ---- save.c ---- */

/* The pending save or restore was cut off: finish it if its file is whole, else undo. */
int save_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- import.c ---- */

/* Remove what the pending import has made. */
int import_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- recover.c ---- */

/* Finish or undo what is pending. */
int vm_recover(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* For kvm_guard_call(), with the VM: when the command has died with the guest stopped, what the next command would do. */
void recover_now(void *vm);

/* The disks are about to change: no saved memory goes with them any more. Commit point: the record. */
int saved_forget(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Put @p on record before the first change. Takes p.snap over, also when it fails. */
int pending_begin(struct fermata_vm *vm, struct pending p, struct err *e) MUST_CHECK;

/* Nothing is pending any more. */
int pending_end(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
