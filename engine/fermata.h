/*
 * fermata's engine, and its API for embedders (link libfermata.a).
 *
 * Opaque handles, no globals, no printing, no exit(). A function that can fail takes a struct err last, returns 0 or
 * a negative code and fills it in only when it fails. One thread per handle. Files that the engine creates are 0600,
 * folders 0700.
 */
#ifndef ENGINE_FERMATA_H
#define ENGINE_FERMATA_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/err_type.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header; fermata_version() is the library's. */
#define FERMATA_VERSION_MAJOR 0
#define FERMATA_VERSION_MINOR 1
#define FERMATA_VERSION_PATCH 0

const char *fermata_version(void); /* "MAJOR.MINOR.PATCH" */

/* The operation failed half way and is on record; the next fermata_vm_open() for writing puts it right. */
#define FERMATA_PENDING (-4002)

struct fermata;    /* a host: where definitions, records and sockets are */
struct fermata_vm; /* one VM of it */

/* ---- the host ----------------------------------------------------------------------------------------- */

/* What a user should hear although nothing failed: a recovery done, kvm:tcg fell back. @vm: its name. */
typedef void fermata_notice_fn(void *ctx, const char *vm, const char *text);

/* A step of long work: @done of @total in any unit. Called from the thread that called the engine. */
typedef void fermata_progress_fn(void *ctx, const char *what, uint64_t done, uint64_t total);

/* @root: moves all three folders below it; "" for the places that the build was configured with. Reads nothing yet. */
int fermata_open(const char *root, struct fermata **out, struct err *e) MUST_CHECK;
void fermata_close(struct fermata *f);
void fermata_on_notice(struct fermata *f, fermata_notice_fn *fn, void *ctx);
void fermata_on_progress(struct fermata *f, fermata_progress_fn *fn, void *ctx);

/* The names of all VMs that have a definition or run, sorted: each with its NUL, an empty one last. Caller frees. */
int fermata_names(struct fermata *f, char **names, struct err *e) MUST_CHECK;

/* Where the host keeps the commit records, for checks of the host. Borrowed from @f. */
const char *fermata_state_dir(const struct fermata *f);
const char *fermata_conf_dir(const struct fermata *f);
const char *fermata_run_dir(const struct fermata *f);

/* ---- one VM -------------------------------------------------------------------------------------------- */

enum fermata_access {
	FERMATA_READ,  /* definition and record as they stand; takes no lock, changes nothing */
	FERMATA_WRITE, /* takes the VM's lock and first finishes or undoes what is pending */
	FERMATA_LOOK,  /* as READ, for what needs no record: a damaged one is not in the way */
	FERMATA_STEER, /* as WRITE, for what concerns the running QEMU alone: nothing pending or damaged is in the way */
};

/*
 * @what: the command, for others who meet the lock. -ENOENT: no such VM (with the names that there are, if one is
 * near); -EINVAL: its definition is wrong, and it does not run; -EBUSY: another command holds the lock (waits up to 10 s for it);
 * FERMATA_PENDING: recovery could not finish. @out: fermata_vm_close().
 */
int fermata_vm_open(struct fermata *f, const char *name, enum fermata_access access, const char *what,
	struct fermata_vm **out, struct err *e) MUST_CHECK;
void fermata_vm_close(struct fermata_vm *vm);

/* An operation on record, under way or cut off: "snapshot-revert", and @of what: "golden". False: there is none. */
bool fermata_vm_pending(const struct fermata_vm *vm, const char **what, const char **of);

/*
 * Give up what is pending and cannot go on; @vm is opened with FERMATA_STEER, and off. Notices say what that costs; without
 * @yes that is all. Images that hold data are not removed. -ECANCELED: not @yes. Commit point: the record.
 */
int fermata_abandon(struct fermata_vm *vm, bool yes, struct err *e) MUST_CHECK;

/*
 * Take the images below the disks as they are now, whatever was seen there before: for who has changed them on purpose. Opened
 * with FERMATA_STEER.
 */
int fermata_accept_images(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/*
 * Make @text, @n bytes, the definition of the VM @name, in the place of one that is there. @from: the file that it comes from, whose
 * folder its relative paths must not depend on; NULL: they count from the host's folder of definitions. -EINVAL: it is wrong, as
 * "FILE:LINE: what"; or what is on record of that VM began with other images. A VM that runs takes it at its next start.
 * Commit point: the file's rename.
 */
int fermata_define(struct fermata *f, const char *name, const char *text, size_t n, const char *from, struct err *e) MUST_CHECK;

/* What goes with a VM's definition. */
enum fermata_undefine {
	FERMATA_UNDEFINE_NVRAM = 1,     /* the file of the firmware's variables */
	FERMATA_UNDEFINE_STORAGE = 2,   /* its disks' images, those that its snapshots froze, and saved memory; never what another VM needs */
	FERMATA_UNDEFINE_SAVES = 4,     /* managed saves */
	FERMATA_UNDEFINE_SNAPSHOTS = 8, /* what is on record of its snapshots */
};

/*
 * Forget the VM: its definition and its record. @what: of enum fermata_undefine. -EBUSY: it runs, or has what @what does not name.
 * Images stay where they are without FERMATA_UNDEFINE_STORAGE; a notice names those that the definition does not.
 * Commit point: the definition's rename; FERMATA_PENDING: the next command on that name does the rest.
 */
int fermata_undefine(struct fermata *f, const char *name, unsigned what, struct err *e) MUST_CHECK;

/* What is wrong with the VM's definition or record although it could be opened; NULL: nothing. Borrowed. */
const struct err *fermata_vm_trouble(const struct fermata_vm *vm);

const char *fermata_vm_name(const struct fermata_vm *vm);
const char *fermata_vm_run_dir(const struct fermata_vm *vm);

enum fermata_state {
	FERMATA_SHUTOFF,
	FERMATA_RUNNING,
	FERMATA_PAUSED,
	FERMATA_IN_SHUTDOWN,
	FERMATA_CRASHED,
};

struct fermata_status {
	enum fermata_state state;
	char reason[48]; /* as virsh words it: "booted", "user", "I/O error", ... */
	pid_t pid;       /* 0 when off */
};

/* Ask QEMU (waits at most half a second: a VM that is busy with another command counts as running). */
int fermata_vm_status(struct fermata_vm *vm, struct fermata_status *st, struct err *e) MUST_CHECK;
const char *fermata_state_name(enum fermata_state s); /* "running", "shut off", ... */

/* How many disks the definition has. Below, @i is one of them, in the definition's order. */
size_t fermata_vm_disks(const struct fermata_vm *vm);

/* Its name in the definition: "vda". Borrowed from @vm; NULL if there is no disk @i. */
const char *fermata_vm_disk_name(const struct fermata_vm *vm, size_t i);

/* The image that the disk uses now: the record's, else the definition's. Borrowed from @vm; NULL if there is no disk @i. */
const char *fermata_vm_disk_file(const struct fermata_vm *vm, size_t i);

/* Whether that is raw, not qcow2. False if there is no disk @i. */
bool fermata_vm_disk_raw(const struct fermata_vm *vm, size_t i);

struct fermata_disk_size {
	uint64_t capacity;   /* bytes that the guest sees */
	uint64_t allocation; /* bytes that the file takes on the host */
	uint64_t physical;   /* the file's length, or the block device's */
};
/* -EINVAL: there is no disk @i. */
int fermata_vm_disk_size(struct fermata_vm *vm, size_t i, struct fermata_disk_size *out, struct err *e) MUST_CHECK;

/* QEMU's command line as the VM would be started now, words with their NUL, an empty one last. Caller frees. */
int fermata_vm_argv(struct fermata_vm *vm, char **words, struct err *e) MUST_CHECK;

/* ---- life ------------------------------------------------------------------------------------------------ */

/*
 * Start the VM, from its managed save if there is one; return when QEMU says that the guest runs (or stands, with
 * @paused). -EEXIST: it runs already.
 */
int fermata_start(struct fermata_vm *vm, bool paused, struct err *e) MUST_CHECK;

/*
 * The same without its managed save, which stays where it is until QEMU is up. Then it is set aside with @keep, or if the
 * guest does not run yet; else it is removed.
 */
int fermata_start_afresh(struct fermata_vm *vm, bool paused, bool keep, struct err *e) MUST_CHECK;

enum fermata_shutdown { FERMATA_BY_DEFAULT, FERMATA_BY_ACPI, FERMATA_BY_AGENT };

/* Ask the guest to power off (agent if it answers, else the ACPI button). Does not wait. */
int fermata_shutdown(struct fermata_vm *vm, enum fermata_shutdown how, bool reboot, struct err *e) MUST_CHECK;

/* Wait up to @wait_ms until the VM is off. -ETIMEDOUT. */
int fermata_wait_off(struct fermata_vm *vm, uint64_t wait_ms, struct err *e) MUST_CHECK;

/* Pull the plug. @graceful: never by SIGKILL. -ESRCH when it is off. */
int fermata_destroy(struct fermata_vm *vm, bool graceful, struct err *e) MUST_CHECK;

/*
 * @command was sent to QEMU's monitor by hand: where it switched a disk to another image, that is on record now, and a notice
 * says so. Waits up to 3 s for a block job that it told to end.
 */
void fermata_monitor_used(struct fermata_vm *vm, const char *command);
int fermata_reset(struct fermata_vm *vm, struct err *e) MUST_CHECK;
int fermata_suspend(struct fermata_vm *vm, struct err *e) MUST_CHECK;
int fermata_resume(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Freeze or thaw the guest's file systems through its agent; @count: out, how many. */
int fermata_freeze(struct fermata_vm *vm, uint64_t deadline_ms, int *count, struct err *e) MUST_CHECK;
int fermata_thaw(struct fermata_vm *vm, int *count, struct err *e) MUST_CHECK;

/* ---- the chains of images ------------------------------------------------------------------------------------- */

/* One image behind a disk: of its chain, or of a branch that some snapshot keeps. */
struct fermata_image {
	char *file;
	bool raw;
	bool in_use;                      /* part of the chain that the disk uses now; the active layer comes first */
	bool missing;                     /* it is not there, or cannot be read */
	uint64_t capacity, allocation;    /* as in struct fermata_disk_size */
	size_t backing;                   /* index of its backing file, or the number of images */
	const struct fermata_snap *frozen; /* the external snapshot that froze it, or NULL */
};

/* Every image of disk number @i. -EINVAL: there is none. @list: out; fermata_images_free(). */
int fermata_images(struct fermata_vm *vm, size_t i, struct fermata_image **list, size_t *n, struct err *e) MUST_CHECK;
void fermata_images_free(struct fermata_image *list, size_t n);

/* Jobs of a running QEMU over the images of one disk. */
enum fermata_job { FERMATA_PULL, FERMATA_COMMIT, FERMATA_ACTIVE_COMMIT, FERMATA_COPY };

struct fermata_block {
	enum fermata_job op;   /* a commit of the active layer becomes FERMATA_ACTIVE_COMMIT if @active is set */
	const char *disk;      /* its name, or the file that it uses now */
	const char *base;      /* a file of the chain, or the snapshot that froze it; NULL: none (pull), the lowest (commit) */
	const char *top;       /* commit: likewise; NULL: the active layer */
	const char *dest;      /* copy: the file to make */
	bool dest_raw;         /* ... not qcow2 */
	bool reuse;            /* ... which is there already */
	bool shallow;          /* commit: the base is right below the top; copy: the active layer alone */
	bool active;           /* commit: the active layer may be the top */
	bool remove;           /* commit: remove the images that were committed */
	bool drop;             /* commit: give up the snapshots whose images it overwrites */
	bool relative;         /* pull, commit: a backing name that is written counts from the folder of the image above */
	uint64_t speed;        /* bytes a second; 0: as fast as it goes */
};

/*
 * Start a job and return; it goes on in QEMU, is on record, and whatever command opens the VM for writing when it has
 * ended notes what it did. One at a time on a disk. A VM that is off: done natively when this returns, an active commit
 * with its pivot. -ESRCH: the VM is off (copy); -EBUSY: a job is there already, another
 * branch or VM is backed by what a commit would overwrite, or (without @drop) a snapshot is that; -ENOSPC.
 * QMP: block-stream, block-commit, blockdev-mirror.
 */
int fermata_block_start(struct fermata_vm *vm, const struct fermata_block *b, struct err *e) MUST_CHECK;

struct fermata_block_info {
	uint64_t id;             /* 0: there is no job, and none has ended since the last one was asked about */
	enum fermata_job op;
	bool ready;              /* active commit, copy: in step with the guest, waits for pivot or abort */
	bool ended;
	char error[256];         /* ended: why it failed, or "" */
	uint64_t current, total; /* of any unit */
	uint64_t speed;
};

/* "Block Pull", as virsh has it. */
const char *fermata_job_name(enum fermata_job op);

/* How the job of @disk stands. */
int fermata_block_info(struct fermata_vm *vm, const char *disk, struct fermata_block_info *out, struct err *e) MUST_CHECK;

int fermata_block_speed(struct fermata_vm *vm, const char *disk, uint64_t speed, struct err *e) MUST_CHECK;

/* End it: unfinished work is given up; one that is ready ends without pivot. @wait: until it has ended. */
int fermata_block_abort(struct fermata_vm *vm, const char *disk, bool wait, struct err *e) MUST_CHECK;

/*
 * Let the disk change over to the base or the copy. The guest stands for some milliseconds, so that both are the same
 * until the record names the new one; it goes on whatever happens. -EBUSY: not ready. Commit point: the record.
 */
int fermata_block_pivot(struct fermata_vm *vm, const char *disk, struct err *e) MUST_CHECK;

/* ---- saved memory (CONFIG_MEMORY) ------------------------------------------------------------------------- */

/*
 * What follows can be called off: it looks at @flag, which a signal's handler may set, and fails with -ECANCELED,
 * everything as it was before. Borrowed; NULL: nothing to look at.
 */
void fermata_on_cancel(struct fermata *f, const volatile sig_atomic_t *flag);

struct fermata_save {
	const char *file;     /* NULL: a managed save, which the next start resumes */
	bool direct;          /* past the page cache */
	bool running, paused; /* the state when it is restored; neither: as it is now */
};

/*
 * Memory and devices of a running VM into a file, and the VM is off. The file is there whole and flushed, or the guest
 * runs on. The disks must not change until it is restored: it is noted how they are. Commit point: the file's name.
 */
int fermata_save(struct fermata_vm *vm, const struct fermata_save *s, struct err *e) MUST_CHECK;

struct fermata_restore {
	const char *file;     /* NULL: the managed save */
	bool running, paused; /* the state afterwards; neither: as it was saved */
	bool force;           /* although disks, definition or QEMU are others now */
	bool keep_time;       /* leave the guest's clock as it was; else its agent sets it, if there is one */
};

/* Start the VM from a file. -EUCLEAN: it is damaged, -ESTALE: its disks have moved on. Failed, the VM stays off. */
int fermata_restore(struct fermata_vm *vm, const struct fermata_restore *r, struct err *e) MUST_CHECK;

bool fermata_managed(const struct fermata_vm *vm); /* whether there is a managed save */

/* 0 unless @image, by whatever name, is a disk of a VM with a managed save, which a change would spoil. -EBUSY names both. */
int fermata_image_unsaved(struct fermata *f, const char *image, struct err *e) MUST_CHECK;

/* Drop it. @aside: and those that were set aside. */
int fermata_managed_remove(struct fermata_vm *vm, bool aside, struct err *e) MUST_CHECK;

/* The managed save, and those that a start went past: set aside, until a later boot without a save is healthy. */
struct fermata_managed_save {
	char *file; /* fermata_restore() goes on from it */
	int64_t created;
	uint64_t bytes; /* on disk */
	bool aside;
	bool damaged;
};
int fermata_managed_list(const struct fermata_vm *vm, struct fermata_managed_save **list, size_t *n, struct err *e) MUST_CHECK;
void fermata_managed_free(struct fermata_managed_save *list, size_t n);

/* What a file of saved memory says of itself, as JSON. Caller frees. */
int fermata_saved_info(const char *file, char **json, struct err *e) MUST_CHECK;

/* The guest's memory as an ELF core; it stands meanwhile. */
int fermata_dump(struct fermata_vm *vm, const char *file, bool direct, struct err *e) MUST_CHECK;

/* ---- snapshots ---------------------------------------------------------------------------------------------- */

enum fermata_kind {
	FERMATA_CHECKPOINT_INTERNAL, /* savevm: memory, devices and all disks, inside the qcow2 files */
	FERMATA_DISK_INTERNAL,       /* disks only, inside the qcow2 files */
	FERMATA_DISK_EXTERNAL,       /* disks only, at least one of them frozen as a backing file */
	FERMATA_CHECKPOINT_EXTERNAL, /* memory and devices in a file, disks frozen as backing files */
};

/* The state that the VM was in, which a revert brings back. */
enum fermata_snap_state {
	FERMATA_SNAP_RUNNING,
	FERMATA_SNAP_PAUSED,
	FERMATA_SNAP_SHUTOFF,
	FERMATA_SNAP_DISK, /* the disks of a VM that ran: a revert leaves it off */
};

/* What one disk has of a snapshot. */
struct fermata_snap_disk {
	char *disk;       /* name in the definition */
	char *file;       /* internal: the image that carries it; external: the image that it froze */
	char *tag;        /* internal: the snapshot's name inside the image; external: "" */
	char *overlay;    /* external, while pending: the image that takes the writes from now on; else "" */
	bool external;
	bool raw;         /* the frozen image is raw, not qcow2 */
	bool reused;      /* the overlay was there before us, and is never removed */
	uint64_t vmstate; /* bytes of VM state that this image carries */
};

struct fermata_snap {
	uint64_t id; /* within the VM, never used again */
	char *name;
	char *description; /* never NULL */
	enum fermata_kind kind;
	enum fermata_snap_state state;
	int64_t created;   /* epoch seconds */
	uint64_t clock_ns; /* how long the guest had run */
	uint64_t parent;   /* id, or 0 */
	char *qemu;        /* version it was made with; "" if unknown */
	char *machine;     /* versioned machine type; "" if unknown */
	char *made;        /* what its guest saw of it (accel, cpu, memory, vcpus, devices): lines "KEY = VALUE"; "" if unknown */
	bool adopted;      /* in the images only, not in the record: made by somebody else, or without metadata */
	char *nvram;       /* the copy of the firmware's variables; NULL: there is none */
	char *memory;      /* file that its memory is in; NULL or "": none */
	char *ram;         /* instant: file beside that, which has the memory itself, ready to be mapped; NULL or "": it is not */
	char *ram_base;    /* ... has only the pages that differ from this one's; NULL or "": all of them */
	struct fermata_snap_disk *disks;
	size_t n_disks;
};

static inline bool fermata_snap_instant(const struct fermata_snap *s)
{
	return s->ram && s->ram[0];
}

static inline bool fermata_snap_external(const struct fermata_snap *s)
{
	return s->kind >= FERMATA_DISK_EXTERNAL;
}

/* Every snapshot, parents before children, oldest first. Borrowed until the next call that changes something. */
int fermata_snaps(struct fermata_vm *vm, const struct fermata_snap *const **list, size_t *n, struct err *e) MUST_CHECK;

/* By name. The disks are looked at only for one that is not on record. -ENOENT, with a near miss as the hint. */
int fermata_snap_find(struct fermata_vm *vm, const char *name, const struct fermata_snap **out, struct err *e) MUST_CHECK;
const struct fermata_snap *fermata_snap_by_id(struct fermata_vm *vm, uint64_t id);

/*
 * What a snapshot takes of the host's disks, and what its deletion would give back, in bytes. Of an internal one: the
 * clusters that it has, and those that nothing else uses. Of an external one: the images that it froze, and what of them
 * is overwritten above. An estimate while the VM runs.
 */
int fermata_snap_space(struct fermata_vm *vm, const struct fermata_snap *s, uint64_t *used, uint64_t *frees, struct err *e) MUST_CHECK;

/* What the VM's present comes from, or NULL. */
const struct fermata_snap *fermata_snap_current(struct fermata_vm *vm);

enum fermata_mode { FERMATA_MODE_DEFAULT, FERMATA_MODE_INTERNAL, FERMATA_MODE_EXTERNAL, FERMATA_MODE_NO };

/* What is wanted of one disk. */
struct fermata_diskspec {
	const char *disk; /* its name, or the file that it uses now */
	enum fermata_mode mode;
	const char *file; /* external: the overlay; NULL: a new name beside the disk, or in snapshot-dir */
	bool qcow2;       /* the overlay's format was said; it is never another */
};

#define FERMATA_SNAP_NAME_MAX 200 /* bytes that a snapshot's name has at most */

struct fermata_create {
	const char *name;        /* NULL: the epoch's second, as virsh does */
	const char *description; /* NULL: none */
	bool replace;            /* an existing snapshot of that name gives way, once the new one is complete */
	bool halt;               /* the VM is off afterwards */
	bool no_metadata;        /* not in the record; what it froze stays in the chains */
	bool disk_only;          /* no memory; disks external unless told otherwise */
	bool memory_file;        /* memory in a file of its own, disks external (CONFIG_MEMORY) */
	const char *memory;      /* ... this one; NULL: a new name in snapshot-dir, or beside the record */
	bool instant;            /* ... so that a revert maps it, in the same short time whatever its size */
	bool handover;           /* ... and the guest goes on in a second QEMU, at once: where memory-mode = instant allows it */
	bool live;               /* ... while the guest runs on, if there is a way */
	bool reuse;              /* overlays are there already, made for this */
	bool quiesce;            /* freeze the guest's file systems around the instant */
	uint64_t freeze_ms;      /* for the freeze at most */
	const struct fermata_diskspec *specs;
	size_t n_specs;
};

/* How the memory came into its file. */
enum fermata_way {
	FERMATA_STOPPED,    /* the guest was paused meanwhile */
	FERMATA_BACKGROUND, /* of the instant in which it began, the guest running on */
	FERMATA_PRECOPY,    /* of the instant in which it ended */
};

/* What came of fermata_snapshot_create(). */
struct fermata_taken {
	char name[FERMATA_SNAP_NAME_MAX + 1];
	const struct fermata_snap *snap; /* borrowed until the next call that changes something; NULL: it has no metadata */
	enum fermata_way way; /* of one whose memory is in a file: FERMATA_STOPPED, unless it was to be live and could */
	uint64_t pause_us;    /* how long its guest was paused, by QEMU's clock; 0: it did not run, or its memory is in no file */
	uint64_t frozen_ms;   /* how long the guest's file systems were frozen, as measured here; 0: they were not */
};

/*
 * Take a checkpoint (VM running or paused) or an internal disk snapshot (VM off) of every writable disk: on all of
 * them or on none. Refused before anything is touched: -EEXIST name taken, -EINVAL a name QEMU cannot carry,
 * -EOPNOTSUPP a disk that cannot or a device that blocks it, -ENOSPC with both numbers. QMP: snapshot-save, or HMP
 * savevm; for disks alone one transaction of blockdev-snapshot and blockdev-snapshot-internal-sync, the guest running.
 * With the memory in a file: migrate, that transaction while the guest is paused, cont.
 * Commit point: the commit record. @out: may be NULL; set on success alone.
 */
int fermata_snapshot_create(struct fermata_vm *vm, const struct fermata_create *c, struct fermata_taken *out, struct err *e) MUST_CHECK;

struct fermata_revert {
	bool running, paused; /* the state afterwards; neither: as it was taken */
	bool force;           /* although QEMU's version or the machine differ */
	bool verify;          /* read all of an instant checkpoint's memory first, by its checksums */
	bool keep_time;       /* as for a restore */
	bool copy;            /* where something needs the image that carries it: it moves into a copy of that */
	const char *keep;     /* keep the present as a disk snapshot of this name first; NULL: it is given up */
};

/*
 * Bring the VM back to a snapshot. Running: loaded in place. Off: started stopped, loaded, continued. A load that
 * fails before it touched a disk leaves everything as it was; after that FERMATA_PENDING. QMP: snapshot-load.
 */
int fermata_snapshot_revert(struct fermata_vm *vm, const char *name, const struct fermata_revert *r, struct err *e) MUST_CHECK;

/*
 * Keep a second QEMU that has loaded the external checkpoint @name and stands, for a revert in the time that it takes to end the
 * present one; after that revert another takes its place. It goes with the host, with fermata_standby_end(), and when
 * a snapshot is deleted. -EOPNOTSUPP: no external checkpoint.
 */
int fermata_standby(struct fermata_vm *vm, const char *name, struct err *e) MUST_CHECK;
int fermata_standby_end(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* What there is one for, or NULL. */
const struct fermata_snap *fermata_standby_for(const struct fermata_vm *vm);

/*
 * 0 if the snapshot has all that going back to it needs: every image of its disks, its tag inside them, every byte of a
 * memory file by its checksum; and if it is current, the images in use. -EUCLEAN: with the place of the damage.
 */
int fermata_snapshot_verify(struct fermata_vm *vm, const char *name, struct err *e) MUST_CHECK;

/*
 * Make an instant checkpoint of an external one, or one that has all of its memory of one that has what differs. Going back to
 * it is what it was, only faster. Nothing is done to one that is so already. VM off or running; commit point: the record.
 * -EINVAL: it has no memory, or has it inside an image; -EOPNOTSUPP: it has what the form cannot hold; -ENOSPC, -ECANCELED.
 */
int fermata_snapshot_bake(struct fermata_vm *vm, const char *name, struct err *e) MUST_CHECK; /* CONFIG_MEMORY */

/*
 * The whole snapshot as one run of bytes, fermata-archive(5): what a guest would read of every disk, and memory. While it
 * is written the VM may run; it is busy for others that change it.
 *
 * @file: there whole and flushed, or not at all, if it is a regular one; NULL: into @fd, which may be a pipe
 *
 * Memory is checked against its checksums as it is read. -EEXIST: @file is there, and something else. (CONFIG_EXPORT.)
 */
int fermata_snapshot_export(struct fermata_vm *vm, const char *name, const char *file, int fd, struct err *e) MUST_CHECK;

struct fermata_import {
	const char *file; /* NULL: from @fd, which may be a pipe */
	int fd;
	const char *name; /* what the snapshot is to be called; NULL: as in the archive */
	bool force;       /* although disks or machine differ; disks that the VM does not have are left out */
};

/*
 * Add a snapshot from an archive, as a root of the tree: external, its images and its memory files of their own. What the
 * VM uses now does not change; but a disk whose image is not there gets one that is backed by the snapshot's. Every byte is
 * checked before it is used, and what fails leaves nothing behind. -EUCLEAN: damaged, with the place; -EEXIST: the name;
 * -EINVAL, -ENODEV: not this VM's; -ENOSPC with both numbers. @out: borrowed. Commit point: the record.
 */
int fermata_snapshot_import(struct fermata_vm *vm, const struct fermata_import *i, const struct fermata_snap **out,
	struct err *e) MUST_CHECK;

struct fermata_delete {
	bool children;      /* it and all its descendants */
	bool children_only; /* all its descendants, but not it */
	bool metadata;      /* forget it, leave the images alone */
};

/* Delete from every disk, or keep what is left on record until it is. Children move to its parent. */
int fermata_snapshot_delete(struct fermata_vm *vm, const char *name, const struct fermata_delete *d, struct err *e) MUST_CHECK;

/* ---- boot: the definition's [boot] ------------------------------------------------------------------------------ */

/*
 * Bring the VM up as its policy says: each choice of "from" and "fallback" gets "attempts" tries, until the guest is
 * healthy. The counter is raised and on disk before a try and cleared when the guest is healthy, so that a power cut
 * counts as a failed one. A VM that runs already is left alone, unless a boot was cut off: then its health is seen to.
 * Every step is a notice. Blocks.
 *
 * @cold: the disks as they are come first (on-crash = restart)
 *
 * 0: healthy, from the first choice; 1: from a later one. FERMATA_PENDING: what was cut off is neither finished nor
 * undone; nothing else is tried, since that could destroy what recovery needs, and the next boot goes on from here.
 * Otherwise the VM is off, and the next boot begins anew.
 */
int fermata_boot(struct fermata_vm *vm, bool cold, struct err *e) MUST_CHECK;

struct fermata_boot_info {
	uint64_t tries;     /* attempts begun since it was last healthy */
	int64_t since;      /* epoch seconds; 0: never booted by policy */
	const char *from;   /* what was tried last; "" */
	const char *result; /* "healthy", "trying", or why it failed; "" */
	const char *good;   /* what it boots from */
	const char *guard;  /* a guarded command's checkpoint, or "" */
	const char *pending, *pending_of; /* an operation on record, under way or cut off: "snapshot-revert", "golden"; "" */
	bool guard_cut;     /* who guarded that command is gone */
};

/* Borrowed until the VM is closed. */
void fermata_boot_look(const struct fermata_vm *vm, struct fermata_boot_info *out);

/* The VM as it is counts as healthy; and from now on it boots from @name (a snapshot, managedsave, cold) unless NULL. */
int fermata_boot_good(struct fermata_vm *vm, const char *name, struct err *e) MUST_CHECK;

/* Wait until the guest is healthy, for as long as the policy gives it. */
int fermata_boot_healthy(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Take it down as "on-stop" says, within "stop-within"; then the plug is pulled. 0 when it is off already. */
int fermata_boot_stop(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/*
 * Take a checkpoint that is gone back to unless fermata_guard_end() says that the VM may stay as it is: by the next boot, if
 * the host goes down meanwhile. If only this process dies and the guest goes on, it is on record that the user is to decide.
 * @out: held until the end, also without the VM; fermata_guard_free().
 */
struct fermata_guard;
int fermata_guard_begin(struct fermata_vm *vm, struct fermata_guard **out, struct err *e) MUST_CHECK;
void fermata_guard_free(struct fermata_guard *g);

/* What the user decides about one that was cut off. -EBUSY: it is not. -ENOENT: there is none. */
int fermata_guard_decide(struct fermata_vm *vm, bool keep, struct err *e) MUST_CHECK;

/* A notice, if that is to be decided. */
void fermata_guard_tell(struct fermata_vm *vm);

/* @keep: forget the checkpoint; else go back to it first. */
int fermata_guard_end(struct fermata_vm *vm, bool keep, struct err *e) MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
