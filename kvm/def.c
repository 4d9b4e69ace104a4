#include "kvm/def.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/def_args.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/ini.h"
#include "lib/limits.h"
#include "lib/own.h"
#include "lib/text.h"

/* ---- the keys ----------------------------------------------------------------------------------------- */

enum kind {
	STR,   /* char *, at most max bytes */
	PATH,  /* char *, made absolute */
	PROG,  /* char *, made absolute if it has a slash */
	WORD,  /* char *, one of words */
	ENUM,  /* an enum, counting through words */
	BOOL,  /* no, yes */
	NUM,   /* unsigned, 0 or 1 (min) to max */
	MEM,   /* uint64_t bytes */
	SPAN,  /* uint64_t ms */
	CHECK, /* char *, judged by check() */
	ARGS,  /* words for the end of the command line; may repeat */
	DIRS,  /* a folder for the list of backing-dir, made absolute; may repeat */
};

struct key {
	char name[16]; /* in place: a pointer would cost a relocation of 24 bytes each */
	uint8_t kind;  /* enum kind */
	uint16_t off;
	uint16_t min, max;
	union {
		const char *words; /* "a|b|c" */
		int (*check)(const char *s, struct err *e);
	};
};

static int check_mac(const char *s, struct err *e);
static int check_healthy(const char *s, struct err *e);
static int check_fallback(const char *s, struct err *e);
static int check_model(const char *s, struct err *e);

#define K(n, k, o, ...) { .name = n, .kind = k, .off = o, ##__VA_ARGS__ }
#define IN_VM(m) offsetof(struct def, m)
static const struct key vm_keys[] = {
	K("memory", MEM, IN_VM(memory)),
	K("vcpus", NUM, IN_VM(vcpus), .min = 1, .max = 255),
	K("machine", STR, IN_VM(machine), .max = 64),
	K("accel", ENUM, IN_VM(accel), .words = "kvm|tcg|kvm:tcg"),
	K("cpu", STR, IN_VM(cpu), .max = 1024),
	K("agent", BOOL, IN_VM(agent)),
	K("kernel", PATH, IN_VM(kernel)),
	K("initrd", PATH, IN_VM(initrd)),
	K("append", STR, IN_VM(append), .max = 2047),
	K("firmware", PATH, IN_VM(firmware)),
	K("nvram", PATH, IN_VM(nvram)),
	K("nvram-format", ENUM, IN_VM(nvram_format), .words = "qcow2|raw"),
	K("memory-mode", WORD, IN_VM(memory_mode), .words = "normal|instant"),
	K("memory-dir", PATH, IN_VM(memory_dir)),
	K("snapshot-dir", PATH, IN_VM(snapshot_dir)),
	K("backing-dir", DIRS, 0),
	K("qemu", PROG, IN_VM(qemu)),
	K("user", STR, IN_VM(user), .max = 64),
};

#define IN_DISK(m) offsetof(struct def_disk, m)
static const struct key disk_keys[] = {
	K("file", PATH, IN_DISK(file)),
	K("format", ENUM, IN_DISK(format), .words = "qcow2|raw"),
	K("bus", ENUM, IN_DISK(bus), .words = "virtio|ide|sata|scsi"),
	K("snapshot", ENUM, IN_DISK(snapshot), .words = "|internal|external|no"),
	K("cache", WORD, IN_DISK(cache), .words = "none|writeback|writethrough|unsafe|directsync"),
	K("discard", WORD, IN_DISK(discard), .words = "unmap|ignore"),
	K("serial", STR, IN_DISK(serial), .max = 20), /* the virtio and ATA limit */
	K("readonly", BOOL, IN_DISK(readonly)),
};

#define IN_NET(m) offsetof(struct def_net, m)
static const struct key net_keys[] = {
	K("type", WORD, IN_NET(type), .words = "user|tap|none"),
	K("ifname", STR, IN_NET(ifname), .max = 15), /* IFNAMSIZ */
	K("mac", CHECK, IN_NET(mac), .check = check_mac),
	K("model", CHECK, IN_NET(model), .check = check_model),
};

#define IN_BOOT(m) offsetof(struct def, boot.m)
static const struct key boot_keys[] = {
	K("autostart", BOOL, IN_BOOT(autostart)),
	K("order", NUM, IN_BOOT(order), .min = 0, .max = 9999),
	K("from", STR, IN_BOOT(from), .max = 255),
	K("fallback", CHECK, IN_BOOT(fallback), .check = check_fallback),
	K("healthy", CHECK, IN_BOOT(healthy), .check = check_healthy),
	K("within", SPAN, IN_BOOT(within_ms)),
	K("attempts", NUM, IN_BOOT(attempts), .min = 1, .max = 1000),
	K("discard-changes", BOOL, IN_BOOT(discard_changes)),
	K("verify", BOOL, IN_BOOT(verify)),
	K("on-crash", WORD, IN_BOOT(on_crash), .words = "restart|revert|stop"),
	K("back-off", SPAN, IN_BOOT(back_off_ms)),
	K("stop-within", SPAN, IN_BOOT(stop_within_ms)),
	K("on-stop", WORD, IN_BOOT(on_stop), .words = "shutdown|managedsave|kill"),
};

static const struct key qemu_keys[] = {
	K("arg", ARGS, 0),
	K("left-out", STR, IN_VM(left_out), .max = 1024),
};

enum { S_VM, S_DISK, S_NET, S_BOOT, S_QEMU, N_SECTS };
#define MAX_KEYS ARRAY_SIZE(vm_keys)
static const struct sect {
	const char *name;
	const struct key *keys;
	size_t n;
} sects[N_SECTS] = {
	[S_VM] = { "", vm_keys, ARRAY_SIZE(vm_keys) },
	[S_DISK] = { "disk", disk_keys, ARRAY_SIZE(disk_keys) },
	[S_NET] = { "net", net_keys, ARRAY_SIZE(net_keys) },
	[S_BOOT] = { "boot", boot_keys, ARRAY_SIZE(boot_keys) },
	[S_QEMU] = { "qemu", qemu_keys, ARRAY_SIZE(qemu_keys) },
};

/* A definition while it is read: where each key of the current section, and each section, was found. */
struct reading {
	struct def *def;
	unsigned sect;
	void *obj; /* what the section's offsets count from */
	unsigned key_line[N_SECTS][MAX_KEYS];
	unsigned head_line[N_SECTS];
	unsigned disk_line[DEF_MAX_DISKS], net_line[DEF_MAX_NETS];
	bool has_format[DEF_MAX_DISKS];
};

/* ---- single values -------------------------------------------------------------------------------------- */

/* The index of @s in "a|b|c", or -1. An empty first word is a default that cannot be written. */
static int word_index(const char *words, const char *s)
{
	size_t len = strlen(s), n;

	for (int i = 0;; i++, words += n + 1) {
		n = strcspn(words, "|");
		if (n && n == len && !memcmp(words, s, n))
			return i;
		if (!words[n])
			return -1;
	}
}

static int not_a_word(const struct key *k, const char *s, struct err *e)
{
	char list[128];
	const char *w = k->words + (*k->words == '|');
	size_t n = 0;

	for (; *w && n + 3 < sizeof list; w++) {
		if (*w == '|')
			list[n++] = ',';
		list[n++] = *w == '|' ? ' ' : *w;
	}
	list[n] = '\0';
	return err_set(e, -EINVAL, "%s '%s' is none of: %s", k->name, s, list);
}

static int check_mac(const char *s, struct err *e)
{
	for (int i = 0; i < 17; i++)
		if (i % 3 == 2 ? s[i] != ':' : !isxdigit((unsigned char)s[i]))
			return err_set(e, -EINVAL, "mac '%s' is not six pairs of hex digits with colons", s);
	if (s[17])
		return err_set(e, -EINVAL, "mac '%s' is not six pairs of hex digits with colons", s);
	/* The lowest bit of the first byte: an odd digit, where 'a' is even although its code is odd. */
	return (s[1] ^ (s[1] > '9')) & 1 ? err_set(e, -EINVAL, "mac '%s' is a group's address", s) : 0;
}

/* A QEMU device's name, since it goes before a comma on the command line. */
static int check_model(const char *s, struct err *e)
{
	if (strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == strlen(s))
		return 0;
	return err_set(e, -EINVAL, "model '%s' is not a device's name", s);
}

static int check_healthy(const char *s, struct err *e)
{
	size_t n = strlen(s);

	if (str_eq(s, "running") || str_eq(s, "agent"))
		return 0;
	if (str_starts(s, "serial \"") && n > 9 && n < 512 && s[n - 1] == '"')
		return 0;
	return err_set(e, -EINVAL, "healthy '%s' is none of: running, agent, serial \"TEXT\"", s);
}

static int check_fallback(const char *s, struct err *e)
{
	for (;; s++) {
		s += strspn(s, " \t");
		if (!*s || *s == ',')
			return err_set(e, -EINVAL, "fallback has an empty place in its list");
		s += strcspn(s, ",");
		if (!*s)
			return 0;
	}
}

static int set_memory(const char *s, uint64_t *out, struct err *e)
{
	uint64_t v;

	if (text_size(s, 1, "memory", &v, e) < 0)
		return e->code;
	if (v < MIB || v % MIB || v > 1ull << 44) {
		err_set(e, -EINVAL, "memory '%s' is not a whole number of MiB, 1M to 16T", s);
		return err_hint(e, "give a unit, as in 512M");
	}
	*out = v;
	return 0;
}

/* One word of @s as a shell would see it, without expansion; @s moves past it. 0: no word left, 1: in @word. */
static int next_word(const char **s, struct buf *word, struct err *e)
{
	const char *p = *s + strspn(*s, " \t");
	char quote = '\0';

	if (!*p)
		return 0;
	for (; *p && (quote || !strchr(" \t", *p)); p++) {
		if (*p == '\\' && quote != '\'' && p[1] && (!quote || strchr("\"\\$`", p[1])))
			buf_addc(word, *++p);
		else if (*p == quote)
			quote = '\0';
		else if (!quote && (*p == '\'' || *p == '"'))
			quote = *p;
		else
			buf_addc(word, *p);
	}
	if (quote)
		return err_set(e, -EINVAL, "arg: a %c is not closed", quote);
	*s = p;
	return 1;
}

static int add_args(struct def *d, const char *s, struct err *e)
{
	for (;;) {
		auto_buf struct buf word = { 0 };
		int r = next_word(&s, &word, e);
		char **v;

		if (r <= 0)
			return r;
		v = realloc(d->qemu_args, (d->n_qemu_args + 1) * sizeof *v);
		if (!v)
			return err_nomem(e, "read a definition");
		d->qemu_args = v;
		v[d->n_qemu_args] = buf_take(&word);
		if (!v[d->n_qemu_args])
			return err_nomem(e, "read a definition");
		d->n_qemu_args++;
	}
}

static int add_dir(struct def *d, const char *s, struct err *e)
{
	char **v = realloc(d->backing_dirs, (d->n_backing_dirs + 1) * sizeof *v);

	if (!v)
		return err_nomem(e, "read a definition");
	d->backing_dirs = v;
	v[d->n_backing_dirs] = path_beside(d->path, s);
	if (!v[d->n_backing_dirs])
		return err_nomem(e, "read a definition");
	d->n_backing_dirs++;
	return 0;
}

/* Replace the string at @at. */
static int set_str(void *at, char *fresh, struct err *e)
{
	char *old;

	if (!fresh)
		return err_nomem(e, "read a definition");
	memcpy(&old, at, sizeof old);
	free(old);
	memcpy(at, &fresh, sizeof fresh);
	return 0;
}

static int set_value(struct reading *r, const struct key *k, const char *s, struct err *e)
{
	void *at = (char *)r->obj + k->off;
	uint64_t num;
	int i;

	if (!*s)
		return err_set(e, -EINVAL, "%s has no value", k->name);
	if (!text_is_utf8(s)) {
		err_set(e, -EINVAL, "%s '%s' is not UTF-8", k->name, s);
		return err_hint(e, "QEMU's monitor knows no other names: rename the file or folder");
	}
	switch ((enum kind)k->kind) {
	case ARGS:
		return add_args(r->def, s, e);
	case DIRS:
		return add_dir(r->def, s, e);
	case MEM:
		return set_memory(s, at, e);
	case SPAN:
		return text_span(s, k->name, at, e);
	case NUM:
		if (text_num(s, k->min, k->max, k->name, &num, e) < 0)
			return e->code;
		*(unsigned *)at = (unsigned)num;
		return 0;
	case BOOL:
		i = word_index("no|yes", s);
		if (i < 0)
			return err_set(e, -EINVAL, "%s '%s' is neither yes nor no", k->name, s);
		*(bool *)at = i;
		return 0;
	case ENUM:
	case WORD:
		i = word_index(k->words, s);
		if (i < 0)
			return not_a_word(k, s, e);
		if (k->kind == WORD)
			return set_str(at, strdup(s), e);
		memcpy(at, &i, sizeof i); /* an enum of ours is an int */
		return 0;
	case CHECK:
		if (k->check(s, e) < 0)
			return e->code;
		return set_str(at, strdup(s), e);
	case PROG:
		return set_str(at, strchr(s, '/') ? path_beside(r->def->path, s) : strdup(s), e);
	case PATH:
		return set_str(at, path_beside(r->def->path, s), e);
	case STR:
		if (strlen(s) > k->max)
			return err_set(e, -EINVAL, "%s is longer than %u bytes", k->name, k->max);
		return set_str(at, strdup(s), e);
	}
	return 0;
}

/* ---- sections -------------------------------------------------------------------------------------------- */

static bool name_ok(const char *s, size_t max, const char *marks)
{
	size_t n = 0;

	for (; s[n]; n++)
		if (!isalnum((unsigned char)s[n]) && !strchr(marks, s[n]))
			return false;
	return n > 0 && n <= max;
}

int def_check_name(const char *name, struct err *e)
{
	if (name_ok(name, DEF_NAME_MAX, "-_.") && *name != '.' && *name != '-')
		return 0;
	return err_set(e, -EINVAL, "'%s' cannot name a VM: 1 to %d letters, digits, '-', '_', '.', the first neither '-' nor '.'",
		name, DEF_NAME_MAX);
}

/* 52:54:00 is QEMU's own prefix; the rest follows from the names, so that it stays from start to start. */
static char *make_mac(const char *vm, const char *net)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (const char *p = vm; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	h = (h ^ '/') * 16777619u;
	for (const char *p = net; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	return str_fmt("52:54:00:%02x:%02x:%02x", h >> 16 & 255, h >> 8 & 255, h & 255);
}

/* Make room for one more element of @size behind @n of them, all zero. */
static void *grow(void *arr, size_t n, size_t size)
{
	char *p = realloc(arr, (n + 1) * size);

	if (p)
		memset(p + n * size, 0, size);
	return p;
}

static int add_disk(struct reading *r, const struct ini_line *l, struct err *e)
{
	struct def *d = r->def;
	struct def_disk *k;

	if (d->n_disks == DEF_MAX_DISKS)
		return err_set(e, -EINVAL, "more than %d disks", DEF_MAX_DISKS);
	k = grow(d->disks, d->n_disks, sizeof *k);
	if (!k)
		return err_nomem(e, "read a definition");
	d->disks = k;
	k += d->n_disks;
	r->disk_line[d->n_disks++] = l->line;
	r->obj = k;
	k->name = strdup(l->name);
	k->discard = strdup("unmap");
	return k->name && k->discard ? 0 : err_nomem(e, "read a definition");
}

static int add_net(struct reading *r, const struct ini_line *l, struct err *e)
{
	struct def *d = r->def;
	struct def_net *k;

	if (d->n_nets == DEF_MAX_NETS)
		return err_set(e, -EINVAL, "more than %d networks", DEF_MAX_NETS);
	k = grow(d->nets, d->n_nets, sizeof *k);
	if (!k)
		return err_nomem(e, "read a definition");
	d->nets = k;
	k += d->n_nets;
	r->net_line[d->n_nets++] = l->line;
	r->obj = k;
	k->name = strdup(l->name);
	k->type = strdup("user");
	k->model = strdup("virtio");
	k->mac = make_mac(d->name, l->name);
	return k->name && k->type && k->model && k->mac ? 0 : err_nomem(e, "read a definition");
}

/* Both become ids of QEMU's devices, which share one space of names. */
static int check_fresh(const struct def *d, const char *name, struct err *e)
{
	const char *what = def_disk_find(d, name) ? "disk" : NULL;

	for (size_t i = 0; i < d->n_nets; i++)
		if (str_eq(d->nets[i].name, name))
			what = "net";
	return what ? err_set(e, -EINVAL, "there is a [%s %s] already", what, name) : 0;
}

/* The nearest of @names, if it is near enough to have been meant. */
static void hint_near(const char *word, size_t n, const char *(*name)(const void *, size_t), const void *ctx, struct err *e)
{
	unsigned best = 3;
	const char *near = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned far = text_distance(word, name(ctx, i));

		if (far < best && far < strlen(word)) {
			best = far;
			near = name(ctx, i);
		}
	}
	if (near)
		err_hint(e, "did you mean '%s'?", near);
}

static const char *sect_name(const void *ctx, size_t i)
{
	(void)ctx;
	return sects[i].name;
}

static const char *key_name(const void *keys, size_t i)
{
	return ((const struct key *)keys)[i].name;
}

static int open_section(struct reading *r, const struct ini_line *l, struct err *e)
{
	unsigned i = S_DISK;
	bool named;

	while (i < N_SECTS && !str_eq(sects[i].name, l->section))
		i++;
	if (i == N_SECTS) {
		err_set(e, -EINVAL, "unknown section [%s]", l->section);
		hint_near(l->section, N_SECTS, sect_name, NULL, e);
		return e->code;
	}
	named = i == S_DISK || i == S_NET;
	if (!named && *l->name)
		return err_set(e, -EINVAL, "section [%s] takes no name", l->section);
	if (!named && r->head_line[i])
		return err_set(e, -EINVAL, "section [%s] was opened in line %u already", l->section, r->head_line[i]);
	if (named && !(name_ok(l->name, DEF_DISK_MAX, "-_") && isalpha((unsigned char)*l->name)))
		return err_set(e, -EINVAL, "[%s NAME]: '%s' is not a name: a letter, then letters, digits, '-', '_', %d at most",
			l->section, l->name, DEF_DISK_MAX);
	if (named && check_fresh(r->def, l->name, e) < 0)
		return e->code;
	r->sect = i;
	r->head_line[i] = l->line;
	memset(r->key_line[i], 0, sizeof r->key_line[i]);
	r->obj = r->def;
	if (i == S_DISK)
		return add_disk(r, l, e);
	return i == S_NET ? add_net(r, l, e) : 0;
}

static int read_key(void *ctx, const struct ini_line *l, struct err *e)
{
	struct reading *r = ctx;
	const struct sect *s = &sects[r->sect];
	size_t i = 0;

	if (!l->key)
		return open_section(r, l, e);
	while (i < s->n && !str_eq(s->keys[i].name, l->key))
		i++;
	if (i == s->n) {
		err_set(e, -EINVAL, "unknown key '%s'%s%s%s", l->key, *s->name ? " in [" : "", s->name, *s->name ? "]" : "");
		hint_near(l->key, s->n, key_name, s->keys, e);
		return e->code;
	}
	if (r->key_line[r->sect][i] && s->keys[i].kind != ARGS && s->keys[i].kind != DIRS)
		return err_set(e, -EINVAL, "%s was given in line %u already", l->key, r->key_line[r->sect][i]);
	r->key_line[r->sect][i] = l->line;
	if (r->sect == S_DISK && str_eq(l->key, "format"))
		r->has_format[r->def->n_disks - 1] = true;
	return set_value(r, &s->keys[i], l->value, e);
}

/* ---- the whole -------------------------------------------------------------------------------------------- */

static unsigned line_of(const struct reading *r, unsigned sect, const char *key)
{
	for (size_t i = 0; i < sects[sect].n; i++)
		if (str_eq(sects[sect].keys[i].name, key))
			return r->key_line[sect][i];
	return 0;
}

/* What no single line shows. @line: out, the one to blame; 0: none. */
static int check_whole(const struct reading *r, unsigned *line, struct err *e)
{
	const struct def *d = r->def;

	for (size_t i = 0; i < d->n_disks; i++) {
		*line = r->disk_line[i];
		if (!d->disks[i].file)
			return err_set(e, -EINVAL, "[disk %s] has no file", d->disks[i].name);
		if (!r->has_format[i]) {
			err_set(e, -EINVAL, "[disk %s] has no format", d->disks[i].name);
			return err_hint(e, "say 'format = qcow2' or 'format = raw': it is never guessed");
		}
	}
	for (size_t i = 0; i < d->n_nets; i++) {
		bool tap = str_eq(d->nets[i].type, "tap");

		*line = r->net_line[i];
		if (tap != (d->nets[i].ifname != NULL))
			return err_set(e, -EINVAL, tap ? "[net %s] of type tap has no ifname" : "[net %s]: only type tap has an ifname",
				d->nets[i].name);
	}
	if ((*line = line_of(r, S_BOOT, "healthy")) && str_eq(d->boot.healthy, "agent") && !d->agent)
		return err_set(e, -EINVAL, "healthy = agent needs agent = yes");
	if ((*line = line_of(r, S_VM, "initrd")) && !d->kernel)
		return err_set(e, -EINVAL, "initrd needs a kernel");
	if ((*line = line_of(r, S_VM, "append")) && !d->kernel)
		return err_set(e, -EINVAL, "append needs a kernel");
	if ((*line = line_of(r, S_VM, "nvram")) && !d->firmware)
		return err_set(e, -EINVAL, "nvram needs a firmware");
	if ((*line = line_of(r, S_VM, "nvram-format")) && !d->nvram)
		return err_set(e, -EINVAL, "nvram-format needs an nvram");
	if (d->nvram && d->n_disks == DEF_MAX_DISKS)
		return err_set(e, -EINVAL, "an nvram beside %d disks is one too many", DEF_MAX_DISKS);
	*line = line_of(r, S_QEMU, "arg");
	if (def_check_args(d->qemu_args, d->n_qemu_args, e) < 0)
		return e->code;
	*line = 0;
	if (!d->memory) {
		err_set(e, -EINVAL, "memory is not given");
		return err_hint(e, "e.g. memory = 512M, before the first section");
	}
	return 0;
}

static int set_defaults(struct def *d, const char *path, const char *name, struct err *e)
{
	d->vcpus = 1;
	d->nvram_format = FORMAT_RAW;
	d->boot.within_ms = 60000;
	d->boot.attempts = 3;
	d->boot.back_off_ms = 1000;
	d->boot.stop_within_ms = 60000;
	if (!(d->name = strdup(name)) || !(d->path = strdup(path)) || !(d->machine = strdup("q35")) ||
		!(d->memory_mode = strdup("normal")) || !(d->qemu = strdup(CONFIG_QEMU)) ||
		!(d->boot.from = strdup("cold")) || !(d->boot.healthy = strdup("running")) ||
		!(d->boot.on_crash = strdup("restart")) || !(d->boot.on_stop = strdup("shutdown")))
		return err_nomem(e, "read a definition");
	return 0;
}

static int read_text(struct reading *r, const char *path, const struct buf *text, struct err *e)
{
	unsigned line = 0;

	if (ini_parse(path, buf_str(text), text->n, read_key, r, e) < 0)
		return e->code;
	if (check_whole(r, &line, e) < 0)
		return line ? err_at(e, "%s:%u", path, line) : err_at(e, "%s", path);
	r->def->text = strdup(buf_str(text));
	return r->def->text ? 0 : err_nomem(e, "read a definition");
}

int def_read(const char *path, const char *name, struct def **def, struct err *e)
{
	return def_read_as(path, path, name, def, e);
}

int def_read_as(const char *file, const char *path, const char *name, struct def **def, struct err *e)
{
	auto_buf struct buf text = { 0 };

	if (def_check_name(name, e) < 0)
		return e->code;
	if (file_read(file, DEF_MAX_FILE, &text, e) < 0 || buf_check(&text, "read a definition", e) < 0)
		return e->code;
	return def_parse(&text, path, name, def, e);
}

int def_parse(const struct buf *text, const char *path, const char *name, struct def **def, struct err *e)
{
	struct reading r = { .sect = S_VM };

	if (def_check_name(name, e) < 0)
		return e->code;
	r.obj = r.def = calloc(1, sizeof *r.def);
	if (!r.def)
		return err_nomem(e, "read a definition");
	if (set_defaults(r.def, path, name, e) < 0 || read_text(&r, path, text, e) < 0) {
		def_free(r.def);
		return e->code;
	}
	*def = r.def;
	return 0;
}

/* Every string that the table of keys knows in @obj. */
static void free_keys(const struct sect *s, void *obj)
{
	for (size_t i = 0; i < s->n; i++) {
		enum kind k = s->keys[i].kind;

		if (k == STR || k == PATH || k == PROG || k == WORD || k == CHECK)
			free(*(char **)((char *)obj + s->keys[i].off));
	}
}

void def_free(struct def *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->n_disks; i++) {
		free_keys(&sects[S_DISK], &d->disks[i]);
		free(d->disks[i].name);
	}
	for (size_t i = 0; i < d->n_nets; i++) {
		free_keys(&sects[S_NET], &d->nets[i]);
		free(d->nets[i].name);
	}
	for (size_t i = 0; i < d->n_qemu_args; i++)
		free(d->qemu_args[i]);
	for (size_t i = 0; i < d->n_backing_dirs; i++)
		free(d->backing_dirs[i]);
	free(d->backing_dirs);
	free_keys(&sects[S_VM], d);
	free_keys(&sects[S_BOOT], d);
	free_keys(&sects[S_QEMU], d);
	free(d->qemu_args);
	free(d->disks);
	free(d->nets);
	free(d->name);
	free(d->path);
	free(d->text);
	free(d);
}

struct def_disk *def_disk_find(const struct def *d, const char *name)
{
	for (size_t i = 0; i < d->n_disks; i++)
		if (str_eq(d->disks[i].name, name))
			return &d->disks[i];
	return NULL;
}
