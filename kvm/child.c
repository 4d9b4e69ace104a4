/* A child that is still this program: long work aside, a command to run and wait for. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
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

static void what_ends_us(sigset_t *set)
{
	static const int ends[] = { SIGHUP, SIGINT, SIGTERM, SIGQUIT };
	struct sigaction a;

	sigemptyset(set);
	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
		if (sigaction(ends[i], NULL, &a) == 0 && a.sa_handler != SIG_IGN)
			sigaddset(set, ends[i]);
}

int kvm_child_run_heeding(char **words, int *sig)
{
	struct deadline d = deadline_never();
	sigset_t set;
	pid_t pid;
	int status;

	*sig = 0;
	what_ends_us(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pid = kvm_child_start(become, words);
	if (pid < 0)
		return 127;
	while (waitpid(pid, &status, WNOHANG) != pid) {
		int left = deadline_left_ms(d), got;
		siginfo_t info;

		got = sigtimedwait(&set, &info, &(struct timespec){ .tv_sec = left < 0 ? 3600 : left / 1000 + 1 });
		if (got > 0 && got != SIGCHLD) {
			/* What comes from a terminal the command has got, too. */
			if (info.si_code != SI_KERNEL)
				kill(pid, got);
			d = *sig ? d : deadline_in(10000);
			*sig = got;
		} else if (*sig && !deadline_left_ms(d)) {
			kill(pid, SIGKILL);
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool kvm_child_called_off(void)
{
	sigset_t set;

	what_ends_us(&set);
	return sigtimedwait(&set, NULL, &(struct timespec){ 0 }) > 0;
}
