/* One QEMU process, from a definition to its exit. Knows no snapshots and does not read images. */
#ifndef KVM_KVM_H
#define KVM_KVM_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "monitor/monitor.h"

/* ---- what this host's QEMU can do ------------------------------------------------------------------- */

struct kvm_caps {
	char *path;    /* of the binary, absolute */
	char *version; /* "7.2.22" */
	char *package; /* "Debian 1:7.2+dfsg-7+deb12u18" or "" */
	int major, minor, micro;
	char *arch;    /* of its guests: "x86_64", "aarch64" */
	char *machines; /* every type and alias, each with its NUL, an empty one last: "pc-q35-7.2\0q35=pc-q35-7.2\0\0" */
	char *commands; /* every QMP command likewise */
	char *devices;  /* the device types that argv asks for and that are there, likewise */
	bool sandbox;   /* built with seccomp */
	bool kvm;       /* built with KVM */
	bool maps_readonly; /* a guest's memory can begin as a file that is opened for reading */
	char *cpu_host; /* what "-cpu" takes for the host's own CPU: "host", less what this host's KVM offers but refuses */
};

/*
 * Ask the QEMU called @qemu (a name in PATH or a path) what it can do: one start with "-machine none", remembered in
 * @cache_dir (made if need be; NULL: nowhere) by the binary's path, size and mtime. A cache that cannot be read or
 * written is no error.
 * -ENOENT: no such QEMU, with what to do. @caps: out; kvm_caps_free().
 */
int kvm_probe(const char *qemu, const char *cache_dir, struct kvm_caps **caps, struct err *e) MUST_CHECK;
void kvm_caps_free(struct kvm_caps *c);

bool kvm_caps_has_command(const struct kvm_caps *c, const char *name);
bool kvm_caps_has_device(const struct kvm_caps *c, const char *name);
/* The versioned name behind an alias ("q35" -> "pc-q35-7.2"), the name itself if versioned, NULL if unknown. */
const char *kvm_caps_machine(const struct kvm_caps *c, const char *name);

/* 0 if /dev/kvm can be used, else why not and what to do. -ENOENT, -EACCES, ... */
int kvm_usable(struct err *e) MUST_CHECK;

/* ---- starting -------------------------------------------------------------------------------------- */

/* One image of a disk's chain. */
struct kvm_layer {
	const char *file;
	enum def_format format;
	const char *data;   /* the external data file that the image has; NULL: none */
	struct stat id;     /* what the file was when the chain was looked at; st_ino 0: nobody looked */
	struct stat data_id;
};

/* The chain of one disk as the engine found it: layers[0] is the base, the last one the active layer. */
struct kvm_chain {
	const char *disk; /* name in the definition */
	const struct kvm_layer *layers;
	size_t n_layers;
};

/* The driver of a protocol node over @file: "host_device" if it is a block device now, else "file". Constant. */
const char *kvm_file_driver(const char *file);

struct kvm_spec {
	const struct def *def;
	const struct kvm_caps *caps;
	const struct kvm_chain *chains; /* one per disk, in the definition's order */
	const char *machine; /* NULL: the definition's; else e.g. what a checkpoint was made with */
	const char *run_dir; /* sockets, pid, log */
	bool incoming;       /* -incoming defer */
	const char *memory_map; /* the guest's memory begins as what this file has: mapped privately, read when touched */
	const char *memory_dir; /* else it is a file in this folder, without a name; NULL: anonymous. A copy of memory_map is there, too */
	const char *aside;   /* for a second QEMU, kvm_sockets_aside(); NULL: the sockets of [qemu] args have the names given there */
};

/*
 * Whether the content of memory_map @file is copied into memory first: it lies on a file system that is read-only, and this QEMU
 * opens what it maps for writing, if only to map it privately.
 */
bool kvm_map_copies(const struct kvm_caps *c, const char *file);

/* A growing argument vector. */
struct argv {
	char **v; /* NULL-terminated when n > 0 */
	size_t n, cap;
	bool oom;
};
void argv_add(struct argv *a, const char *s);
void argv_addf(struct argv *a, const char *fmt, ...) PRINTF(2, 3);
void argv_done(struct argv *a);

/* Descriptors that a started QEMU inherits; the numbers it sees are fixed, so that argv can be printed and reused. */
enum { KVM_FD_QMP = 3, KVM_FD_EVENTS, KVM_FD_AGENT, KVM_FD_CONSOLE, KVM_FD_MEMORY };

/* The node of the firmware's variables, where the definition has an nvram. */
#define KVM_NODE_NVRAM "nvram"

/*
 * Build QEMU's command line, node by node. Nodes are named DISK.N and DISK.N.file, N counting from the base; the
 * device's id is DISK; ids of ours have a dot, which names in a definition cannot. The memory's id is "ram0" for ever,
 * since saved memory is known by it. The command line starts QEMU stopped (-S).
 *
 * @accel:  out, what was chosen ("kvm" or "tcg")
 * @notice: out, "" or what the user should hear (kvm:tcg fell back)
 *
 * -EINVAL for what the machine cannot have (a fifth IDE disk), -EOPNOTSUPP for what this QEMU does not have, -ENOENT,
 * -EACCES for /dev/kvm. On success argv_done(out).
 */
int kvm_argv(const struct kvm_spec *spec, struct argv *out, const char **accel, char *notice, size_t notice_size,
	struct err *e) MUST_CHECK;

/* Whom the definition's user names, who must be able to open what QEMU opens. -ENOENT: there is no such user. */
int kvm_user(const char *user, uid_t *uid, gid_t *gid, struct err *e) MUST_CHECK;

struct kvm; /* a QEMU process that runs, and our connection to it */

/*
 * Start QEMU stopped (-S) in a session of its own; return when its monitor answers, or say why it died, quoting its
 * last words. What the one before it said goes to qemu.log.1. Before exec, pid and start time stand in @run_dir/pid, so that no QEMU ever lives without its record.
 * -EEXIST if one runs already. @out: kvm_close(). On failure nothing runs and nothing is left in @run_dir but the log.
 */
int kvm_start(const struct kvm_spec *spec, struct deadline d, struct kvm **out, char *notice, size_t notice_size,
	struct err *e) MUST_CHECK;

/* ---- finding it again ------------------------------------------------------------------------------- */

/*
 * The pid of the QEMU that @run_dir/pid names if it is alive, else 0: /proc has it with the same start time, or somebody has its
 * monitor's socket open (where /proc is not mounted, or shows other processes). Cleans nothing.
 */
pid_t kvm_pid(const char *run_dir);

/* The definition that the running QEMU of @run_dir was started with; @path: where its file was. def_free(). */
int kvm_definition(const char *run_dir, const char *path, const char *name, const struct def_section *further, struct def **def,
	struct err *e) MUST_CHECK;

/* Remove pid and sockets of a QEMU that is dead. Only with the VM's lock held. */
void kvm_clean(const char *run_dir);

/* The same with the folder and its logs. What the last one said stays in folder @keep, as qemu.log.1. */
void kvm_remove(const char *run_dir, const char *keep);

/* The QEMU of folder @from is that of @to from now on, where none runs any more. Cut off, it can be done again. */
int kvm_move(const char *from, const char *to, struct err *e) MUST_CHECK;

/*
 * Connect to the running QEMU of @run_dir. -ESRCH: none runs. -ETIMEDOUT: its monitor does not answer (another command
 * holds it, or it hangs). @out: kvm_close(), which leaves QEMU running.
 */
int kvm_open(const char *run_dir, struct deadline d, struct kvm **out, struct err *e) MUST_CHECK;
void kvm_close(struct kvm *k);

struct mon *kvm_mon(struct kvm *k);
pid_t kvm_process(const struct kvm *k);

/*
 * For a supervisor: the monitor on events.sock, which is not in the way of commands, and a descriptor that polls readable
 * when the process has ended (-1 where the kernel has none: then the monitor's end has to do). -ESRCH: none runs.
 */
int kvm_watch(const char *run_dir, struct deadline d, struct mon **m, int *pidfd, struct err *e) MUST_CHECK;

/*
 * Talking to a QEMU that was started here failed with @e: if it has ended, say why in its own words (-EREMOTEIO).
 */
void kvm_last_words(const struct kvm *k, const char *run_dir, struct err *e);

/*
 * A QEMU that goes on after something has failed tells why in its log alone: how much that had before, and, added to @e, what
 * it has since.
 */
uint64_t kvm_log_bytes(const char *run_dir);
void kvm_log_since(const char *run_dir, uint64_t from, struct err *e);

/* Connect to @run_dir/agent.sock. -ENOENT: the VM has no agent channel. Caller owns the descriptor. */
int kvm_agent_connect(const char *run_dir, struct deadline d, int *fd, struct err *e) MUST_CHECK;
int kvm_console_connect(const char *run_dir, struct deadline d, int *fd, struct err *e) MUST_CHECK;

/*
 * Have QEMU listen on the ports of the host that the definition's networks forward (hostfwd). It is said by the monitor, when QEMU is
 * the VM's: a second one beside it would find them taken. @again: it may have some of them already.
 */
int kvm_forward(struct kvm *k, const struct def *d, bool again, struct deadline until, struct err *e) MUST_CHECK;

/* Set what the definition's disks may do in a second (iops, bps), right after QEMU's start. */
int kvm_limit_disks(struct kvm *k, const struct def *d, struct deadline until, struct err *e) MUST_CHECK;

/*
 * Note in @run_dir which devices QEMU has, right after its start; and compare: -EBUSY names one that was plugged in or unplugged
 * since, so that memory saved now could not be loaded by a QEMU that starts.
 */
int kvm_devices_note(struct kvm *k, const char *run_dir, struct err *e) MUST_CHECK;
int kvm_devices_check(struct kvm *k, const char *run_dir, struct err *e) MUST_CHECK;

/*
 * What a second QEMU adds to the names of the sockets that [qemu] args have it listen on: one that neither of the QEMUs of
 * @run_dirs was started with. kvm_destroy() removes those names.
 */
const char *kvm_sockets_aside(const char *const run_dirs[2]);

/* Remove what one that was started with @aside, and has ended by itself, has left. */
void kvm_sockets_remove(const struct def *d, const char *aside);

/*
 * The QEMU of @run_dir was a second one and is the VM's now: its sockets get the names that the definition says. Those that
 * they replace are of one that has ended. Done again, it goes on where it was.
 */
int kvm_sockets_move(const char *run_dir, struct err *e) MUST_CHECK;

/*
 * What a guest can see of its QEMU beyond the machine's type: accel, cpu, memory, vcpus, the devices in their order; as lines
 * "KEY = VALUE". Of the one that runs: what it was started with; "": it was started by a fermata that did not note it.
 * kvm_made_by(): of one that was started by @def on @machine (NULL: the definition's).
 */
int kvm_made(const char *run_dir, struct buf *out, struct err *e) MUST_CHECK;
int kvm_made_by(const struct def *def, const struct kvm_caps *caps, const char *machine, const char *run_dir, struct buf *out,
	struct err *e) MUST_CHECK;

/* ---- lifecycle --------------------------------------------------------------------------------------- */

/* QMP query-status: "running", "paused", "io-error", "restore-vm", ... @status: 32 bytes. */
#define KVM_STATUS_MAX 32
int kvm_status(struct kvm *k, char status[KVM_STATUS_MAX], struct err *e) MUST_CHECK;
int kvm_status_by(struct kvm *k, struct deadline d, char status[KVM_STATUS_MAX], struct err *e) MUST_CHECK;

/* QMP cont/stop; return when query-status agrees. cont retries while QEMU says that a migration is being finished. */
int kvm_cont(struct kvm *k, struct deadline d, struct err *e) MUST_CHECK;
int kvm_stop(struct kvm *k, struct deadline d, struct err *e) MUST_CHECK;

int kvm_powerdown(struct kvm *k, struct err *e) MUST_CHECK; /* the ACPI button */
int kvm_reset(struct kvm *k, struct err *e) MUST_CHECK;

/* Wait until the process has ended. -ETIMEDOUT: it lives. */
int kvm_wait_gone(const char *run_dir, pid_t pid, struct deadline d, struct err *e) MUST_CHECK;

/*
 * End QEMU: SIGTERM (it flushes its images), and after @grace_ms SIGKILL unless @graceful, which then is -EBUSY.
 * Cleans @run_dir. 0 if none ran.
 */
int kvm_destroy(const char *run_dir, uint64_t grace_ms, bool graceful, struct err *e) MUST_CHECK;

/*
 * Whether process @pid has open, among others, the @n files @id: *@found of them. From /proc/PID/fd; -errno if that cannot be
 * read, as of another user's process.
 */
int kvm_has_open(pid_t pid, const struct stat *id, size_t n, size_t *found);

/* Bytes of guest memory that QEMU has touched (VmRSS less file mappings), from /proc/PID/status. */
int kvm_memory_used(pid_t pid, uint64_t *bytes, struct err *e) MUST_CHECK;

/*
 * Whether a thread of process @pid is in a system call on the file or pipe behind our @fd: 1, 0; -errno if that cannot be
 * seen. From /proc/PID/task/TID/syscall, which takes the rights of ptrace.
 */
int kvm_waits_on(pid_t pid, int fd);

/*
 * Put the small pages of the private memory of process @pid, a QEMU with a guest of @memory bytes, together into huge ones, as
 * far as the kernel can (MADV_COLLAPSE, Linux 6.1) and the host wants any; what nobody has touched stays so. What reads a byte
 * of every page, as QEMU does before a background snapshot, then does so ten times as fast. Takes some 0.3 s for each GiB of
 * small pages, while the process runs.
 */
void kvm_collapse(pid_t pid, uint64_t memory);

/* Bytes that the host can give to programs, from /proc/meminfo. */
int kvm_memory_free(uint64_t *bytes, struct err *e) MUST_CHECK;

/*
 * A child that thaws the guest if this process dies or does not thaw it within @frozen_ms: see agent_watchdog_run().
 * Make it before the freeze, end it after the thaw.
 *
 * @agent_fd: agent_fd() of our connection to the guest agent, which the child inherits
 */
struct kvm_guard {
	int fd;
	pid_t pid;
	sigset_t was; /* what was blocked before */
};
int kvm_guard_start(const char *run_dir, int agent_fd, uint64_t frozen_ms, struct kvm_guard *g, struct err *e) MUST_CHECK;

/*
 * A child that calls @fn if this process dies before kvm_guard_end(). In it all our descriptors are closed, signals are
 * ignored, and memory is as it was here. The guest waits for this process meanwhile: ^Z and whatever else a terminal stops a
 * program with comes only after kvm_guard_end(), and one that is stopped all the same (SIGSTOP) the child kills after two
 * seconds.
 */
int kvm_guard_call(void (*fn)(void *ctx), void *ctx, struct kvm_guard *g, struct err *e) MUST_CHECK;

/* The same, and the child keeps @fd (-1: none), in it KVM_GUARD_FD. */
#define KVM_GUARD_FD 4
int kvm_guard_call_with(int fd, void (*fn)(void *ctx), void *ctx, struct kvm_guard *g, struct err *e) MUST_CHECK;

/* The same for a process that no guest waits for: it may be stopped. */
int kvm_guard_death(void (*fn)(void *ctx), void *ctx, struct kvm_guard *g, struct err *e) MUST_CHECK;

/* What the child is for has come: it goes on by itself. */
void kvm_guard_leave(struct kvm_guard *g);

/* All is well: tell the child and reap it. */
void kvm_guard_end(struct kvm_guard *g);

/* ---- children: the rooms above fork through here --------------------------------------------------------- */

/* Call @fn in a child, where no signal is blocked, and end it with what that returns. The child's pid; -1 with errno. */
pid_t kvm_child_start(int (*fn)(void *ctx), void *ctx);

/* Run a command and wait: its exit status; 127: it could not be run; 128 and more: a signal ended it. */
int kvm_child_run(char **words);

/*
 * The same, heeding what ends us (SIGHUP, SIGINT, SIGTERM, SIGQUIT, unless ignored): it is passed on, and the command has ten
 * seconds then. @sig: out, that signal; 0: none. They stay blocked afterwards: kvm_child_called_off() tells of one that
 * came since.
 */
int kvm_child_run_heeding(char **words, int *sig);
bool kvm_child_called_off(void);

/* ---- the host ----------------------------------------------------------------------------------------- */

enum kvm_verdict { HOST_PASS, HOST_WARN, HOST_FAIL };

/* One line of host-check: "Checking @what", with what to do about it in @hint, or "". */
typedef void kvm_host_fn(void *ctx, const char *what, enum kvm_verdict v, const char *hint);
/* @qemu: NULL: the one of a definition that names none. @cache_dir: the state folder, which is looked at too; NULL: the working folder is. */
int kvm_host_check(const char *qemu, const char *cache_dir, kvm_host_fn *fn, void *ctx, struct err *e) MUST_CHECK;

#endif
