/* The log: one line for each event, whole. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "init/supervisor/internal.h"
#include "lib/buf.h"
#include "lib/own.h"
#include "lib/text.h"

static int to = STDERR_FILENO;
static const char *before = "";

int log_open(const char *where, struct err *e)
{
	static const struct sockaddr_un syslog = { AF_UNIX, "/dev/log" };
	int fd;

	if (!strcmp(where, "stderr"))
		return 0;
	if (!strcmp(where, "kmsg")) {
		fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	} else if (!strcmp(where, "syslog")) {
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (const struct sockaddr *)&syslog, sizeof syslog) < 0)
			own_close(&fd), fd = -1;
	} else {
		return err_set(e, -EINVAL, "log '%s' is none of: stderr, kmsg, syslog", where);
	}
	if (fd < 0)
		return err_sys(e, errno, "cannot log to %s", where);
	to = fd;
	before = "<30>"; /* daemon, info */
	return 0;
}

void log_line(const char *vm, const char *fmt, ...)
{
	auto_buf struct buf b = { 0 };
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	/* Names, and what a guest's console or QEMU said, are a stranger's: one line, with nothing that a terminal obeys. */
	buf_addf(&b, "%sfermata: %s%s", before, vm ? vm : "", vm ? ": " : "");
	text_put_safe(&b, text);
	buf_addc(&b, '\n');
	/* A log that is full or gone must not stop what it tells about. */
	if (b.oom || write(to, b.p, b.n) < 0)
		return;
}

void log_err(const struct err *e)
{
	log_line(NULL, "%s%s%s", e->msg, e->hint[0] ? "; " : "", e->hint);
}
