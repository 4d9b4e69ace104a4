#include "kvm/def.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/def_args.h"
#include "kvm/def_sections.h"
#include "kvm/machine.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/ini.h"
#include "lib/own.h"
#include "lib/text.h"

/* ---- the keys ----------------------------------------------------------------------------------------- */

static int check_uuid(const char *s, struct err *e)
{
	size_t i = 0;

	while (i < 36 && (i == 8 || i == 13 || i == 18 || i == 23 ? s[i] == '-' : isxdigit((unsigned char)s[i])))
		i++;
	return i < 36 || s[i] ? err_set(e, -EINVAL, "uuid '%s' is not 8-4-4-4-12 hex digits", s) : 0;
}

#define K(n, k, m, ...) DEF_KEY(n, k, offsetof(struct def, m), ##__VA_ARGS__)
static const struct def_key vm_keys[] = {
	K("memory", KEY_MEM, memory),
	K("vcpus", KEY_NUM, vcpus, .min = 1, .max = 255),
	K("machine", KEY_STR, machine, .max = 64),
	K("uuid", KEY_CHECK, uuid, .check = check_uuid),
	K("accel", KEY_ENUM, accel, .words = "kvm|tcg|kvm:tcg"),
	K("cpu", KEY_STR, cpu, .max = 1024),
	K("agent", KEY_BOOL, agent),
	K("kernel", KEY_PATH, kernel),
	K("initrd", KEY_PATH, initrd),
	K("append", KEY_STR, append, .max = 2047),
	K("firmware", KEY_PATH, firmware),
	K("nvram", KEY_PATH, nvram),
	K("nvram-format", KEY_ENUM, nvram_format, .words = "qcow2|raw"),
	K("memory-mode", KEY_WORD, memory_mode, .words = "normal|instant"),
	K("memory-dir", KEY_PATH, memory_dir),
	K("snapshot-dir", KEY_PATH, snapshot_dir),
	K("backing-dir", KEY_DIRS, backing_dirs),
	K("qemu", KEY_PROG, qemu),
	K("user", KEY_STR, user, .max = 64),
};

static const struct def_key qemu_keys[] = {
	K("arg", KEY_ARGS, qemu_args),
	K("left-out", KEY_STR, left_out, .max = 1024),
};

static const struct def_device *const devices[] = { &def_disks, &def_nets };

/* The sections there are: those of devices first, then those that are given once, the caller's last. */
enum { S_VM = ARRAY_SIZE(devices), S_QEMU, S_FURTHER, N_SECTS };
#define MAX_KEYS 32

/* A definition while it is read: where each key of a section was found, in a device's of the current one. */
struct reading {
	struct def *def;
	const struct def_section *further; /* NULL: none */
	unsigned sect;
	void *obj; /* what the section's offsets count from */
	unsigned key_line[N_SECTS][MAX_KEYS];
	unsigned head_line[N_SECTS];
};

struct sect {
	const char *name;
	const struct def_key *keys;
	size_t n;
};

static struct sect sect_at(const struct def_section *further, unsigned i)
{
	if (i < S_VM)
		return (struct sect){ devices[i]->name, devices[i]->keys, devices[i]->n_keys };
	if (i == S_VM)
		return (struct sect){ "", vm_keys, ARRAY_SIZE(vm_keys) };
	if (i == S_QEMU)
		return (struct sect){ "qemu", qemu_keys, ARRAY_SIZE(qemu_keys) };
	return (struct sect){ further->name, further->keys, further->n_keys };
}

static unsigned n_sects(const struct def_section *further)
{
	return further ? N_SECTS : S_FURTHER;
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

/* Both become ids of QEMU's devices, which share one space of names. */
static int check_fresh(const struct def *d, const char *name, struct err *e)
{
	const char *what = def_disk_find(d, name) ? "disk" : NULL;

	for (size_t i = 0; i < d->n_nets; i++)
		if (str_eq(d->nets[i].name, name))
			what = "net";
	return what ? err_set(e, -EINVAL, "there is a [%s %s] already", what, name) : 0;
}

static const char *sect_name(const void *further, size_t i)
{
	return sect_at(further, (unsigned)i).name;
}

static int open_section(struct reading *r, const struct ini_line *l, struct err *e)
{
	unsigned i = 0, n = n_sects(r->further);
	bool device;

	while (i < n && !str_eq(sect_name(r->further, i), l->section))
		i++;
	if (i == n) {
		err_set(e, -EINVAL, "unknown section [%s]", l->section);
		hint_near(l->section, n, sect_name, r->further, e);
		return e->code;
	}
	device = i < S_VM;
	if (!device && *l->name)
		return err_set(e, -EINVAL, "section [%s] takes no name", l->section);
	if (!device && r->head_line[i])
		return err_set(e, -EINVAL, "section [%s] was opened in line %u already", l->section, r->head_line[i]);
	if (device && !(name_ok(l->name, DEF_DISK_MAX, "-_") && isalpha((unsigned char)*l->name)))
		return err_set(e, -EINVAL, "[%s NAME]: '%s' is not a name: a letter, then letters, digits, '-', '_', %d at most",
			l->section, l->name, DEF_DISK_MAX);
	if (device && check_fresh(r->def, l->name, e) < 0)
		return e->code;
	r->sect = i;
	r->head_line[i] = l->line;
	memset(r->key_line[i], 0, sizeof r->key_line[i]);
	r->obj = device ? devices[i]->add(r->def, l->name, l->line, e) : i == S_FURTHER ? r->def->further : r->def;
	return r->obj ? 0 : e->code;
}

static int read_key(void *ctx, const struct ini_line *l, struct err *e)
{
	struct reading *r = ctx;
	struct sect s = sect_at(r->further, r->sect);
	const struct def_key *k;
	unsigned *line;

	if (!l->key)
		return open_section(r, l, e);
	if (key_find(s.keys, s.n, l->key, s.name, &k, e) < 0)
		return e->code;
	line = &r->key_line[r->sect][k - s.keys];
	if (*line && !key_repeats(k))
		return err_set(e, -EINVAL, "%s was given in line %u already", l->key, *line);
	*line = l->line;
	return key_set(k, l->value, r->obj, r->def->path, e);
}

/* ---- the whole -------------------------------------------------------------------------------------------- */

static unsigned line_of(const struct reading *r, unsigned sect, const char *key)
{
	struct sect s = sect_at(r->further, sect);

	for (size_t i = 0; i < s.n; i++)
		if (str_eq(s.keys[i].name, key))
			return r->key_line[sect][i];
	return 0;
}

static int check_further(const struct reading *r, unsigned *line, struct err *e)
{
	const char *key = "";

	if (!r->further || r->further->check(r->def->further, r->def, &key, e) == 0)
		return 0;
	*line = line_of(r, S_FURTHER, key);
	return e->code;
}

/* What no single line shows. @line: out, the one to blame; 0: none. */
static int check_whole(const struct reading *r, unsigned *line, struct err *e)
{
	struct def *d = r->def;

	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		if (devices[i]->check(d, line, e) < 0)
			return e->code;
	if (check_further(r, line, e) < 0)
		return e->code;
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
	if (def_check_args(d->qemu_args.v, d->qemu_args.n, e) < 0)
		return e->code;
	*line = 0;
	if (!d->memory) {
		err_set(e, -EINVAL, "memory is not given");
		return err_hint(e, "e.g. memory = 512M, before the first section");
	}
	return 0;
}

static int set_defaults(struct def *d, const char *path, const char *name, const struct def_section *further, struct err *e)
{
	d->vcpus = 1;
	d->nvram_format = FORMAT_RAW;
	if (!(d->name = strdup(name)) || !(d->path = strdup(path)) || !(d->machine = strdup(machine_host_type())) ||
		!(d->memory_mode = strdup("normal")) || !(d->qemu = strdup(machine_host_qemu())))
		return err_nomem(e, "read a definition");
	if (!further)
		return 0;
	d->further = calloc(1, further->size);
	d->further_keys = further;
	return d->further ? further->defaults(d->further, e) : err_nomem(e, "read a definition");
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

int def_read(const char *path, const char *name, const struct def_section *further, struct def **def, struct err *e)
{
	return def_read_as(path, path, name, further, def, e);
}

int def_read_as(const char *file, const char *path, const char *name, const struct def_section *further, struct def **def,
	struct err *e)
{
	auto_buf struct buf text = { 0 };

	if (def_check_name(name, e) < 0)
		return e->code;
	if (file_read(file, DEF_MAX_FILE, &text, e) < 0 || buf_check(&text, "read a definition", e) < 0)
		return e->code;
	return def_parse(&text, path, name, further, def, e);
}

int def_parse(const struct buf *text, const char *path, const char *name, const struct def_section *further, struct def **def,
	struct err *e)
{
	struct reading r = { .sect = S_VM, .further = further };

	if (def_check_name(name, e) < 0)
		return e->code;
	r.obj = r.def = calloc(1, sizeof *r.def);
	if (!r.def)
		return err_nomem(e, "read a definition");
	if (set_defaults(r.def, path, name, further, e) < 0 || read_text(&r, path, text, e) < 0) {
		def_free(r.def);
		return e->code;
	}
	*def = r.def;
	return 0;
}

void def_free(struct def *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		devices[i]->free(d);
	if (d->further)
		keys_free(d->further_keys->keys, d->further_keys->n_keys, d->further);
	free(d->further);
	keys_free(vm_keys, ARRAY_SIZE(vm_keys), d);
	keys_free(qemu_keys, ARRAY_SIZE(qemu_keys), d);
	free(d->name);
	free(d->path);
	free(d->text);
	free(d);
}
