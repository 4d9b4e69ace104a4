/* What only the first process does: the host's mounts and settings before, its end after. And both watchdogs. */
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "init/supervisor/fstab.h"
#include "init/supervisor/internal.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/ini.h"
#include "lib/own.h"

#define FEED_MS  5000 /* half of what the shortest watchdogs give */
#define GRACE_MS 2000 /* for other processes to end by themselves */
#define MAX_WORDS 32

static int watchdog = -1;
static struct mounted {
	char *target;
	bool bind;
} *mounted;
static size_t n_mounted;

static bool first(void)
{
	return getpid() == 1;
}

/* ---- init.conf ---------------------------------------------------------------------------------------------- */

static void put(const char *path, const char *text)
{
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		log_line(NULL, "cannot write to %s: %s", path, strerror(errno));
}

static void note_mounted(const struct fstab *f)
{
	struct mounted *all = reallocarray(mounted, n_mounted + 1, sizeof *all);

	if (!all)
		return;
	mounted = all;
	all[n_mounted].bind = f->flags & MS_BIND;
	if ((all[n_mounted].target = strdup(f->target)))
		n_mounted++;
}

static void do_mount(char *s)
{
	struct fstab f = { 0 };
	struct err e;
	int r = fstab_parse(s, &f, &e);

	if (r == 0 && !f.noauto)
		r = fstab_mount(&f, &e);
	if (r < 0)
		log_err(&e);
	else if (r > 0)
		note_mounted(&f);
	free(f.data);
}

static void do_module(char *s)
{
	char *path = fstab_word(&s);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, s ? s : "", 0) < 0 && errno != EEXIST))
		log_line(NULL, "cannot insert %s: %s", path, strerror(errno));
}

static void do_sysctl(char *s)
{
	char *value = strchr(s, '=');
	auto_free char *path = NULL;

	if (value) {
		*value++ = '\0';
		value += strspn(value, " ");
	}
	s = fstab_word(&s);
	if (!value || !(path = str_fmt("/proc/sys/%s", s)))
		return;
	for (char *p = path + 10; *p; p++)
		if (*p == '.')
			*p = '/';
	put(path, value);
}

/* Run the script with default signal actions, whatever our parent ignores. */
static int run_script(void *words)
{
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	return kvm_child_run(words);
}

static void do_script(char *s)
{
	char *words[MAX_WORDS + 1] = { s }, *w;
	bool plain = file_exists(s); /* a path with blanks in it, and no arguments */
	pid_t pid;
	int status;

	for (size_t n = 0; !plain && n < MAX_WORDS && *(w = fstab_word(&s)); n++)
		words[n] = w;
	pid = kvm_child_start(run_script, words);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
		log_line(NULL, "%s failed (status %d)", words[0], pid < 0 ? 127 : WEXITSTATUS(status));
}

static void do_hugepages(char *s)
{
	put("/proc/sys/vm/nr_hugepages", s);
}

static void do_watchdog(char *s)
{
	watchdog = open(s, O_WRONLY | O_CLOEXEC);
	if (watchdog < 0)
		log_line(NULL, "cannot open %s: %s", s, strerror(errno));
}

static void do_log(char *s)
{
	struct err e;

	if (log_open(s, &e) < 0)
		log_err(&e);
}

static int line(void *ctx, const struct ini_line *l, struct err *e)
{
	static const struct {
		const char *key;
		void (*fn)(char *value);
		bool always; /* also when somebody else is the first process */
	} keys[] = {
		{ "mount", do_mount, false },   { "module", do_module, false },       { "hugepages", do_hugepages, false },
		{ "sysctl", do_sysctl, false }, { "script", do_script, false },       { "watchdog", do_watchdog, true },
		{ "log", do_log, true },
	};
	auto_free char *value = NULL;

	(void)ctx;
	for (size_t i = 0; l->key && i < ARRAY_SIZE(keys); i++) {
		if (strcmp(keys[i].key, l->key))
			continue;
		if ((first() || keys[i].always) && (value = strdup(l->value)))
			keys[i].fn(value);
		return 0;
	}
	return err_set(e, -EINVAL, "there is no '%s' here", l->key ? l->key : l->section);
}

static void kernel_mounts(void)
{
	static const struct {
		const char *target, *type;
	} m[] = {
		{ "/proc", "proc" }, { "/sys", "sysfs" }, { "/dev", "devtmpfs" }, { "/run", "tmpfs" }, { "/dev/shm", "tmpfs" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(m); i++) {
		mkdir(m[i].target, 0755);
		/* Whoever started us may have done it. */
		if (mount(m[i].type, m[i].target, m[i].type, MS_NOSUID, NULL) < 0 && errno != EBUSY)
			log_line(NULL, "cannot mount %s: %s", m[i].target, strerror(errno));
	}
}

void pid1_begin(struct fermata *host, const char *conf)
{
	auto_free char *path = conf ? strdup(conf) : str_fmt("%s/init.conf", fermata_conf_dir(host));
	auto_buf struct buf text = { 0 };
	struct err e;

	if (first()) {
		kernel_mounts();
		setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 0);
		reboot(RB_DISABLE_CAD); /* ctrl-alt-del becomes SIGINT */
	}
	if (!path || file_read(path, DEF_MAX_FILE, &text, &e) < 0) {
		if (path && (conf || e.code != -ENOENT))
			log_err(&e);
	} else if (ini_parse(path, buf_str(&text), text.n, line, NULL, &e) < 0) {
		/* A box whose settings are half wrong is still better up. */
		log_err(&e);
	}
}

/* ---- watchdogs -------------------------------------------------------------------------------------------------- */

void service_tell(const char *what)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	auto_fd int fd = -1;
	size_t n = path ? strlen(path) : 0;

	if (!n || n >= sizeof a.sun_path)
		return;
	memcpy(a.sun_path, path, n);
	if (a.sun_path[0] == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, what, strlen(what), MSG_NOSIGNAL, (struct sockaddr *)&a,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

uint64_t pid1_beat_ms(void)
{
	const char *usec = getenv("NOTIFY_SOCKET") ? getenv("WATCHDOG_USEC") : NULL;
	uint64_t ms = usec ? strtoull(usec, NULL, 10) / 2000 : 0;

	return watchdog >= 0 && (!ms || ms > FEED_MS) ? FEED_MS : ms;
}

void pid1_beat(void)
{
	if (watchdog >= 0 && write(watchdog, "k", 1) < 0)
		log_line(NULL, "cannot feed the watchdog: %s", strerror(errno));
	service_tell("WATCHDOG=1");
}

/* ---- the power button ------------------------------------------------------------------------------------------- */

size_t pid1_buttons(int fds[PID1_BUTTONS])
{
	size_t n = 0;

	for (int i = 0; first() && i < 32 && n < PID1_BUTTONS; i++) {
		char path[32];
		unsigned long keys[KEY_MAX / (8 * sizeof(long)) + 1] = { 0 };
		int fd;

		snprintf(path, sizeof path, "/dev/input/event%d", i);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (ioctl(fd, EVIOCGBIT(EV_KEY, sizeof keys), keys) > 0 &&
			keys[KEY_POWER / (8 * sizeof(long))] >> KEY_POWER % (8 * sizeof(long)) & 1)
			fds[n++] = fd;
		else
			close(fd);
	}
	return n;
}

bool pid1_pressed(int fd)
{
	struct input_event ev;
	bool pressed = false;

	while (read(fd, &ev, sizeof ev) == sizeof ev)
		pressed |= ev.type == EV_KEY && ev.code == KEY_POWER && ev.value == 1;
	return pressed;
}

/* ---- the end ------------------------------------------------------------------------------------------------------ */

static void end_all(void)
{
	struct deadline d = deadline_in(GRACE_MS);

	kill(-1, SIGTERM);
	while (deadline_left_ms(d)) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0)
			return; /* there is nobody else */
		if (pid == 0)
			poll(NULL, 0, 20);
	}
	kill(-1, SIGKILL);
}

static int do_reboot(void *again)
{
	return reboot(again ? RB_AUTOBOOT : RB_POWER_OFF);
}

void pid1_end(bool again)
{
	/* "V" (magic close): disarm the watchdog. */
	if (watchdog >= 0 && write(watchdog, "V", 1) == 1)
		close(take_fd(&watchdog));
	if (!first())
		return;
	end_all();
	while (n_mounted--)
		/* The file system behind a bind mount is not ours to close. */
		if (umount(mounted[n_mounted].target) < 0)
			mount(NULL, mounted[n_mounted].target, NULL,
				MS_REMOUNT | MS_RDONLY | (mounted[n_mounted].bind ? MS_BIND : 0), NULL);
	sync();
	log_line(NULL, again ? "reboot" : "power off");
	/* A child does it: if it returned, and the first process ended, the kernel would panic. */
	kvm_child_start(do_reboot, again ? "" : NULL);
	for (;;)
		waitpid(-1, NULL, 0), poll(NULL, 0, 1000);
}
