/* Users and groups out of /etc, without the C library's plug-ins. */
#include <stdlib.h>
#include <string.h>

#include "kvm/spawn.h"
#include "lib/buf.h"
#include "lib/file.h"

#define MAX_FILE (1024 * 1024)

/* Split @line at colons, in place; NULL for fields that are not there. */
static void split(char *line, char *field[4])
{
	for (int i = 0; i < 4; i++)
		field[i] = line ? strsep(&line, ":") : NULL;
}

static bool number(const char *s, unsigned *n)
{
	char *end;
	unsigned long v = s ? strtoul(s, &end, 10) : 0;

	*n = (unsigned)v;
	return s && *s && !*end && v < UINT32_MAX;
}

/* passwd: name:x:uid:gid:... */
static bool is_user(char *field[4], const char *name, struct spawn_user *u)
{
	return field[3] && (str_eq(field[0], name) || str_eq(field[2], name)) && number(field[2], &u->uid) &&
		number(field[3], &u->gid);
}

/* group: name:x:gid:member,member */
static void add_group(char *field[4], const char *user, struct spawn_user *u)
{
	char *members = field[3], *m;
	unsigned gid;

	while (members && (m = strsep(&members, ",")))
		if (str_eq(m, user) && u->n_groups < SPAWN_MAX_GROUPS && number(field[2], &gid))
			u->groups[u->n_groups++] = gid;
}

int spawn_user_find(const char *name, struct spawn_user *u, struct err *e)
{
	auto_buf struct buf passwd = { 0 }, group = { 0 };
	char *field[4], *text, *line, *user = NULL;

	*u = (struct spawn_user){ 0 };
	if (file_read("/etc/passwd", MAX_FILE, &passwd, e) < 0)
		return e->code;
	for (text = passwd.p; !user && text && (line = strsep(&text, "\n"));) {
		split(line, field);
		if (is_user(field, name, u))
			user = field[0];
	}
	if (!user)
		return err_set(e, -ENOENT, "there is no user '%s'", name);
	u->groups[u->n_groups++] = u->gid;
	if (file_read("/etc/group", MAX_FILE, &group, e) < 0)
		return e->code == -ENOENT ? 0 : e->code;
	for (text = group.p; text && (line = strsep(&text, "\n"));) {
		split(line, field);
		add_group(field, user, u);
	}
	return 0;
}
