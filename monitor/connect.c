/* Connecting to a unix socket, of a path of any length. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/own.h"
#include "monitor/monitor.h"

#define RETRY_MS 10

/*
 * Fill in the address of @path. A path too long for it is addressed through /proc/self/fd/@dir, its directory.
 * @dir: in -1, out a descriptor if that was needed.
 */
static int socket_address(const char *path, struct sockaddr_un *a, int *dir, struct err *e)
{
	const char *base = strrchr(path, '/');
	auto_free char *folder = NULL;
	int n;

	a->sun_family = AF_UNIX;
	if (strlen(path) < sizeof a->sun_path) {
		strcpy(a->sun_path, path);
		return 0;
	}
	folder = base ? str_fmt("%.*s/", (int)(base - path), path) : str_fmt(".");
	if (!folder)
		return err_nomem(e, "connect");
	*dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir < 0)
		return err_sys(e, errno, "cannot connect to %s", path);
	n = snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%s", *dir, base ? base + 1 : path);
	if (n >= (int)sizeof a->sun_path)
		return err_set(e, -ENAMETOOLONG, "cannot connect to %s: the socket's name is too long", path);
	return 0;
}

int mon_connect(const char *path, struct deadline d, int *fd, struct err *e)
{
	auto_fd int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	auto_fd int dir = -1;
	struct sockaddr_un a = { 0 };

	if (s < 0)
		return err_sys(e, errno, "cannot make a socket");
	if (socket_address(path, &a, &dir, e) < 0)
		return e->code;
	while (connect(s, (struct sockaddr *)&a, sizeof a) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return err_sys(e, errno, "cannot connect to %s", path);
		if (deadline_left_ms(d) == 0) {
			err_set(e, -ETIMEDOUT, "cannot connect to %s: too many clients are waiting for it", path);
			return e->code;
		}
		poll(NULL, 0, RETRY_MS);
	}
	*fd = take_fd(&s);
	return 0;
}

int mon_open_path(const char *path, struct deadline d, struct mon **m, struct err *e)
{
	int fd;

	if (mon_connect(path, d, &fd, e) < 0)
		return e->code;
	return mon_open(fd, d, m, e) < 0 ? err_at(e, "%s", path) : 0;
}
