/* What this QEMU supports: its commands, and their arguments. */
#include <string.h>

#include "lib/own.h"
#include "monitor/monitor.h"
#include "monitor/mon.h"

int mon_commands(struct mon *m, struct deadline d, struct buf *names, struct err *e)
{
	struct json_span text;
	struct json_iter it;
	int rc;

	if (mon_call_text(m, "query-commands", NULL, d, &text, e) < 0)
		return e->code;
	it = json_iter(text.p, text.len);
	while ((rc = json_iter_next(&it, e)) > 0) {
		auto_json struct json_doc *doc = NULL;
		const char *name;

		if (json_parse(it.val.p, it.val.len, 64, &doc, e) < 0 ||
		    json_need_str(json_root(doc), "name", &name, e) < 0)
			break;
		buf_add(names, name, strlen(name) + 1);
	}
	if (rc)
		return err_at(e, "QEMU's answer to 'query-commands'");
	return buf_check(names, "keep QEMU's commands", e);
}

int mon_has_command(struct mon *m, const char *name, struct deadline d, struct err *e)
{
	if (!m->commands.n && mon_commands(m, d, &m->commands, e) < 0) {
		buf_done(&m->commands);
		return e->code;
	}
	for (size_t at = 0; at < m->commands.n; at += strlen(m->commands.p + at) + 1)
		if (!strcmp(m->commands.p + at, name))
			return 1;
	return 0;
}

/* Find and parse the schema's entry @name. 1: *@doc has it; 0: none. Only that entry is parsed into values. */
static int find_entry(struct json_span schema, const char *name, struct json_doc **doc, struct err *e)
{
	struct json_iter it = json_iter(schema.p, schema.len);
	int rc, in;

	while ((rc = json_iter_next(&it, e)) > 0) {
		struct json_iter entry = json_iter(it.val.p, it.val.len);

		while ((in = json_iter_next(&entry, e)) > 0)
			if (json_span_is(entry.key, "name") && entry.val.len == strlen(name) + 2 &&
			    !memcmp(entry.val.p + 1, name, entry.val.len - 2))
				return json_parse(it.val.p, it.val.len, CHAN_NODES_MAX, doc, e) < 0 ? e->code : 1;
		if (in < 0)
			return in;
	}
	return rc;
}

int mon_has_arg(struct mon *m, const char *command, const char *arg, struct deadline d, struct err *e)
{
	auto_json struct json_doc *cmd = NULL, *args = NULL;
	struct json_span schema;
	const char *type;
	int rc;

	if (mon_call_text(m, "query-qmp-schema", NULL, d, &schema, e) < 0)
		return e->code;
	rc = find_entry(schema, command, &cmd, e);
	if (rc > 0) {
		type = json_str(json_get(json_root(cmd), "arg-type"), "");
		rc = find_entry(schema, type, &args, e);
	}
	if (rc < 0)
		return err_at(e, "QEMU's answer to 'query-qmp-schema'");
	json_each(v, json_get(json_root(args), "members"))
		if (!strcmp(json_str(json_get(v, "name"), ""), arg))
			return 1;
	return 0;
}
