/* Snapshots in memory: made, copied, freed. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/record/record.h"
#include "lib/err.h"
#include "lib/own.h"
#include "lib/text.h"

struct fermata_snap *snap_new(const char *name, const char *description)
{
	struct fermata_snap *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->name = strdup(name);
	s->description = strdup(description ? description : "");
	s->qemu = strdup("");
	s->machine = strdup("");
	s->made = strdup("");
	if (!s->name || !s->description || !s->qemu || !s->machine || !s->made) {
		snap_free(s);
		return NULL;
	}
	return s;
}

void snap_disk_done(struct fermata_snap_disk *d)
{
	free(d->disk);
	free(d->file);
	free(d->tag);
	free(d->overlay);
}

int snap_add_disk(struct fermata_snap *s, const struct fermata_snap_disk *d, struct err *e)
{
	struct fermata_snap_disk c = *d, *all = reallocarray(s->disks, s->n_disks + 1, sizeof *all);

	if (all)
		s->disks = all;
	c.disk = strdup(d->disk);
	c.file = strdup(d->file ? d->file : "");
	c.tag = strdup(d->tag ? d->tag : "");
	c.overlay = strdup(d->overlay ? d->overlay : "");
	if (!all || !c.disk || !c.file || !c.tag || !c.overlay) {
		snap_disk_done(&c);
		return err_nomem(e, "describe a snapshot");
	}
	all[s->n_disks++] = c;
	return 0;
}

struct fermata_snap *snap_copy(const struct fermata_snap *s)
{
	auto_snap struct fermata_snap *c = snap_new(s->name, s->description);
	struct err ignored;

	if (!c)
		return NULL;
	free(c->qemu);
	free(c->machine);
	free(c->made);
	c->qemu = strdup(s->qemu);
	c->machine = strdup(s->machine);
	c->made = strdup(s->made);
	c->memory = s->memory ? strdup(s->memory) : NULL;
	c->ram = s->ram ? strdup(s->ram) : NULL;
	c->ram_base = s->ram_base ? strdup(s->ram_base) : NULL;
	if (!c->qemu || !c->machine || !c->made || !s->memory != !c->memory || !s->ram != !c->ram || !s->ram_base != !c->ram_base)
		return NULL;
	c->id = s->id;
	c->kind = s->kind;
	c->state = s->state;
	c->created = s->created;
	c->clock_ns = s->clock_ns;
	c->parent = s->parent;
	c->adopted = s->adopted;
	if (s->nvram && !(c->nvram = strdup(s->nvram)))
		return NULL;
	for (size_t i = 0; i < s->n_disks; i++)
		if (snap_add_disk(c, &s->disks[i], &ignored) < 0)
			return NULL;
	return take_ptr(&c);
}

void snap_free(struct fermata_snap *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_disks; i++)
		snap_disk_done(&s->disks[i]);
	free(s->disks);
	free(s->name);
	free(s->description);
	free(s->qemu);
	free(s->machine);
	free(s->made);
	free(s->nvram);
	free(s->memory);
	free(s->ram);
	free(s->ram_base);
	free(s);
}

#define OWN_NAMES      "fermata-"

int snap_check_name(const char *name, struct err *e)
{
	if (!name[0] || strlen(name) > FERMATA_SNAP_NAME_MAX)
		return err_set(e, -EINVAL, "a snapshot's name has 1 to %d bytes", FERMATA_SNAP_NAME_MAX);
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == '/' || *p == 0x7f)
			return err_set(e, -EINVAL, "the name '%s' has a slash or a control character", name);
	if (!text_is_utf8(name))
		return err_set(e, -EINVAL, "the name '%s' is not UTF-8", name);
	/* What an operation keeps in images for itself, to go back if it fails, is called so. */
	if (str_starts(name, OWN_NAMES))
		return err_set(e, -EINVAL, "the name '%s' is reserved: fermata's own begin with '" OWN_NAMES "'", name);
	return 0;
}

const char *instant_map(const struct fermata_snap *s)
{
	return !fermata_snap_instant(s) ? NULL : s->ram_base && s->ram_base[0] ? s->ram_base : s->ram;
}
