/* Private to kvm/: what stands in a VM's run folder. */
#ifndef KVM_RUN_DIR_H
#define KVM_RUN_DIR_H

#include "kvm/kvm.h"

#define NR_pidfd_open 434 /* the same number on every architecture */

#define RUN_QMP	    "qmp.sock"
#define RUN_EVENTS  "events.sock"
#define RUN_AGENT   "agent.sock"
#define RUN_CONSOLE "console.sock"
#define RUN_DEF	    "started-with" /* the definition */
#define RUN_DEVICES "devices"	   /* those that it had then */
#define RUN_MADE    "made"	   /* what its guest can see of it: kvm_made() */
#define RUN_PID	    "pid"
#define RUN_LOG	    "qemu.log"
#define RUN_OLD	    "qemu.log.1" /* what earlier ones said, each under its date */
#define RUN_OLDER   "qemu.log.2"

/* A listening socket @name in @dir, for us alone. Paths of any length. @fd: out, the caller's. */
int run_listen(const char *dir, const char *name, int *fd, struct err *e) MUST_CHECK;

/* Put @pid and its start time on record in @dir. */
int run_record(const char *dir, pid_t pid, struct err *e) MUST_CHECK;

/*
 * What the last QEMU of @from said, the end of it, goes to the older logs of @to, which keep the last RUN_OLD_MAX bytes of
 * such at least. As far as it goes: nothing depends on it.
 */
#define RUN_OLD_MAX (128u << 10)
void run_keep_log(const char *from, const char *to);

/* What is on record in @run_dir. 1: it is in @pid and @ticks; 0: nothing is; < 0: it cannot be read. */
int run_recorded(const char *run_dir, uint64_t *pid, uint64_t *ticks);

/*
 * Start time of a process, in clock ticks since boot. 1: it is alive; 0: there is no such process, or it is a zombie; < 0: that
 * cannot be seen, as where /proc is not mounted.
 */
int run_started(pid_t pid, unsigned long long *ticks);

/* Whether kvm_pid() has seen that process itself: else the number may be another's, and must not be sent a signal. */
bool run_pid_sure(const char *run_dir, pid_t pid);

/* A descriptor that polls readable when the process that @dir names has ended; -1: none runs, or the kernel has no such. */
int run_pidfd(const char *dir, pid_t pid);

#endif
