/* The log: one line for each event, whole. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "init/init.h"
#include "lib/own.h"

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
	char text[600];
	size_t n = (size_t)snprintf(text, sizeof text, "%sfermata: %s%s", before, vm ? vm : "", vm ? ": " : "");
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - n - 1, fmt, ap);
	va_end(ap);
	n = strlen(text);
	text[n++] = '\n';
	/* A log that is full or gone must not stop what it tells about. */
	if (write(to, text, n) < 0)
		return;
}

void log_err(const struct err *e)
{
	log_line(NULL, "%s%s%s", e->msg, e->hint[0] ? "; " : "", e->hint);
}
