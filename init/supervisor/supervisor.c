/* init: the supervisor. One thread, one poll loop; what takes time happens in children. */
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "init/supervisor/internal.h"
#include "lib/file.h"
#include "lib/own.h"

static struct {
	const char *conf, *log;
} args = { .log = "stderr" };
static const struct opt opts[] = {
	{ 'c', "config", "FILE", "instead of init.conf beside the definitions", OPT_STR(&args.conf) },
	{ 'l', "log", "stderr|kmsg|syslog", "where the log goes", OPT_STR(&args.log) },
	{ 0 },
};

struct super {
	struct guests all;
	bool ready;  /* all have settled, once */
	bool stop;   /* they go down */
	bool reboot;
	int signals;
	int buttons[PID1_BUTTONS];
	size_t n_buttons;
	struct deadline beat;
};

static void notice(void *ctx, const char *vm, const char *text)
{
	(void)ctx;
	log_line(vm, "%s", text);
}

/* ---- order -------------------------------------------------------------------------------------------------- */

static bool waits(const struct guest *g)
{
	return g->fresh && g->autostart && g->state == GUEST_OFF;
}

/* Start the next ones when those before have settled; one that cannot be recovered yet comes when it is. */
static void start_next(struct super *s)
{
	unsigned lowest = UINT_MAX;

	for (size_t i = 0; i < s->all.n; i++) {
		struct guest *g = &s->all.g[i];

		if (g->state == GUEST_BOOTING || g->state == GUEST_MENDING)
			return;
		if (waits(g) && g->order < lowest)
			lowest = g->order;
	}
	if (lowest == UINT_MAX) {
		if (!s->ready)
			service_tell("READY=1");
		s->ready = true;
		return;
	}
	for (size_t i = 0; i < s->all.n; i++) {
		struct guest *g = &s->all.g[i];

		if (!waits(g) || g->order != lowest)
			continue;
		g->fresh = false;
		guest_event(&s->all, g, GUEST_START);
	}
}

/* Take the next ones down when those before are off. True: all are. */
static bool stop_next(struct super *s)
{
	for (;;) {
		unsigned highest = 0;
		bool any = false;

		for (size_t i = 0; i < s->all.n; i++) {
			const struct guest *g = &s->all.g[i];

			if (g->child && g->state != GUEST_BOOTING)
				return false;
			if (g->state != GUEST_OFF && (!any || g->order > highest))
				highest = g->order;
			any |= g->state != GUEST_OFF;
		}
		if (!any)
			return true;
		for (size_t i = 0; i < s->all.n; i++)
			if (s->all.g[i].order == highest)
				guest_event(&s->all, &s->all.g[i], GUEST_STOP);
	}
}

/* True: it is over. */
static bool advance(struct super *s)
{
	if (s->stop)
		return stop_next(s);
	start_next(s);
	return false;
}

/* ---- what comes in --------------------------------------------------------------------------------------------- */

static void reap(struct super *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < s->all.n; i++)
			if (s->all.g[i].child == pid) {
				s->all.g[i].child = 0;
				guest_event(&s->all, &s->all.g[i], !status ? GUEST_DONE :
					WEXITSTATUS(status) == GUEST_EXIT_HELD ? GUEST_HELD : GUEST_FAILED);
			}
}

static void go_down(struct super *s, bool again)
{
	if (s->stop)
		return;
	log_line(NULL, "stopping");
	service_tell("STOPPING=1");
	s->reboot = again;
	s->stop = true;
}

static void take_signals(struct super *s)
{
	struct signalfd_siginfo si;

	while (read(s->signals, &si, sizeof si) == sizeof si) {
		if (si.ssi_signo == SIGCHLD) {
			reap(s);
		} else if (si.ssi_signo == SIGHUP) {
			log_line(NULL, "reading the definitions");
			guests_read(&s->all);
		} else {
			go_down(s, si.ssi_signo == SIGINT || si.ssi_signo == SIGTERM);
		}
	}
}

static void take_starts(struct super *s)
{
	char b[1024] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(s->all.inotify, b, sizeof b);

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *ev = (const void *)(b + at);

		for (size_t i = 0; i < s->all.n && ev->len && !strcmp(ev->name, "pid"); i++)
			if (s->all.g[i].wd == ev->wd)
				guest_event(&s->all, &s->all.g[i], GUEST_APPEARED);
		at += (ssize_t)(sizeof *ev + ev->len);
	}
}

static struct deadline sooner(struct deadline a, struct deadline b)
{
	return a.at_ms < b.at_ms ? a : b;
}

/* One turn: wait, and take what came. */
static int turn(struct super *s, struct err *e)
{
	size_t n = s->all.n, fixed = 2 + s->n_buttons;
	auto_free struct pollfd *p = calloc(fixed + 2 * n, sizeof *p);
	struct deadline d = s->beat;

	if (!p)
		return err_nomem(e, "wait");
	p[0] = (struct pollfd){ s->signals, POLLIN, 0 };
	p[1] = (struct pollfd){ s->all.inotify, POLLIN, 0 };
	for (size_t i = 0; i < s->n_buttons; i++)
		p[2 + i] = (struct pollfd){ s->buttons[i], POLLIN, 0 };
	for (size_t i = 0; i < n; i++) {
		const struct guest *g = &s->all.g[i];

		p[fixed + 2 * i] = (struct pollfd){ g->mon ? mon_fd(g->mon) : -1, POLLIN, 0 };
		p[fixed + 2 * i + 1] = (struct pollfd){ g->pidfd, POLLIN, 0 };
		d = sooner(d, g->timer);
	}
	if (poll(p, fixed + 2 * n, deadline_left_ms(d)) < 0 && errno != EINTR)
		return err_sys(e, errno, "cannot wait");
	if (s->beat.at_ms != UINT64_MAX && !deadline_left_ms(s->beat)) {
		pid1_beat();
		s->beat = deadline_in(pid1_beat_ms());
	}
	/* Events first: they tell why a process ended. A descriptor that was polled may have been closed since. */
	for (size_t i = 0; i < n; i++) {
		if (p[fixed + 2 * i].revents && s->all.g[i].mon)
			guest_listen(&s->all, &s->all.g[i]);
		if (p[fixed + 2 * i + 1].revents && s->all.g[i].pidfd == p[fixed + 2 * i + 1].fd)
			guest_event(&s->all, &s->all.g[i], GUEST_ENDED);
		if (s->all.g[i].timer.at_ms != UINT64_MAX && !deadline_left_ms(s->all.g[i].timer))
			guest_event(&s->all, &s->all.g[i], GUEST_TIMER);
	}
	for (size_t i = 0; i < s->n_buttons; i++)
		if (p[2 + i].revents && pid1_pressed(s->buttons[i]))
			go_down(s, false);
	if (p[1].revents)
		take_starts(s);
	if (p[0].revents)
		take_signals(s);
	return 0;
}

/* ---- start ------------------------------------------------------------------------------------------------------ */

static int set_up(struct super *s, struct err *e)
{
	static const int signals[] = { SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGPWR };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->all.inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	return s->signals < 0 || s->all.inotify < 0 ? err_sys(e, errno, "cannot supervise") : 0;
}

/* One supervisor for a host. The lock is released by the end of the process. */
static int alone(struct fermata *host, struct err *e)
{
	auto_free char *path = str_fmt("%s/.init", fermata_state_dir(host));
	int fd;

	if (!path)
		return err_nomem(e, "supervise");
	return dir_make(fermata_state_dir(host), 0700, e) < 0 || lock_take(path, "init", 0, &fd, e) < 0 ? e->code : 0;
}

static int supervise(struct err *e)
{
	auto_host struct fermata *host = NULL;
	struct super s = { 0 };

	if (log_open(args.log, e) < 0 || host_get(&host, e) < 0 || set_up(&s, e) < 0)
		return e->code;
	s.all.host = host;
	fermata_on_notice(host, notice, NULL);
	fermata_on_progress(host, NULL, NULL);
	pid1_begin(host, args.conf);
	if (alone(host, e) < 0)
		return e->code;
	s.n_buttons = pid1_buttons(s.buttons);
	s.beat = pid1_beat_ms() ? deadline_in(0) : deadline_never();
	guests_read(&s.all);
	guests_recover(&s.all);
	while (!advance(&s)) {
		if (turn(&s, e) < 0) {
			/* Short of memory, most likely: the VMs are there all the same. */
			log_err(e);
			poll(NULL, 0, 1000);
		}
	}
	pid1_end(s.reboot);
	free(s.all.g);
	return 0;
}

static int run_init(int argc, char **argv, struct err *e)
{
	(void)argc;
	(void)argv;
	if (supervise(e) < 0 && getpid() == 1) {
		/* The first process never exits. */
		log_err(e);
		poll(NULL, 0, 10000);
		pid1_end(true);
	}
	return e->code;
}

const struct cmd cmd_init = { "init", "", NULL, "bring the VMs up, watch them, take them down",
	"Runs until SIGTERM; SIGHUP reads the definitions anew. As the first process it is the host's init.\n", opts, 0, 0,
	run_init };
