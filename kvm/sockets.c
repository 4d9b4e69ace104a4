/*
 * The sockets that [qemu] args have QEMU listen on, while there are two QEMUs. Each would remove the other's: one that starts what
 * has the name, and one that ends the name that it has bound. So a second one binds names of its own, which are renamed as it
 * takes the first one's place. What it was started with tells which those are.
 */
#include "kvm/sockets.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvm/kvm.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"

#define CMDLINE_MAX (1u << 20) /* bytes */

/* At any time one of them is free: the VM's QEMU may still have one that it was started with, and a standby another. */
static const char *const asides[] = { ".next", ".next2", ".next3" };

/* ---- option strings ------------------------------------------------------------------------------------------- */

/* The end of a part of "a=b,c": a comma that is not doubled. */
static const char *part_end(const char *p)
{
	for (; *p && (*p != ',' || p[1] == ','); p++)
		p += *p == ',';
	return p;
}

/* The value of @key, up to part_end(); "" where only the key is there; NULL: it is not. */
static const char *part_find(const char *v, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = v;; p++) {
		if (!strncmp(p, key, n) && (p[n] == '=' || p[n] == ',' || !p[n]))
			return p[n] == '=' ? p + n + 1 : "";
		p = part_end(p);
		if (!*p)
			return NULL;
	}
}

/* Whether @key is on: QEMU takes a bare one for that, too. */
static bool part_on(const char *v, const char *key)
{
	static const char *const words[] = { "on", "yes", "true", "y" };
	const char *p = part_find(v, key);
	size_t n = p ? (size_t)(part_end(p) - p) : 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (p && (!n || (n == strlen(words[i]) && !strncmp(p, words[i], n))))
			return true;
	return false;
}

/* What comes after @prefix, NULL: it does not begin with it. */
static const char *after(const char *s, const char *prefix)
{
	return str_starts(s, prefix) ? s + strlen(prefix) : NULL;
}

/* Where in @v, the value of @option, the name of a socket that QEMU makes begins; NULL: it makes none. */
static const char *socket_path(const char *option, const char *v)
{
	static const char *const lines[] = { "serial", "parallel", "monitor", "qmp", "qmp-pretty", "gdb", "qtest" };
	const char *p, *mon = after(v, "mon:");

	if (option[0] != '-')
		return NULL;
	option += 1 + (option[1] == '-');
	if (str_eq(option, "vnc"))
		return after(v, "unix:");
	if (str_eq(option, "display"))
		return after(v, "vnc=unix:");
	if (str_eq(option, "spice"))
		return part_on(v, "unix") ? part_find(v, "addr") : NULL;
	if (!part_on(v, "server"))
		return NULL;
	if (str_eq(option, "chardev"))
		return part_on(v, "abstract") ? NULL : part_find(v, "path");
	if (str_eq(option, "netdev"))
		return part_on(v, "addr.abstract") ? NULL : part_find(v, "addr.path");
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (str_eq(option, lines[i])) {
			p = after(mon ? mon : v, "unix:");
			return p && part_on(v, "abstract") ? NULL : p;
		}
	return NULL;
}

/* That name as a path: QEMU works in the root folder. NULL: no memory, or no name. */
static char *path_of(const char *option, const char *word)
{
	const char *p = socket_path(option, word), *end;
	auto_buf struct buf b = { 0 };

	if (!p || !*p || *p == ',')
		return NULL;
	end = part_end(p);
	if (*p != '/')
		buf_addc(&b, '/');
	for (; p < end; p++) {
		buf_addc(&b, *p);
		p += *p == ',';
	}
	return b.oom ? NULL : buf_take(&b);
}

int sockets_word(const char *option, const char *word, const char *aside, char **out, struct err *e)
{
	const char *p = socket_path(option, word);
	const char *end = p ? part_end(p) : NULL;
	auto_free char *path = path_of(option, word);
	auto_free char *other = path ? str_fmt("%s%s", path, aside) : NULL;
	struct stat st;

	if (!end || end == p) {
		*out = strdup(word);
		return *out ? 0 : err_nomem(e, "build QEMU's command line");
	}
	if (!other)
		return err_nomem(e, "build QEMU's command line");
	if (strlen(other) >= sizeof ((struct sockaddr_un *)NULL)->sun_path)
		return err_set(e, -ENAMETOOLONG, "arg: %s: the name of the socket is too long for a second QEMU, which adds '%s'", path, aside);
	if (lstat(other, &st) == 0 && !S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "%s: is where a second QEMU makes its socket, and is none", other);
	*out = str_fmt("%.*s%s%s", (int)(end - word), word, aside, end);
	return *out ? 0 : err_nomem(e, "build QEMU's command line");
}

/* ---- of a QEMU that runs ---------------------------------------------------------------------------------------- */

void sockets_words(pid_t pid, struct buf *words)
{
	struct err ignored;
	char path[32];

	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	if (pid <= 0 || file_read(path, CMDLINE_MAX, words, &ignored) < 0)
		words->n = 0;
	buf_addc(words, '\0');
	if (words->oom)
		words->n = 0;
}

/* The next one of @words from *@at on whose socket's name ends with one of asides[]: *@which. NULL: no more. */
static char *next_aside(const struct buf *words, size_t *at, const char **which)
{
	const char *w = (const char *)words->p;

	while (*at < words->n) {
		const char *option = w + *at, *value = option + strlen(option) + 1;
		auto_free char *path = NULL;

		*at = (size_t)(value - w);
		path = *at < words->n ? path_of(option, value) : NULL;
		for (size_t i = 0; path && i < ARRAY_SIZE(asides); i++)
			if (str_ends(path, asides[i])) {
				*which = asides[i];
				return take_ptr(&path);
			}
	}
	return NULL;
}

static bool has_aside(const struct buf *words, const char *aside)
{
	const char *which;
	char *path;

	for (size_t at = 0; (path = next_aside(words, &at, &which)); free(path))
		if (which == aside) {
			free(path);
			return true;
		}
	return false;
}

const char *kvm_sockets_aside(const char *const run_dirs[2])
{
	auto_buf struct buf one = { 0 }, two = { 0 };

	sockets_words(kvm_pid(run_dirs[0]), &one);
	sockets_words(kvm_pid(run_dirs[1]), &two);
	for (size_t i = 0; i < ARRAY_SIZE(asides) - 1; i++)
		if (!has_aside(&one, asides[i]) && !has_aside(&two, asides[i]))
			return asides[i];
	return asides[ARRAY_SIZE(asides) - 1];
}

int kvm_sockets_move(const char *run_dir, struct err *e)
{
	auto_buf struct buf words = { 0 };
	const char *which;
	char *path;
	int rc = 0;

	sockets_words(kvm_pid(run_dir), &words);
	for (size_t at = 0; (path = next_aside(&words, &at, &which)); free(path)) {
		auto_free char *place = str_fmt("%.*s", (int)(strlen(path) - strlen(which)), path);

		if (!place)
			rc = err_nomem(e, "move a socket");
		else if (rename(path, place) < 0 && errno != ENOENT)
			rc = err_sys(e, errno, "cannot rename %s to %s", path, place);
	}
	return rc;
}

static void remove_socket(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
}

void sockets_remove(const struct buf *words)
{
	const char *which;
	char *path;

	for (size_t at = 0; (path = next_aside(words, &at, &which)); free(path))
		remove_socket(path);
}

void kvm_sockets_remove(const struct def *d, const char *aside)
{
	for (size_t i = 1; i < d->qemu_args.n; i++) {
		auto_free char *path = path_of(d->qemu_args.v[i - 1], d->qemu_args.v[i]);
		auto_free char *other = path ? str_fmt("%s%s", path, aside) : NULL;

		if (other)
			remove_socket(other);
	}
}
