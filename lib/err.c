#include "lib/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Format into @dst. A message that does not fit ends in "...". */
static void msg_vput(char *dst, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(dst, size, fmt, ap);

	if (n >= 0 && (size_t)n >= size && size > 3)
		memcpy(dst + size - 4, "...", 4);
	for (char *p = dst; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	e->code = code;
	e->hint[0] = '\0';
	va_start(ap, fmt);
	msg_vput(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *e, int errnum, const char *fmt, ...)
{
	char what[sizeof e->msg];
	va_list ap;

	va_start(ap, fmt);
	msg_vput(what, sizeof what, fmt, ap);
	va_end(ap);
	return err_set(e, -errnum, "%s: %s", what, strerror(errnum));
}

int err_at(struct err *e, const char *fmt, ...)
{
	char old[sizeof e->msg], where[sizeof e->msg];
	size_t room = sizeof e->msg;
	va_list ap;

	memcpy(old, e->msg, sizeof old);
	va_start(ap, fmt);
	msg_vput(where, sizeof where, fmt, ap);
	va_end(ap);
	snprintf(e->msg, room, "%.*s: ", (int)room - 3, where);
	size_t n = strlen(e->msg);
	if (strlen(old) >= room - n && room - n > 4)
		memcpy(old + room - n - 4, "...", 4);
	memcpy(e->msg + n, old, strnlen(old, room - n - 1));
	e->msg[n + strnlen(old, room - n - 1)] = '\0';
	return e->code;
}

int err_also(struct err *e, const char *fmt, ...)
{
	size_t n = strlen(e->msg);
	va_list ap;

	if (n + 3 >= sizeof e->msg)
		return e->code;
	memcpy(e->msg + n, "; ", 3);
	va_start(ap, fmt);
	msg_vput(e->msg + n + 2, sizeof e->msg - n - 2, fmt, ap);
	va_end(ap);
	return e->code;
}

int err_hint(struct err *e, const char *fmt, ...)
{
	va_list ap;

	if (e->hint[0])
		return e->code;
	va_start(ap, fmt);
	msg_vput(e->hint, sizeof e->hint, fmt, ap);
	va_end(ap);
	return e->code;
}

int err_nomem(struct err *e, const char *what)
{
	return err_set(e, -ENOMEM, "cannot %s: out of memory", what);
}
