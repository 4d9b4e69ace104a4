/* One VM under supervision: what happens to it, by the state that it is in. Work that takes time is a child's. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "engine/vm/policy.h"
#include "engine/vm/program.h"
#include "init/supervisor/internal.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

#define WATCH_MS    3000   /* for QEMU's greeting */
#define BACK_OFF_MAX 300000
#define CALM_MS     60000  /* a VM up this long has its crash count reset */

/* ---- children ---------------------------------------------------------------------------------------------- */

static int do_recover(struct fermata_vm *vm, struct err *e)
{
	(void)vm;
	(void)e;
	return 0;
}

static int do_boot(struct fermata_vm *vm, struct err *e)
{
	return fermata_boot(vm, false, e);
}

/* After QEMU's end. If a QEMU runs by now, a command has started it: leave it alone. */
static int do_cold(struct fermata_vm *vm, struct err *e)
{
	return fermata_boot(vm, true, e);
}

/* After a crash: first end the QEMU that is left. */
static int do_revert(struct fermata_vm *vm, struct err *e)
{
	if (fermata_destroy(vm, false, e) < 0 && e->code != -ESRCH)
		return e->code;
	return fermata_boot(vm, false, e);
}

static int do_restart(struct fermata_vm *vm, struct err *e)
{
	if (fermata_destroy(vm, false, e) < 0 && e->code != -ESRCH)
		return e->code;
	return fermata_boot(vm, true, e);
}

static int do_destroy(struct fermata_vm *vm, struct err *e)
{
	return fermata_destroy(vm, false, e) < 0 && e->code != -ESRCH ? e->code : 0;
}

static void hang_up(struct guest *g)
{
	mon_close(g->mon);
	g->mon = NULL;
	own_close(&g->pidfd);
	g->pidfd = -1;
}

/* What a child is for. */
struct task {
	struct guests *all;
	const char *name;
	guest_task *fn;
};

/* In the child: QEMU's events stay with the parent. */
static int do_task(void *ctx)
{
	const struct task *t = ctx;
	struct fermata_vm *vm;
	struct err e;
	int rc;

	for (size_t i = 0; i < t->all->n; i++)
		hang_up(&t->all->g[i]);
	setsid();
	rc = fermata_vm_open(t->all->host, t->name, FERMATA_WRITE, "init", &vm, &e);
	if (rc == 0) {
		rc = t->fn(vm, &e);
		fermata_vm_close(vm);
	}
	if (rc >= 0)
		return 0;
	log_err(&e);
	return rc == FERMATA_PENDING ? GUEST_EXIT_HELD : 1;
}

static void begin(struct guests *all, struct guest *g, enum guest_state state, guest_task *fn)
{
	g->state = state;
	g->next = fn;
	g->timer = deadline_never();
	g->child = kvm_child_start(do_task, &(struct task){ all, g->name, fn });
	if (g->child < 0) {
		g->child = 0;
		log_line(g->name, "cannot fork: %s", strerror(errno));
		guest_event(all, g, GUEST_FAILED);
	}
}

void guests_recover(struct guests *all)
{
	for (size_t i = 0; i < all->n; i++)
		begin(all, &all->g[i], GUEST_MENDING, do_recover);
}

/* ---- watching ------------------------------------------------------------------------------------------------ */

static char *run_dir(struct guests *all, const char *name)
{
	return str_fmt("%s/%s", fermata_run_dir(all->host), name);
}

static void off(struct guests *all, struct guest *g)
{
	(void)all;
	hang_up(g);
	g->state = GUEST_OFF;
	g->timer = deadline_never();
}

static void rest(struct guests *all, struct guest *g);

/* It is up: connect to its events. */
static void watch(struct guests *all, struct guest *g)
{
	auto_free char *dir = run_dir(all, g->name);
	struct err e;

	hang_up(g);
	g->timer = deadline_never();
	if (!dir || !kvm_pid(dir)) {
		/* It has ended already. */
		if (g->state == GUEST_BOOTING)
			rest(all, g);
		return;
	}
	if (kvm_watch(dir, deadline_in(WATCH_MS), &g->mon, &g->pidfd, &e) < 0) {
		log_line(g->name, "cannot watch: %s", e.msg);
		g->state = GUEST_OFF;
		g->timer = deadline_in(WATCH_MS); /* then look again */
		return;
	}
	log_line(g->name, "up");
	g->state = GUEST_UP;
	g->asked = false;
	g->up_ms = clock_mono_ms();
}

/* Its QEMU's monitor is not up as soon as its pid is on record. */
static void appeared(struct guests *all, struct guest *g)
{
	(void)all;
	g->timer = deadline_in(500);
}

void guest_listen(struct guests *all, struct guest *g)
{
	struct mon_event *ev;
	struct err e;
	bool broken = mon_process(g->mon, &e) < 0, crashed = false;

	while ((ev = mon_next_event(g->mon))) {
		const char *why = json_str(json_get(ev->data, "reason"), "");

		if (!strcmp(ev->name, "GUEST_PANICKED") || !strcmp(ev->name, "WATCHDOG")) {
			log_line(g->name, "%s", ev->name[0] == 'G' ? "the guest panicked" : "its watchdog rang");
			crashed = true;
		} else if (!strcmp(ev->name, "SHUTDOWN")) {
			g->asked = strcmp(why, "guest-panic") && strcmp(why, "host-error");
		}
		mon_event_free(ev);
	}
	if (crashed)
		guest_event(all, g, GUEST_CRASHED);
	else if (broken && g->pidfd < 0)
		guest_event(all, g, GUEST_ENDED);
	else if (broken) {
		mon_close(g->mon); /* the process's end is yet to come */
		g->mon = NULL;
	}
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static void nop(struct guests *all, struct guest *g)
{
	(void)all;
	(void)g;
}

static void boot(struct guests *all, struct guest *g)
{
	begin(all, g, GUEST_BOOTING, do_boot);
}

/* Wait, twice as long each time, before g->next is tried. */
static void later(struct guests *all, struct guest *g)
{
	uint64_t ms = g->back_off_ms << (g->crashes < 10 ? g->crashes : 10);

	(void)all;
	g->crashes++;
	if (ms > BACK_OFF_MAX)
		ms = BACK_OFF_MAX;
	log_line(g->name, "again in %llu ms", (unsigned long long)ms);
	g->state = GUEST_RESTING;
	g->timer = deadline_in(ms);
}

static void rest(struct guests *all, struct guest *g)
{
	hang_up(g);
	if (g->stop)
		begin(all, g, GUEST_STOPPING, do_destroy);
	else
		later(all, g);
}

static void once_more(struct guests *all, struct guest *g, guest_task *fn)
{
	if (clock_mono_ms() - g->up_ms > CALM_MS)
		g->crashes = 0;
	g->next = fn;
	rest(all, g);
}

static void crashed(struct guests *all, struct guest *g)
{
	once_more(all, g, g->restart ? do_restart : do_revert);
}

static void again(struct guests *all, struct guest *g)
{
	begin(all, g, g->next == do_recover ? GUEST_MENDING : GUEST_BOOTING, g->next);
}

static void mended(struct guests *all, struct guest *g)
{
	off(all, g);
	/* Do not look at a VM that start_next() has still to start. */
	if (!g->fresh || !g->autostart)
		g->timer = deadline_in(0);
}

static void ended(struct guests *all, struct guest *g)
{
	log_line(g->name, g->asked ? "ended" : "QEMU died");
	if (g->asked)
		off(all, g);
	else
		once_more(all, g, g->restart ? do_cold : do_boot);
}

static void failed(struct guests *all, struct guest *g)
{
	log_line(g->name, "did not boot");
	g->next = do_revert;
	rest(all, g);
}

static void stopped(struct guests *all, struct guest *g)
{
	log_line(g->name, "off");
	off(all, g);
}

static void stop(struct guests *all, struct guest *g)
{
	auto_free char *dir = run_dir(all, g->name);

	hang_up(g);
	if (dir && !kvm_pid(dir))
		stopped(all, g);
	else
		begin(all, g, GUEST_STOPPING, fermata_boot_stop);
}

/* A boot is in progress: kill the child that does it. */
static void cut(struct guests *all, struct guest *g)
{
	(void)all;
	g->state = GUEST_CUT;
	kill(g->child, SIGKILL);
}

static void stuck(struct guests *all, struct guest *g)
{
	log_line(g->name, "could not be stopped");
	off(all, g);
}

void guest_event(struct guests *all, struct guest *g, enum guest_event ev)
{
	static void (*const action[N_GUEST_STATES][N_GUEST_EVENTS])(struct guests *, struct guest *) = {
		/*                    START DONE     FAILED  HELD   APPEARED  ENDED  CRASHED  TIMER  STOP */
		[GUEST_OFF] =      { boot, nop,     nop,    nop,   appeared, nop,   nop,     watch, nop },
		[GUEST_MENDING] =  { nop,  mended,  mended, later, nop,      nop,   nop,     nop,   nop },
		[GUEST_BOOTING] =  { nop,  watch,   failed, later, nop,      nop,   nop,     nop,   cut },
		[GUEST_UP] =       { nop,  nop,     nop,    nop,   nop,      ended, crashed, nop,   stop },
		[GUEST_RESTING] =  { nop,  nop,     nop,    nop,   nop,      nop,   nop,     again, stop },
		[GUEST_CUT] =      { nop,  stop,    stop,   stop,  nop,      nop,   nop,     nop,   nop },
		[GUEST_STOPPING] = { nop,  stopped, stuck,  stuck, nop,      nop,   nop,     nop,   nop },
	};

	action[g->state][ev](all, g);
}

/* ---- the definitions ------------------------------------------------------------------------------------------------ */

static struct guest *need(struct guests *all, const char *name)
{
	struct guest *g;

	for (size_t i = 0; i < all->n; i++)
		if (!strcmp(all->g[i].name, name))
			return &all->g[i];
	g = reallocarray(all->g, all->n + 1, sizeof *g);
	if (!g)
		return NULL;
	all->g = g;
	g += all->n++;
	*g = (struct guest){ .pidfd = -1, .fresh = true, .timer = deadline_never() };
	snprintf(g->name, sizeof g->name, "%s", name);
	return g;
}

static void read_one(struct guests *all, const char *name)
{
	auto_free char *dir = run_dir(all, name);
	struct guest *g = need(all, name);
	const struct policy *policy;
	struct fermata_vm *vm;
	struct err e;

	if (!g || !dir || fermata_vm_open(all->host, name, FERMATA_READ, "init", &vm, &e) < 0) {
		if (g && dir)
			log_err(&e);
		return;
	}
	policy = policy_of(fermata_vm_def(vm));
	g->order = policy->order;
	g->autostart = policy->autostart;
	g->restart = !strcmp(policy->on_crash, "restart");
	g->stop = !strcmp(policy->on_crash, "stop");
	g->back_off_ms = policy->back_off_ms;
	fermata_vm_close(vm);
	if (dir_make(dir, 0700, &e) < 0)
		log_err(&e);
	/* A QEMU that somebody starts, or that runs already. */
	g->wd = inotify_add_watch(all->inotify, dir, IN_MOVED_TO);
	if (g->state == GUEST_OFF && g->timer.at_ms == UINT64_MAX && kvm_pid(dir) && !g->autostart)
		g->timer = deadline_in(0);
}

void guests_read(struct guests *all)
{
	auto_free char *names = NULL;
	struct err e;

	if (fermata_names(all->host, &names, &e) < 0) {
		log_err(&e);
		return;
	}
	for (const char *n = names; *n; n += strlen(n) + 1)
		read_one(all, n);
}
