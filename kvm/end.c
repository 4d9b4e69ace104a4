/* The end of a QEMU process: waiting for it, and bringing it about. */
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm/run_dir.h"
#include "kvm/sockets.h"
#include "lib/own.h"
#include "lib/text.h"

#define QUIT_MS 10000 /* for QEMU to answer */
#define NAP_NS  10000000
#define KILL_MS 10000 /* for the kernel to take a killed process down, disk writes included */

int kvm_wait_gone(const char *run_dir, pid_t pid, struct deadline d, struct err *e)
{
	auto_fd int pidfd = run_pidfd(run_dir, pid);

	for (;;) {
		int left = deadline_left_ms(d);

		waitpid(pid, NULL, WNOHANG); /* if it is our own child */
		if (kvm_pid(run_dir) != pid) {
			waitpid(pid, NULL, WNOHANG); /* it may have ended in between */
			return 0;
		}
		if (left == 0)
			return err_set(e, -ETIMEDOUT, "QEMU (process %d) did not end", (int)pid);
		if (pidfd < 0)
			nanosleep(&(struct timespec){ .tv_nsec = NAP_NS }, NULL);
		else if (poll(&(struct pollfd){ .fd = pidfd, .events = POLLIN }, 1, left) < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot wait for QEMU");
	}
}

/* One that we cannot send a signal to (it is in another PID namespace, or /proc does not tell whose number that is) is asked. */
static int quit(const char *run_dir, pid_t pid, struct err *e)
{
	auto_mon struct mon *m = NULL;
	auto_free char *path = str_fmt("%s/" RUN_QMP, run_dir);
	struct deadline d = deadline_in(QUIT_MS);

	if (!path)
		return err_nomem(e, "end QEMU");
	if (mon_open_path(path, d, &m, e) == 0 && (mon_call(m, "quit", NULL, d, NULL, e) == 0 || e->code == -ECONNRESET))
		return 0;
	err_at(e, "cannot end QEMU, whose process %d cannot be seen from here", (int)pid);
	return err_hint(e, "try again with /proc mounted, outside of a container");
}

static int send_signal(const char *run_dir, pid_t pid, int sig, struct err *e)
{
	if (!run_pid_sure(run_dir, pid))
		return kvm_pid(run_dir) == pid ? quit(run_dir, pid, e) : 0;
	if (kill(pid, sig) < 0 && errno != ESRCH)
		return err_sys(e, errno, "cannot %s QEMU (process %d)", sig == SIGKILL ? "kill" : "end", (int)pid);
	return 0;
}

int kvm_destroy(const char *run_dir, uint64_t grace_ms, bool graceful, struct err *e)
{
	pid_t pid = kvm_pid(run_dir);
	auto_buf struct buf words = { 0 };

	sockets_words(pid, &words);
	if (pid && send_signal(run_dir, pid, SIGTERM, e) < 0)
		return e->code;
	if (pid && kvm_wait_gone(run_dir, pid, deadline_in(grace_ms), e) < 0) {
		if (e->code != -ETIMEDOUT)
			return e->code;
		if (graceful) {
			err_set(e, -EBUSY, "QEMU (process %d) did not end by itself within %llu ms", (int)pid,
				(unsigned long long)grace_ms);
			return err_hint(e, "without --graceful it is killed");
		}
		if (send_signal(run_dir, pid, SIGKILL, e) < 0)
			return e->code;
		if (kvm_wait_gone(run_dir, pid, deadline_in(KILL_MS), e) < 0)
			return e->code;
	}
	sockets_remove(&words); /* one that was killed has not */
	kvm_clean(run_dir);
	return 0;
}
