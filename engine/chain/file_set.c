/* Files by device and inode: whether a chain has one. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "lib/err.h"

bool file_set_has(const struct file_set *s, const char *file)
{
	struct stat st;

	if (s->all || stat(file, &st) < 0)
		return s->all;
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].ino == st.st_ino && s->v[i].dev == st.st_dev)
			return true;
	return false;
}

void file_set_done(struct file_set *s)
{
	free(s->v);
}


bool file_set_put(struct file_set *s, const char *file, bool raw)
{
	struct file_id *all;
	struct stat st;

	if (s->all || stat(file, &st) < 0)
		return false;
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].ino == st.st_ino && s->v[i].dev == st.st_dev && s->v[i].raw == raw)
			return false;
	all = reallocarray(s->v, s->n + 1, sizeof *all);
	s->all = !all;
	if (!all)
		return false;
	s->v = all;
	all[s->n++] = (struct file_id){ st.st_dev, st.st_ino, raw };
	return true;
}

void file_set_add(struct file_set *s, const char *top, bool raw)
{
	char at[PATH_MAX], next[PATH_MAX];
	struct err e;

	snprintf(at, sizeof at, "%s", top);
	while (at[0] && file_set_put(s, at, raw) && !raw) {
		if (chain_next(at, next, &raw, &e) < 0)
			s->all = true;
		memcpy(at, next, sizeof at);
	}
}
