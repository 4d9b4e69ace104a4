/* What the files of `fermata init` share. */
#ifndef INIT_SUPERVISOR_INTERNAL_H
#define INIT_SUPERVISOR_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/fermata.h"
#include "kvm/kvm.h"

/* ---- log.c: one line for each event ---- */

/* Where the lines go: "stderr", "kmsg" or "syslog". -EINVAL; a place that cannot be opened leaves stderr. */
int log_open(const char *where, struct err *e) MUST_CHECK;

/* @vm: the VM that it is about, or NULL. */
void log_line(const char *vm, const char *fmt, ...) PRINTF(2, 3);
void log_err(const struct err *e);

/* ---- guest.c: one VM under supervision ---- */

enum guest_state {
	GUEST_OFF,
	GUEST_MENDING, /* a child finishes or undoes what was cut off */
	GUEST_BOOTING,
	GUEST_UP,
	GUEST_RESTING, /* waits for the next try */
	GUEST_CUT,
	GUEST_STOPPING,
	N_GUEST_STATES
};
enum guest_event {
	GUEST_START,   /* bring it up */
	GUEST_DONE,    /* the child that worked on it succeeded */
	GUEST_FAILED,  /* ... did not */
	GUEST_HELD,    /* ... could not even begin: what was cut off before is neither finished nor undone */
	GUEST_APPEARED, /* somebody started a QEMU */
	GUEST_ENDED,   /* its QEMU has ended */
	GUEST_CRASHED, /* panic, watchdog */
	GUEST_TIMER,
	GUEST_STOP,    /* take it down */
	N_GUEST_EVENTS
};

/* What a child does with a VM; GUEST_EXIT_HELD is its exit status for GUEST_HELD. */
typedef int guest_task(struct fermata_vm *vm, struct err *e);
#define GUEST_EXIT_HELD 3

struct guest {
	char name[DEF_NAME_MAX + 1];
	enum guest_state state;
	pid_t child;       /* works on it; 0: none */
	guest_task *next;  /* what the child does; GUEST_RESTING: what the next one will */
	struct mon *mon;   /* GUEST_UP: QEMU's events */
	int pidfd;         /* ... and the end of its process; -1: none */
	int wd;            /* inotify watch on its run directory */
	bool asked;        /* the guest or a command shut it down */
	bool fresh;        /* not started yet by order */
	unsigned order;
	bool autostart, restart, stop; /* on-crash */
	uint64_t back_off_ms;
	unsigned crashes;  /* in a row */
	uint64_t up_ms;    /* since when it is up */
	struct deadline timer;
};

struct guests {
	struct fermata *host;
	struct guest *g;
	size_t n;
	int inotify;
};

/* Read the definitions; new VMs are added, known ones get their new policy. A wrong one is a line in the log. */
void guests_read(struct guests *all);

/* Finish or undo what is pending, for every VM, each in a child of its own. */
void guests_recover(struct guests *all);

/* Run the action for @ev in the VM's state. */
void guest_event(struct guests *all, struct guest *g, enum guest_event ev);

/* Process its QEMU's events. */
void guest_listen(struct guests *all, struct guest *g);

/* ---- pid1.c: what only the first process does, and the host's watchdog ---- */

/* Read init.conf; as the first process also do what it says: mounts, modules, sysctls, the script. */
void pid1_begin(struct fermata *host, const char *conf);

/* How often pid1_beat() wants to be called, in ms; 0: never. */
uint64_t pid1_beat_ms(void);
void pid1_beat(void);

/* Descriptors of power buttons; how many. pid1_pressed(): whether the key was pressed. */
#define PID1_BUTTONS 4
size_t pid1_buttons(int fds[PID1_BUTTONS]);
bool pid1_pressed(int fd);

/* The VMs are down: disarm the watchdog; as PID 1 also end all processes and power off or reboot. */
void pid1_end(bool reboot);

/* Tell the service manager, if there is one: "READY=1". */
void service_tell(const char *what);

#endif
