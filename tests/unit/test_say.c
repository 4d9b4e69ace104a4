/* lib/say.c: what is said on stderr waits for no reader. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/own.h"
#include "lib/say.h"
#include "lib/text.h"

/* @fn with a terminal as stderr, or a pipe. */
static int spoken(bool tty, int (*fn)(int read_fd))
{
	int p[2], old, rc;

	if (tty) {
		p[0] = posix_openpt(O_RDWR | O_NOCTTY);
		assert_true(p[0] >= 0 && grantpt(p[0]) == 0 && unlockpt(p[0]) == 0);
		p[1] = open(ptsname(p[0]), O_RDWR | O_NOCTTY);
	} else {
		assert_int_equal(pipe(p), 0);
	}
	assert_true(p[1] >= 0);
	old = dup(2);
	dup2(p[1], 2);
	close(p[1]);
	alarm(30); /* who waits here waits in vain */
	rc = fn(p[0]);
	alarm(0);
	dup2(old, 2);
	close(old);
	close(p[0]);
	return rc;
}

/* All that comes to @fd until @text has. */
static bool hears(int fd, const char *text)
{
	static char got[1 << 20];
	size_t n = 0;
	ssize_t r;

	while (n < sizeof got - 1 && poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000) > 0 &&
		(r = read(fd, got + n, sizeof got - 1 - n)) > 0) {
		n += (size_t)r;
		got[n] = '\0';
		if (strstr(got, text))
			return true;
	}
	return false;
}

/* Stopped as by ^S: what is said meanwhile comes afterwards, progress does not. */
static int over_a_stopped_terminal(int fd)
{
	assert_true(isatty(2));
	say("before\n", 7);
	assert_true(hears(fd, "before"));
	assert_int_equal(tcflow(2, TCOOFF), 0);
	for (int i = 0; i < 2000; i++)
		progress("Save", (uint64_t)i, 2000);
	say("one\n", 4);
	say("two\n", 4);
	assert_int_equal(tcflow(2, TCOON), 0);
	say_rest();
	assert_true(hears(fd, "one\r\ntwo\r\n"));
	return 0;
}

/* Nobody reads, until all that fits is full. */
static int into_a_full_pipe(int fd)
{
	char line[1000];
	int status;
	pid_t reader;

	memset(line, '.', sizeof line);
	line[sizeof line - 1] = '\n';
	for (int i = 0; i < 200; i++)
		say(line, sizeof line);
	say("the end\n", 8);
	say_if_free("not now", 7);
	reader = fork();
	if (!reader)
		_exit(!hears(fd, "the end"));
	say_rest();
	assert_int_equal(waitpid(reader, &status, 0), reader);
	return status;
}

/* In a process of its own: say.c keeps what it has opened. What it reports goes to stderr; stdout is for these two. */
static int in_a_process(char *which)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		dup2(2, 1);
		execv("/proc/self/exe", (char *[]){ "test_say", which, NULL });
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void terminal(void **state)
{
	(void)state;
	assert_int_equal(in_a_process("terminal"), 0);
}

static void full(void **state)
{
	(void)state;
	assert_int_equal(in_a_process("pipe"), 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(terminal), cmocka_unit_test(full) };

	if (argc > 1)
		return !strcmp(argv[1], "pipe") ? spoken(false, into_a_full_pipe) : spoken(true, over_a_stopped_terminal);
	return cmocka_run_group_tests_name("say: a reader that waits", tests, NULL, NULL);
}
