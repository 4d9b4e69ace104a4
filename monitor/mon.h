/* What the QMP side of monitor/ shares among its files. Private to monitor/. */
#ifndef MONITOR_MON_H
#define MONITOR_MON_H

#include "monitor/chan.h"
#include "monitor/monitor.h"

/* A question asked before its answer is wanted. */
struct ahead {
	struct ahead *next;
	int64_t id;
	char *answer; /* NULL until it has come */
	char ask[];   /* the request, without an id */
};

struct mon {
	struct chan chan;
	struct mon_version version;
	bool greeted, ready;

	/* The request under way, and its answer's members in the channel's buffer. */
	int64_t id;        /* of the newest request; they only grow, but for a new beginning after the handshake */
	int64_t first_due; /* the oldest request without an answer: those before @id timed out */
	int64_t want;      /* the request whose answer is waited for */
	bool waiting, answered;
	struct ahead *ahead, *claimed; /* oldest first; the one whose answer @line may point into */
	struct json_span line;
	struct msg answer;
	char class[40];

	/* Events, oldest first. */
	struct mon_event *first, **last;
	size_t queued, queued_bytes;
	uint64_t dropped;
	const char *const *watch;  /* kept by the caller's wish */
	const char *const *wanted; /* kept because a wait for them is under way */

	struct mon_job *jobs; /* tracked */
	struct buf commands;  /* every command's name with its NUL, once asked */
};

/* Work through the lines that are in the buffer. An error is one that breaks the connection. */
int mon_drain(struct mon *m, struct err *e) MUST_CHECK;

/* Wait for something to arrive and work through it. 1, or 0 when the deadline has passed. */
int mon_pump(struct mon *m, struct chan_wait *w, struct err *e) MUST_CHECK;

/* An event's line: queue it, or fold it into its job. */
int mon_take_event(struct mon *m, struct json_span line, struct err *e) MUST_CHECK;
void mon_drop_events(struct mon *m);

/* The oldest event that is one of @names, taken out of the queue; NULL: there is none. */
struct mon_event *mon_find_event(struct mon *m, const char *const *names);

/* True if @data of a JOB_STATUS_CHANGE is about a tracked job, which then knows. */
bool mon_job_event(struct mon *m, const struct json *data);

/* @name as QEMU says it; one that is not known changes nothing. */
void mon_job_set_status(struct mon_job *j, const char *name);

#endif
