/* The QMP connection, as the QMP files of monitor/ share it. Private to monitor/. */
#ifndef MONITOR_MON_H
#define MONITOR_MON_H

#include "monitor/chan.h"
#include "monitor/monitor.h"

/* A pipelined request: sent by mon_ahead(), not yet claimed by a mon_call(). */
struct ahead {
	struct ahead *next;
	int64_t id;
	char *answer; /* NULL until it has arrived */
	char ask[];   /* the request as text, without an id */
};

struct mon {
	struct chan chan;
	struct mon_version version;
	bool greeted, ready;

	/* The current request, and the members of its answer in the channel's buffer. */
	int64_t id;        /* of the newest request; grows, and restarts from 0 after the handshake */
	int64_t first_due; /* the oldest unanswered request; those older than @want timed out or were pipelined */
	int64_t want;      /* the request that the caller waits for */
	bool waiting, answered;
	struct ahead *ahead, *claimed; /* pipelined, oldest first; the one whose answer @line may point into */
	struct json_span line;
	struct msg answer;
	char class[40];

	/* Events, oldest first. */
	struct mon_event *first, **last;
	size_t queued, queued_bytes;
	uint64_t dropped;
	const char *const *watch;  /* from mon_watch(): never dropped */
	const char *const *wanted; /* of the current mon_wait_event(): never dropped */

	struct mon_job *jobs; /* tracked */
	struct buf commands;  /* the name of every command, each with its NUL; empty until the first query */
};

/* Process every complete line in the buffer. Any error breaks the connection. */
int mon_drain(struct mon *m, struct err *e) MUST_CHECK;

/* Wait for data and process it. 1, or 0 when the deadline has passed. */
int mon_pump(struct mon *m, struct chan_wait *w, struct err *e) MUST_CHECK;

/* Queue the event in @line, or apply it to the tracked job that it is about. */
int mon_take_event(struct mon *m, struct json_span line, struct err *e) MUST_CHECK;
void mon_drop_events(struct mon *m);

/* Remove the oldest event with one of @names from the queue and return it; NULL: none. */
struct mon_event *mon_find_event(struct mon *m, const char *const *names);

/* Apply @data of a JOB_STATUS_CHANGE to the tracked job that it is about. False: no such job is tracked. */
bool mon_job_event(struct mon *m, const struct json *data);

/* Set the status by QEMU's name for it. An unknown name changes nothing. */
void mon_job_set_status(struct mon_job *j, const char *name);

#endif
