#include "tests/harness/qemu_img.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/logdev.h"

extern char **environ;

static char dir[64];

const char *qemu_img_path(const char *file)
{
	static char path[4][160];
	static unsigned at;
	struct statvfs st;

	if (!dir[0]) {
		/* In memory, if there is plenty: a container gets 64 MiB, for all that run at once. */
		bool shm = !access("/dev/shm", W_OK) && !statvfs("/dev/shm", &st) && st.f_bavail * st.f_frsize >= 1ull << 30;

		snprintf(dir, sizeof(dir), "%s/fermata-test-XXXXXX", shm ? "/dev/shm" : "/tmp");
		if (!mkdtemp(dir))
			abort();
	}
	at = (at + 1) % 4;
	snprintf(path[at], sizeof(path[at]), "%s/%s", dir, file);
	return path[at];
}

bool qemu_img_there(void)
{
	static int there = -1;

	if (there < 0)
		there = qemu_img_run((const char *[]){ "qemu-img", "--version", NULL }) == 0;
	return there;
}

int qemu_img_run(const char *const argv[])
{
	posix_spawn_file_actions_t fa;
	pid_t pid;
	int st;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, qemu_img_path("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&fa, 1, 2);
	st = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (st || waitpid(pid, &st, 0) != pid)
		return -1;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

char *qemu_img_said(void)
{
	size_t n;
	char *said = (char *)bytes_import(qemu_img_path("out"), &n);

	if (!said || !(said = realloc(said, n + 1)))
		abort();
	said[n] = '\0';
	return said;
}

int qemu_img_check(const void *bytes, size_t n)
{
	const char *path = qemu_img_path("check.qcow2");

	bytes_export(bytes, n, path);
	return qemu_img_run((const char *[]){ "qemu-img", "check", "-f", "qcow2", path, NULL });
}

uint8_t *qemu_img_content(const void *bytes, size_t n, const char *snap, size_t *got)
{
	const char *path = qemu_img_path("convert.qcow2"), *out = qemu_img_path("content.raw");
	char name[100];

	bytes_export(bytes, n, path);
	snprintf(name, sizeof(name), "snapshot.name=%s", snap ? snap : "");
	if (qemu_img_run(snap ? (const char *[]){ "qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-l", name, path, out,
						  NULL } :
				(const char *[]){ "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, out, NULL }))
		return NULL;
	return bytes_import(out, got);
}

int qemu_img_cleanup(void **state)
{
	struct dirent *f;
	DIR *d;

	(void)state;
	if (!dir[0] || !(d = opendir(dir)))
		return 0;
	while ((f = readdir(d)))
		if (f->d_name[0] != '.')
			unlink(qemu_img_path(f->d_name));
	closedir(d);
	rmdir(dir);
	dir[0] = '\0';
	return 0;
}
