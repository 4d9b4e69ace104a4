/* Waiting for an event, until the deadline passes or the connection breaks. */
#include "monitor/mon.h"

static int set_event_timeout(const struct mon *m, const char *const *names, const struct chan_wait *w, struct err *e)
{
	auto_buf struct buf b = { 0 };

	for (size_t i = 0; names[i]; i++)
		buf_addf(&b, "%s%s", i ? " or " : "", names[i]);
	return err_set(e, -ETIMEDOUT, "no %s event from %s within %llu ms", buf_str(&b), m->chan.peer, chan_waited_ms(w));
}

int mon_wait_event(struct mon *m, const char *const *names, struct deadline d, struct mon_event **out, struct err *e)
{
	struct chan_wait w = chan_wait(d);
	struct mon_event *ev;
	int rc = 1;

	m->wanted = names;
	while (!(ev = mon_find_event(m, names)) && rc > 0)
		rc = mon_pump(m, &w, e);
	if (!ev && rc < 0)
		ev = mon_find_event(m, names); /* it may have arrived right before the connection broke */
	m->wanted = NULL;
	if (!ev)
		return rc < 0 ? err_at(e, "cannot wait for %s", names[0]) : set_event_timeout(m, names, &w, e);
	if (out)
		*out = ev;
	else
		mon_event_free(ev);
	return 0;
}
