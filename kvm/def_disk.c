/* [disk NAME] */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/def_sections.h"
#include "lib/file.h"
#include "lib/own.h"

#define K(n, k, m, ...) DEF_KEY(n, k, offsetof(struct def_disk, m), ##__VA_ARGS__)
static const struct def_key keys[] = {
	K("file", KEY_PATH, file),
	K("format", KEY_ENUM, format, .words = "qcow2|raw"),
	K("bus", KEY_ENUM, bus, .words = "virtio|ide|sata|scsi"),
	K("snapshot", KEY_ENUM, snapshot, .words = "|internal|external|no"),
	K("cache", KEY_WORD, cache, .words = "none|writeback|writethrough|unsafe|directsync"),
	K("discard", KEY_WORD, discard, .words = "unmap|ignore"),
	K("serial", KEY_STR, serial, .max = 20), /* the virtio and ATA limit */
	K("readonly", KEY_BOOL, readonly),
	K("device", KEY_ENUM, device, .words = "disk|cdrom"),
	K("boot", KEY_NUM, boot, .min = 1, .max = 999),
	K("address", KEY_STR, address, .max = 16),
	K("iothread", KEY_BOOL, iothread),
	K("queues", KEY_NUM, queues, .min = 1, .max = 256),
	K("detect-zeroes", KEY_WORD, detect_zeroes, .words = "off|on|unmap"),
	K("iops", KEY_NUM, iops, .min = 1, .max = 1000000000),
	K("bps", KEY_SIZE, bps, .min = 1024),
};

/* @s: one or two numbers with a dot, each below its bound; the second one is 0 where it is not given. */
static bool numbers(const char *s, int base, unsigned most, unsigned most2, unsigned *a, unsigned *b)
{
	char *end;

	*b = 0;
	if (!isxdigit((unsigned char)*s))
		return false;
	*a = (unsigned)strtoul(s, &end, base);
	if (*end == '.' && most2) {
		if (!isxdigit((unsigned char)end[1]))
			return false;
		*b = (unsigned)strtoul(end + 1, &end, base);
	}
	return !*end && *a <= most && *b <= most2;
}

bool def_address(enum def_bus bus, const char *s, unsigned *n)
{
	unsigned a, b;
	bool ok = false;

	switch (bus) {
	case BUS_VIRTIO: /* slot 0 is the host bridge's */
		ok = numbers(s, 16, 31, 7, &a, &b) && a;
		*n = ok ? a * 8 + b : 0;
		break;
	case BUS_IDE:
		ok = numbers(s, 10, 1, 1, &a, &b) && strchr(s, '.');
		*n = ok ? a * 2 + b : 0;
		break;
	case BUS_SATA:
		ok = numbers(s, 10, 5, 0, n, &b);
		break;
	case BUS_SCSI:
		ok = numbers(s, 10, 255, 0, n, &b);
		break;
	}
	return ok;
}

static int not_an_address(const struct def_disk *k, struct err *e)
{
	static const char *const forms[] = { "a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions",
		"a channel and a unit, 0.0 to 1.1", "a port from 0 to 5", "a target from 0 to 255" };

	err_set(e, -EINVAL, "[disk %s]: address '%s' is none", k->name, k->address);
	return err_hint(e, "it is %s", forms[k->bus]);
}

static void *add_disk(struct def *d, const char *name, unsigned line, struct err *e)
{
	struct def_disk *k;

	if (d->n_disks == DEF_MAX_DISKS) {
		err_set(e, -EINVAL, "more than %d disks", DEF_MAX_DISKS);
		return NULL;
	}
	k = def_grow(d->disks, d->n_disks, sizeof *k);
	if (!k) {
		err_nomem(e, "read a definition");
		return NULL;
	}
	d->disks = k;
	k += d->n_disks++;
	k->line = line;
	k->format = FORMAT_UNSAID;
	k->name = strdup(name);
	k->discard = strdup("unmap");
	if (k->name && k->discard)
		return k;
	err_nomem(e, "read a definition");
	return NULL;
}

/* What a drive has that is only read from. */
static int check_cdrom(const struct def_disk *k, struct err *e)
{
	const char *not = k->iothread ? "iothread" : k->queues ? "queues" : k->detect_zeroes ? "detect-zeroes" : k->iops ? "iops" :
		k->bps ? "bps" : k->cache ? "cache" : k->snapshot != DISK_SNAP_DEFAULT && k->snapshot != DISK_SNAP_NO ? "snapshot" : NULL;
	unsigned n;

	if (k->bus == BUS_VIRTIO) {
		err_set(e, -EINVAL, "[disk %s]: there is no cdrom on bus = virtio", k->name);
		return err_hint(e, "say bus = sata, ide or scsi");
	}
	if (k->format == FORMAT_QCOW2)
		return err_set(e, -EINVAL, "[disk %s]: a cdrom's format is raw", k->name);
	if (not)
		return err_set(e, -EINVAL, "[disk %s]: a cdrom has no %s", k->name, not);
	return k->address && !def_address(k->bus, k->address, &n) ? not_an_address(k, e) : 0;
}

/* What only one of the buses has, or one value of another key allows. */
static int check_disk(const struct def_disk *k, struct err *e)
{
	unsigned n;

	if (k->device == DEVICE_CDROM)
		return check_cdrom(k, e);
	if (!k->file)
		return err_set(e, -EINVAL, "[disk %s] has no file", k->name);
	if (k->format == FORMAT_UNSAID) {
		err_set(e, -EINVAL, "[disk %s] has no format", k->name);
		return err_hint(e, "say 'format = qcow2' or 'format = raw': it is never guessed");
	}
	if (k->bus != BUS_VIRTIO && (k->iothread || k->queues))
		return err_set(e, -EINVAL, "[disk %s]: only bus = virtio has %s", k->name, k->iothread ? "an iothread" : "queues");
	if (k->detect_zeroes && str_eq(k->detect_zeroes, "unmap") && !str_eq(k->discard, "unmap"))
		return err_set(e, -EINVAL, "[disk %s]: detect-zeroes = unmap needs discard = unmap", k->name);
	return k->address && !def_address(k->bus, k->address, &n) ? not_an_address(k, e) : 0;
}

/* Two of a kind, where there is one of each. */
static int check_pair(const struct def_disk *a, const struct def_disk *k, struct err *e)
{
	unsigned n, m;

	if (k->boot && k->boot == a->boot)
		return err_set(e, -EINVAL, "[disk %s]: boot = %u is that of [disk %s]", k->name, k->boot, a->name);
	if (k->address && a->address && k->bus == a->bus && def_address(k->bus, k->address, &n) && def_address(a->bus, a->address, &m) &&
		n == m)
		return err_set(e, -EINVAL, "[disk %s]: address = %s is that of [disk %s]", k->name, k->address, a->name);
	return 0;
}

/* From the disks, in whose order they were, to a list of their own. */
static int move_cdroms(struct def *d, struct err *e)
{
	size_t n = 0;

	for (size_t i = 0; i < d->n_disks; i++) {
		struct def_disk *cd;

		if (d->disks[i].device == DEVICE_DISK) {
			d->disks[n++] = d->disks[i];
			continue;
		}
		cd = def_grow(d->cdroms, d->n_cdroms, sizeof *cd);
		if (!cd) { /* the rest is freed as what it is */
			memmove(&d->disks[n], &d->disks[i], (d->n_disks - i) * sizeof *d->disks);
			d->n_disks -= i - n;
			return err_nomem(e, "read a definition");
		}
		d->cdroms = cd;
		cd[d->n_cdroms++] = d->disks[i];
	}
	d->n_disks = n;
	return 0;
}

static int check_disks(struct def *d, unsigned *line, struct err *e)
{
	for (size_t i = 0; i < d->n_disks; i++) {
		*line = d->disks[i].line;
		if (check_disk(&d->disks[i], e) < 0)
			return e->code;
		for (size_t j = 0; j < i; j++)
			if (check_pair(&d->disks[j], &d->disks[i], e) < 0)
				return e->code;
	}
	return move_cdroms(d, e);
}

static void free_disks(struct def *d)
{
	for (size_t i = 0; i < d->n_disks; i++) {
		keys_free(keys, ARRAY_SIZE(keys), &d->disks[i]);
		free(d->disks[i].name);
	}
	for (size_t i = 0; i < d->n_cdroms; i++) {
		keys_free(keys, ARRAY_SIZE(keys), &d->cdroms[i]);
		free(d->cdroms[i].name);
	}
	free(d->cdroms);
	free(d->disks);
}

const struct def_device def_disks = { "disk", keys, ARRAY_SIZE(keys), add_disk, check_disks, free_disks };

struct def_disk *def_disk_find(const struct def *d, const char *name)
{
	for (size_t i = 0; i < d->n_disks; i++)
		if (str_eq(d->disks[i].name, name))
			return &d->disks[i];
	return NULL;
}
