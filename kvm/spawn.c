#include "kvm/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/own.h"

#define HIGH 16 /* above 3 + SPAWN_FDS */

/* linux/close_range.h, which older kernels' headers lack; the number is the same on every architecture. */
#define NR_close_range 436
#define RANGE_CLOEXEC  4u

int spawn_fd_high(int fd, int *high, struct err *e)
{
	*high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
	return *high < 0 ? err_sys(e, errno, "cannot pass a descriptor on") : 0;
}

void spawn_close_from(unsigned first, bool cloexec)
{
	struct rlimit lim;
	unsigned end = 65536;

	if (syscall(NR_close_range, first, ~0u, cloexec ? RANGE_CLOEXEC : 0) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < end)
		end = (unsigned)lim.rlim_cur;
	for (unsigned fd = first; fd < end; fd++) {
		if (cloexec)
			fcntl((int)fd, F_SETFD, FD_CLOEXEC);
		else
			close((int)fd);
	}
}

/* What the child needs, with every descriptor moved out of the way of the numbers that it will have. */
struct plan {
	const struct spawn *s;
	char *env[SPAWN_MAX_ENV];
	int null, log, fds[SPAWN_FDS];
	int go;	    /* read end: a byte says that the child is on record */
	int status; /* write end: errno of what failed; closed by exec */
};

static void plan_done(struct plan *p)
{
	int fds[] = { p->null, p->log, p->go, p->status };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		own_close(&fds[i]);
	for (int i = 0; i < SPAWN_FDS; i++)
		own_close(&p->fds[i]);
}

static int become(const struct spawn_user *u)
{
	if (setgroups(u->n_groups, u->groups) < 0 || setresgid(u->gid, u->gid, u->gid) < 0)
		return -1;
	return setresuid(u->uid, u->uid, u->uid);
}

static int child_set_up(const struct plan *p)
{
	const struct spawn *s = p->s;
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL); /* what cannot be set is as it should be */
	sigemptyset(&none);
	umask(077);
	if (setsid() < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0 || chdir("/") < 0)
		return -1;
	if (dup2(p->null, 0) < 0 || dup2(p->log, 1) < 0 || dup2(p->log, 2) < 0)
		return -1;
	for (int i = 0; i < SPAWN_FDS; i++) {
		close(3 + i);
		if (p->fds[i] >= 0 && dup2(p->fds[i], 3 + i) < 0)
			return -1;
	}
	spawn_close_from(3 + SPAWN_FDS, true);
	if (s->user && become(s->user) < 0)
		return -1;
	/* After the change of user, which clears it. */
	return s->dies_with_us ? prctl(PR_SET_PDEATHSIG, SIGKILL) : 0;
}

/* Between fork and exec: system calls only. */
static _Noreturn void child_run(const struct plan *p, int go_w)
{
	int errnum;
	ssize_t n;
	char go;

	close(go_w); /* while we held it, the parent's death would not end the read below */
	if (child_set_up(p) == 0) {
		do
			n = read(p->go, &go, 1);
		while (n < 0 && errno == EINTR);
		if (n != 1)
			_exit(0); /* the parent gave up or died: nothing may live that is not on record */
		execve(p->s->argv[0], p->s->argv, (char *const *)p->env);
	}
	errnum = errno;
	if (write(p->status, &errnum, sizeof errnum) < 0)
		_exit(126);
	_exit(127);
}

static int make_plan(struct plan *p, int *go_w, int *status_r, struct err *e)
{
	auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int go[2], status[2];

	if (null < 0)
		return err_sys(e, errno, "cannot open /dev/null");
	if (pipe2(go, O_CLOEXEC) < 0)
		return err_sys(e, errno, "cannot make a pipe");
	*go_w = go[1];
	auto_fd int go_r = go[0];
	if (pipe2(status, O_CLOEXEC) < 0)
		return err_sys(e, errno, "cannot make a pipe");
	*status_r = status[0];
	auto_fd int status_w = status[1];
	if (spawn_fd_high(null, &p->null, e) < 0 || spawn_fd_high(p->s->log, &p->log, e) < 0 ||
		spawn_fd_high(go_r, &p->go, e) < 0 || spawn_fd_high(status_w, &p->status, e) < 0)
		return e->code;
	for (int i = 0; i < SPAWN_FDS; i++)
		if (p->s->fds[i] >= 0 && spawn_fd_high(p->s->fds[i], &p->fds[i], e) < 0)
			return e->code;
	return 0;
}

/* Let the child go on, unless it cannot be recorded, and hear whether it became the program. */
static int release(const struct spawn *s, pid_t pid, int *go_w, int status_r, struct err *e)
{
	int errnum = 0;
	ssize_t n;

	if (s->record && s->record(s->ctx, pid, e) < 0)
		return e->code;
	if (write(*go_w, "g", 1) != 1)
		return err_sys(e, errno, "cannot start %s", s->argv[0]);
	do
		n = read(status_r, &errnum, sizeof errnum);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	return err_sys(e, n == sizeof errnum ? errnum : EIO, "cannot start %s", s->argv[0]);
}

int spawn_start(const struct spawn *s, pid_t *pid, struct err *e)
{
	struct plan p = { .s = s, .null = -1, .log = -1, .fds = { -1, -1, -1, -1, -1 }, .go = -1, .status = -1 };
	auto_fd int go_w = -1, status_r = -1;
	pid_t child;
	int r;

	if (make_plan(&p, &go_w, &status_r, e) < 0) {
		plan_done(&p);
		return e->code;
	}
	spawn_env(s->user != NULL, p.env);
	child = fork();
	if (child == 0)
		child_run(&p, go_w);
	r = child < 0 ? err_sys(e, errno, "cannot start %s", s->argv[0]) : 0;
	plan_done(&p);
	if (r == 0)
		r = release(s, child, &go_w, status_r, e);
	if (r < 0 && child > 0) {
		close(take_fd(&go_w)); /* unrecorded, it ends by itself */
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
		return r;
	}
	*pid = child;
	return r;
}
