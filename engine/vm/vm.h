/* The handle: host, definition, status, what QEMU the VM was made with. */
#ifndef ENGINE_VM_VM_H
#define ENGINE_VM_VM_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/fermata.h"
#include "engine/record/record.h"
#include "kvm/def.h"
#include "lib/err.h"

struct kvm;
struct kvm_caps;

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
	int lock; /* -1: opened for reading */
	bool adopted; /* the images were searched for snapshots that others made */
	struct err trouble; /* what is wrong with the definition or the record, where that is not in the way; code 0: nothing */
	struct kvm *kvm;
	struct kvm_caps *caps;
	void (*rescue)(struct fermata_vm *vm); /* what the next command would do first; NULL: nothing */
};

#define CALL_MS  10000  /* an ordinary QMP command */
#define START_MS 60000  /* QEMU's own start */
#define JOB_MS   (24ull * 3600 * 1000) /* a whole savevm: as long as it takes, but not for ever */

/* ---- host.c ---- */

void vm_notice(struct fermata_vm *vm, const char *fmt, ...) PRINTF(2, 3);

/* ---- status.c ---- */

/* Remember why the VM is in the state it is in, for domstate --reason. Best effort: nothing depends on it. */
void vm_because(struct fermata_vm *vm, enum fermata_state state, const char *reason);

/* ---- vm.c ---- */

/* A handle that knows its names, and no file of the VM's yet. @out: fermata_vm_close(), also after a failure. */
int vm_new(struct fermata *f, const char *name, struct fermata_vm **out, struct err *e) MUST_CHECK;

static inline void vm_closep(struct fermata_vm **vm)
{
	fermata_vm_close(*vm);
}
#define auto_handle __attribute__((cleanup(vm_closep)))

/* Take the VM's lock, and make its folders. @what: the command, for others who meet it. -EBUSY names who has it. */
int vm_take_lock(struct fermata_vm *vm, const char *what, struct err *e) MUST_CHECK;

/* The caps of the definition's QEMU, asked once. */
int vm_caps(struct fermata_vm *vm, const struct kvm_caps **caps, struct err *e) MUST_CHECK;

/* Forget the connection, e.g. because the process is gone. */
void vm_hang_up(struct fermata_vm *vm);

/* What was asked ahead and not called for is old by the next call: where an operation ends before its time. */
void vm_ask_anew(struct fermata_vm *vm);
bool vm_alive(const struct fermata_vm *vm);

/* For kvm_guard_call(), with the VM: the command has died with the guest stopped, and a child does what the next one would. */
void vm_rescue(void *vm);

/* The running QEMU's versioned machine type: qom-get of /machine's "type". Caller frees. */
#define MACHINE_TYPE "{\"path\":\"/machine\",\"property\":\"type\"}" /* what it asks qom-get */

/* ---- definition.c ---- */

/* -ENOENT, with what the user may have meant. */
int no_such_vm(struct fermata *f, const char *name, struct err *e);

/* Whether there is such a VM: it has a definition, or runs. -ENOENT. */
int definition_there(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Read it into @vm; while the VM runs and its file is broken or gone, what it was started with, and vm->trouble says so. */
int definition_read(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* -EINVAL: a disk that the record has another image for was begun with another file than the definition names now. */
int definition_heeded(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- compat.c ---- */

/* 0, or what in the running VM cannot be saved: QMP query-migrate. */
int vm_blockers(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* Note in @s what the running QEMU is, for the check before a revert. @memory: and what the guest sees of it. */
int note_qemu(struct fermata_vm *vm, struct fermata_snap *s, bool memory, struct err *e) MUST_CHECK;

/* Whether the definition's QEMU promises to load @s, and is the machine that @s was made in. */
int check_installed_qemu(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* ---- disk.c ---- */

/* The name or present file of a disk. -ENOENT. */
int disk_pick(const struct fermata_vm *vm, const char *name, size_t *i, struct err *e) MUST_CHECK;

/* The disk uses @file from now on, says the record in memory. */
int disk_use(struct fermata_vm *vm, const char *disk, const char *file, bool raw, struct err *e) MUST_CHECK;

/* What external snapshots froze in @from, or what stays of those that are deleted, is in @to now. */
int frozen_move(struct fermata_vm *vm, const char *from, const char *to, bool raw, struct err *e) MUST_CHECK;

/* ---- resumed.c ---- */

/*
 * A guest runs that was restored with its memory: its network is announced (QMP announce-self), its clock set by its agent
 * unless @keep_time. What cannot be done is a notice. At most some two seconds.
 */
void after_restore(struct fermata_vm *vm, bool keep_time);

/* ---- disk.c ---- */

/* QEMU, which may run as another user, must be able to open what we make. */
int give_to_user(struct fermata_vm *vm, int fd, const char *path, struct err *e) MUST_CHECK;

/*
 * The definition's user can come to @path: the folders that are fermata's own are opened to who knows a name in them. -EACCES names
 * another one that is closed.
 */
int user_reaches(struct fermata_vm *vm, const char *path, struct err *e) MUST_CHECK;
int set_string(char **to, const char *s, struct err *e);

/* ---- compat.c ---- */

/* The same of the running one. What is not known to fit is refused, too: QEMU would have given up the present before it finds out. */
int check_running_qemu(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e);

/* ---- compat_lines.c ---- */

/*
 * Two descriptions of a machine, each as lines "KEY = VALUE" in their order: 0 if they are the same, else -ESTALE, and
 * which line has changed, or is new, or gone. @then, @now: for the message, as in "when it was saved" and "now".
 */
int compat_lines(const char *was, const char *is, const char *then, const char *now, struct err *e) MUST_CHECK;

/* Whether the guest would see the same machine by the definition's text @was as it does by the present one. -ESTALE. */
int compat_definition(const struct fermata_vm *vm, const char *was, struct err *e) MUST_CHECK;

#endif
