/* The watchdog child: thaws the guest if the process that froze it dies or hangs. */
#include <poll.h>
#include <unistd.h>

#include "lib/own.h"
#include "monitor/monitor.h"

#define TRY_MS	 5000 /* one attempt; an agent that is busy freezing answers late */
#define AGAIN_MS 200

/* Wait for the parent's byte. 1: it has thawed; 0: no byte by the deadline; -1: the parent is dead. */
static int await_parent(int fd, struct deadline d)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;
	int n;

	do
		n = poll(&p, 1, deadline_left_ms(d));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	do
		n = (int)read(fd, &c, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 ? 1 : -1;
}

/* One attempt over the connection @fd; closes it. */
static int thaw_over_fd(int fd, struct deadline d, struct err *e)
{
	struct deadline one = deadline_in(TRY_MS);
	auto_agent struct agent *a = NULL;

	if (d.at_ms < one.at_ms)
		one = d;
	if (agent_open(fd, one, &a, e) < 0)
		return e->code;
	return agent_thaw(a, one, NULL, e);
}

int agent_watchdog_run(const struct agent_watch *w, struct err *e)
{
	int said = await_parent(w->pipe_fd, w->frozen_until), rc = -ENOTCONN, fd;
	struct deadline d = deadline_in(w->try_ms);

	if (said > 0)
		return 0;
	err_set(e, rc, "cannot thaw: no connection to the guest agent");
	if (w->agent_fd >= 0)
		rc = thaw_over_fd(w->agent_fd, d, e);
	while (rc < 0 && w->path) {
		rc = mon_connect(w->path, d, &fd, e);
		if (!rc)
			rc = thaw_over_fd(fd, d, e);
		if (!rc || deadline_left_ms(d) == 0)
			break;
		if (said == 0)
			said = await_parent(w->pipe_fd, deadline_in(AGAIN_MS));
		else
			poll(NULL, 0, AGAIN_MS);
		if (said > 0) /* the parent was only late, and has thawed */
			return 0;
	}
	return rc;
}
