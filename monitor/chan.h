/* Lines on a socket, and the JSON messages on them: what QMP and the agent have in common. Private to monitor/. */
#ifndef MONITOR_CHAN_H
#define MONITOR_CHAN_H

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"

#define CHAN_LINE_MAX (64u << 20) /* bytes of one message */
#define CHAN_NODES_MAX (1u << 18) /* values in one message, where it is parsed: 10 MiB */

struct chan {
	int fd;
	const char *peer;  /* "QEMU": who is on the other side, in messages */
	struct buf in;
	size_t start;      /* first byte that no line was made of yet */
	size_t scanned;    /* no line ends before here, so nothing is looked at twice */
	struct err broken; /* why the connection is of no more use; code 0: it is */
};

/* One wait: for how long, since when, and whether the last chance to read was had. */
struct chan_wait {
	struct deadline d;
	uint64_t since_ms;
	bool last;
};

struct chan_wait chan_wait(struct deadline d);

/* How long it has been waited. */
unsigned long long chan_waited_ms(const struct chan_wait *w);

void chan_init(struct chan *c, int fd, const char *peer);
void chan_done(struct chan *c);

/* Remember @e as the reason why the connection is dead. Returns e->code. */
int chan_break(struct chan *c, struct err *e);

/* 0, or the error that broke the connection. */
int chan_usable(const struct chan *c, struct err *e) MUST_CHECK;

/* Take the next complete line out of the buffer, without its end; valid until the next chan_fill(). Does not read. */
bool chan_line(struct chan *c, struct json_span *line);

/*
 * Read once. 1: something came; 0: nothing is there. Never waits. Earlier lines become invalid. A peer that
 * floods or trickles for ever is the caller's loop to bound.
 */
int chan_fill(struct chan *c, struct err *e) MUST_CHECK;

/*
 * Wait until something arrives and read it. 1, or 0 when the deadline has passed; then what is there already has
 * been read once more, so a passed deadline never hides an answer, and a flood never extends it.
 */
int chan_await(struct chan *c, struct chan_wait *w, struct err *e) MUST_CHECK;

/* Send all of @text, with descriptor @pass if not negative; takes in what arrives meanwhile, so two floods do not lock up. */
int chan_send(struct chan *c, const char *text, size_t len, int pass, struct deadline d, struct err *e) MUST_CHECK;

/* ---- messages ---- */

enum { MSG_RETURN, MSG_ERROR, MSG_EVENT, MSG_GREETING, MSG_ID, MSG_N };

/* A message's members as text; p is NULL for one that is not there. */
struct msg {
	struct json_span m[MSG_N];
};

/* Take @line apart. -EPROTO if it is no object, or has a member twice. */
int msg_split(struct json_span line, struct msg *msg, struct err *e) MUST_CHECK;

/* Append {"execute": ...}; @id is left out when negative. */
void msg_request(struct buf *b, const char *command, const char *args, int64_t id);

/* Take a request that a user wrote apart. @command: borrowed from *@doc; @args: JSON text or empty. -EINVAL. */
int msg_user(const char *request, struct json_doc **doc, const char **command, struct buf *args, struct err *e) MUST_CHECK;

/* Turn the "error" member @error into e: -EREMOTEIO quoting text and class. @class: out, or NULL; @size bytes. */
int msg_refused(const char *peer, const char *command, struct json_span error, char *class, size_t size, struct err *e);

/* Parse the "return" member @ret to *@reply (may be NULL). */
int msg_parse(const char *peer, const char *command, struct json_span ret, struct json_doc **reply, struct err *e) MUST_CHECK;

#endif
