#include "kvm/last_words.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm/run_dir.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/own.h"

#define TAIL 4096

static const char *base_of(const char *path, size_t n)
{
	const char *slash = memrchr(path, '/', n);

	return slash ? slash + 1 : path;
}

/* Whether @line begins with the program's name and ": ", and where it goes on. It may run through a script of any name. */
static char *after_name(char *line, const char *prog)
{
	size_t n = strcspn(line, ": ");
	const char *word = base_of(line, n), *base = base_of(prog, strlen(prog));

	if (line[n] != ':' || line[n + 1] != ' ')
		return NULL;
	if (!str_starts(word, "qemu") && (strlen(base) != (size_t)(line + n - word) || !str_starts(word, base)))
		return NULL;
	return line + n + 2;
}

/* Where the last line of QEMU's own begins to say something, else the last line that says anything. */
static char *last_message(char *text, const char *prog)
{
	char *found = NULL, *any = NULL;

	for (char *line = text, *end; line; line = end ? end + 1 : NULL) {
		char *said = after_name(line, prog);

		end = strchr(line, '\n');
		if (said)
			found = said;
		if (*line && *line != '\n')
			any = line;
	}
	return found ? found : any;
}

/* "-blockdev driver=...,...: Could not open" without the option's long value. */
static void add_message(struct buf *b, const char *s)
{
	const char *blank = *s == '-' ? strchr(s, ' ') : NULL, *colon = blank ? strstr(blank, ": ") : NULL;

	if (colon) {
		buf_add(b, s, (size_t)(blank - s));
		s = colon;
	}
	for (; *s; s++) {
		if (*s != '\n')
			buf_addc(b, *s);
		else if (s[strspn(s, "\n")] && s[1] != '\n')
			buf_adds(b, "; ");
	}
}

static void add_hint(const char *said, struct err *e)
{
	static const struct {
		const char *part, *hint;
	} usual[] = {
		{ "Is another process using the image", "stop whatever has the image open; /proc/locks tells who" },
		{ "No such file or directory", "check the paths in the definition" },
		{ "Permission denied", "QEMU's user must be able to read the files and to write the disks" },
		{ "Cannot allocate memory", "the host has not that much memory free" },
		{ "cannot set up guest memory", "the host has not that much memory free" },
		{ "failed to initialize kvm", "say 'accel = tcg' if this host has no KVM" },
		{ "kvm_buf_set_msrs", "say 'cpu = host,-arch-capabilities' in the definition" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		if (strstr(said, usual[i].part)) {
			err_hint(e, "%s", usual[i].hint);
			return;
		}
}

/* A connection breaks a little before the process has ended. */
static bool reap(pid_t pid, bool broke, int *status)
{
	struct deadline d = deadline_in(broke ? 2000 : 0);

	for (;;) {
		pid_t r = waitpid(pid, status, WNOHANG);

		if (r == pid)
			return true;
		if (deadline_left_ms(d) == 0)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

bool last_words(pid_t pid, int log, const char *prog, struct err *e)
{
	bool broke = e->code == -ECONNRESET || e->code == -EPIPE || e->code == -ECONNREFUSED;
	auto_buf struct buf said = { 0 };
	char text[TAIL + 1];
	struct stat st;
	ssize_t n = 0;
	char *msg;
	int status;

	if (!reap(pid, broke, &status))
		return false;
	if (fstat(log, &st) == 0)
		n = pread(log, text, TAIL, st.st_size > TAIL ? st.st_size - TAIL : 0);
	text[n > 0 ? n : 0] = '\0';
	msg = last_message(text, prog);
	if (msg)
		add_message(&said, msg);
	if (WIFSIGNALED(status))
		err_set(e, -EREMOTEIO, "QEMU was ended by signal %d%s%s", WTERMSIG(status), msg ? ": " : "", buf_str(&said));
	else
		err_set(e, -EREMOTEIO, "QEMU ended with status %d: %s", WEXITSTATUS(status),
			msg ? buf_str(&said) : "it did not say why");
	add_hint(text, e);
	return true;
}

uint64_t kvm_log_bytes(const char *run_dir)
{
	auto_free char *path = str_fmt("%s/" RUN_LOG, run_dir);
	struct stat st;

	return path && stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void kvm_log_since(const char *run_dir, uint64_t from, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_LOG, run_dir);
	auto_fd int log = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	auto_buf struct buf said = { 0 };
	char text[TAIL + 1], *save = NULL;
	ssize_t n = log < 0 ? 0 : pread(log, text, TAIL, (off_t)from);

	text[n > 0 ? n : 0] = '\0';
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *words = after_name(line, "");

		buf_addf(&said, "%s%s", said.n ? "; " : "", words ? words : line);
	}
	if (said.n && !said.oom)
		err_also(e, "QEMU said: %s", buf_str(&said));
}
