/* [disk NAME] */
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
};

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

static int check_disks(const struct def *d, unsigned *line, struct err *e)
{
	for (size_t i = 0; i < d->n_disks; i++) {
		*line = d->disks[i].line;
		if (!d->disks[i].file)
			return err_set(e, -EINVAL, "[disk %s] has no file", d->disks[i].name);
		if (d->disks[i].format == FORMAT_UNSAID) {
			err_set(e, -EINVAL, "[disk %s] has no format", d->disks[i].name);
			return err_hint(e, "say 'format = qcow2' or 'format = raw': it is never guessed");
		}
	}
	return 0;
}

static void free_disks(struct def *d)
{
	for (size_t i = 0; i < d->n_disks; i++) {
		keys_free(keys, ARRAY_SIZE(keys), &d->disks[i]);
		free(d->disks[i].name);
	}
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
