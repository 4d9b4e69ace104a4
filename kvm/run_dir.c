#include "kvm/run_dir.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"

int run_listen(const char *dir, const char *name, int *fd, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	auto_fd int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	auto_fd int d = -1;
	auto_free char *made = str_fmt("%s/%s.new", dir, name), *path = str_fmt("%s/%s", dir, name);
	int n = snprintf(a.sun_path, sizeof a.sun_path, "%s/%s.new", dir, name);

	if (!made || !path)
		return err_nomem(e, "make a socket");
	unlink(made); /* of one that was killed right here */
	if (n < 0 || (size_t)n >= sizeof a.sun_path) {
		/* Too long for the address: go through the folder's descriptor. */
		d = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (d < 0)
			return err_sys(e, errno, "cannot open %s", dir);
		snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s.new", d, name);
	}
	/*
	 * The mode before bind() is the mode that the file is made with. A QEMU that ends removes the name that its socket was
	 * bound to, which may have become another's by then: it only ever had this one.
	 */
	if (s < 0 || fchmod(s, 0600) < 0 || bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 8) < 0 ||
		rename(made, path) < 0) {
		err_sys(e, errno, "cannot make the socket %s", path);
		unlink(made);
		return e->code;
	}
	*fd = take_fd(&s);
	return 0;
}

int run_record(const char *dir, pid_t pid, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_PID, dir), *tmp = str_fmt("%s/" RUN_PID ".new", dir);
	auto_fd int fd = -1;
	unsigned long long ticks;
	char text[64];
	int n;

	if (!path || !tmp)
		return err_nomem(e, "record QEMU's process");
	if (run_started(pid, &ticks) <= 0)
		return err_set(e, -ESRCH, "cannot read /proc/%d/stat", (int)pid);
	n = snprintf(text, sizeof text, "%d %llu\n", (int)pid, ticks);
	/* Whole by the rename; not flushed, since it means nothing after a power cut. */
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return err_sys(e, errno, "cannot create %s", tmp);
	if (io_write_full(fd, text, (size_t)n, tmp, e) < 0)
		return e->code;
	return rename(tmp, path) < 0 ? err_sys(e, errno, "cannot create %s", path) : 0;
}

void kvm_clean(const char *run_dir)
{
	static const char *const names[] = { RUN_QMP, RUN_EVENTS, RUN_AGENT, RUN_CONSOLE, RUN_DEF, RUN_DEVICES, RUN_MADE, RUN_PID };
	uint64_t pid, ticks;

	/* A QEMU may be alive that only cannot be looked up now: it would be lost to every later command. */
	if (run_recorded(run_dir, &pid, &ticks) < 0 || kvm_pid(run_dir))
		return;
	/* Each also under the name that it is made with; the pid is the last to go. */
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		auto_free char *path = str_fmt("%s/%s.new", run_dir, names[i]);

		if (!path)
			return;
		unlink(path);
		path[strlen(path) - strlen(".new")] = '\0';
		unlink(path);
	}
}

#define LAST_MAX (32u << 10) /* bytes of one QEMU's words that are kept */

void run_keep_log(const char *from, const char *to)
{
	auto_free char *log = str_fmt("%s/" RUN_LOG, from), *old = str_fmt("%s/" RUN_OLD, to), *older = str_fmt("%s/" RUN_OLDER, to);
	auto_fd int in = log ? open(log, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1, out = -1;
	auto_free char *text = malloc(LAST_MAX);
	char date[CLOCK_DATE_MAX];
	auto_buf struct buf b = { 0 };
	struct err ignored;
	struct stat st;
	ssize_t n;

	if (in < 0 || !old || !older || !text || fstat(in, &st) < 0 || !st.st_size)
		return;
	n = pread(in, text, LAST_MAX, st.st_size > LAST_MAX ? st.st_size - LAST_MAX : 0);
	if (n <= 0)
		return;
	clock_fmt_date(st.st_mtim.tv_sec, date);
	buf_addf(&b, "---- until %s\n", date);
	buf_add(&b, text, (size_t)n);
	if (text[n - 1] != '\n')
		buf_addc(&b, '\n');
	if (stat(old, &st) == 0 && st.st_size > RUN_OLD_MAX)
		rename(old, older);
	out = open(old, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0 || b.oom || io_write_full(out, b.p, b.n, old, &ignored) < 0)
		return;
}

void kvm_remove(const char *run_dir, const char *keep)
{
	static const char *const names[] = { RUN_LOG, RUN_OLD, RUN_OLDER };

	kvm_clean(run_dir);
	run_keep_log(run_dir, keep);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		auto_free char *log = str_fmt("%s/%s", run_dir, names[i]);

		if (log)
			unlink(log);
	}
	rmdir(run_dir);
}

static bool has_log(const char *dir)
{
	auto_free char *log = str_fmt("%s/" RUN_LOG, dir);

	return log && file_exists(log);
}

int kvm_move(const char *from, const char *to, struct err *e)
{
	/* The pid first: whose folder it is is never in doubt. */
	static const char *const names[] = { RUN_PID, RUN_QMP, RUN_EVENTS, RUN_AGENT, RUN_CONSOLE, RUN_DEF, RUN_DEVICES, RUN_MADE, RUN_LOG };

	auto_free char *old = str_fmt("%s/" RUN_OLD, from), *older = str_fmt("%s/" RUN_OLDER, from);

	/* What the one before it said is not lost with the place of its log; done again, that is this one's own. */
	if (has_log(from))
		run_keep_log(to, to);
	if (old)
		unlink(old);
	if (older)
		unlink(older);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		auto_free char *a = str_fmt("%s/%s", from, names[i]), *b = str_fmt("%s/%s", to, names[i]);

		if (!a || !b)
			return err_nomem(e, "move a VM");
		if (rename(a, b) < 0 && errno != ENOENT)
			return err_sys(e, errno, "cannot create %s", b);
	}
	rmdir(from);
	return 0;
}

int run_pidfd(const char *dir, pid_t pid)
{
	int fd = (int)syscall(NR_pidfd_open, pid, 0);

	/* Asked again, since the number could have been given to another before we held it. */
	if (fd >= 0 && !run_pid_sure(dir, pid)) {
		close(fd);
		return -1;
	}
	return fd;
}
