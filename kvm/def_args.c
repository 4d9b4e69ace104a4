/* The words of [qemu] args that would contradict what fermata itself says to QEMU. */
#include "kvm/def_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/def.h"
#include "lib/own.h"
#include "lib/text.h"

/* What each does instead is in its hint. @value: refused only with a value that has this in it; NULL: with any. */
static const struct refused {
	const char *option, *value, *why, *hint;
} refused[] = {
	{ "snapshot", NULL, "it has no effect on [disk] images, which the guest would write to",
		"take a snapshot before, and 'discard-changes = yes' in [boot] goes back to it" },
	{ "incoming", NULL, "what the guest's memory comes from is fermata's business", "see 'fermata restore' and 'fermata snapshot-revert'" },
	{ "loadvm", NULL, "it would go back without the record", "say 'from = SNAPSHOT' in [boot], or see 'fermata snapshot-revert'" },
	{ "daemonize", NULL, "QEMU is in the background already", "leave it out" },
	{ "pidfile", NULL, "fermata keeps the process on record itself", "'fermata list' shows the process id" },
	{ "S", NULL, "fermata itself lets the guest run", "'fermata start --paused' leaves it paused" },
	{ "preconfig", NULL, "the machine would never be made", "leave it out" },
	{ "runas", NULL, "fermata starts QEMU as another user", "say 'user = NAME'" },
	{ "run-with", "user=", "fermata starts QEMU as another user", "say 'user = NAME'" },
	{ "run-with", "chroot=", "images are opened by their names while the guest runs", "leave it out" },
	{ "chroot", NULL, "images are opened by their names while the guest runs", "leave it out" },
	{ "accel", NULL, "the definition says what runs the guest", "say 'accel = kvm' or 'accel = tcg'" },
	{ "enable-kvm", NULL, "the definition says what runs the guest", "say 'accel = kvm'" },
	{ "qmp", "stdio", "QEMU has no terminal", "use a socket, as in '-qmp unix:PATH,server=on,wait=off', or 'fermata qemu-monitor-command'" },
	{ "qmp-pretty", "stdio", "QEMU has no terminal", "use a socket, or 'fermata qemu-monitor-command --pretty'" },
	{ "monitor", "stdio", "QEMU has no terminal", "use a socket, as in '-monitor unix:PATH,server=on,wait=off', or 'fermata qemu-monitor-command --hmp'" },
	{ "serial", "stdio", "QEMU has no terminal", "'fermata console' is at the first serial port" },
	{ "chardev", "stdio", "QEMU has no terminal", "use a socket, or 'fermata console'" },
	{ "gdb", "stdio", "QEMU has no terminal", "use a socket" },
};

/* Options whose value is text of the user's own, which may look like an option. */
static bool takes_text(const char *word)
{
	static const char *const options[] = { "append", "name", "fw_cfg", "smbios", "uuid" };

	for (size_t i = 0; word && i < ARRAY_SIZE(options); i++)
		if (word[0] == '-' && str_eq(word + 1 + (word[1] == '-'), options[i]))
			return true;
	return false;
}

int def_check_args(char *const *words, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const char *name = words[i] + 1 + (words[i][0] == '-' && words[i][1] == '-'); /* QEMU takes two for one */
		const char *value = i + 1 < n ? words[i + 1] : "";

		if (words[i][0] != '-' || (i && takes_text(words[i - 1])))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(refused); k++) {
			const struct refused *r = &refused[k];

			if (!str_eq(name, r->option) || (r->value && !strstr(value, r->value)))
				continue;
			err_set(e, -EINVAL, "arg: %s%s%s cannot be given: %s", words[i], r->value ? " " : "", r->value ? value : "", r->why);
			return err_hint(e, "%s", r->hint);
		}
	}
	return 0;
}

/* ---- disks ------------------------------------------------------------------------------------------------------ */

/* The value of @key in "a=b,key=value,c", its length in @n; NULL: it is not there. */
static const char *option_value(const char *options, const char *key, size_t *n)
{
	size_t len = strlen(key);

	for (const char *p = options; p; p = strchr(p, ','), p += p != NULL) {
		if (strncmp(p, key, len) || p[len] != '=')
			continue;
		*n = strcspn(p + len + 1, ",");
		return p + len + 1;
	}
	return NULL;
}

static bool option_is(const char *options, const char *key, const char *value, size_t len)
{
	size_t n;
	const char *v = option_value(options, key, &n);

	return v && n == len && !memcmp(v, value, len);
}

/* A drive that the guest can write to: its options. NULL: the word at @i gives none. */
static const char *writable_drive(const struct def *d, size_t i)
{
	static const char *const plain[] = { "hda", "hdb", "hdc", "hdd", "fda", "fdb", "sd", "mtdblock", "pflash" };
	const char *name = d->qemu_args.v[i], *value = i + 1 < d->qemu_args.n ? d->qemu_args.v[i + 1] : "";
	size_t n;

	if (*name++ != '-')
		return NULL;
	name += *name == '-';
	for (size_t k = 0; k < ARRAY_SIZE(plain); k++)
		if (str_eq(name, plain[k]))
			return value;
	if (str_eq(name, "drive") && option_value(value, "file", &n))
		return option_is(value, "readonly", "on", 2) || option_is(value, "read-only", "on", 2) || option_is(value, "media", "cdrom", 5) ?
			NULL : value;
	/* The node that holds a file; what is read through it only is said there, too. */
	if (str_eq(name, "blockdev") && (option_value(value, "filename", &n) || option_value(value, "file.filename", &n)))
		return option_is(value, "read-only", "on", 2) || option_is(value, "auto-read-only", "on", 2) ? NULL : value;
	return NULL;
}

/* Whether the drive with these options is called @name: by itself, its file, or the -device that it is for. */
static bool drive_is_called(const struct def *d, const char *drive, const char *name, size_t len)
{
	static const char *const keys[] = { "id", "node-name", "file", "filename", "file.filename" };
	const char *id;
	size_t n;

	if (strlen(drive) == len && !memcmp(drive, name, len))
		return true;
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++)
		if (option_is(drive, keys[k], name, len))
			return true;
	for (size_t k = 0; k < 2; k++) {
		id = option_value(drive, keys[k], &n);
		for (size_t i = 1; id && i < d->qemu_args.n; i++) {
			const char *device = d->qemu_args.v[i];

			if (option_is(device, "drive", id, n) && option_is(device, "id", name, len))
				return true;
			/* The format node above it. */
			if (option_is(device, "file", id, n) && option_is(device, "node-name", name, len))
				return true;
		}
	}
	return false;
}

bool def_next_name(const char **list, size_t *n)
{
	if (!*list)
		return false;
	*list += strspn(*list, ", \t");
	*n = strcspn(*list, ",");
	while (*n && strchr(" \t", (*list)[*n - 1]))
		--*n;
	return *n != 0;
}

bool def_extra_disk(const struct def *d, char name[DEF_EXTRA_MAX])
{
	static const char *const keys[] = { "id", "node-name", "file", "filename", "file.filename" };

	for (size_t i = 0; i < d->qemu_args.n; i++) {
		const char *drive = writable_drive(d, i), *called = NULL;
		bool left_out = false;
		size_t n = 0;

		for (const char *w = drive ? d->left_out : NULL; !left_out && def_next_name(&w, &n); w += n)
			left_out = drive_is_called(d, drive, w, n);
		if (!drive || left_out)
			continue;
		for (size_t k = 0; !called && k < ARRAY_SIZE(keys); k++)
			called = option_value(drive, keys[k], &n);
		snprintf(name, DEF_EXTRA_MAX, "%.*s", called ? (int)n : (int)strlen(drive), called ? called : drive);
		return true;
	}
	return false;
}
