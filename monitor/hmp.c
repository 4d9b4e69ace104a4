/* The human monitor: the only place where its prose is read. */
#include <string.h>

#include "lib/own.h"
#include "monitor/monitor.h"

/* Its text for one command; *@doc owns it. */
static int hmp(struct mon *m, const char *line, struct deadline d, struct json_doc **doc, const char **text,
	       struct err *e)
{
	auto_buf struct buf args = { 0 };
	struct json_out w;

	json_out_init(&w, &args, false);
	json_obj(&w, NULL);
	json_put_str(&w, "command-line", line);
	json_obj_end(&w);
	if (buf_check(&args, "build the request", e) < 0 ||
	    mon_call(m, "human-monitor-command", args.p, d, doc, e) < 0)
		return e->code;
	*text = json_str(json_root(*doc), NULL);
	if (!*text)
		return err_set(e, -EPROTO, "QEMU answered '%s' with no text", line);
	return 0;
}

int mon_hmp_text(struct mon *m, const char *line, struct deadline d, struct buf *out, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	const char *text;

	if (hmp(m, line, d, &doc, &text, e) < 0)
		return e->code;
	buf_adds(out, text);
	return buf_check(out, "keep QEMU's text", e);
}

/* "a: -5\r\nError: b\r\n" becomes "a: -5; b". */
static void join_lines(struct buf *b, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "\r\n");

		if (n >= 7 && !strncmp(text, "Error: ", 7)) {
			text += 7;
			n -= 7;
		}
		if (n && b->n)
			buf_adds(b, "; ");
		buf_add(b, text, n);
		text += n;
		text += strspn(text, "\r\n");
	}
}

int mon_hmp(struct mon *m, const char *line, struct deadline d, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	auto_buf struct buf why = { 0 };
	const char *text;

	if (hmp(m, line, d, &doc, &text, e) < 0)
		return e->code;
	if (!*text)
		return 0;
	join_lines(&why, text);
	return err_set(e, -EREMOTEIO, "QEMU refused '%s': %s", line, why.n ? buf_str(&why) : "no reason given");
}

void mon_hmp_quote(struct buf *b, const char *s)
{
	static const char from[] = "\"\\\n\r", to[] = "\"\\nr";

	buf_addc(b, '"');
	for (; *s; s++) {
		const char *f = strchr(from, *s);

		if (f)
			buf_add(b, (char[]){ '\\', to[f - from] }, 2);
		else
			buf_addc(b, *s);
	}
	buf_addc(b, '"');
}
