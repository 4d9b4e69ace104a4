/* One connection: lines out of a byte stream, sending with a deadline, and the error that broke it. */
#include "monitor/chan.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/own.h"

#define READ_MIN  4096
#define KEEP_MAX  65536 /* a larger buffer is freed once it is empty */

void chan_init(struct chan *c, int fd, const char *peer)
{
	*c = (struct chan){ .fd = fd, .peer = peer };
}

void chan_done(struct chan *c)
{
	own_close(&c->fd);
	buf_done(&c->in);
}

int chan_break(struct chan *c, struct err *e)
{
	c->broken = *e;
	return e->code;
}

int chan_usable(const struct chan *c, struct err *e)
{
	if (c->broken.code)
		*e = c->broken;
	return c->broken.code;
}

bool chan_line(struct chan *c, struct json_span *line)
{
	char *nl = c->in.n > c->scanned ? memchr(c->in.p + c->scanned, '\n', c->in.n - c->scanned) : NULL;

	c->scanned = c->in.n;
	if (!nl)
		return false;
	*line = (struct json_span){ c->in.p + c->start, (size_t)(nl - c->in.p) - c->start };
	c->start = c->scanned = (size_t)(nl - c->in.p) + 1;
	return true;
}

/*
 * Drop the lines that were handed out. Moves the rest only when it is shorter than what is dropped, so the
 * cost per byte is bounded.
 */
static void make_room(struct chan *c)
{
	if (c->start == c->in.n) {
		if (c->in.cap > KEEP_MAX)
			buf_done(&c->in);
		else
			buf_clear(&c->in);
	} else if (c->start > c->in.n / 2) {
		c->in.n -= c->start;
		memmove(c->in.p, c->in.p + c->start, c->in.n);
	} else {
		return;
	}
	c->scanned -= c->start;
	c->start = 0;
}

static int set_closed(struct chan *c, struct err *e)
{
	err_set(e, -ECONNRESET, "%s closed the connection", c->peer);
	return chan_break(c, e);
}

int chan_fill(struct chan *c, struct err *e)
{
	size_t room;
	ssize_t n;
	char *p;

	if (chan_usable(c, e) < 0)
		return e->code;
	make_room(c);
	if (c->in.n - c->start > CHAN_LINE_MAX) {
		err_set(e, -EFBIG, "%s sent a message of more than %u MiB", c->peer, CHAN_LINE_MAX >> 20);
		return chan_break(c, e);
	}
	p = buf_room(&c->in, READ_MIN);
	if (!p) {
		err_nomem(e, "read a message");
		return chan_break(c, e);
	}
	room = c->in.cap - c->in.n - 1; /* one stays for the buffer's NUL */
	/* Read at most one byte over the limit: enough to see that the message is too large. */
	if (room > CHAN_LINE_MAX + 1 - (c->in.n - c->start))
		room = CHAN_LINE_MAX + 1 - (c->in.n - c->start);
	do
		n = recv(c->fd, p, room, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return set_closed(c, e);
	if (n < 0) {
		err_sys(e, errno, "cannot read from %s", c->peer);
		return chan_break(c, e);
	}
	buf_grew(&c->in, (size_t)n);
	return 1;
}

struct chan_wait chan_wait(struct deadline d)
{
	return (struct chan_wait){ .d = d, .since_ms = clock_mono_ms() };
}

unsigned long long chan_waited_ms(const struct chan_wait *w)
{
	return clock_mono_ms() - w->since_ms;
}

/* poll() until @events or the deadline. The events, or 0 for the deadline. */
static int poll_chan(struct chan *c, short events, struct chan_wait *w)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	int left, n;

	do {
		if (w->last)
			return 0;
		left = deadline_left_ms(w->d);
		w->last = left == 0;
		n = poll(&p, 1, left);
	} while (n < 0); /* EINTR; any other error shows when reading */
	return n ? p.revents : 0;
}

int chan_await(struct chan *c, struct chan_wait *w, struct err *e)
{
	int rc;

	do {
		if (chan_usable(c, e) < 0)
			return e->code;
		if (!poll_chan(c, POLLIN, w))
			return 0;
		rc = chan_fill(c, e);
	} while (rc == 0);
	return rc;
}

/* One sendmsg(). The number of bytes sent, 0 if it would block. */
static ssize_t send_some(struct chan *c, const char *text, size_t len, int pass)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .room = { 0 } };
	struct iovec iov = { (void *)text, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (pass >= 0) {
		struct cmsghdr *cm;

		mh.msg_control = control.room;
		mh.msg_controllen = sizeof control.room;
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof pass);
		memcpy(CMSG_DATA(cm), &pass, sizeof pass);
	}
	n = sendmsg(c->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? 0 : n;
}

int chan_send(struct chan *c, const char *text, size_t len, int pass, struct deadline d, struct err *e)
{
	struct chan_wait w = chan_wait(d);
	size_t done = 0;
	ssize_t n;
	int got;

	while (done < len) {
		if (chan_usable(c, e) < 0)
			return e->code;
		n = send_some(c, text + done, len - done, done ? -1 : pass);
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return set_closed(c, e);
		if (n < 0) {
			err_sys(e, errno, "cannot send to %s", c->peer);
			return done ? chan_break(c, e) : e->code;
		}
		done += (size_t)n;
		if (n)
			continue;
		got = poll_chan(c, POLLIN | POLLOUT, &w);
		if (!got) {
			err_set(e, -ETIMEDOUT, "%s did not take the request within %llu ms", c->peer, chan_waited_ms(&w));
			return done ? chan_break(c, e) : e->code;
		}
		if ((got & ~POLLOUT) && chan_fill(c, e) < 0)
			return e->code;
	}
	return 0;
}
