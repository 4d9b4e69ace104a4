/* The human monitor (HMP): the only file that parses its output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "lib/text.h"
#include "monitor/monitor.h"

/* Run one HMP command. @text: out, its output, owned by *@doc. */
static int hmp_call(struct mon *m, const char *line, struct deadline d, struct json_doc **doc, const char **text,
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
		return err_set(e, -EPROTO, "QEMU's answer to '%s' is not text", line);
	return 0;
}

int mon_hmp_text(struct mon *m, const char *line, struct deadline d, struct buf *out, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	const char *text;

	if (hmp_call(m, line, d, &doc, &text, e) < 0)
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

	if (hmp_call(m, line, d, &doc, &text, e) < 0)
		return e->code;
	if (!*text)
		return 0;
	join_lines(&why, text);
	return err_set(e, -EREMOTEIO, "QEMU refused '%s': %s", line, why.n ? buf_str(&why) : "no reason given");
}

int mon_hmp_refused(const char *line, const char *text, struct err *e)
{
	auto_buf struct buf why = { 0 };

	if (strncmp(text, "Error: ", 7))
		return 0;
	join_lines(&why, text);
	return err_set(e, -EREMOTEIO, "QEMU refused '%s': %s", line, why.n ? buf_str(&why) : "no reason given");
}

int mon_hmp_memory(struct mon *m, const char *block, uint64_t gpa, struct deadline d, uint64_t *at, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	char line[40], want[140];
	const char *text, *p;
	char *end;

	snprintf(line, sizeof line, "gpa2hva 0x%llx", (unsigned long long)gpa);
	snprintf(want, sizeof want, " (%s) is 0x", block);
	if (hmp_call(m, line, d, &doc, &text, e) < 0)
		return e->code;
	/* "Host virtual address for 0x0 (ram0) is 0x7f681a8f8000" */
	if (!str_starts(text, "Host virtual") && !str_starts(text, "No memory") && !str_starts(text, "Memory at address"))
		return err_set(e, -EPROTO, "QEMU does not report the address of the guest's memory");
	p = strstr(text, want);
	if (!p)
		return err_set(e, -ENOENT, "there is no %s at address 0x%llx", block, (unsigned long long)gpa);
	*at = strtoull(p + strlen(want) - 2, &end, 16);
	return *at && strchr("\r\n", *end) ? 0 : err_set(e, -EPROTO, "QEMU does not report the address of the guest's memory");
}

/* The total, behind offset and bytes used: "ram0  4 KiB  0x0 0x4000000 0x4000000"; since 8.0 more comes behind it. 0: none. */
static uint64_t total_of(const char *line)
{
	const char *end = line + strcspn(line, "\n");

	for (int i = 0; i < 3 && line; i++) {
		line = strstr(line, " 0x");
		line = line && line < end ? line + 3 : NULL;
	}
	return line ? strtoull(line, NULL, 16) : 0;
}

int mon_hmp_block(struct mon *m, struct deadline d, mon_block_fn *known, void *ctx, char name[128], struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	const char *text;
	bool head = true;

	if (hmp_call(m, "info ramblock", d, &doc, &text, e) < 0)
		return e->code;
	for (; *text; text += strcspn(text, "\n"), text += *text != '\0', head = false) {
		size_t n;

		text += strspn(text, " ");
		n = strcspn(text, " \r\n");
		if (head || !n)
			continue;
		snprintf(name, 128, "%.*s", (int)n, text);
		if (!known(ctx, name, total_of(text)))
			return 0;
	}
	name[0] = '\0';
	return 0;
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
