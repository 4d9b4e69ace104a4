/* The handle of a running QEMU: started or found, asked and told. */
#include "kvm/kvm.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm/last_words.h"
#include "kvm/made.h"
#include "kvm/ram_file.h"
#include "kvm/run_dir.h"
#include "kvm/spawn.h"
#include "lib/file.h"
#include "lib/own.h"

#define ASK_MS 10000 /* for questions that QEMU answers at once */

struct kvm {
	struct mon *mon;
	pid_t pid;
};

struct mon *kvm_mon(struct kvm *k)
{
	return k->mon;
}

pid_t kvm_process(const struct kvm *k)
{
	return k->pid;
}

void kvm_close(struct kvm *k)
{
	if (!k)
		return;
	mon_close(k->mon);
	free(k);
}

static int handle(struct mon *m, pid_t pid, struct kvm **out, struct err *e)
{
	struct kvm *k = malloc(sizeof *k);

	if (!k) {
		mon_close(m);
		return err_nomem(e, "connect to QEMU");
	}
	*k = (struct kvm){ .mon = m, .pid = pid };
	*out = k;
	return 0;
}

/* ---- starting --------------------------------------------------------------------------------------------- */

/* A start under way. */
struct start {
	const struct kvm_spec *spec;
	int fds[SPAWN_FDS]; /* the listening sockets, by KVM_FD_* - 3 */
	int log;
};

static int record(void *ctx, pid_t pid, struct err *e)
{
	const struct start *s = ctx;

	return run_record(s->spec->run_dir, pid, e);
}

static void start_close(struct start *s)
{
	for (int i = 0; i < SPAWN_FDS; i++)
		if (s->fds[i] >= 0)
			close(take_fd(&s->fds[i]));
}

static int find_user(const char *name, struct spawn_user *u, const struct spawn_user **out, struct err *e)
{
	*out = NULL;
	if (!name)
		return 0;
	if (spawn_user_find(name, u, e) < 0)
		return e->code;
	if (u->uid == geteuid() && (!u->group_given || u->gid == getegid()))
		return 0;
	if (geteuid() != 0)
		return err_set(e, -EPERM, "cannot run QEMU as user '%s': not started as root", name);
	*out = u;
	return 0;
}

static int make_memory(struct start *s, struct err *e)
{
	const struct spawn_user *u;
	struct spawn_user user;

	return find_user(s->spec->def->user, &user, &u, e) < 0 ? e->code : ram_file_make(s->spec, u, &s->fds[KVM_FD_MEMORY - 3], e);
}

/* What it is started with is known for as long as it runs, whatever becomes of the definition's file. */
static int keep_definition(const struct start *s, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_DEF, s->spec->run_dir);
	const char *text = s->spec->def->text ? s->spec->def->text : "";
	auto_fd int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

	if (!path)
		return err_nomem(e, "start QEMU");
	return fd < 0 ? err_sys(e, errno, "cannot create %s", path) : io_write_full(fd, text, strlen(text), path, e);
}

int kvm_definition(const char *run_dir, const char *path, const char *name, const struct def_section *further, struct def **def,
	struct err *e)
{
	auto_free char *kept = str_fmt("%s/" RUN_DEF, run_dir);

	return kept ? def_read_as(kept, path, name, further, def, e) : err_nomem(e, "read a definition");
}

/* Everything that QEMU will inherit. */
static int prepare(struct start *s, struct err *e)
{
	static const char *const names[] = { RUN_QMP, RUN_EVENTS, RUN_AGENT, RUN_CONSOLE };
	const char *dir = s->spec->run_dir;
	auto_free char *log = str_fmt("%s/" RUN_LOG, dir);

	if (!log)
		return err_nomem(e, "start QEMU");
	if (dir_make(dir, 0755, e) < 0 || keep_definition(s, e) < 0)
		return e->code;
	for (int i = 0; i < (int)ARRAY_SIZE(names); i++)
		if ((i != KVM_FD_AGENT - 3 || s->spec->def->agent) && run_listen(dir, names[i], &s->fds[i], e) < 0)
			return e->code;
	if (make_memory(s, e) < 0)
		return e->code;
	run_keep_log(dir, dir);
	s->log = open(log, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return s->log < 0 ? err_sys(e, errno, "cannot create %s", log) : 0;
}

int kvm_user(const char *user, uid_t *uid, gid_t *gid, struct err *e)
{
	struct spawn_user u;

	if (spawn_user_find(user, &u, e) < 0)
		return e->code;
	*uid = u.uid;
	*gid = u.gid;
	return 0;
}

static void kill_and_reap(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static int launch(struct start *s, struct argv *a, struct deadline d, struct kvm **out, struct err *e)
{
	auto_free char *sock = str_fmt("%s/" RUN_QMP, s->spec->run_dir);
	struct spawn sp = { .argv = a->v, .log = s->log, .record = record, .ctx = s };
	struct spawn_user user;
	struct mon *m;
	pid_t pid;

	memcpy(sp.fds, s->fds, sizeof sp.fds);
	if (!sock)
		return err_nomem(e, "start QEMU");
	if (find_user(s->spec->def->user, &user, &sp.user, e) < 0 || spawn_start(&sp, &pid, e) < 0)
		return e->code;
	start_close(s); /* from here on QEMU's end is the connection's end */
	if (mon_open_path(sock, d, &m, e) < 0) {
		if (!last_words(pid, s->log, a->v[0], e))
			kill_and_reap(pid);
		return e->code;
	}
	if (handle(m, pid, out, e) == 0)
		return 0;
	kill_and_reap(pid);
	return e->code;
}

int kvm_start(const struct kvm_spec *spec, struct deadline d, struct kvm **out, char *notice, size_t notice_size,
	struct err *e)
{
	struct start s = { .spec = spec, .fds = { -1, -1, -1, -1, -1 }, .log = -1 };
	struct argv a = { 0 };
	const char *accel;
	pid_t pid = kvm_pid(spec->run_dir);
	int r;

	if (pid)
		return err_set(e, -EEXIST, "it runs already, as process %d", (int)pid);
	if (kvm_argv(spec, &a, &accel, notice, notice_size, e) < 0)
		return e->code;
	kvm_clean(spec->run_dir);
	r = prepare(&s, e) < 0 || made_note(spec->run_dir, &a, e) < 0 ? e->code : 0;
	if (r == 0)
		r = launch(&s, &a, d, out, e);
	start_close(&s); /* while we have the sockets open, it looks alive */
	if (r < 0)
		kvm_clean(spec->run_dir);
	own_close(&s.log);
	argv_done(&a);
	return r;
}

/* ---- finding it again -------------------------------------------------------------------------------------- */

int kvm_open(const char *run_dir, struct deadline d, struct kvm **out, struct err *e)
{
	auto_free char *sock = str_fmt("%s/" RUN_QMP, run_dir);
	pid_t pid = kvm_pid(run_dir);
	struct mon *m;

	if (!sock)
		return err_nomem(e, "connect to QEMU");
	if (!pid)
		return err_set(e, -ESRCH, "it is not running");
	if (mon_open_path(sock, d, &m, e) < 0)
		return e->code;
	return handle(m, pid, out, e);
}

int kvm_watch(const char *run_dir, struct deadline d, struct mon **m, int *pidfd, struct err *e)
{
	auto_free char *sock = str_fmt("%s/" RUN_EVENTS, run_dir);
	pid_t pid = kvm_pid(run_dir);

	if (!sock)
		return err_nomem(e, "watch QEMU");
	if (!pid)
		return err_set(e, -ESRCH, "it is not running");
	if (mon_open_path(sock, d, m, e) < 0)
		return e->code;
	*pidfd = run_pidfd(run_dir, pid);
	return 0;
}

static int connect_to(const char *run_dir, const char *name, const char *what, struct deadline d, int *fd, struct err *e)
{
	auto_free char *path = str_fmt("%s/%s", run_dir, name);

	if (!path)
		return err_nomem(e, "connect to QEMU");
	if (!kvm_pid(run_dir))
		return err_set(e, -ESRCH, "it is not running");
	if (!file_exists(path))
		return err_set(e, -ENOENT, "it has no %s", what);
	return mon_connect(path, d, fd, e);
}

int kvm_agent_connect(const char *run_dir, struct deadline d, int *fd, struct err *e)
{
	if (connect_to(run_dir, RUN_AGENT, "guest agent channel", d, fd, e) < 0)
		return e->code == -ENOENT ? err_hint(e, "say 'agent = yes' in its definition and start it anew") : e->code;
	return 0;
}

int kvm_console_connect(const char *run_dir, struct deadline d, int *fd, struct err *e)
{
	return connect_to(run_dir, RUN_CONSOLE, "console", d, fd, e);
}

void kvm_last_words(const struct kvm *k, const char *run_dir, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_LOG, run_dir);
	auto_fd int log = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (e->code == -ECONNRESET)
		last_words(k->pid, log, "", e);
}

/* ---- the guest ---------------------------------------------------------------------------------------------- */

int kvm_status(struct kvm *k, char status[KVM_STATUS_MAX], struct err *e)
{
	return kvm_status_by(k, deadline_in(ASK_MS), status, e);
}

int kvm_status_by(struct kvm *k, struct deadline d, char status[KVM_STATUS_MAX], struct err *e)
{
	auto_json struct json_doc *reply = NULL;
	const char *s;

	if (mon_call(k->mon, "query-status", NULL, d, &reply, e) < 0 ||
		json_need_str(json_root(reply), "status", &s, e) < 0)
		return e->code;
	snprintf(status, KVM_STATUS_MAX, "%s", s);
	return 0;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

/* Whether the refusal of "cont" may be that of a migration that is complete but not yet put away. */
static bool migration_ends(struct kvm *k)
{
	auto_json struct json_doc *reply = NULL;
	struct err e;
	const char *s;

	if (mon_call(k->mon, "query-migrate", NULL, deadline_in(ASK_MS), &reply, &e) < 0)
		return false;
	s = json_str(json_get(json_root(reply), "status"), "");
	return str_eq(s, "completed") || str_eq(s, "device") || str_eq(s, "cancelling");
}

/* Until query-status says running (or, for @running false, anything else). */
static int wait_status(struct kvm *k, bool running, struct deadline d, struct err *e)
{
	char status[KVM_STATUS_MAX];

	for (;;) {
		if (kvm_status(k, status, e) < 0)
			return e->code;
		if (str_eq(status, "running") == running)
			return 0;
		if (deadline_left_ms(d) == 0)
			return err_set(e, -ETIMEDOUT, "the guest did not %s: it is '%s'", running ? "go on" : "stop", status);
		nap();
	}
}

int kvm_cont(struct kvm *k, struct deadline d, struct err *e)
{
	struct deadline patience = deadline_in(2000);

	while (mon_call(k->mon, "cont", NULL, d, NULL, e) < 0) {
		if (e->code != -EREMOTEIO || deadline_left_ms(d) == 0 || deadline_left_ms(patience) == 0 || !migration_ends(k))
			return e->code;
		nap();
	}
	return wait_status(k, true, d, e);
}

int kvm_stop(struct kvm *k, struct deadline d, struct err *e)
{
	if (mon_call(k->mon, "stop", NULL, d, NULL, e) < 0)
		return e->code;
	return wait_status(k, false, d, e);
}

int kvm_powerdown(struct kvm *k, struct err *e)
{
	return mon_call(k->mon, "system_powerdown", NULL, deadline_in(ASK_MS), NULL, e);
}

int kvm_reset(struct kvm *k, struct err *e)
{
	return mon_call(k->mon, "system_reset", NULL, deadline_in(ASK_MS), NULL, e);
}
