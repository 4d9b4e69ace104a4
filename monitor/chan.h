/*
 * Lines and JSON messages on a socket: the transport that QMP and the guest agent share. Private to monitor/.
 */
#ifndef MONITOR_CHAN_H
#define MONITOR_CHAN_H

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"

#define CHAN_LINE_MAX (64u << 20) /* bytes of one message */
#define CHAN_NODES_MAX (1u << 18) /* JSON values in one parsed message: 10 MiB */

struct chan {
	int fd;
	const char *peer;  /* name of the other side in error messages: "QEMU" */
	struct buf in;
	size_t start;      /* first byte that was not handed out as a line */
	size_t scanned;    /* no newline between @start and here, so no byte is searched twice */
	struct err broken; /* why the connection is unusable; code 0: it is usable */
};

/* One wait: its deadline, when it began, and whether the final poll() was done. */
struct chan_wait {
	struct deadline d;
	uint64_t since_ms;
	bool last;
};

struct chan_wait chan_wait(struct deadline d);

/* Milliseconds since the wait began. */
unsigned long long chan_waited_ms(const struct chan_wait *w);

void chan_init(struct chan *c, int fd, const char *peer);
void chan_done(struct chan *c);

/* Remember @e as the reason why the connection is dead. Returns e->code. */
int chan_break(struct chan *c, struct err *e);

/* 0, or the error that broke the connection. */
int chan_usable(const struct chan *c, struct err *e) MUST_CHECK;

/*
 * Take the next complete line, without its newline, from the buffer. Valid until the next chan_fill(). Does
 * not read.
 */
bool chan_line(struct chan *c, struct json_span *line);

/*
 * Read once, without waiting. 1: data arrived; 0: none. Earlier lines become invalid. The caller bounds its
 * loop: a peer may flood or trickle for ever.
 */
int chan_fill(struct chan *c, struct err *e) MUST_CHECK;

/*
 * Wait for data and read it. 1, or 0 when the deadline has passed. A last read is made after the deadline, so a
 * passed deadline never hides an answer; there is only one, so a flood never extends it.
 */
int chan_await(struct chan *c, struct chan_wait *w, struct err *e) MUST_CHECK;

/*
 * Send all of @text, with descriptor @pass if not negative. Reads what arrives meanwhile, so that two full
 * socket buffers do not deadlock.
 */
int chan_send(struct chan *c, const char *text, size_t len, int pass, struct deadline d, struct err *e) MUST_CHECK;

/* ---- messages ---- */

enum { MSG_RETURN, MSG_ERROR, MSG_EVENT, MSG_GREETING, MSG_ID, MSG_N };

/* A message's members as text; p is NULL for a missing one. */
struct msg {
	struct json_span m[MSG_N];
};

/* Split @line into its members. -EPROTO: not an object, or a duplicate member. */
int msg_split(struct json_span line, struct msg *msg, struct err *e) MUST_CHECK;

/* Append {"execute": ...}; @id is left out when negative. */
void msg_request(struct buf *b, const char *command, const char *args, int64_t id);

/* Parse a request that a user wrote. @command: borrowed from *@doc; @args: JSON text or empty. -EINVAL. */
int msg_user(const char *request, struct json_doc **doc, const char **command, struct buf *args, struct err *e) MUST_CHECK;

/*
 * Set @e from the "error" member @error: -EREMOTEIO, quoting its text and class. @class: out, or NULL; @size
 * bytes.
 */
int msg_refused(const char *peer, const char *command, struct json_span error, char *class, size_t size, struct err *e);

/* Parse the "return" member @ret to *@reply (may be NULL). */
int msg_parse(const char *peer, const char *command, struct json_span ret, struct json_doc **reply, struct err *e) MUST_CHECK;

#endif
