/* What a guest can see of its QEMU, out of the command line: whether memory that was saved in one can be loaded into another. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/made.h"
#include "kvm/run_dir.h"
#include "lib/file.h"
#include "lib/own.h"

#define MADE_MAX (1u << 20) /* bytes */

/* Where the next ",key=value" of an option's value is; a comma that is part of it is doubled. @n: out, its bytes. */
static const char *next_part(const char **p, size_t *n)
{
	const char *from = *p, *s = from;

	while (*s && (*s != ',' || s[1] == ','))
		s += 1 + (*s == ',');
	*n = (size_t)(s - from);
	*p = s + (*s == ',');
	return from;
}

/* The value of @key, of @n bytes, in an option's value; NULL: it is not there. */
static const char *part_of(const char *opt, const char *key, size_t *n)
{
	size_t len = strlen(key);

	while (*opt) {
		const char *part = next_part(&opt, n);

		if (*n > len && part[len] == '=' && !strncmp(part, key, len)) {
			*n -= len + 1;
			return part + len + 1;
		}
	}
	return NULL;
}

/* QEMU takes two dashes as well as one. */
static bool is_option(const char *word, const char *name)
{
	return !strcmp(word + (word[0] == '-' && word[1] == '-'), name);
}

/* The one that QEMU heeds, which is the last, as in "128M" or "size=128M". */
static void put_last(struct buf *out, struct argv *a, const char *name, const char *line, const char *key)
{
	const char *val = NULL, *part;
	size_t n = 0, len;

	for (size_t i = 0; i + 1 < a->n; i++) {
		if (!is_option(a->v[i], name))
			continue;
		val = a->v[++i];
		part = val;
		n = strcspn(val, ",");
		if (key && (part = part_of(val, key, &len))) {
			val = part;
			n = len;
		} else if (!key) {
			n = strlen(val);
		}
	}
	if (!val)
		return;
	/* What fermata leaves out of the host's own CPU is the host's affair. */
	if (!strcmp(line, "cpu") && !strcmp(val, "host,-arch-capabilities"))
		n = strlen("host");
	buf_addf(out, "%s = %.*s\n", line, (int)n, val);
}

/* Of a machine: how it is run, and what is built into it; its type is known in more detail than here. */
static void put_machine(struct buf *out, const char *val)
{
	size_t n;

	next_part(&val, &n);
	while (*val) {
		const char *part = next_part(&val, &n), *eq = memchr(part, '=', n);
		size_t key = eq ? (size_t)(eq - part) : n;

		if (key == strlen("accel") && !strncmp(part, "accel", key))
			buf_addf(out, "accel = %.*s\n", (int)(n - key - 1), eq + 1);
		else if (key != strlen("memory-backend") || strncmp(part, "memory-backend", key))
			buf_addf(out, "machine %.*s = %.*s\n", (int)key, part, eq ? (int)(n - key - 1) : 2, eq ? eq + 1 : "on");
	}
}

/* Of a device: what it is, how it is called, and where it sits. What is behind it is the host's affair. */
static void put_device(struct buf *out, const char *val, unsigned *unnamed)
{
	static const char *const places[] = { "bus", "addr", "unit", "scsi-id", "lun", "nr", "port" };
	size_t n_id = 0, n_type, n;
	const char *id = part_of(val, "id", &n_id), *type = part_of(val, "driver", &n_type), *rest = val;

	if (*val == '{') { /* in JSON: word for word */
		buf_addf(out, "device[%u] = %s\n", (*unnamed)++, val);
		return;
	}
	if (!type)
		type = next_part(&rest, &n_type);
	if (id)
		buf_addf(out, "device %.*s", (int)n_id, id);
	else
		buf_addf(out, "device[%u]", (*unnamed)++);
	buf_addf(out, " = %.*s", (int)n_type, type);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const char *at = part_of(val, places[i], &n);

		if (at)
			buf_addf(out, ", %s %.*s", places[i], (int)n, at);
	}
	buf_addc(out, '\n');
}

/* A drive that QEMU makes a device for by itself. */
static void put_drive(struct buf *out, const char *val, unsigned n)
{
	size_t len;
	const char *as = part_of(val, "if", &len);

	if (!as)
		buf_addf(out, "drive[%u] = on\n", n);
	else if (len != strlen("none") || strncmp(as, "none", len))
		buf_addf(out, "drive[%u] = %.*s\n", n, (int)len, as);
}

void made_words(struct argv *a, struct buf *out)
{
	unsigned unnamed = 0, serial = 0, drives = 0;

	put_last(out, a, "-cpu", "cpu", NULL);
	put_last(out, a, "-m", "memory", "size");
	put_last(out, a, "-smp", "vcpus", "cpus");
	put_last(out, a, "-vga", "vga", NULL);
	for (size_t i = 0; i < a->n; i++) {
		const char *val = i + 1 < a->n ? a->v[i + 1] : "";

		if (is_option(a->v[i], "-machine") || is_option(a->v[i], "-M"))
			put_machine(out, val);
		else if (is_option(a->v[i], "-accel"))
			buf_addf(out, "accel = %.*s\n", (int)strcspn(val, ","), val);
		else if (is_option(a->v[i], "-device"))
			put_device(out, val, &unnamed);
		else if (is_option(a->v[i], "-serial"))
			buf_addf(out, "serial[%u] = %s\n", serial++, strcmp(val, "none") ? "on" : "none");
		else if (is_option(a->v[i], "-drive"))
			put_drive(out, val, drives++);
		else if (is_option(a->v[i], "-global"))
			buf_addf(out, "global = %s\n", val);
		else if (is_option(a->v[i], "-usb"))
			buf_adds(out, "usb = on\n");
	}
}

int kvm_made_by(const struct def *def, const struct kvm_caps *caps, const char *machine, const char *run_dir, struct buf *out,
	struct err *e)
{
	/* Which images are behind a disk the guest does not see. */
	const struct kvm_layer layer = { .file = "/dev/null", .format = FORMAT_RAW };
	auto_free struct kvm_chain *chains = calloc(def->n_disks + 1, sizeof *chains);
	struct kvm_spec spec = { .def = def, .caps = caps, .chains = chains, .machine = machine, .run_dir = run_dir };
	struct argv a = { 0 };
	const char *accel;
	char notice[200];

	if (!chains)
		return err_nomem(e, "compare VMs");
	for (size_t i = 0; i < def->n_disks; i++)
		chains[i] = (struct kvm_chain){ .disk = def->disks[i].name, .layers = &layer, .n_layers = 1 };
	if (kvm_argv(&spec, &a, &accel, notice, sizeof notice, e) < 0)
		return e->code;
	made_words(&a, out);
	argv_done(&a);
	return buf_check(out, "compare VMs", e);
}

int made_note(const char *run_dir, struct argv *a, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_MADE, run_dir);
	auto_buf struct buf text = { 0 };
	auto_fd int fd = -1;

	if (!path)
		return err_nomem(e, "start QEMU");
	made_words(a, &text);
	if (buf_check(&text, "start QEMU", e) < 0)
		return e->code;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? err_sys(e, errno, "cannot create %s", path) : io_write_full(fd, text.p, text.n, path, e);
}

int kvm_made(const char *run_dir, struct buf *out, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_MADE, run_dir);
	struct err unknown;

	if (!path)
		return err_nomem(e, "compare VMs");
	if (file_read(path, MADE_MAX, out, &unknown) < 0) {
		buf_done(out);
		*out = (struct buf){ 0 };
	}
	return 0;
}
