/* The bytes of an archive's parts, into images and files of the VM's own. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/archive/import.h"
#include "engine/archive/internal.h"
#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/dev.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/fill.h"
#include "qcow2/qcow2.h"

static int get(struct import *j, uint64_t *at, const uint8_t **p, size_t *n, struct err *e)
{
	if (memory_step(j->vm, "Import", j->began_ms, j->done, j->total, e) < 0 || archive_get(&j->a, at, p, n, e) < 0)
		return e->code;
	j->done += *n;
	return 0;
}

static int fill(struct import *j, struct qcow2_fill *f, struct err *e)
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

static int take_disk(struct import *j, const char *file, uint64_t size, struct err *e)
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

static int take_file(struct import *j, const char *file, uint64_t size, struct err *e)
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
static int share_ram(struct import *j, const char *file, struct err *e)
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

static int take_ram(struct import *j, const char *file, uint64_t size, struct err *e)
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
static int take_memory(struct import *j, const struct fermata_snap *s, struct err *e)
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

static int leave_out(struct import *j, struct err *e)
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

int import_take_all(struct import *j, const struct fermata_snap *s, struct err *e)
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
