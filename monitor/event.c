/* Events: a bounded queue that drops only events that the caller did not name. */
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "monitor/mon.h"

void mon_event_free(struct mon_event *ev)
{
	if (!ev)
		return;
	json_free(ev->doc);
	free(ev);
}

void mon_drop_events(struct mon *m)
{
	struct mon_event *ev;

	while ((ev = mon_next_event(m)))
		mon_event_free(ev);
}

static bool in_list(const char *const *names, const char *name)
{
	for (; names && *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

/* Remove the event at *@at from the queue. */
static struct mon_event *unlink_event(struct mon *m, struct mon_event **at)
{
	struct mon_event *ev = *at;

	*at = ev->next;
	if (m->last == &ev->next)
		m->last = at;
	ev->next = NULL;
	m->queued--;
	m->queued_bytes -= ev->cost;
	return ev;
}

struct mon_event *mon_next_event(struct mon *m)
{
	return m->first ? unlink_event(m, &m->first) : NULL;
}

static bool queue_over_full(const struct mon *m)
{
	return m->queued > MON_QUEUE_MAX || m->queued_bytes > MON_QUEUE_BYTES_MAX;
}

/* Append @ev, then drop the oldest events that the caller did not name until the queue is within its bounds. */
static int queue_event(struct mon *m, struct mon_event *ev, struct err *e)
{
	struct mon_event **at = &m->first;

	*m->last = ev;
	m->last = &ev->next;
	m->queued++;
	m->queued_bytes += ev->cost;
	while (queue_over_full(m) && *at) {
		if (in_list(m->watch, (*at)->name) || in_list(m->wanted, (*at)->name)) {
			at = &(*at)->next;
			continue;
		}
		mon_event_free(unlink_event(m, at));
		m->dropped++;
	}
	if (queue_over_full(m) && m->queued > 1)
		return err_set(e, -EFBIG, "%s sent more than %d events before they were read", m->chan.peer, MON_QUEUE_MAX);
	return 0;
}

int mon_take_event(struct mon *m, struct json_span line, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	const struct json *root, *when;
	const char *name;
	struct mon_event *ev;

	if (json_parse(line.p, line.len, CHAN_NODES_MAX, &doc, e) < 0)
		return err_at(e, "%s sent a broken event", m->chan.peer);
	root = json_root(doc);
	if (json_need_str(root, "event", &name, e) < 0)
		return err_at(e, "%s sent a broken event", m->chan.peer);
	if (!strcmp(name, "JOB_STATUS_CHANGE") && mon_job_event(m, json_get(root, "data")))
		return 0;
	ev = calloc(1, sizeof *ev);
	if (!ev)
		return err_nomem(e, "keep an event");
	when = json_get(root, "timestamp");
	ev->name = name;
	ev->data = json_get(root, "data");
	if (__builtin_mul_overflow(json_int(json_get(when, "seconds"), 0), 1000000, &ev->usec) ||
	    __builtin_add_overflow(ev->usec, json_int(json_get(when, "microseconds"), 0), &ev->usec))
		ev->usec = 0;
	ev->cost = line.len;
	ev->doc = take_ptr(&doc);
	return queue_event(m, ev, e);
}

void mon_watch(struct mon *m, const char *const *names)
{
	m->watch = names;
}

uint64_t mon_dropped(const struct mon *m)
{
	return m->dropped;
}

struct mon_event *mon_find_event(struct mon *m, const char *const *names)
{
	for (struct mon_event **at = &m->first; *at; at = &(*at)->next)
		if (in_list(names, (*at)->name))
			return unlink_event(m, at);
	return NULL;
}
