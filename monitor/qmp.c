/* QMP: the handshake, requests and their answers. Specification: QEMU, docs/interop/qmp-spec. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "monitor/mon.h"

/* The id of an answer; -1 if it is not of the form that we send. */
static int64_t read_id(struct json_span s)
{
	int64_t v = 0;

	if (!s.len || s.len > 18)
		return -1;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		v = v * 10 + (s.p[i] - '0');
	}
	return v;
}

static void ahead_free(struct ahead *a)
{
	if (a)
		free(a->answer);
	free(a);
}

void mon_ahead_forget(struct mon *m)
{
	while (m->ahead) {
		struct ahead *a = m->ahead;

		m->ahead = a->next;
		ahead_free(a);
	}
}

/* The link to the pipelined request @ask, or to the list's end. */
static struct ahead **ahead_find(struct mon *m, const char *ask)
{
	struct ahead **a = &m->ahead;

	while (*a && strcmp((*a)->ask, ask))
		a = &(*a)->next;
	return a;
}

/*
 * Keep the answer to a pipelined request. If there is no memory for it, the later mon_call() sends the
 * request again.
 */
static void ahead_keep(struct mon *m, int64_t id, struct json_span line)
{
	struct ahead **at = &m->ahead, *a;

	while ((a = *at) && a->id != id)
		at = &a->next;
	if (!a || (a->answer = strndup(line.p, line.len)))
		return;
	*at = a->next;
	ahead_free(a);
}

/*
 * Process an answer. QEMU answers in order. An answer that the caller does not wait for belongs to a
 * pipelined request, or to one that timed out. Until the handshake is done, answers to an earlier client's
 * requests may arrive.
 */
static int take_answer(struct mon *m, const struct msg *msg, struct json_span line, struct err *e)
{
	int64_t id = read_id(msg->m[MSG_ID]);

	if (id >= m->first_due && id <= m->id) {
		m->first_due = id + 1;
		if (id != m->want || !m->waiting) {
			ahead_keep(m, id, line);
			return 0;
		}
		m->waiting = false;
		m->answered = true;
		m->line = line;
		m->answer = *msg;
		return 0;
	}
	if (!m->ready)
		return 0;
	if (!msg->m[MSG_ID].p && msg->m[MSG_ERROR].p) {
		msg_refused(m->chan.peer, "a request that it could not read", msg->m[MSG_ERROR], NULL, 0, e);
		e->code = -EPROTO;
		return e->code;
	}
	return err_set(e, -EPROTO, "%s answered with a wrong id: %.*s, not %lld", m->chan.peer,
		       msg->m[MSG_ID].p ? (int)(msg->m[MSG_ID].len < 40 ? msg->m[MSG_ID].len : 40) : 4,
		       msg->m[MSG_ID].p ? msg->m[MSG_ID].p : "none", (long long)m->id);
}

static int take_greeting(struct mon *m, struct json_span text, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	const struct json *v, *q;

	if (m->greeted)
		return err_set(e, -EPROTO, "%s greeted twice", m->chan.peer);
	if (json_parse(text.p, text.len, CHAN_NODES_MAX, &doc, e) < 0)
		return e->code;
	v = json_get(json_root(doc), "version");
	q = json_get(v, "qemu");
	if (!json_get(q, "major"))
		return err_set(e, -EPROTO, "%s's greeting has no version", m->chan.peer);
	m->version.major = (int)json_int(json_get(q, "major"), 0);
	m->version.minor = (int)json_int(json_get(q, "minor"), 0);
	m->version.micro = (int)json_int(json_get(q, "micro"), 0);
	snprintf(m->version.package, sizeof m->version.package, "%s", json_str(json_get(v, "package"), ""));
	m->greeted = true;
	return 0;
}

static int take_line(struct mon *m, struct json_span line, struct err *e)
{
	struct msg msg;

	if (msg_split(line, &msg, e) < 0)
		return err_at(e, "%s sent a broken message", m->chan.peer);
	if (msg.m[MSG_GREETING].p)
		return take_greeting(m, msg.m[MSG_GREETING], e);
	/* QEMU may still send answers and events that were meant for an earlier client. */
	if (!m->greeted && (msg.m[MSG_ID].p || msg.m[MSG_EVENT].p))
		return 0;
	if (!m->greeted)
		return err_set(e, -EPROTO, "not a QMP monitor: it sent no greeting first");
	if (msg.m[MSG_EVENT].p)
		return mon_take_event(m, line, e);
	if (!msg.m[MSG_RETURN].p == !msg.m[MSG_ERROR].p)
		return err_set(e, -EPROTO, "%s sent a message that is neither an answer nor an event", m->chan.peer);
	return take_answer(m, &msg, line, e);
}

int mon_drain(struct mon *m, struct err *e)
{
	struct json_span line;

	while (chan_line(&m->chan, &line))
		if (take_line(m, line, e) < 0)
			return chan_break(&m->chan, e);
	return 0;
}

int mon_pump(struct mon *m, struct chan_wait *w, struct err *e)
{
	int rc = chan_await(&m->chan, w, e);

	return rc > 0 && mon_drain(m, e) < 0 ? e->code : rc;
}

int mon_process(struct mon *m, struct err *e)
{
	int rc = chan_usable(&m->chan, e);

	m->waiting = m->answered = false;
	for (int i = 0; rc == 0 && i < 16; i++) { /* bounded, so that a flood does not keep the caller here */
		rc = chan_fill(&m->chan, e);
		if (rc <= 0)
			break;
		rc = mon_drain(m, e);
	}
	return rc;
}

/* Remove the blanks between tokens: QEMU reads its monitor byte by byte, about 2.5 us each. */
static void squeeze_request(struct buf *b)
{
	bool text = false;
	size_t to = 0;

	for (size_t i = 0; i < b->n; i++) {
		if (b->p[i] == ' ' && !text)
			continue;
		text ^= b->p[i] == '"';
		if (b->p[i] == '\\')
			b->p[to++] = b->p[i++]; /* only inside a string, and never its last character */
		b->p[to++] = b->p[i];
	}
	b->n = to;
}

static int send_request(struct mon *m, const char *command, const char *args, int pass, struct deadline d, struct err *e)
{
	auto_buf struct buf b = { 0 };

	msg_request(&b, command, args, m->id + 1);
	if (buf_check(&b, "build the request", e) < 0)
		return e->code;
	squeeze_request(&b);
	if (chan_send(&m->chan, b.p, b.n, pass, d, e) < 0)
		return e->code;
	m->id++; /* only now: a request that was not sent gets no answer */
	return 0;
}

void mon_ahead(struct mon *m, const char *command, const char *args, struct deadline d)
{
	auto_buf struct buf b = { 0 };
	struct ahead **at, *a;
	struct err e;

	msg_request(&b, command, args, -1);
	if (buf_check(&b, "build the request", &e) < 0 || chan_usable(&m->chan, &e) < 0)
		return;
	at = ahead_find(m, b.p);
	if (*at || !(a = calloc(1, sizeof *a + b.n + 1)))
		return;
	strcpy(a->ask, b.p);
	a->id = m->id + 1;
	*at = a;
	/* A partly sent request has broken the connection; the mon_call() reports that. */
	if (send_request(m, command, args, -1, d, &e) < 0)
		mon_ahead_forget(m);
}

/*
 * Claim the pipelined request with this command and arguments. 1: claimed, its answer is here or awaited; 0:
 * there is none, and every other pipelined request is discarded.
 */
static int ahead_claim(struct mon *m, const char *command, const char *args, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct ahead **at;

	msg_request(&b, command, args, -1);
	if (buf_check(&b, "build the request", e) < 0)
		return e->code;
	at = ahead_find(m, b.p);
	if (!*at) {
		mon_ahead_forget(m);
		return 0;
	}
	m->claimed = *at;
	*at = m->claimed->next;
	m->want = m->claimed->id;
	m->answered = m->claimed->answer;
	if (!m->answered)
		return 1;
	m->line = (struct json_span){ m->claimed->answer, strlen(m->claimed->answer) };
	return msg_split(m->line, &m->answer, e) < 0 ? e->code : 1;
}

/*
 * Send one request and wait until m->answer has its answer. Also processes the lines that arrived right
 * behind it.
 */
static int qmp_exchange(struct mon *m, const char *command, const char *args, int pass, struct deadline d, struct err *e)
{
	struct chan_wait w = chan_wait(d);
	int rc;

	ahead_free(m->claimed);
	m->claimed = NULL;
	m->answered = false;
	if (chan_usable(&m->chan, e) < 0 || (rc = ahead_claim(m, command, args, e)) < 0)
		return err_at(e, "cannot run '%s'", command);
	/*
	 * QEMU with oob reads ahead, and the next getfd or add-fd it runs takes the descriptor: no earlier
	 * request may be pending.
	 */
	while (pass >= 0 && m->first_due <= m->id) {
		int more = mon_pump(m, &w, e);

		if (!more)
			err_set(e, -ETIMEDOUT, "no answer from %s to an earlier request within %llu ms", m->chan.peer, chan_waited_ms(&w));
		if (more <= 0)
			return err_at(e, "cannot run '%s'", command);
	}
	m->waiting = !m->answered;
	if (!rc) {
		m->want = m->id + 1;
		if (send_request(m, command, args, pass, d, e) < 0) {
			m->waiting = false;
			return err_at(e, "cannot run '%s'", command);
		}
	}
	while (!m->answered) {
		rc = mon_pump(m, &w, e);
		if (m->answered)
			break; /* an error in the lines behind the answer is for the next call */
		if (rc > 0)
			continue;
		m->waiting = false;
		if (rc == 0)
			err_set(e, -ETIMEDOUT, "no answer from %s within %llu ms", m->chan.peer, chan_waited_ms(&w));
		return err_at(e, "cannot run '%s'", command);
	}
	return 0;
}

int mon_call_text(struct mon *m, const char *command, const char *args, struct deadline d, struct json_span *text,
		  struct err *e)
{
	if (qmp_exchange(m, command, args, -1, d, e) < 0)
		return e->code;
	if (m->answer.m[MSG_ERROR].p)
		return msg_refused(m->chan.peer, command, m->answer.m[MSG_ERROR], m->class, sizeof m->class, e);
	*text = m->answer.m[MSG_RETURN];
	return 0;
}

int mon_call_fd(struct mon *m, const char *command, const char *args, int pass, struct deadline d,
		struct json_doc **reply, struct err *e)
{
	if (qmp_exchange(m, command, args, pass, d, e) < 0)
		return e->code;
	if (m->answer.m[MSG_ERROR].p)
		return msg_refused(m->chan.peer, command, m->answer.m[MSG_ERROR], m->class, sizeof m->class, e);
	return msg_parse(m->chan.peer, command, m->answer.m[MSG_RETURN], reply, e);
}

int mon_call(struct mon *m, const char *command, const char *args, struct deadline d, struct json_doc **reply,
	     struct err *e)
{
	return mon_call_fd(m, command, args, -1, d, reply, e);
}

int mon_call_raw(struct mon *m, const char *request, struct deadline d, struct json_span *text, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	auto_buf struct buf args = { 0 };
	const char *command;

	if (msg_user(request, &doc, &command, &args, e) < 0 || qmp_exchange(m, command, args.p, -1, d, e) < 0)
		return e->code;
	*text = m->line;
	if (text->len && text->p[text->len - 1] == '\r')
		text->len--;
	if (m->answer.m[MSG_ERROR].p)
		return msg_refused(m->chan.peer, command, m->answer.m[MSG_ERROR], m->class, sizeof m->class, e);
	return 0;
}

/*
 * We send no out-of-band commands. But with oob enabled QEMU keeps reading while it runs a command, instead
 * of suspending and resuming its monitor for each one: that saves 50 us a command. A mux chardev has no oob
 * and refuses it.
 */
#define OUT_OF_BAND "{\"enable\":[\"oob\"]}"

/*
 * Send qmp_capabilities without waiting for the greeting: QEMU reads it after its greeting, so we wait once,
 * not twice.
 */
static int negotiate_capabilities(struct mon *m, struct deadline d, struct err *e)
{
	struct chan_wait w = chan_wait(d);
	int rc = mon_call(m, "qmp_capabilities", OUT_OF_BAND, d, NULL, e);

	if (rc == -EREMOTEIO)
		rc = mon_call(m, "qmp_capabilities", NULL, d, NULL, e);
	if (rc != -ETIMEDOUT || m->greeted)
		return rc;
	err_set(e, rc, "no greeting from %s's monitor within %llu ms", m->chan.peer, chan_waited_ms(&w));
	return err_hint(e, "another program may hold the monitor, which serves one at a time");
}

int mon_open(int fd, struct deadline d, struct mon **out, struct err *e)
{
	auto_mon struct mon *m = calloc(1, sizeof *m);

	if (!m) {
		close(fd);
		return err_nomem(e, "open the monitor");
	}
	chan_init(&m->chan, fd, "QEMU");
	m->last = &m->first;
	/*
	 * From the clock, 1 ms (2^20 ns) apart, so that no earlier client has used it; 18 digits at most, for
	 * read_id().
	 */
	m->id = (int64_t)((clock_mono_ns() & 0x7fffffffffffff) & ~0xfffffull);
	m->first_due = m->id + 1;
	if (negotiate_capabilities(m, d, e) < 0)
		return e->code;
	/*
	 * QEMU runs one command at a time, so all further answers are to our requests: short ids will do now.
	 */
	m->ready = true;
	m->id = 0;
	m->first_due = 1;
	*out = take_ptr(&m);
	return 0;
}

void mon_close(struct mon *m)
{
	if (!m)
		return;
	mon_drop_events(m);
	mon_ahead_forget(m);
	ahead_free(m->claimed);
	chan_done(&m->chan);
	buf_done(&m->commands);
	free(m);
}

const struct mon_version *mon_version(const struct mon *m)
{
	return &m->version;
}

int mon_fd(const struct mon *m)
{
	return m->chan.fd;
}

const char *mon_error_class(const struct mon *m)
{
	return m->class;
}
