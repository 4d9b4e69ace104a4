/*
 * The guest agent: QMP's messages without greeting, ids or events. The guest is not trusted and may stop
 * answering.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/own.h"
#include "monitor/chan.h"
#include "monitor/monitor.h"

#define SENTINEL    '\xff' /* in no UTF-8 text: resets the agent's parser, and precedes the answer to guest-sync-delimited */
#define RESYNC_MS   1000   /* an agent started late may have lost the request; doubled each time */
#define SHUTDOWN_MS 500

struct agent {
	struct chan chan;
	bool synced; /* the next line will be the answer to the next request */
	struct json_span line;
	struct msg answer;
};

/* Send guest-sync-delimited with @id: its answer is recognised, and every line before it is stale. */
static int send_sync(struct agent *a, int64_t id, struct deadline d, struct err *e)
{
	auto_buf struct buf b = { 0 };
	char args[40];

	snprintf(args, sizeof args, "{\"id\": %" PRId64 "}", id);
	buf_addc(&b, SENTINEL);
	msg_request(&b, "guest-sync-delimited", args, -1);
	if (buf_check(&b, "build the request", e) < 0)
		return e->code;
	return chan_send(&a->chan, b.p, b.n, -1, d, e);
}

/* Is @line the answer to sync @id? Whatever precedes the sentinel is stale. */
static bool is_sync(struct json_span line, int64_t id)
{
	const char *s = memrchr(line.p, SENTINEL, line.len);
	auto_json struct json_doc *doc = NULL;
	struct err ignored;

	return s && json_parse(s + 1, line.len - (size_t)(s + 1 - line.p), 16, &doc, &ignored) == 0 &&
	       json_int(json_get(json_root(doc), "return"), -1) == id;
}

/* Read until the sync's answer arrives, at most for one turn. 1: it has; 0: the turn is over. */
static int await_sync(struct agent *a, int64_t id, struct chan_wait *turn, struct err *e)
{
	struct json_span line;
	int rc;

	do {
		while (chan_line(&a->chan, &line))
			if (is_sync(line, id))
				return 1;
		rc = chan_await(&a->chan, turn, e);
	} while (rc > 0);
	return rc;
}

/*
 * Send a sync every turn, each with a new id, and accept only the newest one's answer: the agent answers in
 * order, and answers each sentinel with an error too, so only after the last answer is nothing more to come.
 * Each turn is twice as long as the one before, or an agent slower than a turn would never catch up.
 */
static int sync_agent(struct agent *a, struct deadline d, struct err *e)
{
	int64_t id = (int64_t)(clock_mono_ns() & 0x7fffffff);
	struct chan_wait w = chan_wait(d);
	uint64_t turn_ms = RESYNC_MS;
	int rc = 0;

	if (a->synced)
		return 0;
	do {
		struct deadline next = deadline_in(turn_ms);
		struct chan_wait turn = chan_wait(next.at_ms < d.at_ms ? next : d);

		rc = send_sync(a, ++id, d, e);
		if (!rc)
			rc = await_sync(a, id, &turn, e);
		turn_ms *= 2;
	} while (!rc && deadline_left_ms(d) != 0);
	if (rc == 0 || rc == -ETIMEDOUT) {
		err_set(e, -ETIMEDOUT, "the guest agent did not answer within %llu ms", chan_waited_ms(&w));
		return err_hint(e, "is qemu-guest-agent running in the guest, and nobody else connected to it?");
	}
	if (rc < 0)
		return rc;
	a->synced = true;
	return 0;
}

int agent_open(int fd, struct deadline d, struct agent **out, struct err *e)
{
	auto_agent struct agent *a = calloc(1, sizeof *a);

	if (!a) {
		close(fd);
		return err_nomem(e, "talk to the guest agent");
	}
	chan_init(&a->chan, fd, "the guest agent");
	if (sync_agent(a, d, e) < 0)
		return e->code;
	*out = take_ptr(&a);
	return 0;
}

void agent_close(struct agent *a)
{
	if (!a)
		return;
	chan_done(&a->chan);
	free(a);
}

int agent_fd(const struct agent *a)
{
	return a->chan.fd;
}

/* Wait for an answer. 1: a->answer has it; 0: the deadline has passed. */
static int await_answer(struct agent *a, struct chan_wait *w, struct err *e)
{
	int rc;

	do {
		while (chan_line(&a->chan, &a->line)) {
			if (msg_split(a->line, &a->answer, e) == 0 &&
			    !a->answer.m[MSG_RETURN].p != !a->answer.m[MSG_ERROR].p)
				return 1;
			err_set(e, -EPROTO, "the guest agent sent a line that is not an answer");
			return chan_break(&a->chan, e);
		}
		rc = chan_await(&a->chan, w, e);
	} while (rc > 0);
	return rc;
}

/* Send a request, without waiting for its answer. */
static int agent_send(struct agent *a, const char *command, const char *args, struct deadline d, struct err *e)
{
	auto_buf struct buf b = { 0 };

	if (chan_usable(&a->chan, e) < 0 || sync_agent(a, d, e) < 0)
		return err_at(e, "cannot run '%s'", command);
	a->synced = false; /* until its answer has arrived */
	msg_request(&b, command, args, -1);
	if (buf_check(&b, "build the request", e) < 0 || chan_send(&a->chan, b.p, b.n, -1, d, e) < 0)
		return err_at(e, "cannot run '%s'", command);
	return 0;
}

static int agent_exchange(struct agent *a, const char *command, const char *args, struct deadline d, struct err *e)
{
	struct chan_wait w = chan_wait(d);
	int rc;

	if (agent_send(a, command, args, d, e) < 0)
		return e->code;
	rc = await_answer(a, &w, e);
	if (rc == 0)
		err_set(e, -ETIMEDOUT, "no answer from the guest agent within %llu ms", chan_waited_ms(&w));
	if (rc <= 0)
		return err_at(e, "cannot run '%s'", command);
	a->synced = true;
	return 0;
}

static int set_agent_refused(struct agent *a, const char *command, struct err *e)
{
	return msg_refused(a->chan.peer, command, a->answer.m[MSG_ERROR], NULL, 0, e);
}

int agent_call(struct agent *a, const char *command, const char *args, struct deadline d, struct json_doc **reply,
	       struct err *e)
{
	if (agent_exchange(a, command, args, d, e) < 0)
		return e->code;
	if (a->answer.m[MSG_ERROR].p)
		return set_agent_refused(a, command, e);
	return msg_parse(a->chan.peer, command, a->answer.m[MSG_RETURN], reply, e);
}

int agent_call_raw(struct agent *a, const char *request, struct deadline d, struct json_span *text, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	auto_buf struct buf args = { 0 };
	const char *command;

	if (msg_user(request, &doc, &command, &args, e) < 0 || agent_exchange(a, command, args.p, d, e) < 0)
		return e->code;
	*text = a->line;
	return a->answer.m[MSG_ERROR].p ? set_agent_refused(a, command, e) : 0;
}

int agent_ping(struct agent *a, struct deadline d, struct err *e)
{
	return agent_call(a, "guest-ping", NULL, d, NULL, e);
}

int agent_info(struct agent *a, struct deadline d, char version[AGENT_VERSION_MAX], struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	const char *s;

	if (agent_call(a, "guest-info", NULL, d, &doc, e) < 0)
		return e->code;
	if (json_need_str(json_root(doc), "version", &s, e) < 0)
		return err_at(e, "the guest agent's answer to 'guest-info'");
	snprintf(version, AGENT_VERSION_MAX, "%s", s);
	return 0;
}

/* Run a command that answers with a number of file systems. */
static int call_for_count(struct agent *a, const char *command, struct deadline d, int64_t *count, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	int64_t n;

	if (agent_call(a, command, NULL, d, &doc, e) < 0)
		return e->code;
	n = json_int(json_root(doc), -1);
	if (n < 0)
		return err_set(e, -EPROTO, "the guest agent's answer to '%s' is not a number", command);
	if (count)
		*count = n;
	return 0;
}

int agent_thaw(struct agent *a, struct deadline d, int64_t *count, struct err *e)
{
	return call_for_count(a, "guest-fsfreeze-thaw", d, count, e);
}

int agent_freeze(struct agent *a, struct deadline d, uint64_t thaw_ms, int64_t *count, struct err *e)
{
	struct err second;

	if (sync_agent(a, d, e) < 0)
		return err_at(e, "cannot freeze"); /* no freeze was requested, so there is nothing to thaw */
	if (call_for_count(a, "guest-fsfreeze-freeze", d, count, e) == 0)
		return 0;
	if (agent_thaw(a, deadline_in(thaw_ms), NULL, &second) < 0 && second.code != -EREMOTEIO)
		err_also(e, "and could not thaw, so the guest may be frozen: %s", second.msg);
	return e->code;
}

int agent_frozen(struct agent *a, struct deadline d, bool *frozen, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	const char *s;

	if (agent_call(a, "guest-fsfreeze-status", NULL, d, &doc, e) < 0)
		return e->code;
	s = json_str(json_root(doc), "");
	*frozen = str_eq(s, "frozen");
	return *frozen || str_eq(s, "thawed") ? 0 : err_set(e, -EPROTO, "the guest agent reports an unknown freeze state '%s'", s);
}

int agent_set_time(struct agent *a, uint64_t ns, struct deadline d, struct err *e)
{
	char args[40];

	snprintf(args, sizeof args, "{\"time\": %" PRIu64 "}", ns);
	return agent_call(a, "guest-set-time", ns ? args : NULL, d, NULL, e);
}

int agent_shutdown(struct agent *a, const char *mode, struct deadline d, struct err *e)
{
	auto_buf struct buf args = { 0 };
	struct deadline soon;
	struct chan_wait w;
	struct json_out o;
	int rc;

	json_out_init(&o, &args, false);
	json_obj(&o, NULL);
	json_put_str(&o, "mode", mode);
	json_obj_end(&o);
	if (buf_check(&args, "build the request", e) < 0 || agent_send(a, "guest-shutdown", args.p, d, e) < 0)
		return e->code;
	soon = deadline_in(SHUTDOWN_MS);
	w = chan_wait(soon.at_ms < d.at_ms ? soon : d);
	rc = await_answer(a, &w, e);
	if (rc > 0 && a->answer.m[MSG_ERROR].p)
		return set_agent_refused(a, "guest-shutdown", e);
	return rc < 0 && rc != -ECONNRESET ? rc : 0;
}
