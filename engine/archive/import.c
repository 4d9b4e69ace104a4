/* A snapshot out of an archive: images and a memory file of its own, and one switch of the record. See archive.h. */
#include <fcntl.h>
#include <string.h>

#include "engine/archive/archive.h"
#include "engine/archive/import.h"
#include "engine/archive/internal.h"
#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/record/record.h"
#include "engine/save/managed.h"
#include "engine/vm/vm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/own.h"

int import_undo(struct fermata_vm *vm, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	uint64_t mark = vm->rec->pending.mark;

	for (size_t i = 0; i < s->n_disks; i++)
		if ((s->disks[i].overlay[0] && made_remove_image(vm, s->disks[i].overlay, mark, e) < 0) ||
			made_remove_image(vm, s->disks[i].file, mark, e) < 0)
			return err_at(e, "%s", s->disks[i].disk);
	if (s->nvram && made_remove_file(vm, s->nvram, e) < 0)
		return e->code;
	if (s->memory && s->memory[0])
		checkpoint_drop(vm, s);
	return pending_end(vm, e);
}

static int finish(struct fermata_vm *vm, struct err *e)
{
	struct record *r = vm->rec;
	struct fermata_snap *s = r->pending.snap;
	size_t used = 0;

	for (size_t i = 0; i < s->n_disks; i++) {
		struct fermata_snap_disk *d = &s->disks[i];

		if (!d->overlay[0])
			continue;
		if (disk_use(vm, d->disk, d->overlay, false, e) < 0)
			return e->code;
		d->overlay[0] = '\0';
		used++;
	}
	if (s->n_disks && used == s->n_disks)
		r->current = s->id;
	if (record_add(r, s, e) < 0)
		return e->code;
	r->pending = (struct pending){ 0 };
	bases_note_all(vm);
	return record_save(r, e);
}

static int import(struct import *j, int fd, const struct fermata_snap **out, struct err *e)
{
	struct record *r = j->vm->rec;
	struct pending p = { .op = PENDING_IMPORT };
	const char *name = j->o->file ? j->o->file : "standard input";
	struct err also;

	j->a.cancel = j->vm->host->cancel;
	if (archive_open(&j->a, fd, name, &j->doc, e) < 0)
		return e->code;
	j->manifest = json_root(j->doc);
	if (archive_parts(&j->a, j->manifest, j->parts, &j->n, e) < 0 || import_describe(j, &p.snap, e) < 0)
		return e->code;
	if (import_check_room(j, e) < 0) {
		snap_free(p.snap);
		return e->code;
	}
	r->next_id = p.snap->id + 2;
	*out = p.snap;
	j->began_ms = clock_mono_ms();
	if (pending_begin(j->vm, p, e) < 0)
		return e->code;
	if (import_take_all(j, p.snap, e) < 0) {
		if (import_undo(j->vm, &also) < 0) {
			err_also(e, "and could not undo: %s", also.msg);
			e->code = FERMATA_PENDING;
			err_hint(e, "the next command tries again");
		}
		return e->code;
	}
	if (finish(j->vm, e) < 0) {
		e->code = FERMATA_PENDING;
		return err_hint(e, "the next command removes what was imported");
	}
	return 0;
}

int fermata_snapshot_import(struct fermata_vm *vm, const struct fermata_import *i, const struct fermata_snap **out, struct err *e)
{
	auto_fd int fd = i->file ? open(i->file, O_RDONLY | O_CLOEXEC) : -1;
	struct import j = { .vm = vm, .o = i, .ram = { .fd = -1 } };
	int rc;

	if (i->file && fd < 0)
		return err_sys(e, errno, "%s: cannot open %s", vm->name, i->file);
	rc = jobs_none(vm, e) < 0 || managed_none(vm, false, e) < 0 ? e->code : import(&j, i->file ? fd : i->fd, out, e);
	archive_done(&j.a);
	ram_out_done(&j.ram);
	json_free(j.doc);
	return rc < 0 ? err_at(e, "%s: cannot import the snapshot", vm->name) : 0;
}
