/* A snapshot out of an archive: images and a memory file of its own, and one switch of the record. See archive.h. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/archive/archive.h"
#include "engine/archive/internal.h"
#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/record/record.h"
#include "engine/save/managed.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/dev.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/limits.h"
#include "lib/own.h"
#include "qcow2/fill.h"
#include "qcow2/qcow2.h"

#define EXTRA_BYTES (2u << 20) /* an image's tables beside what grows with its data; a record */

struct job {
	struct fermata_vm *vm;
	const struct fermata_import *o;
	struct archive a;
	struct json_doc *doc;
	const struct json *manifest;
	struct archive_part parts[ARCHIVE_PARTS_MAX];
	const char *to[ARCHIVE_PARTS_MAX]; /* the file that it goes into; NULL: it is left out */
	size_t n;
	struct ram_out ram; /* of an instant checkpoint: complete when its stream comes */
	uint64_t done, total, began_ms;
};

/* ---- whether it fits this VM --------------------------------------------------------------------------------- */

/* A text of the manifest, which may be shown on a terminal. */
static int need_text(const struct job *j, const char *key, const char **out, struct err *e)
{
	if (json_need_str(j->manifest, key, out, e) < 0)
		return err_at(e, "%s", j->a.name);
	return archive_plain(*out) ? 0 : err_set(e, -EUCLEAN, "%s: control characters in '%s'", j->a.name, key);
}

static int need_same(const struct job *j, const char *key, uint64_t here, struct err *e)
{
	uint64_t there;

	if (json_need_uint(j->manifest, key, &there, e) < 0)
		return err_at(e, "%s", j->a.name);
	return there == here ? 0 : err_set(e, -EINVAL, "the definition has %s = %llu, the archive %llu", key,
		(unsigned long long)here, (unsigned long long)there);
}

/* What memory and devices can only be loaded into. */
static int check_machine(const struct job *j, struct err *e)
{
	const struct def *def = j->vm->def;
	const char *machine;

	if (need_same(j, "memory", def->memory, e) < 0 || need_text(j, "machine", &machine, e) < 0)
		return e->code;
	if (j->o->force)
		return 0;
	if (strcmp(machine, def->machine))
		err_set(e, -EINVAL, "the definition has machine = %s, the archive %s", def->machine, machine);
	else if (need_same(j, "vcpus", def->vcpus, e) == 0)
		return 0;
	return err_hint(e, "--force imports it all the same");
}

/* No image yet, as in an appliance that has never run. */
static bool fresh(struct fermata_vm *vm, size_t i)
{
	const struct record_disk *d = record_disk(vm->rec, vm->def->disks[i].name);

	return !vm_alive(vm) && !(d && d->active) && !file_exists(vm->def->disks[i].file);
}

static int check_size(const struct job *j, size_t i, uint64_t size, struct err *e)
{
	struct fermata_disk_size now;

	if (size % 512)
		return err_set(e, -EUCLEAN, "%s: no disk has %llu bytes", j->a.name, (unsigned long long)size);
	if (j->o->force || fresh(j->vm, i))
		return 0;
	if (fermata_vm_disk_size(j->vm, i, &now, e) < 0)
		return e->code;
	if (((now.capacity + 511) & ~511ull) == size)
		return 0;
	err_set(e, -EINVAL, "the disk has %llu bytes, the archive's %llu", (unsigned long long)now.capacity, (unsigned long long)size);
	return err_hint(e, "--force imports it all the same; going back to it gives the disk that size");
}

/* Disk part @p becomes one of @s's; it stays out where the VM has no such disk and that is no matter. */
static int add_disk(struct job *j, struct fermata_snap *s, const struct archive_part *p, struct err *e)
{
	struct def_disk *def = def_disk_find(j->vm->def, p->name);
	auto_free char *file = NULL, *overlay = NULL;
	size_t i;

	if (!def || def->readonly) {
		if (j->o->force)
			return 0;
		err_set(e, -ENODEV, "the VM has no such disk%s", def ? " that can be written" : "");
		return err_hint(e, "--force leaves it out");
	}
	i = (size_t)(def - j->vm->def->disks);
	if (check_size(j, i, p->size, e) < 0)
		return e->code;
	if (overlay_name(j->vm, i, s->name, s->id, &file, e) < 0 ||
		(fresh(j->vm, i) && overlay_name(j->vm, i, s->name, s->id + 1, &overlay, e) < 0))
		return e->code;
	if (!overlay && !(overlay = strdup("")))
		return err_nomem(e, "import a snapshot");
	if (file_exists(file) || file_exists(overlay))
		return err_set(e, -EEXIST, "%s is there already", file_exists(file) ? file : overlay);
	return snap_add_disk(s, &(struct fermata_snap_disk){ .disk = def->name, .file = file, .overlay = overlay, .external = true }, e);
}

/* Every disk that has to be part of a snapshot is. */
static int check_all_there(const struct job *j, const struct fermata_snap *s, struct err *e)
{
	const struct def *def = j->vm->def;
	bool writable = false;

	for (size_t i = 0, k; i < def->n_disks && !j->o->force; i++) {
		for (k = 0; k < s->n_disks && strcmp(s->disks[k].disk, def->disks[i].name); k++)
			;
		if (k == s->n_disks && !def->disks[i].readonly && def->disks[i].snapshot != DISK_SNAP_NO) {
			err_set(e, -ENODEV, "%s: the archive has no such disk", def->disks[i].name);
			return err_hint(e, "--force imports it all the same; going back to it leaves this disk as it is");
		}
	}
	/* A VM whose disks are only read is its memory; where some are written to, that alone would not fit them. */
	for (size_t i = 0; i < def->n_disks; i++)
		writable |= !def->disks[i].readonly;
	return s->n_disks || (s->kind == FERMATA_CHECKPOINT_EXTERNAL && !writable) ? 0 :
		err_set(e, -ENODEV, "the archive has none of the VM's disks");
}

static int add_nvram(const struct job *j, struct fermata_snap *s, struct err *e)
{
	const struct def *def = j->vm->def;

	if (!def->nvram || def->nvram_format != FORMAT_RAW) {
		if (j->o->force)
			return 0;
		err_set(e, -EINVAL, "the archive has the firmware's variables, the definition has no raw nvram for them");
		return err_hint(e, "--force leaves them out");
	}
	s->nvram = str_fmt("%s/nvram-%llu", j->vm->state_dir, (unsigned long long)s->id);
	return s->nvram ? 0 : err_nomem(e, "import a snapshot");
}

static int add_memory(const struct job *j, struct fermata_snap *s, struct err *e)
{
	const char *dir = j->vm->def->snapshot_dir;

	s->memory = str_fmt("%s/%.*s-%llu.mem", dir ? dir : j->vm->state_dir, name_in_file(s->name), s->name,
		(unsigned long long)s->id);
	if (!s->memory)
		return err_nomem(e, "import a snapshot");
	return file_exists(s->memory) ? err_set(e, -EEXIST, "%s is there already", s->memory) : 0;
}

/* The file beside the one of the stream, which a QEMU can map. */
static int add_ram(const struct job *j, struct fermata_snap *s, uint64_t size, struct err *e)
{
	if (size != j->vm->def->memory)
		return err_set(e, -EINVAL, "the definition has memory = %llu, the archive %llu", (unsigned long long)j->vm->def->memory,
			(unsigned long long)size);
	if (!s->memory && add_memory(j, s, e) < 0)
		return e->code;
	s->ram = str_fmt("%.*s.ram", (int)strlen(s->memory) - 4, s->memory);
	if (!s->ram)
		return err_nomem(e, "import a snapshot");
	return file_exists(s->ram) ? err_set(e, -EEXIST, "%s is there already", s->ram) : 0;
}

static int add_part(struct job *j, struct fermata_snap *s, size_t i, struct err *e)
{
	const struct archive_part *p = &j->parts[i];
	size_t had = s->n_disks;

	switch (p->role) {
	case ARCHIVE_DISK:
		if (add_disk(j, s, p, e) < 0)
			return err_at(e, "%s", p->name);
		j->to[i] = s->n_disks > had ? s->disks[had].file : NULL;
		break;
	case ARCHIVE_NVRAM:
		if (add_nvram(j, s, e) < 0)
			return e->code;
		j->to[i] = s->nvram;
		break;
	case ARCHIVE_RAM:
		if (s->kind == FERMATA_CHECKPOINT_EXTERNAL)
			return err_set(e, -EUCLEAN, "%s: the parts are not in order", j->a.name);
		if (add_ram(j, s, p->size, e) < 0)
			return e->code;
		j->to[i] = s->ram;
		break;
	case ARCHIVE_MEMORY:
		if ((!s->memory && add_memory(j, s, e) < 0) || check_machine(j, e) < 0)
			return e->code;
		s->kind = FERMATA_CHECKPOINT_EXTERNAL;
		j->to[i] = s->memory;
		break;
	}
	j->total += p->data;
	return 0;
}

static int check_name(const struct job *j, const char *name, struct err *e)
{
	bool images = true;

	for (size_t i = 0; i < j->vm->def->n_disks; i++)
		images &= file_exists(fermata_vm_disk_file(j->vm, i));
	if (snap_check_name(name, e) < 0 || (images && vm_adopt(j->vm, e) < 0))
		return e->code;
	if (!record_by_name(j->vm->rec, name))
		return 0;
	err_set(e, -EEXIST, "there is a snapshot of that name");
	return err_hint(e, "--name gives it another");
}

static int describe(struct job *j, struct fermata_snap **out, struct err *e)
{
	const char *name, *text, *state, *qemu, *machine, *made = "";
	auto_snap struct fermata_snap *s = NULL;
	unsigned i = 0;

	if (need_text(j, "name", &name, e) < 0 || need_text(j, "description", &text, e) < 0 || need_text(j, "state", &state, e) < 0 ||
		need_text(j, "qemu", &qemu, e) < 0 || need_text(j, "versioned-machine", &machine, e) < 0 ||
		(json_get(j->manifest, "made") && need_text(j, "made", &made, e) < 0))
		return e->code;
	name = j->o->name ? j->o->name : name;
	if (check_name(j, name, e) < 0)
		return e->code;
	s = snap_new(name, text);
	if (!s || record_string(&s->qemu, qemu, e) < 0 || record_string(&s->machine, machine, e) < 0 || record_string(&s->made, made, e) < 0)
		return err_nomem(e, "import a snapshot");
	while (i < 4 && strcmp(archive_states[i], state))
		i++;
	s->state = (enum fermata_snap_state)i;
	s->kind = FERMATA_DISK_EXTERNAL;
	s->id = j->vm->rec->next_id;
	if (json_need_int(j->manifest, "created", &s->created, e) < 0 || json_need_uint(j->manifest, "vm-clock-ns", &s->clock_ns, e) < 0)
		return err_at(e, "%s", j->a.name);
	for (size_t k = 0; k < j->n; k++)
		if (add_part(j, s, k, e) < 0)
			return e->code;
	/* Going back to it starts a guest from its memory, or only its disks. */
	if (i == 4 || (s->ram && s->kind != FERMATA_CHECKPOINT_EXTERNAL) || (s->state <= FERMATA_SNAP_PAUSED) != (s->kind == FERMATA_CHECKPOINT_EXTERNAL))
		return err_set(e, -EUCLEAN, "%s: its state '%s' does not go with its parts", j->a.name, state);
	if (check_all_there(j, s, e) < 0)
		return e->code;
	*out = take_ptr(&s);
	return 0;
}

/* ---- room ------------------------------------------------------------------------------------------------------ */

static int folder(const char *file, struct stat *st, char **dir, struct err *e)
{
	*dir = strndup(file, (size_t)(strrchr(file, '/') - file) + 1);
	if (!*dir)
		return err_nomem(e, "import a snapshot");
	return stat(*dir, st) < 0 ? err_sys(e, errno, "cannot find the folder %s", *dir) : 0;
}

/* Each file system takes all that goes there. */
static int check_room(const struct job *j, struct err *e)
{
	dev_t on[ARCHIVE_PARTS_MAX];

	for (size_t i = 0; i < j->n; i++) {
		auto_free char *dir = NULL;
		uint64_t need = 0, has;
		struct stat st;

		if (!j->to[i])
			continue;
		if (folder(j->to[i], &st, &dir, e) < 0 || file_free_space(dir, &has, e) < 0)
			return e->code;
		on[i] = st.st_dev;
		for (size_t k = 0; k <= i; k++)
			if (j->to[k] && on[k] == on[i])
				need += j->parts[k].data + j->parts[k].data / 1024 + EXTRA_BYTES;
		if (has < need)
			return err_set(e, -ENOSPC, "it takes %llu MiB, %s has %llu MiB free", (unsigned long long)(need / MIB + 1), dir,
				(unsigned long long)(has / MIB));
	}
	return 0;
}

/* ---- the bytes --------------------------------------------------------------------------------------------------- */

static int get(struct job *j, uint64_t *at, const uint8_t **p, size_t *n, struct err *e)
{
	if (memory_step(j->vm, "Import", j->began_ms, j->done, j->total, e) < 0 || archive_get(&j->a, at, p, n, e) < 0)
		return e->code;
	j->done += *n;
	return 0;
}

static int fill(struct job *j, struct qcow2_fill *f, struct err *e)
{
	auto_free uint8_t *last = calloc(1, ARCHIVE_CHUNK);
	const uint8_t *p;
	uint64_t at;
	size_t n;

	if (!last)
		return err_nomem(e, "import a disk");
	for (;;) {
		if (get(j, &at, &p, &n, e) < 0)
			return e->code;
		if (!n)
			return 0;
		/* Where a disk ends in the middle of a cluster, the rest is zeros. */
		if (n < ARCHIVE_CHUNK)
			p = memcpy(last, p, n);
		if (qcow2_fill_put(f, at / ARCHIVE_CHUNK, p, e) < 0)
			return e->code;
	}
}

static int take_disk(struct job *j, const char *file, uint64_t size, struct err *e)
{
	struct qcow2_create c = { .size = size, .cluster_bits = 16, .mark = j->vm->rec->pending.mark };
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_fill *f;

	if (image_new(j->vm, file, &c, false, e) < 0 ||
		qcow2_open(file, QCOW2_RW, &q, e) < 0 || qcow2_fill_begin(q, &f, e) < 0)
		return e->code;
	if (fill(j, f, e) < 0)
		return qcow2_fill_abort(f, e);
	return qcow2_fill_end(f, e) < 0 ? e->code : file_flush_name(file, e);
}

static int take_file(struct job *j, const char *file, uint64_t size, struct err *e)
{
	auto_free char *tmp = made_tmp(file, j->vm->rec->pending.mark);
	struct dev *d = NULL;
	const uint8_t *p;
	uint64_t at;
	size_t n;
	int rc;

	if (!tmp)
		return err_nomem(e, "import a snapshot");
	if (image_new(j->vm, tmp, &(struct qcow2_create){ .size = size }, true, e) < 0 ||
		dev_open(tmp, O_WRONLY, &d, e) < 0)
		return e->code;
	while ((rc = get(j, &at, &p, &n, e)) == 0 && n && (rc = dev_write(d, at, p, n, e)) == 0)
		;
	if (rc == 0 && (rc = made_stamp(j->vm, dev_fd(d), tmp, e)) == 0 && fsync(dev_fd(d)) < 0)
		rc = err_sys(e, errno, "cannot flush %s", tmp);
	dev_close(d);
	return rc < 0 || file_place_new(tmp, file, e) < 0 ? e->code : file_flush_name(file, e);
}

/* Whether snapshot @s has the very memory that @o has, whole, in a file that the same QEMU could open. */
static bool is_twin(struct fermata_vm *vm, const struct fermata_snap *s, const struct ram_out *o)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct stat a, b;
	struct ram_in r;
	struct err no;

	return fermata_snap_instant(s) && memory_open(s->memory, s, &in, &no) == 0 && ram_look(&in, s, &r, &no) == 0 && !r.base &&
		in.n_more == o->sums.n && !memcmp(r.sums, buf_str(&o->sums), o->sums.n) && stat(r.file, &a) == 0 &&
		fstat(o->fd, &b) == 0 && a.st_uid == b.st_uid && a.st_gid == b.st_gid && a.st_dev == b.st_dev &&
		ram_verify(vm, &r, &no) == 0;
}

/*
 * Another VM of this host may have imported the same memory: one file under two names then, of which the host has each page
 * once however many guests map it. 1: so it is placed; 0: there is none.
 */
static int share_ram(struct job *j, const char *file, struct err *e)
{
	auto_free char *names = NULL;
	bool linked = false;

	if (fermata_names(j->vm->host, &names, e) < 0)
		return e->code;
	for (const char *n = names; *n && !linked; n += strlen(n) + 1) {
		auto_free char *path = str_fmt("%s/%s/state.json", j->vm->host->state_dir, n);
		struct record *r = NULL;
		struct err skip;

		if (!path || record_load(path, &r, &skip) < 0)
			continue;
		for (size_t i = 0; i < r->n_snaps && !linked; i++)
			linked = is_twin(j->vm, r->snaps[i], &j->ram) && link(r->snaps[i]->ram, file) == 0;
		record_free(r);
	}
	return linked ? (file_flush_name(file, e) < 0 ? e->code : 1) : 0;
}

static int take_ram(struct job *j, const char *file, uint64_t size, struct err *e)
{
	const uint8_t *p;
	uint64_t at;
	int shared;
	size_t n;

	if (ram_out_open(j->vm, file, &j->ram, e) < 0)
		return e->code;
	do {
		if (get(j, &at, &p, &n, e) < 0 || (n && ram_out_put(&j->ram, at, p, n, e) < 0))
			return e->code;
	} while (n);
	if (ram_out_end(&j->ram, size, e) < 0)
		return e->code;
	shared = share_ram(j, file, e);
	return shared < 0 ? shared : shared ? 0 : ram_out_place(&j->ram, e);
}

/* QEMU's stream, in a memory file that says where it is now. */
static int take_memory(struct job *j, const struct fermata_snap *s, struct err *e)
{
	struct saving m = { .vm = j->vm, .snap = s, .run = s->state == FERMATA_SNAP_RUNNING,
		.ram = s->ram ? &j->ram : NULL };
	auto_mem_out struct mem_out o = { .fd = -1 };
	auto_buf struct buf text = { 0 };
	const uint8_t *p;
	uint64_t at;
	size_t n;

	if (mem_out_open(s->memory, false, false, j->vm->rec->pending.mark, &o, e) < 0)
		return e->code;
	do {
		if (get(j, &at, &p, &n, e) < 0 || mem_out_add(&o, p, n, e) < 0)
			return e->code;
	} while (n);
	buf_add(&o.more, buf_str(&j->ram.sums), j->ram.sums.n);
	o.more.oom |= j->ram.sums.oom;
	return memory_manifest(&m, &text, e) < 0 || mem_out_seal(&o, &text, e) < 0 || mem_out_place(&o, e) < 0 ? e->code : 0;
}

static int leave_out(struct job *j, struct err *e)
{
	const uint8_t *p;
	uint64_t at;
	size_t n;

	do {
		if (get(j, &at, &p, &n, e) < 0)
			return e->code;
	} while (n);
	return 0;
}

static int take_all(struct job *j, const struct fermata_snap *s, struct err *e)
{
	for (size_t i = 0; i < j->n; i++) {
		const struct archive_part *p = &j->parts[i];

		archive_part(&j->a, p);
		if ((!j->to[i] ? leave_out(j, e) :
			p->role == ARCHIVE_MEMORY ? take_memory(j, s, e) :
			p->role == ARCHIVE_RAM ? take_ram(j, j->to[i], p->size, e) :
			p->role == ARCHIVE_NVRAM ? take_file(j, j->to[i], p->size, e) : take_disk(j, j->to[i], p->size, e)) < 0)
			return err_at(e, "%s", p->name[0] ? p->name : archive_roles[p->role]);
	}
	if (archive_end(&j->a, e) < 0)
		return e->code;
	/* Nothing that was read is used before all of it has shown to be whole. */
	for (size_t i = 0; i < s->n_disks; i++)
		if (s->disks[i].overlay[0] &&
			overlay_make(j->vm, s->disks[i].overlay, s->disks[i].file, false, j->vm->rec->pending.mark, e) < 0)
			return err_at(e, "%s", s->disks[i].disk);
	return 0;
}

/* ---- on record ---------------------------------------------------------------------------------------------------- */

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

static int import(struct job *j, int fd, const struct fermata_snap **out, struct err *e)
{
	struct record *r = j->vm->rec;
	struct pending p = { .op = PENDING_IMPORT };
	const char *name = j->o->file ? j->o->file : "standard input";
	struct err also;

	j->a.cancel = j->vm->host->cancel;
	if (archive_open(&j->a, fd, name, &j->doc, e) < 0)
		return e->code;
	j->manifest = json_root(j->doc);
	if (archive_parts(&j->a, j->manifest, j->parts, &j->n, e) < 0 || describe(j, &p.snap, e) < 0)
		return e->code;
	if (check_room(j, e) < 0) {
		snap_free(p.snap);
		return e->code;
	}
	r->next_id = p.snap->id + 2;
	*out = p.snap;
	j->began_ms = clock_mono_ms();
	if (pending_begin(j->vm, p, e) < 0)
		return e->code;
	if (take_all(j, p.snap, e) < 0) {
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
	struct job j = { .vm = vm, .o = i, .ram = { .fd = -1 } };
	int rc;

	if (i->file && fd < 0)
		return err_sys(e, errno, "%s: cannot open %s", vm->name, i->file);
	rc = jobs_none(vm, e) < 0 || managed_none(vm, false, e) < 0 ? e->code : import(&j, i->file ? fd : i->fd, out, e);
	archive_done(&j.a);
	ram_out_done(&j.ram);
	json_free(j.doc);
	return rc < 0 ? err_at(e, "%s: cannot import the snapshot", vm->name) : 0;
}
