/*
 * Talking to QEMU: QMP, HMP through QMP, and the guest agent's protocol. Knows no VM and no image; works on a
 * descriptor that it is given. One thread, poll(), and a deadline on every wait. Everything that arrives is
 * checked before use and capped: a message at 64 MiB, its values, its nesting, the queue of events.
 *
 * Codes: -EREMOTEIO the other side refused (its words are quoted); -EPROTO it broke the protocol; -ECONNRESET it
 * closed the connection; -ETIMEDOUT with what was waited for and for how long; -EFBIG over a cap; -ENOMEM.
 * After -EPROTO, -ECONNRESET, -EFBIG from the stream itself, or a request sent only in part, the connection is of
 * no more use and every later call repeats that error. After -ETIMEDOUT it can be used on: the late answer is
 * recognised by its id and skipped.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"

/*
 * Connect to the unix socket at @path, of any length. @fd: out, the caller's; close-on-exec, non-blocking.
 * Tries again only while the listener's queue is full. -ENOENT, -ECONNREFUSED (a socket nobody listens on),
 * -EACCES at once; -ETIMEDOUT. That it connects does not mean that anybody answers: QEMU serves one client per
 * socket, and lets a second one wait in the queue until the first has gone.
 */
int mon_connect(const char *path, struct deadline d, int *fd, struct err *e) MUST_CHECK;

/* ---- QMP: the connection ------------------------------------------------------------------------------- */

struct mon;

struct mon_version {
	int major, minor, micro;
	char package[64]; /* "Debian 1:7.2+dfsg-7+deb12u18", or "" */
};

/*
 * Greeting and qmp_capabilities on the connected socket @fd, which belongs to the monitor from here on and is
 * closed also when this fails. @m: out; mon_close().
 * No greeting by the deadline is -ETIMEDOUT (most often another client holds the monitor; the hint says so).
 * Answers to requests of a client before us, which QEMU may still deliver to whoever is connected, are skipped.
 */
int mon_open(int fd, struct deadline d, struct mon **m, struct err *e) MUST_CHECK;

/* mon_connect() and mon_open(). */
int mon_open_path(const char *path, struct deadline d, struct mon **m, struct err *e) MUST_CHECK;

void mon_close(struct mon *m); /* NULL is fine; QEMU runs on */

static inline void mon_closep(struct mon **m)
{
	mon_close(*m);
}
#define auto_mon __attribute__((cleanup(mon_closep)))

const struct mon_version *mon_version(const struct mon *m);

/* To poll() for POLLIN, then mon_process(). Between calls no complete message lies unread on our side. */
int mon_fd(const struct mon *m);

/* ---- QMP: requests --------------------------------------------------------------------------------------- */

/*
 * One command and its answer. Events that arrive meanwhile are queued.
 *
 * @args:  JSON text of the "arguments" object, or NULL for none (build it with lib/json.h's writer)
 * @reply: out, the value of "return"; NULL if not wanted. json_free().
 *
 * -EREMOTEIO: QEMU answered with an error; its text is in the message, its class in mon_error_class().
 */
int mon_call(struct mon *m, const char *command, const char *args, struct deadline d, struct json_doc **reply,
	     struct err *e) MUST_CHECK;

/* The same with descriptor @pass (borrowed) sent along: getfd, add-fd. Waits first for what earlier requests still wait for. */
int mon_call_fd(struct mon *m, const char *command, const char *args, int pass, struct deadline d,
		struct json_doc **reply, struct err *e) MUST_CHECK;

/*
 * The same, with the answer as text for json_iter() (query-qmp-schema is too large to hold as values), or for
 * printing. @text: out, the value of "return"; borrowed until the next call on @m.
 */
int mon_call_text(struct mon *m, const char *command, const char *args, struct deadline d, struct json_span *text,
		  struct err *e) MUST_CHECK;

/*
 * A request as a user wrote it, {"execute": ..., "arguments": ...}, and the whole answer as QEMU wrote it, whether
 * that is a "return" or an "error". @text: out, borrowed until the next call. -EINVAL: the request is none.
 * -EREMOTEIO: the answer is an error, which is in @text all the same.
 */
int mon_call_raw(struct mon *m, const char *request, struct deadline d, struct json_span *text,
		 struct err *e) MUST_CHECK;

/*
 * Send a command now, for a mon_call of the same command and arguments that comes later and then finds its answer under
 * way or here: several for the price of one. QEMU works through them in the order in which they were sent. Only
 * questions whose answers what comes in between does not change, and commands that are refused if they come a second
 * time: a request that was not sent ahead makes all those forgotten that nobody has called for. Asking twice is asking
 * once. Nothing is reported; what fails is done by the call itself.
 */
void mon_ahead(struct mon *m, const char *command, const char *args, struct deadline d);

/* What was sent ahead and not called for yet goes on in QEMU, and its answers are nobody's. */
void mon_ahead_forget(struct mon *m);

/* Class of the last error that QEMU answered with: "GenericError", "CommandNotFound", "DeviceNotActive", ...; "" if none yet. */
const char *mon_error_class(const struct mon *m);

/* ---- QMP: events ----------------------------------------------------------------------------------------- */

struct mon_event {
	struct mon_event *next;
	struct json_doc *doc;
	const char *name;        /* "STOP" */
	const struct json *data; /* NULL if the event has none */
	int64_t usec;            /* since 1970, by QEMU's clock; 0 if not told */
	size_t cost;             /* private: bytes it took on the wire */
};

void mon_event_free(struct mon_event *ev);

static inline void mon_event_freep(struct mon_event **ev)
{
	mon_event_free(*ev);
}
#define auto_event __attribute__((cleanup(mon_event_freep)))

#define MON_QUEUE_MAX	    256		 /* events that wait to be taken */
#define MON_QUEUE_BYTES_MAX (256 * 1024) /* and their size on the wire */

/* A list of event names for the functions below: MON_EVENTS("STOP", "RESUME"). */
#define MON_EVENTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/*
 * The queue is bounded. When it is full, the oldest event that nobody named is dropped and counted. An event is
 * never dropped while a mon_wait_event() for its name is under way, nor if its name is in the list given here
 * (borrowed; NULL for none): if those alone fill the queue, the connection fails with -EFBIG instead. Events about
 * tracked jobs (below) never enter the queue: they are folded into the job at once, so they are never lost either.
 */
void mon_watch(struct mon *m, const char *const *names);
uint64_t mon_dropped(const struct mon *m);

/*
 * Take the oldest event with one of @names, from the queue if it is there, else wait for it. @ev: out, the
 * caller's; NULL if not wanted. Other events stay queued.
 */
int mon_wait_event(struct mon *m, const char *const *names, struct deadline d, struct mon_event **ev,
		   struct err *e) MUST_CHECK;

/* Take the oldest queued event, whatever it is; NULL if there is none. Does not read. */
struct mon_event *mon_next_event(struct mon *m);

/* Read and queue what has arrived, without waiting. 0, or the connection's error. */
int mon_process(struct mon *m, struct err *e) MUST_CHECK;

/* ---- QMP: what this QEMU can do ---------------------------------------------------------------------------- */

/* Append the name of every command, each with its NUL, to @names (an empty one ends the list if the caller adds it). */
int mon_commands(struct mon *m, struct deadline d, struct buf *names, struct err *e) MUST_CHECK;

/* 1: there is a command @name; 0: there is not. Asked once, remembered in about 5 KiB. */
int mon_has_command(struct mon *m, const char *name, struct deadline d, struct err *e) MUST_CHECK;

/* 1: @command takes an argument @arg; 0: it does not, or does not exist. Reads the schema anew each time. */
int mon_has_arg(struct mon *m, const char *command, const char *arg, struct deadline d, struct err *e) MUST_CHECK;

/* ---- QMP: jobs --------------------------------------------------------------------------------------------- */

enum mon_job_status {
	JOB_UNDEFINED, /* QEMU's names, in lower case */
	JOB_CREATED,
	JOB_RUNNING,
	JOB_PAUSED,
	JOB_READY,
	JOB_STANDBY,
	JOB_WAITING,
	JOB_PENDING,
	JOB_ABORTING,
	JOB_CONCLUDED,
	JOB_NULL, /* gone: dismissed, by us or by itself */
};
const char *mon_job_status_name(enum mon_job_status s);

#define MON_JOB_ID 96 /* bytes, with the NUL */

/*
 * One job, in the caller's storage, which must stay in place while it is tracked: from mon_job_start() or
 * mon_job_find() until mon_job_end() or mon_job_forget(). Several can be tracked at once. JOB_STATUS_CHANGE
 * events set @status whenever they arrive, before the reply or after it.
 */
struct mon_job {
	struct mon_job *next; /* private */
	bool newer;	      /* private */
	char id[MON_JOB_ID];
	enum mon_job_status status;
	unsigned seen;           /* 1u << status for every status it was seen in */
	char type[32];           /* "snapshot-save", ...; "" until asked */
	uint64_t current, total; /* progress, as of the last question */
	char error[256];         /* why it failed; "" if it did not, or has not yet */
};

/* Called about five times a second while a job is waited for. */
typedef void mon_progress_fn(void *ctx, uint64_t current, uint64_t total);

struct mon_progress {
	mon_progress_fn *fn;
	void *ctx;
};

/*
 * A whole job: send @command (its @args must contain "job-id": @id), follow it to its end, take its error from
 * query-jobs, dismiss it. For jobs that need no help on the way (snapshot-save, -load, -delete, blockdev-create).
 *
 * @progress: or NULL
 *
 * -EREMOTEIO: QEMU refused to start it, or it failed; nothing is left of it. -ETIMEDOUT: it goes on in QEMU, and
 * mon_job_find() finds it again; this function does not cancel it, since a snapshot job cannot be cancelled.
 */
int mon_job_run(struct mon *m, const char *command, const char *args, const char *id, struct deadline d,
		const struct mon_progress *progress, struct err *e) MUST_CHECK;

/* Send the command that starts job @id and track it as @j. On failure it is not tracked. */
int mon_job_start(struct mon *m, struct mon_job *j, const char *command, const char *args, const char *id,
		  struct deadline d, struct err *e) MUST_CHECK;

/*
 * Look for job @id, e.g. one left behind by a command that was killed, and track it as @j. 1: found, @j says how
 * it stands; 0: there is none.
 */
int mon_job_find(struct mon *m, struct mon_job *j, const char *id, struct deadline d, struct err *e) MUST_CHECK;

/*
 * Wait until the job is in @want or has ended (concluded, or gone). The caller looks at j->status: a job that was
 * to become ready may have concluded with an error instead.
 */
int mon_job_wait(struct mon *m, struct mon_job *j, enum mon_job_status want, struct deadline d,
		 const struct mon_progress *progress, struct err *e) MUST_CHECK;

/* Ask query-jobs: status, type, progress and error in @j are as of now. A job that is not listed is JOB_NULL. */
int mon_job_query(struct mon *m, struct mon_job *j, struct deadline d, struct err *e) MUST_CHECK;

/* -EREMOTEIO with the error that mon_job_query() has found in it; 0: none. Asks nothing. */
int mon_job_verdict(const struct mon_job *j, struct err *e) MUST_CHECK;

/* Do its events say that a job that has ended did what it should? Seen "pending" and never "aborting". Asks nothing. */
bool mon_job_succeeded(const struct mon_job *j);

/* job-complete, job-finalize, job-cancel, job-pause, job-resume. Return when QEMU took it, not when it is done. */
int mon_job_do(struct mon *m, struct mon_job *j, const char *command, struct deadline d, struct err *e) MUST_CHECK;

/*
 * Wait for the end, take the error, dismiss, stop tracking. 0: it succeeded. -EREMOTEIO: it failed, and is
 * dismissed all the same. A job that dismissed itself before its error could be asked for is -EREMOTEIO unless
 * mon_job_succeeded(). Any other failure: it may still be there in QEMU. That the dismissal itself failed is no
 * error: what the job did is done. Stops tracking in every case.
 */
int mon_job_end(struct mon *m, struct mon_job *j, struct deadline d, const struct mon_progress *progress,
		struct err *e) MUST_CHECK;

/* Stop tracking; the job goes on. */
void mon_job_forget(struct mon *m, struct mon_job *j);

/* ---- HMP --------------------------------------------------------------------------------------------------- */

/*
 * A command of the human monitor that prints nothing when it succeeds: savevm, loadvm, delvm. Any text is its
 * error: -EREMOTEIO, with "Error: " removed and lines joined.
 */
int mon_hmp(struct mon *m, const char *line, struct deadline d, struct err *e) MUST_CHECK;

/* Any command of the human monitor, its text appended to @out as QEMU sent it (lines end in CR LF). */
int mon_hmp_text(struct mon *m, const char *line, struct deadline d, struct buf *out, struct err *e) MUST_CHECK;

/* Whether @text, what QEMU printed for @line, says that it was refused. -EREMOTEIO. */
int mon_hmp_refused(const char *line, const char *text, struct err *e) MUST_CHECK;

/* Where this QEMU has the byte at the guest's physical address 0, in its own address space. HMP: gpa2hva. -EPROTO: not told. */
int mon_hmp_memory(struct mon *m, struct deadline d, uint64_t *at, struct err *e) MUST_CHECK;

/*
 * The first block of memory for which @known() is false: @name, out; "" when there is none. HMP: info ramblock.
 */
int mon_hmp_block(struct mon *m, struct deadline d, bool (*known)(const char *name), char name[128], struct err *e) MUST_CHECK;

/* Append @s as one argument of an HMP command line: in quotes, escaped. */
void mon_hmp_quote(struct buf *b, const char *s);

/* ---- guest agent ------------------------------------------------------------------------------------------- */

struct agent;

/*
 * The agent behind the connected socket @fd, which belongs to the agent from here on and is closed also when this
 * fails. Synchronises: what an earlier client left in the pipe is skipped. -ETIMEDOUT: nobody answers in the guest.
 */
int agent_open(int fd, struct deadline d, struct agent **a, struct err *e) MUST_CHECK;
void agent_close(struct agent *a); /* NULL is fine; does not thaw */

static inline void agent_closep(struct agent **a)
{
	agent_close(*a);
}
#define auto_agent __attribute__((cleanup(agent_closep)))

int agent_fd(const struct agent *a);

/*
 * One command, as mon_call(). The agent knows no ids: after a timeout the next call synchronises again first, so a
 * late answer is never taken for another's.
 */
int agent_call(struct agent *a, const char *command, const char *args, struct deadline d, struct json_doc **reply,
	       struct err *e) MUST_CHECK;

/* As mon_call_raw(). @text: borrowed until the next call. */
int agent_call_raw(struct agent *a, const char *request, struct deadline d, struct json_span *text,
		   struct err *e) MUST_CHECK;

int agent_ping(struct agent *a, struct deadline d, struct err *e) MUST_CHECK;

/* guest-info: version as text ("7.2.22"); @version: 32 bytes. */
#define AGENT_VERSION_MAX 32
int agent_info(struct agent *a, struct deadline d, char version[AGENT_VERSION_MAX], struct err *e) MUST_CHECK;

/*
 * Freeze every file system of the guest; @count: out, how many (0: none, nothing to thaw).
 * If it fails in any way after the request was sent, the guest is thawed before this returns, for which it takes
 * up to @thaw_ms more; if even that fails the error says so.
 */
int agent_freeze(struct agent *a, struct deadline d, uint64_t thaw_ms, int64_t *count, struct err *e) MUST_CHECK;

/* Thaw; @count: out, how many; NULL if not wanted. 0 also when nothing was frozen. */
int agent_thaw(struct agent *a, struct deadline d, int64_t *count, struct err *e) MUST_CHECK;

int agent_frozen(struct agent *a, struct deadline d, bool *frozen, struct err *e) MUST_CHECK;

/* Set the guest's clock to @ns since 1970; 0: from its hardware clock. */
int agent_set_time(struct agent *a, uint64_t ns, struct deadline d, struct err *e) MUST_CHECK;

/*
 * guest-shutdown: @mode is "powerdown", "halt" or "reboot". The agent answers only if it refuses: 0 when the
 * connection closes, or when half a second (or the deadline, if sooner) passes without a refusal.
 */
int agent_shutdown(struct agent *a, const char *mode, struct deadline d, struct err *e) MUST_CHECK;

/*
 * What the watchdog child does: the guest is thawed even if the process that froze it is killed.
 *
 * Before freezing, the engine has the kvm room make a pipe and fork a child, which runs this; after the thaw it
 * writes one byte to the pipe (closing it without is fine too: a second thaw does nothing) and reaps the child.
 *
 * @pipe_fd:  read end. A byte: all is well, return 0 at once. End of file: the parent is gone; thaw. The child must
 *            have closed the write end, or it never sees it.
 * @agent_fd: the parent's agent connection, inherited through fork; -1: none. A chardev's socket serves one client
 *            at a time, and while the parent lives, that is the parent: a second connection would only wait in the
 *            queue. Over the inherited one the child can speak whatever became of the parent, hung or dead, and
 *            nobody can come between. What the parent left half said is swept aside by the synchronisation.
 * @path:     the agent's socket, used when there is no @agent_fd or it broke: connects as soon as the parent's
 *            connection is gone, and tries again until @try_ms have passed. Another client may get there first and
 *            keep us out for as long as it stays, so this is the second choice. NULL: none.
 * @frozen_until: by then the byte must have come; else the guest is thawed although the parent lives.
 * @try_ms:   how long to go on trying to thaw.
 *
 * All else that the child inherited, it should close first: the QMP socket (QEMU would not take another client
 * while it is open) and the VM's lock. Takes no signal for granted; allocates; does not print.
 * 0: thawed, or nothing was to be done. Else the last reason why not.
 */
struct agent_watch {
	int pipe_fd;
	int agent_fd;
	const char *path;
	struct deadline frozen_until;
	uint64_t try_ms;
};
int agent_watchdog_run(const struct agent_watch *w, struct err *e) MUST_CHECK;

#endif
