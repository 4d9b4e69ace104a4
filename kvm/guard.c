/* The child that thaws a guest, or lets it go on, when we no longer can. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm/run_dir.h"
#include "kvm/spawn.h"
#include "lib/own.h"

#define THAW_MS 30000 /* how long the child goes on trying */

/*
 * The child keeps two descriptors, as 3 and 4: neither the other end of its own pair, without whose end it would wait for
 * ever, nor the monitor's socket, which QEMU would not give to another, nor the VM's lock, nor a pipe whose reader waits.
 * Signals meant for the command must not reach it.
 */
static void stand_apart(int pipe_fd, int agent_fd)
{
	static const int deaf[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE };
	int null;

	setsid();
	for (size_t i = 0; i < ARRAY_SIZE(deaf); i++)
		signal(deaf[i], SIG_IGN);
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
	void (*fn)(void *ctx);
	void *ctx;
};

static _Noreturn void guard_run(int pipe_fd, const struct duty *d)
{
	struct agent_watch w = { .pipe_fd = 3, .agent_fd = d->fd < 0 ? -1 : 4, .path = d->path,
		.frozen_until = deadline_in(d->frozen_ms), .try_ms = THAW_MS };
	struct err e;
	char byte;

	stand_apart(pipe_fd, d->fd);
	if (!d->fn)
		_exit(agent_watchdog_run(&w, &e) < 0);
	_Static_assert(KVM_GUARD_FD == 4, "as stand_apart() has it");
	if (read(3, &byte, 1) <= 0)
		d->fn(d->ctx);
	_exit(0);
}

static int guard_start(struct duty *d, struct kvm_guard *g, struct err *e)
{
	auto_fd int pipe_high = -1, high = -1, w = -1;
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
		guard_run(pipe_high, d);
	g->fd = take_fd(&w);
	return 0;
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

void kvm_guard_end(struct kvm_guard *g)
{
	send(g->fd, "t", 1, MSG_NOSIGNAL); /* lost only if the child has thawed and gone */
	close(take_fd(&g->fd));
	while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
