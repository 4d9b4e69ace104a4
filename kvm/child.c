/* A child that is still this program: long work aside, a command to run and wait for. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvm/kvm.h"

pid_t kvm_child_start(int (*fn)(void *ctx), void *ctx)
{
	pid_t pid = fork();
	sigset_t none;

	if (pid)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	_exit(fn(ctx));
}

static int become(void *words)
{
	signal(SIGPIPE, SIG_DFL); /* what we ignore is our own affair */
	execvp(*(char **)words, words);
	fprintf(stderr, "fermata: cannot run %s: %s\n", *(char **)words, strerror(errno));
	return 127;
}

int kvm_child_run(char **words)
{
	pid_t pid = kvm_child_start(become, words);
	int status;

	while (pid < 0 || waitpid(pid, &status, 0) < 0)
		if (pid < 0 || errno != EINTR)
			return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
