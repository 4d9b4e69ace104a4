/*
 * QMP, HMP through QMP, and the guest agent's protocol, on a descriptor that the caller passes. Knows no VM
 * and no image. One thread, poll(), and a deadline on every wait. All input is checked before use and capped:
 * the size of a message (64 MiB), its values, its nesting, the event queue.
 *
 * Codes: -EREMOTEIO the other side refused (its words are quoted); -EPROTO it broke the protocol; -ECONNRESET it
 * closed the connection; -ETIMEDOUT, naming the answer or event and the time waited; -EFBIG over a cap;
 * -ENOMEM. -EPROTO, -ECONNRESET and -EFBIG from the stream itself, and a partly sent request, break the
 * connection: every later call repeats that error. After -ETIMEDOUT the connection stays usable: the late
 * answer is recognised by its id and skipped.
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
 * -EACCES at once; -ETIMEDOUT. A connected socket may still get no answer: QEMU serves one client per socket,
 * and a second one waits in the queue until the first disconnects.
 */
int mon_connect(const char *path, struct deadline d, int *fd, struct err *e) MUST_CHECK;

/* ---- QMP: the connection ------------------------------------------------------------------------------- */

struct mon;

struct mon_version {
	int major, minor, micro;
	char package[64]; /* "Debian 1:7.2+dfsg-7+deb12u18", or "" */
};

/*
 * Read the greeting and send qmp_capabilities on the connected socket @fd. Takes ownership of @fd and closes
 * it on failure too. @m: out; mon_close().
 * No greeting by the deadline is -ETIMEDOUT (most often another client holds the monitor; the hint says so).
 * QEMU may deliver answers to an earlier client's requests to us; they are skipped.
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

/*
 * The descriptor to poll() for POLLIN before mon_process(). No complete message stays buffered between calls.
 */
int mon_fd(const struct mon *m);

/* ---- QMP: requests --------------------------------------------------------------------------------------- */

/*
 * Run one command and wait for its answer. Events that arrive meanwhile are queued.
 *
 * @args:  JSON text of the "arguments" object, or NULL for none (build it with lib/json.h's writer)
 * @reply: out, the value of "return"; NULL if not wanted. json_free().
 *
 * -EREMOTEIO: QEMU answered with an error; its text is in the message, its class in mon_error_class().
 */
int mon_call(struct mon *m, const char *command, const char *args, struct deadline d, struct json_doc **reply,
	     struct err *e) MUST_CHECK;

/*
 * As mon_call(), with descriptor @pass (borrowed) attached: getfd, add-fd. First waits for the answers to all
 * earlier requests.
 */
int mon_call_fd(struct mon *m, const char *command, const char *args, int pass, struct deadline d,
		struct json_doc **reply, struct err *e) MUST_CHECK;

/*
 * As mon_call(), with the answer as text: for printing, or for json_iter() (query-qmp-schema is too large to
 * parse into values). @text: out, the value of "return"; borrowed until the next call on @m.
 */
int mon_call_text(struct mon *m, const char *command, const char *args, struct deadline d, struct json_span *text,
		  struct err *e) MUST_CHECK;

/*
 * Send a request that a user wrote, {"execute": ..., "arguments": ...}, and return the whole answer as QEMU
 * wrote it, "return" or "error". @text: out, borrowed until the next call. -EINVAL: not a valid request.
 * -EREMOTEIO: the answer is an error; @text has it all the same.
 */
int mon_call_raw(struct mon *m, const char *request, struct deadline d, struct json_span *text,
		 struct err *e) MUST_CHECK;

/*
 * Pipeline a request: send it now, and let a later mon_call() of the same command and arguments take its
 * answer instead of sending again. Several requests then cost one round trip; QEMU runs them in the order in
 * which they were sent. Only for queries whose answers do not change before that call, and for commands that
 * QEMU refuses the second time: a mon_call() that was not pipelined discards every unclaimed answer, and its
 * caller may send the command again. Pipelining a request twice sends it once. Reports no error: if sending
 * failed, the mon_call() sends the request.
 */
void mon_ahead(struct mon *m, const char *command, const char *args, struct deadline d);

/*
 * Discard the answers to pipelined requests that no mon_call() has claimed. QEMU runs the requests all the
 * same.
 */
void mon_ahead_forget(struct mon *m);

/*
 * Class of QEMU's last error answer: "GenericError", "CommandNotFound", "DeviceNotActive", ...; "" if none
 * yet.
 */
const char *mon_error_class(const struct mon *m);

/* ---- QMP: events ----------------------------------------------------------------------------------------- */

struct mon_event {
	struct mon_event *next;
	struct json_doc *doc;
	const char *name;        /* "STOP" */
	const struct json *data; /* NULL if the event has none */
	int64_t usec;            /* since 1970, by QEMU's clock; 0: no timestamp */
	size_t cost;             /* private: bytes on the wire */
};

void mon_event_free(struct mon_event *ev);

static inline void mon_event_freep(struct mon_event **ev)
{
	mon_event_free(*ev);
}
#define auto_event __attribute__((cleanup(mon_event_freep)))

#define MON_QUEUE_MAX	    256		 /* queued events */
#define MON_QUEUE_BYTES_MAX (256 * 1024) /* their bytes on the wire */

/* A list of event names for the functions below: MON_EVENTS("STOP", "RESUME"). */
#define MON_EVENTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/*
 * Set the events that must not be lost. The queue is bounded: when it is full, the oldest event that is not
 * protected is dropped and counted (mon_dropped()). Protected are the names in @names (borrowed; NULL for
 * none), and those of a mon_wait_event() while it waits. If protected events alone fill the queue, the
 * connection fails with -EFBIG. Events about tracked jobs (below) bypass the queue: they update the job at
 * once, so they are never lost either.
 */
void mon_watch(struct mon *m, const char *const *names);
uint64_t mon_dropped(const struct mon *m);

/*
 * Take the oldest event with one of @names from the queue, or wait for one. @ev: out, the caller's; NULL if not
 * wanted. Other events stay queued.
 */
int mon_wait_event(struct mon *m, const char *const *names, struct deadline d, struct mon_event **ev,
		   struct err *e) MUST_CHECK;

/* Take the oldest queued event of any name; NULL: none. Does not read. */
struct mon_event *mon_next_event(struct mon *m);

/* Read and process what has arrived, without waiting. 0, or the connection's error. */
int mon_process(struct mon *m, struct err *e) MUST_CHECK;

/* ---- QMP: what this QEMU can do ---------------------------------------------------------------------------- */

/* Append the name of every command, each with its NUL, to @names. Appends no empty name as an end mark. */
int mon_commands(struct mon *m, struct deadline d, struct buf *names, struct err *e) MUST_CHECK;

/* 1: QEMU has the command @name; 0: it has not. Queried once per connection and cached (about 5 KiB). */
int mon_has_command(struct mon *m, const char *name, struct deadline d, struct err *e) MUST_CHECK;

/*
 * 1: @command takes an argument @arg; 0: it does not, or does not exist. Queries the whole schema every time.
 */
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
	JOB_NULL, /* removed: dismissed by us or by QEMU */
};
const char *mon_job_status_name(enum mon_job_status s);

#define MON_JOB_ID 96 /* bytes, with the NUL */

/*
 * One job, in the caller's storage. It must not move while it is tracked: from mon_job_start() or
 * mon_job_find() until mon_job_end() or mon_job_forget(). Several can be tracked at once. JOB_STATUS_CHANGE
 * events set @status whenever they arrive, before the reply or after it.
 */
struct mon_job {
	struct mon_job *next; /* private */
	bool newer;	      /* private */
	char id[MON_JOB_ID];
	enum mon_job_status status;
	unsigned seen;           /* 1u << status for every status seen */
	char type[32];           /* "snapshot-save", ...; "" until mon_job_query() */
	uint64_t current, total; /* progress, as of the last mon_job_query() */
	char error[256];         /* why it failed; "" if it has not */
};

/* Called about five times a second during mon_job_wait(). */
typedef void mon_progress_fn(void *ctx, uint64_t current, uint64_t total);

struct mon_progress {
	mon_progress_fn *fn;
	void *ctx;
};

/*
 * Run a job from start to end: send @command (its @args must contain "job-id": @id), wait until it has
 * concluded, read its error from query-jobs, dismiss it. For jobs that need no further command
 * (snapshot-save, -load, -delete, blockdev-create).
 *
 * @progress: or NULL
 *
 * -EREMOTEIO: QEMU refused to start it, or it failed and was dismissed. -ETIMEDOUT: it keeps running in QEMU,
 * where mon_job_find() finds it. It is not cancelled, since a snapshot job cannot be.
 */
int mon_job_run(struct mon *m, const char *command, const char *args, const char *id, struct deadline d,
		const struct mon_progress *progress, struct err *e) MUST_CHECK;

/* Send @command, which starts job @id, and track the job as @j. On failure it is not tracked. */
int mon_job_start(struct mon *m, struct mon_job *j, const char *command, const char *args, const char *id,
		  struct deadline d, struct err *e) MUST_CHECK;

/*
 * Find job @id, e.g. one that a killed command left behind, and track it as @j. 1: found, @j has its status;
 * 0: no such job.
 */
int mon_job_find(struct mon *m, struct mon_job *j, const char *id, struct deadline d, struct err *e) MUST_CHECK;

/*
 * Wait until the job is in state @want or has ended (concluded or null). The caller checks j->status: a job
 * expected to become ready may have concluded with an error instead.
 */
int mon_job_wait(struct mon *m, struct mon_job *j, enum mon_job_status want, struct deadline d,
		 const struct mon_progress *progress, struct err *e) MUST_CHECK;

/* Update status, type, progress and error in @j by query-jobs. A job that is not listed becomes JOB_NULL. */
int mon_job_query(struct mon *m, struct mon_job *j, struct deadline d, struct err *e) MUST_CHECK;

/* -EREMOTEIO with the error that the last mon_job_query() found; 0: none. Sends nothing. */
int mon_job_verdict(const struct mon_job *j, struct err *e) MUST_CHECK;

/* True if an ended job succeeded by its events: "pending" was seen and "aborting" never. Sends nothing. */
bool mon_job_succeeded(const struct mon_job *j);

/*
 * job-complete, job-finalize, job-cancel, job-pause, job-resume. Returns when QEMU has accepted the command,
 * not when the job has changed.
 */
int mon_job_do(struct mon *m, struct mon_job *j, const char *command, struct deadline d, struct err *e) MUST_CHECK;

/*
 * Wait until the job has ended, read its error, dismiss it, stop tracking it. 0: it succeeded. -EREMOTEIO: it
 * failed and was dismissed. A job that dismissed itself before its error was read is -EREMOTEIO unless
 * mon_job_succeeded(). Any other error: the job may still exist in QEMU. A failed job-dismiss is no error:
 * the job's work is done. Tracking stops in every case.
 */
int mon_job_end(struct mon *m, struct mon_job *j, struct deadline d, const struct mon_progress *progress,
		struct err *e) MUST_CHECK;

/* Stop tracking; the job keeps running. */
void mon_job_forget(struct mon *m, struct mon_job *j);

/* ---- HMP --------------------------------------------------------------------------------------------------- */

/*
 * Run an HMP command that prints nothing on success: savevm, loadvm, delvm. Any output is its error:
 * -EREMOTEIO, with "Error: " removed and lines joined.
 */
int mon_hmp(struct mon *m, const char *line, struct deadline d, struct err *e) MUST_CHECK;

/* Run any HMP command and append its output to @out as QEMU sent it (lines end in CR LF). */
int mon_hmp_text(struct mon *m, const char *line, struct deadline d, struct buf *out, struct err *e) MUST_CHECK;

/* -EREMOTEIO if @text, the output of the HMP command @line, begins with "Error: ". */
int mon_hmp_refused(const char *line, const char *text, struct err *e) MUST_CHECK;

/*
 * Where this QEMU has the byte at the guest's physical address @gpa, in its own address space, if that is of @block. HMP: gpa2hva.
 * -ENOENT: it is of something else; -EPROTO: not told.
 */
int mon_hmp_memory(struct mon *m, const char *block, uint64_t gpa, struct deadline d, uint64_t *at, struct err *e) MUST_CHECK;

/* The first block of memory for which @known is false: @name, out; "" when there is none. HMP: info ramblock. */
typedef bool mon_block_fn(void *ctx, const char *name, uint64_t bytes);
int mon_hmp_block(struct mon *m, struct deadline d, mon_block_fn *known, void *ctx, char name[128], struct err *e) MUST_CHECK;

/* Append @s as one argument of an HMP command line: in quotes, escaped. */
void mon_hmp_quote(struct buf *b, const char *s);

/* ---- guest agent ------------------------------------------------------------------------------------------- */

struct agent;

/*
 * Talk to the agent on the connected socket @fd. Takes ownership of @fd and closes it on failure too.
 * Synchronises: data left in the channel by an earlier client is skipped. -ETIMEDOUT: no agent answers in the
 * guest.
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
 * One command, as mon_call(). The agent's protocol has no ids, so after a timeout the next call synchronises
 * first: a late answer is never taken for another command's.
 */
int agent_call(struct agent *a, const char *command, const char *args, struct deadline d, struct json_doc **reply,
	       struct err *e) MUST_CHECK;

/* As mon_call_raw(). @text: borrowed until the next call. */
int agent_call_raw(struct agent *a, const char *request, struct deadline d, struct json_span *text,
		   struct err *e) MUST_CHECK;

int agent_ping(struct agent *a, struct deadline d, struct err *e) MUST_CHECK;

/* guest-info: the agent's version as text ("7.2.22"). */
#define AGENT_VERSION_MAX 32
int agent_info(struct agent *a, struct deadline d, char version[AGENT_VERSION_MAX], struct err *e) MUST_CHECK;

/*
 * Freeze all file systems of the guest. @count: out, how many (0: none, nothing to thaw). On any failure
 * after the request was sent, thaws the guest before it returns, which takes up to @thaw_ms more. If the thaw
 * fails too, the error says so.
 */
int agent_freeze(struct agent *a, struct deadline d, uint64_t thaw_ms, int64_t *count, struct err *e) MUST_CHECK;

/* Thaw. @count: out, how many file systems; NULL if not wanted. Returns 0 even when nothing was frozen. */
int agent_thaw(struct agent *a, struct deadline d, int64_t *count, struct err *e) MUST_CHECK;

int agent_frozen(struct agent *a, struct deadline d, bool *frozen, struct err *e) MUST_CHECK;

/* Set the guest's clock to @ns since 1970; 0: to its hardware clock. */
int agent_set_time(struct agent *a, uint64_t ns, struct deadline d, struct err *e) MUST_CHECK;

/*
 * guest-shutdown; @mode is "powerdown", "halt" or "reboot". The agent answers only to refuse, so 0 means that
 * the connection closed, or that half a second passed (or the deadline, if sooner) without a refusal.
 */
int agent_shutdown(struct agent *a, const char *mode, struct deadline d, struct err *e) MUST_CHECK;

/*
 * The watchdog child's main function: thaws the guest if the process that froze it is killed or hangs.
 *
 * Before freezing, the engine has the kvm room make a pipe and fork a child, which runs this. After the thaw
 * the engine writes one byte to the pipe and reaps the child. (Closing the pipe without the byte is harmless:
 * thawing twice does nothing.)
 *
 * @pipe_fd:  read end. A byte: the parent has thawed, return 0 at once. End of file: the parent is dead,
 *            thaw. The child must have closed its copy of the write end, or it never sees the end of file.
 * @agent_fd: the parent's agent connection, inherited through fork; -1: none. A chardev socket serves one
 *            client at a time: while the parent lives, a second connection would only wait in the queue. The
 *            inherited connection works whether the parent is hung or dead, and no other client can take it.
 *            Synchronising discards a request that the parent sent in part.
 * @path:     the agent's socket, the second choice: used when there is no @agent_fd or it broke. Connects as
 *            soon as the parent's connection is closed, and retries until @try_ms have passed. Another client
 *            may connect first and keep us out for as long as it stays. NULL: none.
 * @frozen_until: the deadline for the byte; when it passes, the guest is thawed although the parent lives.
 * @try_ms:   how long to keep trying to thaw.
 *
 * The child should first close everything else that it inherited: the QMP socket (QEMU accepts no other
 * client while it is open) and the VM's lock. Relies on no signal; allocates memory; prints nothing.
 * 0: thawed, or no thaw was needed. Else the last error.
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
