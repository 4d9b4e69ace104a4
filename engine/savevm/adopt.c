/* Snapshots that others made with savevm or qemu-img: listed like ours, written nowhere. */
#include <stdlib.h>
#include <string.h>

#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/own.h"
#include "lib/text.h"

struct search {
	struct fermata_vm *vm;
	const struct disk_state *d;
	size_t known; /* snapshots that the record itself has */
	struct err *e;
	int rc;
};

#define UNSAID "\xef\xbf\xbd" /* U+FFFD: for bytes that are not UTF-8, in the record and from QEMU */

/* A tag without what cannot be said of it. NULL: no memory. */
static char *said_of(const char *tag)
{
	auto_buf struct buf b = { 0 };

	for (const char *p = tag; *p;) {
		char one[5] = "";
		size_t n = 1;

		if (!strncmp(p, UNSAID, 3)) {
			p += 3;
			continue;
		}
		for (; n <= 4 && p[n - 1]; n++) {
			memcpy(one, p, n);
			one[n] = '\0';
			if (text_is_utf8(one))
				break;
		}
		if (n > 4 || !p[n - 1]) {
			p++;
			continue;
		}
		buf_add(&b, p, n);
		p += n;
	}
	buf_adds(&b, "");
	return b.oom ? NULL : b.p ? buf_take(&b) : strdup("");
}

/* Whether @tag is what the record has as @recorded: there, and by QEMU, bytes that are not UTF-8 are replaced. */
static bool same_tag(const char *recorded, const char *tag)
{
	auto_free char *a = NULL, *b = NULL;

	if (!strcmp(recorded, tag))
		return true;
	if (text_is_utf8(tag) || !strstr(recorded, UNSAID))
		return false;
	a = said_of(recorded);
	b = said_of(tag);
	return a && b && !strcmp(a, b);
}

/* Whether a snapshot on record accounts for @tag on @disk. */
static bool on_record(const struct record *r, size_t n, const char *disk, const char *tag)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < r->snaps[i]->n_disks; j++)
			if (!strcmp(r->snaps[i]->disks[j].disk, disk) && same_tag(r->snaps[i]->disks[j].tag, tag))
				return true;
	return false;
}

/* A creation that is under way is not somebody else's. */
static bool is_pending(const struct record *r, const char *tag)
{
	const struct fermata_snap *s = r->pending.snap;

	return r->pending.op == PENDING_CREATE && s && s->n_disks && !strcmp(s->disks[0].tag, tag);
}

static struct fermata_snap *adopted_by_name(const struct record *r, size_t known, const char *name)
{
	for (size_t i = known; i < r->n_snaps; i++)
		if (!strcmp(r->snaps[i]->name, name))
			return r->snaps[i];
	return NULL;
}

static struct fermata_snap *adopt_new(struct search *s, const struct tag *t)
{
	struct record *r = s->vm->rec;
	struct fermata_snap *snap = snap_new(t->name, NULL);

	if (!snap || record_add(r, snap, s->e) < 0) {
		snap_free(snap);
		err_nomem(s->e, "list the snapshots");
		return NULL;
	}
	snap->id = r->next_id++;
	snap->adopted = true;
	snap->kind = FERMATA_DISK_INTERNAL;
	snap->state = FERMATA_SNAP_SHUTOFF;
	snap->created = t->created;
	return snap;
}

static bool adopt_tag(void *ctx, const struct tag *t)
{
	struct search *s = ctx;
	struct record *r = s->vm->rec;
	const char *disk = s->d->def->name;
	struct fermata_snap *snap;

	if (on_record(r, s->known, disk, t->name) || is_pending(r, t->name))
		return true;
	snap = adopted_by_name(r, s->known, t->name);
	if (!snap && !(snap = adopt_new(s, t))) {
		s->rc = -ENOMEM;
		return false;
	}
	if (t->vmstate) {
		snap->kind = FERMATA_CHECKPOINT_INTERNAL;
		snap->state = FERMATA_SNAP_RUNNING;
		snap->clock_ns = t->clock_ns;
	}
	s->rc = snap_add_disk(snap,
		&(struct fermata_snap_disk){ .disk = (char *)disk, .file = (char *)s->d->file, .tag = (char *)t->name,
			.vmstate = t->vmstate },
		s->e);
	return s->rc == 0;
}

int vm_adopt_from(struct fermata_vm *vm, const struct disks *ds, struct err *e)
{
	struct search s = { .vm = vm, .known = vm->rec->n_snaps, .e = e };

	for (size_t i = 0; i < ds->n && s.rc == 0 && !vm->adopted; i++) {
		s.d = &ds->d[i];
		disk_tags(s.d, adopt_tag, &s);
	}
	vm->adopted = s.rc == 0;
	return s.rc;
}

int vm_adopt(struct fermata_vm *vm, struct err *e)
{
	auto_disks struct disks ds = { 0 };

	if (vm->adopted)
		return 0;
	if (disks_look(vm, &ds, e) < 0)
		return err_at(e, "%s", vm->name);
	return vm_adopt_from(vm, &ds, e);
}
