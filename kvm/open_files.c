/* The files that a process has open. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "kvm/kvm.h"
#include "lib/own.h"

int kvm_has_open(pid_t pid, const struct stat *id, size_t n, size_t *found)
{
	auto_free bool *seen = calloc(n + 1, sizeof *seen);
	char path[40];
	struct dirent *d;
	struct stat st;
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	dir = seen ? opendir(path) : NULL;
	if (!dir)
		return seen ? -errno : -ENOMEM;
	*found = 0;
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.' || fstatat(dirfd(dir), d->d_name, &st, 0) < 0)
			continue;
		for (size_t i = 0; i < n; i++) {
			bool is = !seen[i] && st.st_ino == id[i].st_ino && st.st_dev == id[i].st_dev;

			seen[i] |= is;
			*found += is;
		}
	}
	closedir(dir);
	return 0;
}
