/*
 * kvm/: starting, finding and ending a QEMU process; asking it what it can do. The QEMU is this program itself, started
 * with QEMU's arguments: how it behaves is in files of the folder TMPDIR, which is of the environment what it is given.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "kvm/kvm.h"
#include "kvm/run_dir.h"
#include "kvm/spawn.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

/* ---- the QEMU ------------------------------------------------------------------------------------------------ */

static bool asks(const char *line, const char *command)
{
	auto_free char *want = str_fmt("\"execute\":\"%s\"", command);

	return strstr(line, want) != NULL;
}

/* What it answers; NULL is an error. */
static const char *answer(const char *line)
{
	static int running, refusals = 2;
	bool finishing = str_eq(getenv("FAKE"), "finishing");

	if (asks(line, "query-machines"))
		return "[{\"name\": \"pc-q35-7.2\", \"alias\": \"q35\", \"cpu-max\": 1}, {\"name\": \"none\"}]";
	if (asks(line, "query-commands"))
		return "[{\"name\": \"stop\"}, {\"name\": \"snapshot-save\"}]";
	if (asks(line, "device-list-properties"))
		return strstr(line, ":\"vmgenid\"") || strstr(line, ":\"ide-hd\"") ? "[{\"name\": \"x\", \"type\": \"y\"}]" : NULL;
	if (asks(line, "qom-list-properties"))
		return "[{\"name\":\"share\",\"type\":\"bool\"},{\"name\":\"rom\",\"type\":\"OnOffAuto\"}]";
	if (asks(line, "query-kvm"))
		return "{\"enabled\": false, \"present\": true}";
	if (asks(line, "query-command-line-options"))
		return str_eq(getenv("FAKE"), "plain") ? NULL : "[]";
	if (asks(line, "query-migrate"))
		return finishing ? "{\"status\": \"completed\"}" : "{}";
	if (asks(line, "cont") && ((finishing && refusals-- > 0) || str_eq(getenv("FAKE"), "refuses")))
		return NULL;
	if (asks(line, "cont") && !str_eq(getenv("FAKE"), "sleepy"))
		running = 1;
	if (asks(line, "stop"))
		running = 0;
	if (asks(line, "query-status"))
		return running ? "{\"status\": \"running\", \"running\": true}" : "{\"status\": \"prelaunch\", \"running\": false}";
	return "{}";
}

static void converse(int fd)
{
	FILE *in = fdopen(fd, "r");
	char line[4096];

	dprintf(fd, "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7, \"minor\": 2, \"micro\": 9}, \"package\": \"P\"}, "
		    "\"capabilities\": []}}\n");
	while (fgets(line, sizeof line, in)) {
		const char *id = strstr(line, "\"id\":"), *a = answer(line);

		if (str_eq(getenv("FAKE"), "early")) {
			fprintf(stderr, "qemu-system-z80: -device x,y: it broke\nand more\n\n");
			_exit(3);
		}
		dprintf(fd, a ? "{\"return\": %s, \"id\": %lld}\n" : "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no%s\"}, \"id\": %lld}\n",
			a ? a : "", id ? atoll(id + 5) : 0ll);
	}
	fclose(in);
}

/* What is open beyond 0 to 6; a file opened here takes a number below, since not all of those are given. */
static int stray_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		if (fcntl(fd, F_GETFD) >= 0 && fd > 6)
			n++;
	return n;
}

/* What tell() has written. */
static void hear(const char *name)
{
	auto_free char *path = str_fmt("%s/%s", getenv("TMPDIR"), name);
	auto_buf struct buf text = { 0 };
	struct err e;

	if (file_read(path, 1000, &text, &e) == 0)
		setenv(name, buf_str(&text), 1);
}

static int be_qemu(int argc, char **argv)
{
	const char *how;
	bool asked = str_eq(argv[1], "-machine");

	(void)argc;
	signal(SIGPIPE, SIG_IGN);
	hear("FAKE");
	hear("FAKE_LOG");
	how = getenv("FAKE");
	if (getenv("FAKE_LOG")) {
		auto_fd int fd = open(getenv("FAKE_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);

		dprintf(fd, "start session %d stray %d\n", getsid(0) == getpid(), stray_fds());
	}
	if (str_eq(how, "die")) {
		fprintf(stderr, "fake: warning: never mind\n%s: -blockdev driver=file,x=y: Failed to get \"write\" lock\n"
				"Is another process using the image [/x]?\n", argv[0]);
		return 1;
	}
	if (str_eq(how, "mute"))
		return 4;
	if (str_eq(how, "abort"))
		raise(SIGKILL);
	if (str_eq(how, "stubborn"))
		signal(SIGTERM, SIG_IGN);
	if (str_eq(how, "silent"))
		for (;;)
			pause();
	if (asked) {
		converse(3);
		return 0;
	}
	for (;;) {
		int fd = accept(3, NULL, NULL);

		if (fd >= 0)
			converse(fd);
	}
}

/* ---- the tests ------------------------------------------------------------------------------------------------- */

static char dir[] = "/tmp/test_kvm.XXXXXX", run[64], self[256];
static struct def *def;
static struct kvm_caps caps = {
	.path = self,
	.version = (char *)"7.2.9",
	.machines = (char *)"pc-q35-7.2\0q35=pc-q35-7.2\0",
	.commands = (char *)"",
	.devices = (char *)"",
	.cpu_host = (char *)"host",
};

/* Tell the QEMU that is started next @value of @name; NULL: nothing. */
static void tell(const char *name, const char *value)
{
	auto_free char *path = str_fmt("%s/%s", dir, name);
	FILE *f;

	unlink(path);
	if (!value)
		return;
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(value, f);
	assert_int_equal(fclose(f), 0);
}

static int start(const char *how, uint64_t ms, struct kvm **k, struct err *e)
{
	struct kvm_spec s = { .def = def, .caps = &caps, .run_dir = run };
	char notice[100];

	tell("FAKE", how);
	return kvm_start(&s, deadline_in(ms), k, notice, sizeof notice, e);
}

static struct kvm *must_start(const char *how)
{
	struct kvm *k = NULL;
	struct err e = { 0 };

	if (start(how, 30000, &k, &e) < 0)
		fail_msg("%s", e.msg);
	return k;
}

static bool in_run(const char *name)
{
	auto_free char *path = str_fmt("%s/%s", run, name);

	return file_exists(path);
}

/* Nothing runs and nothing is left but the log. */
static void assert_clean(void)
{
	assert_int_equal(kvm_pid(run), 0);
	assert_false(in_run("pid") || in_run("pid.new") || in_run("qmp.sock") || in_run("events.sock") || in_run("console.sock") ||
		     in_run("agent.sock"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void life(void **state)
{
	struct kvm *k = must_start("run"), *second = NULL;
	pid_t pid = kvm_process(k);
	char status[KVM_STATUS_MAX];
	struct err e = { 0 };
	int fd = -1;

	(void)state;
	assert_int_equal(kvm_pid(run), pid);
	assert_true(in_run("qmp.sock") && in_run("events.sock") && in_run("console.sock") && in_run("qemu.log"));
	assert_false(in_run("agent.sock"));
	assert_int_equal(kvm_status(k, status, &e), 0);
	assert_string_equal(status, "prelaunch");
	assert_int_equal(kvm_cont(k, deadline_in(20000), &e), 0);
	assert_int_equal(kvm_status(k, status, &e), 0);
	assert_string_equal(status, "running");
	assert_int_equal(kvm_stop(k, deadline_in(20000), &e), 0);
	assert_int_equal(kvm_powerdown(k, &e), 0);
	assert_int_equal(kvm_reset(k, &e), 0);

	assert_int_equal(start("run", 1000, &second, &e), -EEXIST);
	assert_int_equal(kvm_pid(run), pid);
	assert_int_equal(kvm_open(run, deadline_in(100), &second, &e), -ETIMEDOUT); /* we hold its monitor */
	kvm_close(k);
	assert_int_equal(kvm_open(run, deadline_in(20000), &second, &e), 0);
	assert_int_equal(kvm_process(second), pid);
	kvm_close(second);
	assert_int_equal(kvm_agent_connect(run, deadline_in(100), &fd, &e), -ENOENT);
	assert_int_equal(kvm_console_connect(run, deadline_in(20000), &fd, &e), 0);
	close(fd);
	assert_int_equal(kvm_wait_gone(run, pid, deadline_in(20), &e), -ETIMEDOUT);

	assert_int_equal(kvm_destroy(run, 20000, true, &e), 0);
	assert_clean();
	assert_int_equal(kvm_destroy(run, 20000, true, &e), 0); /* none runs: nothing to do */
	assert_int_equal(kvm_open(run, deadline_in(100), &second, &e), -ESRCH);
	assert_int_equal(kvm_console_connect(run, deadline_in(100), &fd, &e), -ESRCH);
}

static void cont_is_patient(void **state)
{
	static const struct {
		const char *how, *msg;
		int code;
		uint64_t ms; /* more for what must come than for what must not */
	} t[] = { { "finishing", "", 0, 20000 }, { "refuses", "cont: no", -EREMOTEIO, 20000 },
		{ "sleepy", "the guest did not go on: it is 'prelaunch'", -ETIMEDOUT, 1500 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct kvm *k = must_start(t[i].how);
		struct err e = { 0 };

		assert_int_equal(kvm_cont(k, deadline_in(t[i].ms), &e), t[i].code);
		if (t[i].code)
			assert_non_null(strstr(e.msg, t[i].code == -EREMOTEIO ? "no" : t[i].msg));
		kvm_close(k);
		assert_int_equal(kvm_destroy(run, 20000, false, &e), 0);
		assert_clean();
	}
}

static void deaths(void **state)
{
	static const struct {
		const char *how, *msg, *hint;
		int code;
		uint64_t ms;
	} t[] = {
		{ "die", "QEMU ended with status 1: -blockdev: Failed to get \"write\" lock; Is another process using the image [/x]?",
			"stop whatever has the image open; /proc/locks tells who", -EREMOTEIO, 30000 },
		{ "early", "QEMU ended with status 3: -device: it broke; and more", "", -EREMOTEIO, 30000 },
		{ "mute", "QEMU ended with status 4: it did not say why", "", -EREMOTEIO, 30000 },
		{ "abort", "QEMU was ended by signal 9", "", -EREMOTEIO, 30000 },
		{ "silent", NULL, NULL, -ETIMEDOUT, 1500 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct kvm *k = NULL;
		struct err e = { 0 };

		assert_int_equal(start(t[i].how, t[i].ms, &k, &e), t[i].code);
		if (t[i].msg)
			assert_string_equal(e.msg, t[i].msg);
		if (t[i].hint)
			assert_string_equal(e.hint, t[i].hint);
		assert_true(in_run("qemu.log"));
		assert_clean();
	}
}

/* What the last QEMU said is no more the log of the next one, but not lost either; and the older logs do not grow for ever. */
static void last_words_stay(void **state)
{
	auto_free char *old = str_fmt("%s/qemu.log.1", run), *log = str_fmt("%s/qemu.log", run);
	auto_buf struct buf text = { 0 };
	auto_fd int fd = -1;
	struct kvm *k = NULL;
	struct err e = { 0 };
	struct stat st;

	(void)state;
	unlink(old);
	assert_int_equal(start("die", 30000, &k, &e), -EREMOTEIO);
	k = must_start("run");
	kvm_close(k);
	assert_int_equal(kvm_destroy(run, 20000, false, &e), 0);
	assert_int_equal(file_read(old, 1 << 20, &text, &e), 0);
	assert_non_null(strstr(buf_str(&text), "---- until "));
	assert_non_null(strstr(buf_str(&text), "Failed to get \"write\" lock"));
	for (int i = 0; i < 12; i++) {
		fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(ftruncate(fd, 1 << 20), 0);
		close(take_fd(&fd));
		k = must_start("run");
		kvm_close(k);
		assert_int_equal(kvm_destroy(run, 20000, false, &e), 0);
		assert_int_equal(stat(old, &st), 0);
		assert_true(st.st_size < 200 << 10);
	}
	assert_true(in_run("qemu.log.2"));
}

static void not_a_program(void **state)
{
	struct kvm_caps bad = caps;
	struct kvm_spec s = { .def = def, .caps = &bad, .run_dir = run };
	char path[] = "/nonexistent/qemu", notice[100];
	struct kvm *k = NULL;
	struct err e = { 0 };

	(void)state;
	bad.path = path;
	assert_int_equal(kvm_start(&s, deadline_in(1000), &k, notice, sizeof notice, &e), -ENOENT);
	assert_string_equal(e.msg, "cannot start /nonexistent/qemu: No such file or directory");
	assert_clean();
}

/* A killed QEMU, a pid file of a reboot ago and rubbish: none is a running VM, and none is in the way. */
static void stale(void **state)
{
	static const char *const texts[] = { "", "x", "0 0\n", "-1 5\n", "999999999 1\n", "PID", "PID 1\n" };
	auto_free char *path = str_fmt("%s/pid", run);
	struct err e = { 0 };
	struct kvm *k = must_start("run");
	pid_t pid = kvm_process(k);

	(void)state;
	kvm_close(k);
	kill(pid, SIGKILL);
	assert_int_equal(kvm_wait_gone(run, pid, deadline_in(20000), &e), 0);
	assert_true(in_run("pid") && in_run("qmp.sock"));
	assert_int_equal(kvm_pid(run), 0);

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		auto_free char *text = str_starts(texts[i], "PID") ? str_fmt("%d%s", (int)getpid(), texts[i] + 3) : strdup(texts[i]);

		assert_int_equal(file_replace(path, text, strlen(text), 0600, &e), 0);
		assert_int_equal(kvm_pid(run), 0);
	}
	k = must_start("run");
	kvm_close(k);
	assert_int_equal(kvm_destroy(run, 20000, false, &e), 0);
	assert_clean();
}

/* Dead, but not yet reaped by a parent that may not be us. */
static void zombie(void **state)
{
	int p[2];
	struct err e = { 0 };
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		close(p[1]);
		_exit(read(p[0], &c, 1) != 0);
	}
	assert_int_equal(run_record(run, pid, &e), 0);
	assert_int_equal(kvm_pid(run), pid);
	close(p[0]);
	close(p[1]);
	assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	assert_int_equal(kvm_pid(run), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	kvm_clean(run);
	assert_clean();
}

/* The process on record is nobody's number here, as with another PID namespace, but somebody listens at its monitor. */
static void seen_by_its_socket(void **state)
{
	auto_free char *path = str_fmt("%s/pid", run);
	static const char gone[] = "2147483646 1\n";
	auto_fd int listening = -1;
	struct err e = { 0 };
	FILE *f;

	(void)state;
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(gone, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(kvm_pid(run), 0);
	assert_int_equal(run_listen(run, "qmp.sock", &listening, &e), 0);
	assert_int_equal(kvm_pid(run), 2147483646);
	assert_false(run_pid_sure(run, 2147483646));
	kvm_clean(run);
	assert_true(in_run("qmp.sock"));
	assert_int_equal(run_pidfd(run, 2147483646), -1);
	close(take_fd(&listening));
	assert_int_equal(kvm_pid(run), 0);
	kvm_clean(run);
	assert_clean();
}

static void *for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* Killed, its threads end in any order: it is there, with its files and locks, until the last one has. */
static void first_thread_ends(void **state)
{
	struct err e = { 0 };
	pthread_t t;
	pid_t pid;

	(void)state;
	pid = fork();
	if (pid == 0) {
		if (pthread_create(&t, NULL, for_ever, NULL))
			_exit(1);
		syscall(SYS_exit, 0); /* this thread alone */
	}
	assert_int_equal(run_record(run, pid, &e), 0);
	for (char st = 0; st != 'Z';) {
		auto_free char *path = str_fmt("/proc/%d/stat", (int)pid);
		auto_buf struct buf text = { 0 };

		assert_int_equal(file_read(path, 4096, &text, &e), 0);
		st = strrchr(buf_str(&text), ')')[2];
	}
	assert_int_equal(kvm_pid(run), pid);
	assert_int_equal(kvm_wait_gone(run, pid, deadline_in(20), &e), -ETIMEDOUT);
	kill(pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	assert_int_equal(kvm_pid(run), 0);
	assert_int_equal(kvm_wait_gone(run, pid, deadline_in(20), &e), 0);
	kvm_clean(run);
	assert_clean();
}

static void stubborn(void **state)
{
	struct kvm *k = must_start("stubborn");
	pid_t pid = kvm_process(k);
	struct err e = { 0 };

	(void)state;
	kvm_close(k);
	assert_int_equal(kvm_destroy(run, 100, true, &e), -EBUSY);
	assert_string_equal(e.hint, "without --graceful it is killed");
	assert_int_equal(kvm_pid(run), pid);
	assert_true(in_run("qmp.sock"));
	assert_int_equal(kvm_destroy(run, 100, false, &e), 0);
	assert_clean();
}

/* A session of its own and no descriptor that was not given, whatever the parent left open for its children. */
static void inherits_nothing(void **state)
{
	auto_free char *log = str_fmt("%s/log", dir);
	auto_fd int leak = open("/dev/null", O_RDONLY), leak2 = fcntl(leak, F_DUPFD, 100);
	auto_buf struct buf text = { 0 };
	struct err e = { 0 };

	(void)state;
	assert_true(leak2 >= 100);
	tell("FAKE_LOG", log);
	kvm_close(must_start("run"));
	tell("FAKE_LOG", NULL);
	assert_int_equal(kvm_destroy(run, 20000, false, &e), 0);
	assert_int_equal(file_read(log, 1000, &text, &e), 0);
	unlink(log);
	assert_string_equal(buf_str(&text), "start session 1 stray 0\n");
}

static bool has(char *const env[], const char *entry)
{
	for (; *env; env++)
		if (str_eq(*env, entry))
			return true;
	return false;
}

static void env_is_chosen(void **state)
{
	static const char *const kept[] = { "HOME=/h", "TMPDIR=/t", "PATH=/p", "DISPLAY=:7" };
	static const char *const dropped[] = { "TOKEN=x", "LD_PRELOAD=x", "http_proxy=x", "HOMELY=x", "PATHS=x" };
	char *here[] = { "HOME=/h", "TOKEN=x", "TMPDIR=/t", "LD_PRELOAD=x", "PATH=/p", "http_proxy=x", "HOMELY=x", "PATHS=x",
		"DISPLAY=:7", "LC_ALL=de_DE", NULL };
	char *none[] = { "LC_ALL=de_DE", NULL };
	char *twice[40], **was = environ, *env[SPAWN_MAX_ENV];

	(void)state;
	environ = here;
	spawn_env(false, env);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		assert_true(has(env, kept[i]));
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
		assert_false(has(env, dropped[i]));
	assert_true(has(env, "LC_ALL=C") && !has(env, "LC_ALL=de_DE"));
	spawn_env(true, env);
	assert_true(!has(env, "HOME=/h") && has(env, "TMPDIR=/t"));
	environ = none;
	spawn_env(false, env);
	assert_true(has(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	/* A name more often than there is room. */
	for (size_t i = 0; i < ARRAY_SIZE(twice); i++)
		twice[i] = "TMPDIR=/t";
	twice[ARRAY_SIZE(twice) - 1] = NULL;
	environ = twice;
	spawn_env(false, env);
	assert_null(env[SPAWN_MAX_ENV - 1]);
	environ = was;
}

/* The parent dies between fork and record: nothing may run. */
static int die_here(void *ctx, pid_t pid, struct err *e)
{
	(void)e;
	dprintf(*(int *)ctx, "%d", (int)pid);
	_exit(0);
}

static void parent_dies(void **state)
{
	char *const argv[] = { self, (char *)"-name", NULL };
	auto_free char *log = str_fmt("%s/log", dir);
	int p[2], child, fill[16];
	char text[20] = "";
	struct err e;
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fill); i++) /* so that no number is one that the child gets anew */
		fill[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	tell("FAKE", "silent");
	tell("FAKE_LOG", log);
	child = fork();
	if (child == 0) {
		struct spawn s = { .argv = argv, .fds = { -1, -1, -1, -1, -1 }, .log = 2, .record = die_here, .ctx = &p[1] };

		_exit(spawn_start(&s, &pid, &e) < 0);
	}
	close(p[1]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	for (size_t i = 0; i < ARRAY_SIZE(fill); i++)
		close(fill[i]);
	assert_true(read(p[0], text, sizeof text - 1) > 0);
	/* The grandchild holds the pipe's write end until it has ended or has become the program. */
	assert_int_equal(poll(&(struct pollfd){ .fd = p[0], .events = POLLIN }, 1, 60000), 1);
	assert_int_equal(read(p[0], text + 10, 1), 0);
	close(p[0]);
	tell("FAKE_LOG", NULL);
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	assert_false(file_exists(log));
}

static void probe(void **state)
{
	auto_free char *log = str_fmt("%s/log", dir), *cache = str_fmt("%s/not-yet/cache", dir);
	auto_buf struct buf text = { 0 };
	struct err e = { 0 };

	(void)state;
	tell("FAKE", "plain");
	tell("FAKE_LOG", log);
	for (int i = 0; i < 3; i++) {
		struct kvm_caps *c = NULL;

		if (kvm_probe(self, cache, &c, &e) < 0)
			fail_msg("%s", e.msg);
		assert_string_equal(c->path, self);
		assert_string_equal(c->version, "7.2.9");
		assert_string_equal(c->package, "P");
		assert_int_equal(c->major * 10000 + c->minor * 100 + c->micro, 70209);
		assert_string_equal(kvm_caps_machine(c, "q35"), "pc-q35-7.2");
		assert_string_equal(kvm_caps_machine(c, "pc-q35-7.2"), "pc-q35-7.2");
		assert_null(kvm_caps_machine(c, "pc-q35"));
		assert_null(kvm_caps_machine(c, ""));
		assert_true(kvm_caps_has_command(c, "snapshot-save"));
		assert_false(kvm_caps_has_command(c, "snapshot"));
		assert_true(kvm_caps_has_device(c, "vmgenid") && kvm_caps_has_device(c, "ide-hd"));
		assert_false(kvm_caps_has_device(c, "scsi-hd") || kvm_caps_has_device(c, ""));
		assert_true(c->kvm && c->maps_readonly);
		assert_false(c->sandbox);
		assert_true(str_starts(c->cpu_host, "host"));
		kvm_caps_free(c);
	}
	tell("FAKE_LOG", NULL);
	assert_int_equal(file_read(log, 1000, &text, &e), 0);
	assert_string_equal(buf_str(&text), "start session 1 stray 0\n"); /* asked once */
	unlink(log);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void probe_fails(void **state)
{
	static const struct {
		const char *qemu, *how;
		int code;
		const char *msg;
	} t[] = {
		{ "no-such-qemu", "", -ENOENT, "there is no 'no-such-qemu' in PATH" },
		{ "/no/such/qemu", "", -ENOENT, "there is no QEMU at /no/such/qemu" },
		{ self, "mute", -EREMOTEIO, "what it can do: QEMU ended with status 4: it did not say why" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct kvm_caps *c = NULL;
		struct err e = { 0 };

		tell("FAKE", t[i].how);
		assert_int_equal(kvm_probe(t[i].qemu, NULL, &c, &e), t[i].code);
		assert_non_null(strstr(e.msg, t[i].msg));
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

struct lines {
	unsigned n[3];
	struct buf text;
};

static void host_line(void *ctx, const char *what, enum kvm_verdict v, const char *hint)
{
	struct lines *l = ctx;

	l->n[v]++;
	buf_addf(&l->text, "%s: %d %s\n", what, v, hint);
	assert_int_equal(v != HOST_PASS, *hint != '\0'); /* whatever is not well comes with what to do */
}

static void host(void **state)
{
	struct lines with = { { 0 }, { 0 } }, without = { { 0 }, { 0 } };
	auto_free char *deep = str_fmt("%s/not/made/yet", dir), *direct = str_fmt("for O_DIRECT in %s: ", dir);
	struct err e = { 0 };

	(void)state;
	tell("FAKE", "run");
	assert_int_equal(kvm_host_check(self, deep, host_line, &with, &e), 0);
	assert_int_equal(with.n[0] + with.n[1] + with.n[2], 13);
	assert_non_null(strstr(buf_str(&with.text), "for QEMU 7.2 or newer: 0 \n"));
	assert_non_null(strstr(buf_str(&with.text), "sandbox: 0 \n"));
	assert_non_null(strstr(buf_str(&with.text), direct));
	assert_int_equal(kvm_host_check("no-such-qemu", deep, host_line, &without, &e), 0);
	assert_int_equal(without.n[0] + without.n[1] + without.n[2], 10);
	assert_non_null(strstr(buf_str(&without.text), "for QEMU 7.2 or newer: 2 there is no 'no-such-qemu' in PATH; install"));
	buf_done(&with.text);
	buf_done(&without.text);
}

static void user(void **state)
{
	static const char *const wrong[] = { ":", "0:", ":0", "-1:0", "0:-1", "4294967295:0", "0:4294967295", "99999999999999999999:0", "0: 1", "0:0:0" };
	struct spawn_user u;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(spawn_user_find("root", &u, &e), 0);
	assert_int_equal(u.uid, 0);
	assert_int_equal(u.gid, 0);
	assert_true(u.n_groups >= 1);
	assert_int_equal(spawn_user_find("0", &u, &e), 0);
	assert_int_equal(spawn_user_find("no-such-user", &u, &e), -ENOENT);
	assert_string_equal(e.msg, "there is no user 'no-such-user'");
	assert_int_equal(spawn_user_find("", &u, &e), -ENOENT);
	/* Numbers need no entry, once both are given. */
	assert_int_equal(spawn_user_find("4000123:4000456", &u, &e), 0);
	assert_int_equal(u.uid, 4000123);
	assert_int_equal(u.gid, 4000456);
	assert_int_equal(u.n_groups, 1);
	assert_int_equal(u.groups[0], 4000456);
	assert_int_equal(spawn_user_find("0:4000456", &u, &e), 0);
	assert_int_equal(u.groups[0], 4000456);
	assert_int_equal(spawn_user_find("root:root", &u, &e), 0);
	assert_int_equal(u.gid, 0);
	e = (struct err){ 0 };
	assert_int_equal(spawn_user_find("4000123", &u, &e), -ENOENT);
	assert_non_null(strstr(e.hint, "4000123:GID"));
	assert_int_equal(spawn_user_find("root:no-such-group", &u, &e), -ENOENT);
	assert_string_equal(e.msg, "there is no group 'no-such-group'");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(spawn_user_find(wrong[i], &u, &e), -ENOENT);
}

static void memory(void **state)
{
	uint64_t bytes = 0;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(kvm_memory_used(getpid(), &bytes, &e), 0);
	assert_in_range(bytes, 100 * 1024, 1ull << 40);
	assert_int_equal(kvm_memory_used(999999999, &bytes, &e), -ENOENT);
}

static void *write_on(void *fd)
{
	char bytes[4096] = { 0 };

	while (write(*(int *)fd, bytes, sizeof bytes) > 0)
		;
	return NULL;
}

/* KiB of huge pages in the mapping at @p of process @pid; -1: it has none. */
static long huge_kib(pid_t pid, const void *p)
{
	auto_free char *path = str_fmt("/proc/%d/smaps", (int)pid), *key = str_fmt("%lx-", (unsigned long)p);
	auto_buf struct buf text = { 0 };
	const char *at;
	struct err e;

	assert_int_equal(file_read(path, 1u << 24, &text, &e), 0);
	at = strstr(buf_str(&text), key);
	at = at ? strstr(at, "AnonHugePages:") : NULL;
	return at ? strtol(at + 14, NULL, 10) : -1;
}

/* Whether the host wants huge pages, this kernel can put together small ones (as it does @p's), and we may for others. */
static bool can_collapse(uint8_t *p, size_t size)
{
	auto_buf struct buf text = { 0 };
	struct err e;

	return geteuid() == 0 && file_read("/sys/kernel/mm/transparent_hugepage/enabled", 256, &text, &e) == 0 &&
		!strstr(buf_str(&text), "[never]") && madvise(p, size, 25 /* MADV_COLLAPSE */) == 0;
}

/*
 * Pages that were small become huge, keep what they have, and those that were never touched take no memory: of a mapping of
 * @size bytes, with 32 MiB in use from byte @from on. Skips where huge pages cannot be had.
 */
static void check_collapse(size_t size, size_t from)
{
	const size_t used = 32u << 20;
	uint8_t *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *p = all + from;
	unsigned char in_core[64];
	long before, after;
	int status;
	pid_t pid;
	bool can;

	assert_ptr_not_equal(all, MAP_FAILED);
	assert_int_equal(madvise(all, size, MADV_NOHUGEPAGE), 0);
	for (size_t i = 0; i < used; i += 4096)
		memcpy(p + i, &i, sizeof i);
	assert_int_equal(madvise(all, size, MADV_HUGEPAGE), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		/* Its own, no longer shared with the parent */
		for (size_t i = 0; i < used; i += 4096)
			p[i + 100] = 1;
		raise(SIGSTOP);
		for (size_t i = 0; i < used; i += 4096)
			if (memcmp(p + i, &i, sizeof i) || p[i + 100] != 1)
				_exit(1);
		_exit(mincore(p + used + (4u << 20), sizeof in_core * 4096, in_core) < 0 || memchr(in_core, 1, sizeof in_core) ? 2 : 0);
	}
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	before = huge_kib(pid, all);
	kvm_collapse(pid, size);
	after = huge_kib(pid, all);
	can = can_collapse((uint8_t *)(((uintptr_t)p + (2u << 20) - 1) & ~((uintptr_t)(2u << 20) - 1)), used / 2);
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	munmap(all, size);
	if (!can)
		skip();
	assert_true(before >= 0);
	assert_in_range(after, before + 24 * 1024, used / 1024 + 4096);
}

static void small_pages_collapsed(void **state)
{
	(void)state;
	kvm_collapse(999999999, 64u << 20);
	check_collapse(64u << 20, 0);
}

/* The kernel does no more than 2 GiB of what one call asks for. */
static void small_pages_collapsed_far_up(void **state)
{
	(void)state;
	check_collapse(3ul << 30, 5ul << 29);
}

static void a_thread_that_waits(void **state)
{
	int p[2], other[2];
	pthread_t t;
	int seen = 0;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(pipe(other), 0);
	assert_int_equal(kvm_waits_on(getpid(), p[0]), 0);
	assert_int_equal(pthread_create(&t, NULL, write_on, &p[1]), 0);
	for (int i = 0; i < 5000 && !seen; i++) {
		seen = kvm_waits_on(getpid(), p[0]);
		poll(NULL, 0, 1);
	}
	if (seen == -EPERM || seen == -EACCES)
		skip();
	assert_int_equal(seen, 1);
	assert_int_equal(kvm_waits_on(getpid(), other[0]), 0);
	assert_int_equal(kvm_waits_on(999999999, p[0]), -ENOENT);
	signal(SIGPIPE, SIG_IGN);
	close(p[0]);
	pthread_join(t, NULL);
	signal(SIGPIPE, SIG_DFL);
	close(p[1]);
	close(other[0]);
	close(other[1]);
}

/* ---- the thaw guard ---------------------------------------------------------------------------------------------- */

/* What arrives at the agent's end of @fd within @ms. */
static size_t arrives(int fd, char *text, size_t size, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n = poll(&p, 1, ms) > 0 ? read(fd, text, size - 1) : 0;

	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static void guard_told(void **state)
{
	struct kvm_guard g;
	struct err e = { 0 };
	char text[200];
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(kvm_guard_start(run, pair[0], 10000, &g, &e), 0);
	kvm_guard_end(&g);
	assert_int_equal(arrives(pair[1], text, sizeof text, 50), 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	close(pair[0]);
	close(pair[1]);
}

/* Its parent is killed: it speaks to the agent over the connection that it inherited. */
static void guard_takes_over(void **state)
{
	struct err e = { 0 };
	char text[200];
	int pair[2];
	pid_t parent;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	parent = fork();
	if (parent == 0) {
		struct kvm_guard g;

		close(pair[1]);
		if (kvm_guard_start(run, pair[0], 10000, &g, &e) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	close(pair[0]);
	waitpid(parent, NULL, 0);
	assert_true(arrives(pair[1], text, sizeof text, 60000) > 0);
	assert_non_null(strstr(text, "guest-sync"));
	close(pair[1]);
}

static char mark_path[300];

static void leave_mark(void *ctx)
{
	(void)ctx;
	close(open(mark_path, O_WRONLY | O_CREAT, 0600));
}

/* A process with that guard, which raises @sig, says on @said that it goes on, and ends the guard. */
static pid_t guarded(int (*begin)(void (*fn)(void *), void *, struct kvm_guard *, struct err *), int sig, int said)
{
	struct kvm_guard g;
	pid_t pid = fork();
	struct err e;

	if (pid)
		return pid;
	signal(SIGTSTP, SIG_DFL);
	if (begin(leave_mark, NULL, &g, &e) < 0)
		_exit(1);
	raise(sig);
	if (write(said, "on", 2) != 2)
		_exit(2);
	kvm_guard_end(&g);
	_exit(0);
}

static void guard_of_a_stopped_one(void **state)
{
	char text[20];
	int status, p[2];
	pid_t pid;

	(void)state;
	snprintf(mark_path, sizeof mark_path, "%s/mark", dir);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	/* ^Z waits for the end of what a guest waits for, and comes then. */
	pid = guarded(kvm_guard_call, SIGTSTP, p[1]);
	assert_int_equal(arrives(p[0], text, sizeof text, 20000), 2);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	assert_int_equal(access(mark_path, F_OK), -1);
	/* What cannot be held back the child puts an end to. */
	pid = guarded(kvm_guard_call, SIGSTOP, p[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	for (int i = 0; access(mark_path, F_OK) && i < 200; i++)
		poll(NULL, 0, 50);
	assert_int_equal(unlink(mark_path), 0);
	/* Where no guest waits, one may be stopped. */
	pid = guarded(kvm_guard_death, SIGSTOP, p[1]);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	poll(NULL, 0, 3500);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	assert_int_equal(access(mark_path, F_OK), -1);
	close(p[0]);
	close(p[1]);
}

static int setup(void **state)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	auto_free char *path = NULL;
	struct err e;
	FILE *f;

	(void)state;
	if (n < 0 || !mkdtemp(dir))
		return -1;
	setenv("TMPDIR", dir, 1);
	snprintf(run, sizeof run, "%s/run", dir);
	path = str_fmt("%s/t.conf", dir);
	f = fopen(path, "w");
	fputs("memory = 1M\naccel = tcg\n", f);
	fclose(f);
	return def_read(path, "koan", NULL, &def, &e);
}

static int teardown(void **state)
{
	auto_free char *cmd = str_fmt("rm -r %s", dir);

	(void)state;
	def_free(def);
	return system(cmd);
}

/* ---- children of our own ------------------------------------------------------------------------------------------ */

static int raise_it(void *sig)
{
	raise(*(int *)sig);
	return 7;
}

static void child_is_heard(void **state)
{
	int sig = SIGUSR1, status;
	sigset_t set, old;
	pid_t pid;

	(void)state;
	assert_int_equal(kvm_child_run((char *[]){ "sh", "-c", "exit 3", NULL }), 3);
	assert_int_equal(kvm_child_run((char *[]){ "sh", "-c", "kill -9 $$", NULL }), 128 + SIGKILL);
	assert_int_equal(kvm_child_run((char *[]){ "/no/such/program", NULL }), 127);
	/* What the parent blocks reaches the child. */
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_BLOCK, &set, &old);
	pid = kvm_child_start(raise_it, &sig);
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == sig);
	sig = 0;
	pid = kvm_child_start(raise_it, &sig);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(life),
		cmocka_unit_test(cont_is_patient),
		cmocka_unit_test(deaths),
		cmocka_unit_test(last_words_stay),
		cmocka_unit_test(not_a_program),
		cmocka_unit_test(stale),
		cmocka_unit_test(zombie),
		cmocka_unit_test(seen_by_its_socket),
		cmocka_unit_test(first_thread_ends),
		cmocka_unit_test(stubborn),
		cmocka_unit_test(inherits_nothing),
		cmocka_unit_test(env_is_chosen),
		cmocka_unit_test(parent_dies),
		cmocka_unit_test(child_is_heard),
		cmocka_unit_test(probe),
		cmocka_unit_test(probe_fails),
		cmocka_unit_test(host),
		cmocka_unit_test(user),
		cmocka_unit_test(memory),
		cmocka_unit_test(small_pages_collapsed),
		cmocka_unit_test(small_pages_collapsed_far_up),
		cmocka_unit_test(a_thread_that_waits),
		cmocka_unit_test(guard_told),
		cmocka_unit_test(guard_takes_over),
		cmocka_unit_test(guard_of_a_stopped_one),
	};

	if (argc > 1)
		_exit(be_qemu(argc, argv));
	return cmocka_run_group_tests(tests, setup, teardown);
}
