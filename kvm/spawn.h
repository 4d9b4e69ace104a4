/* Private to kvm/: a child that becomes another program. The only place that forks. */
#ifndef KVM_SPAWN_H
#define KVM_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/err.h"

/* Who a child runs as; read from /etc/passwd and /etc/group, where a static libc's own functions would load libraries. */
#define SPAWN_MAX_GROUPS 64
struct spawn_user {
	uid_t uid;
	gid_t gid;
	bool group_given; /* as USER:GROUP, not taken from the user's entry */
	size_t n_groups;
	gid_t groups[SPAWN_MAX_GROUPS];
};

/*
 * @name: USER or USER:GROUP, each a name or a number; the groups that have the user as a member come with him. A number with a
 * group need not be in /etc/passwd. -ENOENT: no such user or group.
 */
int spawn_user_find(const char *name, struct spawn_user *u, struct err *e) MUST_CHECK;

#define SPAWN_FDS 5
struct spawn {
	char *const *argv;             /* argv[0] is the binary's path */
	int fds[SPAWN_FDS];            /* what the child sees as 3, 4, ...; -1: closed */
	int log;                       /* its stdout and stderr */
	const struct spawn_user *user; /* NULL: as we are */
	bool dies_with_us;
	/* Called with the child's pid before it becomes the program; a failure means that it never does. NULL: nothing. */
	int (*record)(void *ctx, pid_t pid, struct err *e);
	void *ctx;
};

/*
 * What a child gets of our environment, NULL at the end: PATH, where a user's files and displays are, and LC_ALL=C; nothing
 * else that the caller's shell happens to have. Strings are borrowed. @other_user: not what is said of us.
 */
#define SPAWN_MAX_ENV 16
void spawn_env(bool other_user, char *env[SPAWN_MAX_ENV]);

/*
 * Start a program in a session of its own, in the folder /, with default signals, a private umask, the environment of
 * spawn_env() and no descriptors but those given. Returns when it runs or could not be run. @pid: out; the caller's to wait for.
 */
int spawn_start(const struct spawn *s, pid_t *pid, struct err *e) MUST_CHECK;

/* Make a copy of @fd above all numbers that a child is given; close-on-exec. */
int spawn_fd_high(int fd, int *high, struct err *e) MUST_CHECK;

/* Close (or, with @cloexec, mark as not to be inherited) every descriptor from @first on. System calls only. */
void spawn_close_from(unsigned first, bool cloexec);

#endif
