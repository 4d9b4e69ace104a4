/*
 * The child that thaws a guest, or lets it go on, when we no longer can: dead, or stopped and forgotten. What a terminal
 * stops a program with is held back until it has done its work; SIGSTOP cannot be, and the child puts an end to that.
 */
#include <fcntl.h>
#include <signal.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm/run_dir.h"
#include "kvm/spawn.h"
#include "lib/own.h"

#define THAW_MS 30000 /* how long the child goes on trying */
#define LOOK_MS 250   /* how often it looks whether we are stopped */
#define STOPPED_MS 2000 /* ... and how long we may be, in one go, with a guest that waits for us */

/*
 * The child keeps two descriptors, as 3 and 4: neither the other end of its own pair, without whose end it would wait for
 * ever, nor the monitor's socket, which QEMU would not give to another, nor the VM's lock, nor a pipe whose reader waits.
 * Signals meant for the command must not reach it.
 */
static void stand_apart(int pipe_fd, int agent_fd)
{
	static const int deaf[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE };
	sigset_t none;
	int null;

	setsid();
	for (size_t i = 0; i < ARRAY_SIZE(deaf); i++)
		signal(deaf[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (dup2(pipe_fd, 3) < 0 || (agent_fd >= 0 && dup2(agent_fd, 4) < 0))
		_exit(1);
	spawn_close_from(agent_fd < 0 ? 4 : 5, false);
}

/* What the child is for: the guest agent's watch, or a call when the parent has died. */
struct duty {
	int fd; /* the agent's, or what the call is about; -1: none */
	const char *path;
	uint64_t frozen_ms;
	bool waited_for; /* the guest waits for the parent, who therefore may not be stopped for long */
	void (*fn)(void *ctx);
	void *ctx;
};

/* Stopped by a signal, which a tracer's stop is not. False also if it cannot be seen. */
static bool is_stopped(pid_t pid)
{
	char path[32], text[512];
	const char *p;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	text[n > 0 ? n : 0] = '\0';
	p = strrchr(text, ')');
	return p && !strncmp(p, ") T", 3);
}

/* Until the parent says that all is well: true; or has died: false. */
static bool parent_is_well(pid_t parent, const struct duty *d)
{
	struct pollfd p = { .fd = 3, .events = POLLIN };
	unsigned stopped_ms = 0;
	ssize_t n;
	char byte;

	for (;;) {
		int some = poll(&p, 1, d->waited_for ? LOOK_MS : -1);

		if (some > 0) {
			do
				n = read(3, &byte, 1);
			while (n < 0 && errno == EINTR);
			return n == 1;
		}
		stopped_ms = some == 0 && is_stopped(parent) ? stopped_ms + LOOK_MS : 0;
		/* As long as it is our parent, the number is its own. */
		if (stopped_ms >= STOPPED_MS && getppid() == parent)
			kill(parent, SIGKILL);
	}
}

static _Noreturn void guard_run(pid_t parent, int pipe_fd, const struct duty *d)
{
	struct agent_watch w = { .pipe_fd = 3, .agent_fd = d->fd < 0 ? -1 : 4, .path = d->path,
		.frozen_until = deadline_in(d->frozen_ms), .try_ms = THAW_MS };
	struct err e;

	stand_apart(pipe_fd, d->fd);
	if (!d->fn)
		_exit(agent_watchdog_run(&w, &e) < 0);
	_Static_assert(KVM_GUARD_FD == 4, "as stand_apart() has it");
	if (!parent_is_well(parent, d))
		d->fn(d->ctx);
	_exit(0);
}

/* What a terminal stops a program with. It comes when it is let through again: ^Z then stops us, the guest runs. */
static void hold_back_stops(sigset_t *was)
{
	static const int stops[] = { SIGTSTP, SIGTTIN, SIGTTOU };
	sigset_t s;

	sigemptyset(&s);
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		sigaddset(&s, stops[i]);
	sigprocmask(SIG_BLOCK, &s, was);
}

static int guard_fork(struct duty *d, struct kvm_guard *g, struct err *e)
{
	auto_fd int pipe_high = -1, high = -1, w = -1;
	pid_t parent = getpid();
	int p[2], r;

	/* A socket pair, since writing to a pipe that nobody reads any more would raise a signal. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
		return err_sys(e, errno, "cannot guard the guest");
	w = p[1];
	r = spawn_fd_high(p[0], &pipe_high, e);
	close(p[0]);
	if (r < 0 || (d->fd >= 0 && spawn_fd_high(d->fd, &high, e) < 0))
		return e->code;
	d->fd = high;
	g->pid = fork();
	if (g->pid < 0)
		return err_sys(e, errno, "cannot guard the guest");
	if (g->pid == 0)
		guard_run(parent, pipe_high, d);
	g->fd = take_fd(&w);
	return 0;
}

static int guard_start(struct duty *d, struct kvm_guard *g, struct err *e)
{
	d->waited_for = true;
	hold_back_stops(&g->was);
	if (guard_fork(d, g, e) == 0)
		return 0;
	sigprocmask(SIG_SETMASK, &g->was, NULL);
	return e->code;
}

int kvm_guard_start(const char *run_dir, int agent_fd, uint64_t frozen_ms, struct kvm_guard *g, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_AGENT, run_dir);

	if (!path)
		return err_nomem(e, "guard the guest");
	return guard_start(&(struct duty){ .fd = agent_fd, .path = path, .frozen_ms = frozen_ms }, g, e);
}

int kvm_guard_call(void (*fn)(void *ctx), void *ctx, struct kvm_guard *g, struct err *e)
{
	return kvm_guard_call_with(-1, fn, ctx, g, e);
}

int kvm_guard_call_with(int fd, void (*fn)(void *ctx), void *ctx, struct kvm_guard *g, struct err *e)
{
	return guard_start(&(struct duty){ .fd = fd, .fn = fn, .ctx = ctx }, g, e);
}

int kvm_guard_death(void (*fn)(void *ctx), void *ctx, struct kvm_guard *g, struct err *e)
{
	sigprocmask(SIG_SETMASK, NULL, &g->was);
	return guard_fork(&(struct duty){ .fd = -1, .fn = fn, .ctx = ctx }, g, e);
}

void kvm_guard_leave(struct kvm_guard *g)
{
	close(take_fd(&g->fd));
	sigprocmask(SIG_SETMASK, &g->was, NULL);
}

void kvm_guard_end(struct kvm_guard *g)
{
	send(g->fd, "t", 1, MSG_NOSIGNAL); /* lost only if the child has thawed and gone */
	close(take_fd(&g->fd));
	while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
	sigprocmask(SIG_SETMASK, &g->was, NULL);
}
