#include "tests/harness/peer.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- in the child: no cmocka, no allocation ---- */

static int sock = -1, listener = -1, log_fd;
static char id[64] = "0", old[64] = "0";

static void __attribute__((noreturn, format(printf, 2, 3))) child_fail(const struct peer_step *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	dprintf(log_fd, "step %d '%s': ", s->op, s->text ? s->text : "");
	vdprintf(log_fd, fmt, ap);
	va_end(ap);
	_exit(1);
}

/* False when the other side has had enough; its own test says whether it should have. */
static bool put(const struct peer_step *s, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(sock, p, n, MSG_NOSIGNAL);

		if (k < 0 && (errno == EPIPE || errno == ECONNRESET))
			return false;
		if (k < 0)
			child_fail(s, "send: %s", strerror(errno));
		p += k;
		n -= (size_t)k;
	}
	return true;
}

/* @text with every $ID and $OLD replaced. */
static size_t expand(const char *text, char *out, size_t size)
{
	size_t n = 0;

	while (*text && n < size - sizeof id) {
		if (!strncmp(text, "$ID", 3)) {
			n += (size_t)sprintf(out + n, "%s", id);
			text += 3;
		} else if (!strncmp(text, "$OLD", 4)) {
			n += (size_t)sprintf(out + n, "%s", old);
			text += 4;
		} else {
			out[n++] = *text++;
		}
	}
	return n;
}

/* One line, byte by byte, so that nothing of the next is taken. Returns a descriptor that came with it, or -1. */
static int read_line(const struct peer_step *s, char *line, size_t size)
{
	int passed = -1;
	size_t n = 0;

	do {
		char room[CMSG_SPACE(sizeof(int))];
		struct iovec iov = { line + n, 1 };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
		ssize_t k = recvmsg(sock, &mh, 0);

		if (k <= 0)
			child_fail(s, "the other side closed instead of sending a line");
		if (CMSG_FIRSTHDR(&mh))
			memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof passed);
	} while (line[n++] != '\n' && n < size - 1);
	line[n] = '\0';
	return passed;
}

static void expect(const struct peer_step *s)
{
	char line[8192], *at = NULL;
	int fd = read_line(s, line, sizeof line);

	/* On a busy machine the other side may have asked again before it got its answer; an agent answers all. */
	while (strstr(line, "guest-sync-delimited") && !strstr(s->text, "sync")) {
		char again[80];

		at = strstr(line, "\"id\":");
		put(s, again, (size_t)snprintf(again, sizeof again, "\xff{\"return\": %.*s}\n", at ? (int)strcspn(at + 5, "}") : 0,
					       at ? at + 5 : ""));
		at = NULL;
		fd = read_line(s, line, sizeof line);
	}
	if (!strstr(line, s->text))
		child_fail(s, "got %s", line);
	if (s->op == PEER_EXPECT_FF && (unsigned char)line[0] != 0xff)
		child_fail(s, "no 0xff before %s", line);
	if (s->op == PEER_EXPECT_FD && (fd < 0 || write(fd, "x", 1) != 1))
		child_fail(s, "no usable descriptor came with %s", line);
	if (fd >= 0)
		close(fd);
	for (char *p = line; (p = strstr(p, "\"id\":")); p++)
		at = p + 5 + strspn(p + 5, " ");
	if (at) {
		memcpy(old, id, sizeof old);
		snprintf(id, sizeof id, "%.*s", (int)strcspn(at, ",}"), at);
	}
}

static void send_text(const struct peer_step *s)
{
	char text[8192];
	size_t n = expand(s->text, text, sizeof text - 2), piece = n + 2;

	if (s->op != PEER_RAW) {
		memcpy(text + n, "\r\n", 2);
		n += 2;
	}
	if (s->op == PEER_BYTES)
		piece = 1;
	if (s->op == PEER_SPLIT)
		piece = s->n;
	for (size_t at = 0; at < n; at += piece) {
		if (!put(s, text + at, piece < n - at ? piece : n - at))
			return;
		if (s->op == PEER_SPLIT)
			usleep(1000);
	}
}

/* Many at a time: a flood that comes message by message leaves gaps in which the reader finds nothing. */
static void flood(const struct peer_step *s)
{
	static char many[65536];
	size_t one = expand(s->text, many, sizeof many / 2);
	unsigned fit, left = s->n;

	memcpy(many + one, "\r\n", 2);
	one += 2;
	fit = (unsigned)(sizeof many / one);
	for (unsigned i = 1; i < fit; i++)
		memcpy(many + i * one, many, one);
	for (; left && put(s, many, one * (left < fit ? left : fit)); left -= left < fit ? left : fit)
		;
}

static void drip(const struct peer_step *s)
{
	bool more = put(s, s->text, strlen(s->text));

	while (more) {
		usleep(1000);
		more = put(s, "x", 1);
	}
}

static void send_big(const struct peer_step *s)
{
	char block[4096];
	unsigned left = s->n;

	memset(block, 'a', sizeof block);
	put(s, "{\"return\": \"", 12);
	for (unsigned k; left; left -= k) {
		k = left < sizeof block ? left : sizeof block;
		put(s, block, k);
	}
	put(s, block, (size_t)sprintf(block, "\", \"id\": %s}\r\n", id));
}

static void until_closed(void)
{
	char waste[4096];

	while (sock >= 0 && recv(sock, waste, sizeof waste, 0) > 0)
		;
}

static void follow(const struct peer_step *s)
{
	switch (s->op) {
	case PEER_EXPECT:
	case PEER_EXPECT_FD:
	case PEER_EXPECT_FF:
		expect(s);
		break;
	case PEER_SEND:
	case PEER_RAW:
	case PEER_BYTES:
	case PEER_SPLIT:
		send_text(s);
		break;
	case PEER_FLOOD:
		flood(s);
		break;
	case PEER_DRIP:
		drip(s);
		break;
	case PEER_BIG:
		send_big(s);
		break;
	case PEER_SLEEP:
		poll(NULL, 0, (int)s->n);
		break;
	case PEER_HANG: {
		struct pollfd p = { .fd = sock, .events = POLLRDHUP };

		poll(&p, 1, -1);
		break;
	}
	case PEER_CLOSE:
		close(sock);
		sock = -1;
		break;
	case PEER_ACCEPT:
		sock = accept(listener, NULL, NULL);
		if (sock < 0)
			child_fail(s, "accept: %s", strerror(errno));
		break;
	case PEER_END:
		break;
	}
}

static void __attribute__((noreturn)) child(const struct peer_step *steps)
{
	alarm(120);
	for (; steps->op != PEER_END; steps++)
		follow(steps);
	until_closed();
	_exit(0);
}

/* ---- in the test ---- */

static void start(struct peer *p, int theirs, int other, int accepts, const struct peer_step *steps)
{
	int pipe_fd[2];

	assert_int_equal(pipe(pipe_fd), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (!p->pid) {
		sock = theirs;
		listener = accepts;
		log_fd = pipe_fd[1];
		close(pipe_fd[0]);
		if (other >= 0)
			close(other);
		child(steps);
	}
	close(pipe_fd[1]);
	close(theirs >= 0 ? theirs : accepts);
	p->log = pipe_fd[0];
	p->fd = other;
}

void peer_mkdir(char out[PEER_DIR_MAX])
{
	const char *tmp = getenv("FERMATA_TEST_TMP");

	snprintf(out, PEER_DIR_MAX, "%s/peer.XXXXXX", tmp && strlen(tmp) < 64 ? tmp : "/tmp");
	assert_non_null(mkdtemp(out));
}

void peer_start(struct peer *p, const struct peer_step *steps)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	start(p, sv[1], sv[0], -1, steps);
}

void peer_listen(struct peer *p, const char *path, const struct peer_step *steps)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	unlink(path);
	assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(s, 1), 0);
	start(p, -1, -1, s, steps);
}

void peer_end(struct peer *p)
{
	char why[1024];
	ssize_t n = read(p->log, why, sizeof why - 1);
	int status;

	close(p->log);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	if (status)
		fail_msg("the peer (status %d): %.*s", status, n > 0 ? (int)n : 0, why);
}

void peer_stop(struct peer *p)
{
	close(p->log);
	kill(p->pid, SIGKILL);
	assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
}
