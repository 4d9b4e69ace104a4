/* lap COMMAND ARG...: run it with stdout thrown away; print microseconds from start to exit, and its peak KiB. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
	posix_spawn_file_actions_t fa;
	struct rusage ru;
	double t0;
	pid_t pid;
	int st;

	if (argc < 2)
		return 2;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	t0 = now_us();
	if (posix_spawnp(&pid, argv[1], &fa, NULL, argv + 1, environ) || wait4(pid, &st, 0, &ru) != pid)
		return 127;
	printf("%.0f %ld\n", now_us() - t0, ru.ru_maxrss);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 126;
}
