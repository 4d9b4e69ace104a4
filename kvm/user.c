/* Users and groups out of /etc, without the C library's plug-ins. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/spawn.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/own.h"

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
	unsigned long v;

	if (!s || !*s || strspn(s, "0123456789") != strlen(s))
		return false;
	errno = 0;
	v = strtoul(s, &end, 10);
	*n = (unsigned)v;
	return !errno && v < UINT32_MAX; /* that one means "as it was" to the kernel */
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

/* Find @name in /etc/passwd. @user: out, the name there, within @passwd; NULL: it is not there. */
static int find_name(const char *name, struct buf *passwd, char **user, struct spawn_user *u, struct err *e)
{
	char *field[4], *text, *line;

	*user = NULL;
	if (file_read("/etc/passwd", MAX_FILE, passwd, e) < 0)
		return e->code == -ENOENT ? 0 : e->code;
	for (text = passwd->p; !*user && text && (line = strsep(&text, "\n"));) {
		split(line, field);
		if (is_user(field, name, u))
			*user = field[0];
	}
	return 0;
}

/* What /etc/group says: the groups that have @user (NULL: nobody asks) as a member; and the number of @group, if it is a name. */
static int find_groups(const char *user, const char *group, struct spawn_user *u, struct err *e)
{
	auto_buf struct buf text = { 0 };
	bool found = !group || number(group, &u->gid);
	char *field[4], *at, *line;

	if (file_read("/etc/group", MAX_FILE, &text, e) < 0 && e->code != -ENOENT)
		return e->code;
	u->n_groups = 1;
	for (at = text.p; at && (line = strsep(&at, "\n"));) {
		split(line, field);
		if (!found && str_eq(field[0], group))
			found = number(field[2], &u->gid);
		if (user)
			add_group(field, user, u);
	}
	u->groups[0] = u->gid;
	return found ? 0 : err_set(e, -ENOENT, "there is no group '%s'", group);
}

int spawn_user_find(const char *name, struct spawn_user *u, struct err *e)
{
	auto_buf struct buf passwd = { 0 };
	auto_free char *who = strdup(name);
	char *group = who ? strchr(who, ':') : NULL, *user;

	*u = (struct spawn_user){ 0 };
	if (!who)
		return err_nomem(e, "find a user");
	if (group)
		*group++ = '\0';
	if (find_name(who, &passwd, &user, u, e) < 0)
		return e->code;
	/* A number needs no entry, but then nothing tells its group. */
	if (!user && !(group && number(who, &u->uid))) {
		err_set(e, -ENOENT, "there is no user '%s'", who);
		return number(who, &u->uid) ? err_hint(e, "with its group, 'user = %s:GID', it needs no entry in /etc/passwd", who) :
					      e->code;
	}
	u->group_given = group;
	return find_groups(user, group, u, e);
}
