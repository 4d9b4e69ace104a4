/* The messages that QMP and the guest agent share: requests, answers, errors. */
#include <stdio.h>
#include <string.h>

#include "lib/own.h"
#include "monitor/chan.h"

int msg_split(struct json_span line, struct msg *msg, struct err *e)
{
	static const char names[MSG_N][8] = { "return", "error", "event", "QMP", "id" };
	struct json_iter it = json_iter(line.p, line.len);
	int rc;

	memset(msg, 0, sizeof *msg);
	while ((rc = json_iter_next(&it, e)) > 0)
		for (int i = 0; i < MSG_N; i++)
			if (json_span_is(it.key, names[i])) {
				if (msg->m[i].p)
					return err_set(e, -EPROTO, "duplicate member '%s'", names[i]);
				msg->m[i] = it.val;
			}
	if (!rc && it.close != '}')
		return err_set(e, -EPROTO, "the message is not an object");
	return rc;
}

void msg_request(struct buf *b, const char *command, const char *args, int64_t id)
{
	struct json_out w;

	json_out_init(&w, b, false);
	json_obj(&w, NULL);
	json_put_str(&w, "execute", command);
	if (args && *args)
		json_put_raw(&w, "arguments", args);
	if (id >= 0)
		json_put_int(&w, "id", id);
	json_obj_end(&w);
	buf_addc(b, '\n');
}

int msg_user(const char *request, struct json_doc **doc, const char **command, struct buf *args, struct err *e)
{
	const struct json *root, *a;
	struct json_out w;

	if (json_parse(request, strlen(request), CHAN_NODES_MAX, doc, e) < 0) {
		e->code = e->code == -EPROTO ? -EINVAL : e->code; /* the user's fault, not the peer's */
		return err_at(e, "the request");
	}
	root = json_root(*doc);
	*command = json_str(json_get(root, "execute"), NULL);
	if (!*command)
		return err_set(e, -EINVAL, "the request has no \"execute\" with a command's name");
	json_each(v, root)
		if (!str_eq(v->key, "execute") && !str_eq(v->key, "arguments") && !str_eq(v->key, "id"))
			return err_set(e, -EINVAL, "the request has an unknown member '%s'", v->key);
	a = json_get(root, "arguments");
	if (a && a->type != JSON_OBJECT)
		return err_set(e, -EINVAL, "the request's \"arguments\" are not an object");
	json_out_init(&w, args, false);
	if (a)
		json_put(&w, NULL, a);
	return buf_check(args, "build the request", e);
}

int msg_refused(const char *peer, const char *command, struct json_span error, char *class, size_t size, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	const char *cl, *desc;
	bool generic;

	if (json_parse(error.p, error.len, CHAN_NODES_MAX, &doc, e) < 0)
		return err_at(e, "%s refused '%s'", peer, command);
	cl = json_str(json_get(json_root(doc), "class"), "");
	desc = json_str(json_get(json_root(doc), "desc"), "no reason given");
	generic = !*cl || str_eq(cl, "GenericError");
	if (class)
		snprintf(class, size, "%s", cl);
	return err_set(e, -EREMOTEIO, "%s refused '%s': %s%s%s%s", peer, command, desc, generic ? "" : " (",
		       generic ? "" : cl, generic ? "" : ")");
}

int msg_parse(const char *peer, const char *command, struct json_span ret, struct json_doc **reply, struct err *e)
{
	if (reply && json_parse(ret.p, ret.len, CHAN_NODES_MAX, reply, e) < 0)
		return err_at(e, "%s's answer to '%s'", peer, command);
	return 0;
}
