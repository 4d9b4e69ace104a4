/* A line of fstab(5), with the options that mount(8) knows: parsed, its device found by label, mounted. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#include "init/supervisor/fstab.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/own.h"

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

#define ATIME (MS_NOATIME | MS_RELATIME | MS_STRICTATIME)
#define WAIT_MS 5000 /* for a disk that is on its way */

/* What the kernel takes as a flag; @clear goes out first: the last word wins. "user" and its kin imply what follows. */
static const struct {
	const char *name;
	unsigned long set, clear;
} options[] = {
	{ "defaults", 0, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS },
	{ "ro", MS_RDONLY, 0 },
	{ "rw", 0, MS_RDONLY },
	{ "nosuid", MS_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },
	{ "noexec", MS_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "sync", MS_SYNCHRONOUS, 0 },
	{ "async", 0, MS_SYNCHRONOUS },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "noatime", MS_NOATIME, ATIME },
	{ "atime", 0, MS_NOATIME },
	{ "relatime", MS_RELATIME, ATIME },
	{ "norelatime", 0, MS_RELATIME },
	{ "strictatime", MS_STRICTATIME, ATIME },
	{ "nostrictatime", 0, MS_STRICTATIME },
	{ "nodiratime", MS_NODIRATIME, 0 },
	{ "diratime", 0, MS_NODIRATIME },
	{ "lazytime", MS_LAZYTIME, 0 },
	{ "nolazytime", 0, MS_LAZYTIME },
	{ "iversion", MS_I_VERSION, 0 },
	{ "noiversion", 0, MS_I_VERSION },
	{ "mand", MS_MANDLOCK, 0 },
	{ "nomand", 0, MS_MANDLOCK },
	{ "silent", MS_SILENT, 0 },
	{ "loud", 0, MS_SILENT },
	{ "nosymfollow", MS_NOSYMFOLLOW, 0 },
	{ "symfollow", 0, MS_NOSYMFOLLOW },
	{ "remount", MS_REMOUNT, 0 },
	{ "bind", MS_BIND, 0 },
	{ "rbind", MS_BIND | MS_REC, 0 },
	{ "user", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 },
	{ "users", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 },
	{ "owner", MS_NOSUID | MS_NODEV, 0 },
	{ "group", MS_NOSUID | MS_NODEV, 0 },
	/* For programs that read fstab; nothing is left of them when it comes to mounting. */
	{ "auto", 0, 0 },
	{ "nouser", 0, 0 },
	{ "nogroup", 0, 0 },
	{ "noowner", 0, 0 },
	{ "_netdev", 0, 0 },
};

/* Where a mount passes its own mounts on to, each by a call of its own. */
static const struct {
	const char *name;
	unsigned long flags;
} propagations[] = {
	{ "private", MS_PRIVATE },
	{ "rprivate", MS_PRIVATE | MS_REC },
	{ "shared", MS_SHARED },
	{ "rshared", MS_SHARED | MS_REC },
	{ "slave", MS_SLAVE },
	{ "rslave", MS_SLAVE | MS_REC },
	{ "unbindable", MS_UNBINDABLE },
	{ "runbindable", MS_UNBINDABLE | MS_REC },
};

/* What mount(8) does before the kernel is asked, and we do not: silently left out it would mean something else. */
static const char *const others[] = { "loop", "offset", "sizelimit", "move" };

char *fstab_word(char **s)
{
	char *w = strsep(s, " \t"), *to;

	while (w && !*w)
		w = strsep(s, " \t");
	to = w;
	for (char *p = w; p && *p; to++) {
		bool octal = p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' &&
			p[3] <= '7' && (p[1] != '0' || p[2] != '0' || p[3] != '0');

		*to = octal ? (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0')) : *p;
		p += octal ? 4 : 1;
	}
	if (to)
		*to = '\0';
	return w ? w : "";
}

/* The next option of @s, NULL at the end. A comma within quotes is part of it. */
static char *next_option(char **s)
{
	bool quoted = false;
	char *p = *s, *start = *s;

	if (!p || !*p)
		return NULL;
	for (; *p && (*p != ',' || quoted); p++)
		quoted ^= *p == '"';
	*s = *p ? p + 1 : p;
	*p = '\0';
	return start;
}

static bool is_comment(const char *o)
{
	return str_starts(o, "x-") || str_starts(o, "X-") || str_starts(o, "comment=");
}

static int read_option(struct fstab *f, struct buf *data, const char *o, struct err *e)
{
	size_t n = strcspn(o, "=");

	if (!*o || is_comment(o))
		return 0;
	f->nofail |= !strcmp(o, "nofail");
	f->noauto |= !strcmp(o, "noauto");
	if (!strcmp(o, "nofail") || !strcmp(o, "noauto"))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (!strcmp(o, options[i].name)) {
			f->flags = (f->flags & ~options[i].clear) | options[i].set;
			return 0;
		}
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++)
		if (!strcmp(o, propagations[i].name)) {
			f->propagation = propagations[i].flags;
			return 0;
		}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (n == strlen(others[i]) && !strncmp(o, others[i], n)) {
			err_set(e, -EOPNOTSUPP, "cannot mount %s on %s: fermata does not do '%s'", f->source, f->target, o);
			return err_hint(e, "do it in a script");
		}
	buf_adds(data, data->n ? "," : "");
	buf_adds(data, o);
	return 0;
}

int fstab_parse(char *line, struct fstab *f, struct err *e)
{
	auto_buf struct buf data = { 0 };
	char *opts, *o, *w;
	int r;

	*f = (struct fstab){ 0 };
	f->source = fstab_word(&line);
	f->target = fstab_word(&line);
	f->type = fstab_word(&line);
	opts = fstab_word(&line);
	if (!*f->type)
		return err_set(e, -EINVAL, "a mount is SOURCE FOLDER TYPE [OPTIONS]");
	if (f->target[0] != '/' || !strcmp(f->type, "swap")) {
		err_set(e, -EINVAL, "cannot mount %s on %s: that is no folder from the root", f->source, f->target);
		return err_hint(e, !strcmp(f->type, "swap") ? "swapon in a script" : "begin it with '/'");
	}
	/* How often it is dumped, and when it is checked: for other programs. */
	for (int i = 0; *(w = fstab_word(&line)); i++)
		if (i == 2 || w[strspn(w, "0123456789")])
			return err_set(e, -EINVAL, "cannot mount %s on %s: what does '%s' mean, after the options?", f->source,
				f->target, w);
	while ((o = next_option(&opts)))
		if ((r = read_option(f, &data, o, e)) < 0)
			return r;
	f->data = buf_take(&data);
	return f->data ? 0 : err_nomem(e, "reading a mount");
}

/* ---- devices by what is on them ------------------------------------------------------------------------------- */

static const struct superblock {
	uint64_t magic_at;
	const char *magic;
	uint64_t uuid_at, label_at;
	size_t label_size; /* 0: not looked for */
	bool serial;       /* four bytes and no UUID */
} superblocks[] = {
	{ 1024 + 56, "\x53\xef", 1024 + 104, 1024 + 120, 16, false },    /* ext2, ext3, ext4 */
	{ 0, "XFSB", 32, 108, 12, false },                               /* xfs */
	{ 65536 + 64, "_BHRfS_M", 65536 + 32, 65536 + 299, 256, false }, /* btrfs */
	{ 1024, "\xe2\xe1\xf5\xe0", 1024 + 48, 1024 + 64, 16, false },   /* erofs */
	{ 82, "FAT32   ", 67, 0, 0, true },
	{ 54, "FAT16   ", 39, 0, 0, true },
};

static void uuid_print(char text[40], const unsigned char *id, bool serial)
{
	char *t = text;

	for (size_t k = 0; k < 16 && !serial; k++)
		t += sprintf(t, "%s%02x", k == 4 || k == 6 || k == 8 || k == 10 ? "-" : "", id[k]);
	if (serial)
		sprintf(t, "%02x%02x-%02x%02x", id[3], id[2], id[1], id[0]);
}

/* Whether the device has this UUID or label. One that cannot be read has not. */
static bool carries(const char *dev, const char *uuid, const char *label)
{
	auto_fd int fd = open(dev, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(superblocks); i++) {
		const struct superblock *s = &superblocks[i];
		char text[40] = "", name[257] = "";
		unsigned char id[16] = { 0 };
		size_t n = strlen(s->magic);

		if (pread(fd, name, n, (off_t)s->magic_at) != (ssize_t)n || memcmp(name, s->magic, n))
			continue;
		if (pread(fd, id, sizeof id, (off_t)s->uuid_at) != sizeof id ||
			pread(fd, name, s->label_size, (off_t)s->label_at) != (ssize_t)s->label_size)
			return false;
		name[s->label_size] = '\0';
		uuid_print(text, id, s->serial);
		return uuid ? !strcasecmp(uuid, text) : s->label_size && !strcmp(label, name);
	}
	return false;
}

/* Whether another device is made of it: a member of a mirror shows the same superblock. */
static bool is_held(const char *name)
{
	auto_free char *path = str_fmt("/sys/class/block/%s/holders", name);
	DIR *d = path ? opendir(path) : NULL;
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n > 2;
}

/* The only device with this UUID or label; NULL: none (yet). Two: -ENOTUNIQ, which of them is meant nobody can tell. */
static int look_through(const char *uuid, const char *label, char **dev, struct err *e)
{
	DIR *d = opendir("/sys/class/block");
	struct dirent *i;
	int r = 0;

	while (d && r == 0 && (i = readdir(d))) {
		auto_free char *path = i->d_name[0] == '.' ? NULL : str_fmt("/dev/%s", i->d_name);

		if (!path || !carries(path, uuid, label) || is_held(i->d_name))
			continue;
		if (*dev)
			r = err_set(e, -ENOTUNIQ, "both %s and %s have it", *dev, path);
		else
			*dev = take_ptr(&path);
	}
	if (d)
		closedir(d);
	return r;
}

/* Which of the names that fstab(5) has for devices @source begins with; -1: it is one itself. */
static const struct {
	const char *key, *links;
} tags[] = {
	{ "UUID=", "by-uuid" }, { "LABEL=", "by-label" }, { "PARTUUID=", "by-partuuid" }, { "PARTLABEL=", "by-partlabel" },
	{ "ID=", "by-id" },
};

static int tag_of(const char *source)
{
	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if (str_starts(source, tags[i].key))
			return (int)i;
	return -1;
}

static int find_tagged(int tag, const char *value, char **dev, struct err *e)
{
	/* What a device manager has found, if there is one. */
	auto_free char *link = strchr(value, '/') ? NULL : str_fmt("/dev/disk/%s/%s", tags[tag].links, value);

	if (link && file_exists(link)) {
		*dev = take_ptr(&link);
		return 0;
	}
	return tag > 1 ? 0 : look_through(tag == 0 ? value : NULL, tag == 1 ? value : NULL, dev, e);
}

/* The source as the kernel takes it, which the caller frees. -ENOENT: it did not come. */
static int find_source(const struct fstab *f, char **source, struct err *e)
{
	struct deadline d = deadline_in(WAIT_MS);
	int tag = tag_of(f->source);
	const char *value = f->source + (tag < 0 ? 0 : strlen(tags[tag].key));
	size_t n = strlen(value);
	bool quoted = tag >= 0 && n >= 2 && value[0] == '"' && value[n - 1] == '"';
	auto_free char *plain = quoted ? strndup(value + 1, n - 2) : strdup(value);

	if (!plain)
		return err_nomem(e, "looking for a disk");
	for (;;) {
		if (tag >= 0 && find_tagged(tag, plain, source, e) < 0)
			return e->code;
		if (tag < 0 && (plain[0] != '/' || file_exists(plain)))
			*source = take_ptr(&plain);
		if (*source)
			return 0;
		if (!deadline_left_ms(d))
			return tag < 0 ? err_sys(e, ENOENT, "%s", plain) : err_set(e, -ENOENT, "no disk has it");
		poll(NULL, 0, 100);
	}
}

/* ---- mounting ---------------------------------------------------------------------------------------------------- */

/* As mount(8): what may not be written to is mounted to be read. */
static int mount_fs(const char *source, const struct fstab *f, const char *type, unsigned long more)
{
	unsigned long flags = f->flags | more;

	if (mount(source, f->target, type, flags, f->data) == 0)
		return 0;
	if ((errno == EROFS || errno == EACCES) && !(flags & (MS_RDONLY | MS_REMOUNT)) &&
		mount(source, f->target, type, flags | MS_RDONLY, f->data) == 0)
		return 0;
	return -errno;
}

/* "auto": the first of the kernel's file systems that takes it. */
static int mount_auto(const char *source, const struct fstab *f)
{
	auto_buf struct buf types = { 0 };
	int r = -ENODEV, got;
	char *rest, *line;
	struct err e;

	if (file_read("/proc/filesystems", 1 << 16, &types, &e) < 0)
		return e.code;
	buf_adds(&types, "\n");
	rest = types.p;
	while (rest && (line = strsep(&rest, "\n"))) {
		if (line[0] != '\t')
			continue;
		got = mount_fs(source, f, line + 1, MS_SILENT);
		if (got == 0)
			return 0;
		/* One that says "not mine" does not say what is wrong. */
		if (got != -EINVAL || r == -ENODEV)
			r = got;
	}
	return r;
}

/* A bind mount takes its flags in a second call; what they do not speak of is as at the source. */
static int mount_bind(const char *source, const struct fstab *f)
{
	const unsigned long most = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
	unsigned long want = f->flags & (most | MS_NODIRATIME | MS_NOSYMFOLLOW | ATIME);
	struct statfs s;
	int code;

	if (mount(source, f->target, NULL, f->flags & (MS_BIND | MS_REC), NULL) < 0)
		return -errno;
	if (!want)
		return 0;
	if (statfs(f->target, &s) == 0)
		want |= (unsigned long)s.f_flags & most;
	if (mount(NULL, f->target, NULL, MS_REMOUNT | MS_BIND | want, NULL) == 0)
		return 0;
	/* Open to be written is not what was asked for. */
	code = -errno;
	umount2(f->target, MNT_DETACH);
	return code;
}

int fstab_mount(const struct fstab *f, struct err *e)
{
	auto_free char *source = NULL;
	int r;

	if (dir_make(f->target, 0755, e) < 0)
		return e->code;
	if (f->flags & MS_REMOUNT) {
		if ((r = mount_fs(f->source, f, NULL, 0)) < 0)
			return err_sys(e, -r, "cannot mount %s on %s", f->source, f->target);
	} else {
		if (find_source(f, &source, e) < 0)
			return f->nofail && e->code == -ENOENT ? 0 : err_at(e, "cannot mount %s on %s", f->source, f->target);
		r = f->flags & MS_BIND            ? mount_bind(source, f)
			: !strcmp(f->type, "auto") ? mount_auto(source, f)
						   : mount_fs(source, f, f->type, 0);
		if (r < 0)
			return err_sys(e, -r, "cannot mount %s on %s", f->source, f->target);
	}
	if (f->propagation && mount(NULL, f->target, NULL, f->propagation, NULL) < 0)
		return err_sys(e, errno, "cannot change where the mounts below %s are passed on to", f->target);
	return !(f->flags & MS_REMOUNT);
}
