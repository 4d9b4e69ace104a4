/* What a QEMU can do: the answers, and the file that remembers them. The asking is probe.c's. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "kvm/host.h"
#include "kvm/probe.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

#define MAX_CACHE (256 * 1024)

/* ---- questions ------------------------------------------------------------------------------------------- */

static bool has(const char *list, const char *name)
{
	for (; *list; list += strlen(list) + 1)
		if (!strcmp(list, name))
			return true;
	return false;
}

bool kvm_caps_has_command(const struct kvm_caps *c, const char *name)
{
	return has(c->commands, name);
}

bool kvm_caps_has_device(const struct kvm_caps *c, const char *name)
{
	return has(c->devices, name);
}

const char *kvm_caps_machine(const struct kvm_caps *c, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = c->machines; *p; p += strlen(p) + 1) {
		if (!strcmp(p, name))
			return p;
		if (!strncmp(p, name, n) && p[n] == '=')
			return p + n + 1;
	}
	return NULL;
}

void kvm_caps_free(struct kvm_caps *c)
{
	if (!c)
		return;
	free(c->path);
	free(c->version);
	free(c->package);
	free(c->machines);
	free(c->commands);
	free(c->devices);
	free(c->cpu_host);
	free(c->arch);
	free(c);
}

/* ---- remembering ----------------------------------------------------------------------------------------- */

/* The binary that was asked and the kernel it runs on (whose KVM decides on the CPU), as a string to compare. */
static char *make_key(const char *path)
{
	struct stat st;
	struct utsname un;

	if (stat(path, &st) < 0 || uname(&un) < 0)
		return NULL;
	return str_fmt("2 %s %lld %lld.%09ld %s %s %d", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
		st.st_mtim.tv_nsec, un.release, un.version, access("/dev/kvm", R_OK | W_OK) == 0);
}

static char *cache_name(const char *dir, const char *path)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a */

	for (; *path; path++)
		h = (h ^ (unsigned char)*path) * 1099511628211u;
	return str_fmt("%s/qemu-%016llx.json", dir, (unsigned long long)h);
}

/* A packed list with blanks in the place of its NULs, and back. */
static void put_list(struct json_out *w, const char *key, const char *list)
{
	auto_buf struct buf b = { 0 };

	for (; *list; list += strlen(list) + 1)
		buf_addf(&b, "%s%s", b.n ? " " : "", list);
	json_put_str(w, key, buf_str(&b));
}

static char *get_list(const struct json *o, const char *key)
{
	const char *s = json_str(json_get(o, key), "");
	size_t n = strlen(s);
	char *list = calloc(1, n + 2);

	for (size_t i = 0; list && i < n; i++)
		list[i] = s[i] == ' ' ? '\0' : s[i];
	return list;
}

/* The strings of struct kvm_caps that are stored as they are. */
static const struct {
	char key[9];
	bool list;
	uint16_t off;
} members[] = {
	{ "path", false, offsetof(struct kvm_caps, path) },
	{ "version", false, offsetof(struct kvm_caps, version) },
	{ "package", false, offsetof(struct kvm_caps, package) },
	{ "arch", false, offsetof(struct kvm_caps, arch) },
	{ "cpu-host", false, offsetof(struct kvm_caps, cpu_host) },
	{ "machines", true, offsetof(struct kvm_caps, machines) },
	{ "commands", true, offsetof(struct kvm_caps, commands) },
	{ "devices", true, offsetof(struct kvm_caps, devices) },
};

static void cache_write(const char *file, const char *key, struct kvm_caps *c)
{
	auto_buf struct buf b = { 0 };
	struct json_out w;
	struct err e;

	json_out_init(&w, &b, true);
	json_obj(&w, NULL);
	json_put_str(&w, "key", key);
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const char *s = *(char **)((char *)c + members[i].off);

		if (members[i].list)
			put_list(&w, members[i].key, s);
		else
			json_put_str(&w, members[i].key, s);
	}
	json_put_bool(&w, "sandbox", c->sandbox);
	json_put_bool(&w, "kvm", c->kvm);
	json_put_bool(&w, "maps-readonly", c->maps_readonly);
	json_obj_end(&w);
	/* Without a cache the next command asks again; that is all. */
	if (buf_check(&b, "write the cache", &e) < 0 || file_replace(file, b.p, b.n, 0644, &e) < 0)
		return;
}

static bool read_version(struct kvm_caps *c)
{
	const char *p = c->version;
	uint64_t v[3];

	for (int n = 0; n < 3; n++)
		if (!text_take_num(&p, n ? '.' : 0, &v[n]))
			return false;
	c->major = (int)v[0];
	c->minor = (int)v[1];
	c->micro = (int)v[2];
	return true;
}

static struct kvm_caps *caps_from(const struct json *o)
{
	struct kvm_caps *c = calloc(1, sizeof *c);

	for (size_t i = 0; c && i < ARRAY_SIZE(members); i++) {
		char *s = members[i].list ? get_list(o, members[i].key) : strdup(json_str(json_get(o, members[i].key), ""));

		memcpy((char *)c + members[i].off, &s, sizeof s);
		if (!s) {
			kvm_caps_free(c);
			return NULL;
		}
	}
	if (c) {
		c->sandbox = json_bool(json_get(o, "sandbox"), false);
		c->kvm = json_bool(json_get(o, "kvm"), false);
		c->maps_readonly = json_bool(json_get(o, "maps-readonly"), false);
		if (!read_version(c) || !*c->machines) {
			kvm_caps_free(c);
			c = NULL;
		}
	}
	return c;
}

/* NULL: nothing is remembered about this very binary. */
static struct kvm_caps *cache_read(const char *file, const char *key)
{
	auto_buf struct buf text = { 0 };
	auto_json struct json_doc *doc = NULL;
	struct err e;

	if (file_read(file, MAX_CACHE, &text, &e) < 0 || text.oom ||
		json_parse(buf_str(&text), text.n, 64, &doc, &e) < 0)
		return NULL;
	if (!str_eq(json_str(json_get(json_root(doc), "key"), NULL), key))
		return NULL;
	return caps_from(json_root(doc));
}

/* ---- the binary ------------------------------------------------------------------------------------------- */

static bool runnable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static int find_binary(const char *name, char **out, struct err *e)
{
	const char *p = getenv("PATH");

	if (strchr(name, '/')) {
		if (!runnable(name))
			return err_set(e, -ENOENT, "there is no QEMU at %s", name);
		*out = path_beside("", name);
		return *out ? 0 : err_nomem(e, "look for QEMU");
	}
	if (!p || !*p)
		p = "/usr/local/bin:/usr/bin:/bin";
	for (size_t n; *p; p += n + (p[n] == ':')) {
		char *path;

		n = strcspn(p, ":");
		path = str_fmt("%.*s/%s", (int)n, p, name);
		if (path && *path == '/' && runnable(path)) {
			*out = path;
			return 0;
		}
		free(path);
	}
	err_set(e, -ENOENT, "there is no '%s' in PATH", name);
	return err_hint(e, "install QEMU (Debian: qemu-system-x86), or give its path with 'qemu = PATH'");
}

int kvm_probe(const char *qemu, const char *cache_dir, struct kvm_caps **caps, struct err *e)
{
	auto_free char *path = NULL, *key = NULL, *file = NULL;
	struct err ignored;
	struct kvm_caps *c;

	if (find_binary(qemu, &path, e) < 0)
		return e->code;
	key = make_key(path);
	file = cache_dir ? cache_name(cache_dir, path) : NULL;
	*caps = key && file ? cache_read(file, key) : NULL;
	if (*caps)
		return 0;
	c = calloc(1, sizeof *c);
	if (!c)
		return err_nomem(e, "ask QEMU");
	c->path = take_ptr(&path);
	c->cpu_host = strdup(host_cpu());
	if (!c->cpu_host)
		err_nomem(e, "ask QEMU");
	if (!c->cpu_host || probe_ask(c, e) < 0) {
		kvm_caps_free(c);
		return e->code;
	}
	if (key && file && dir_make(cache_dir, 0700, &ignored) == 0)
		cache_write(file, key, c);
	*caps = c;
	return 0;
}
