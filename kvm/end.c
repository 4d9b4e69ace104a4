/* The end of a QEMU process: waiting for it, and bringing it about. */
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm/run_dir.h"
#include "lib/own.h"

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
			nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
		else if (poll(&(struct pollfd){ .fd = pidfd, .events = POLLIN }, 1, left) < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot wait for QEMU");
	}
}

int kvm_destroy(const char *run_dir, uint64_t grace_ms, bool graceful, struct err *e)
{
	pid_t pid = kvm_pid(run_dir);

	if (pid && kill(pid, SIGTERM) < 0 && errno != ESRCH)
		return err_sys(e, errno, "cannot end QEMU (process %d)", (int)pid);
	if (pid && kvm_wait_gone(run_dir, pid, deadline_in(grace_ms), e) < 0) {
		if (e->code != -ETIMEDOUT)
			return e->code;
		if (graceful) {
			err_set(e, -EBUSY, "QEMU (process %d) did not end by itself within %llu ms", (int)pid,
				(unsigned long long)grace_ms);
			return err_hint(e, "without --graceful it is killed");
		}
		if (kill(pid, SIGKILL) < 0 && errno != ESRCH)
			return err_sys(e, errno, "cannot kill QEMU (process %d)", (int)pid);
		if (kvm_wait_gone(run_dir, pid, deadline_in(KILL_MS), e) < 0)
			return e->code;
	}
	kvm_clean(run_dir);
	return 0;
}
