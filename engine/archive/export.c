/* A snapshot as one run of bytes: what a guest would read of its disks, and its memory. See archive.h. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/archive/internal.h"
#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "qcow2/image/image.h"
#include "qcow2/qcow2.h"

/* Where the bytes of a part come from. */
struct source {
	const char *file, *tag; /* an image, and the snapshot inside it (NULL: the image itself) */
	bool raw;
	const char *memory;     /* a file of saved memory; NULL: the VM state of @tag */
	struct image *img;
	int snap;               /* of @img; -1: itself */
	struct image_run run;   /* what image_map() has told last */
};

struct job {
	struct fermata_vm *vm;
	const struct fermata_snap *s;
	struct archive_part parts[ARCHIVE_PARTS_MAX];
	struct source from[ARCHIVE_PARTS_MAX];
	size_t n;
	struct archive a;
	uint64_t done, total, began_ms;
};

static int source_open(const struct job *j, struct source *f, struct err *e)
{
	if (image_open_chain(f->file, f->raw ? "raw" : "qcow2", vm_alive(j->vm) ? QCOW2_SHARE : 0, &f->img, e) < 0)
		return e->code;
	f->run = (struct image_run){ 0 };
	f->snap = -1;
	if (!f->tag)
		return 0;
	f->snap = qcow2_snap_find(f->img->q, f->tag, QCOW2_BY_NAME);
	return f->snap >= 0 ? 0 : err_set(e, -ENODATA, "%s has no snapshot '%s' any more", f->file, f->tag);
}

static void source_close(struct source *f)
{
	image_close(f->img);
	f->img = NULL;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return !*p && !memcmp(p, p + 1, n - 1);
}

/*
 * The first chunk at or behind *@at that may have data, into @buf, or (NULL) without reading it. *@n: out, its bytes; 0 when
 * there is none up to @size.
 */
static int next_chunk(struct source *f, uint64_t size, uint64_t *at, uint8_t *buf, size_t *n, struct err *e)
{
	struct image_run *r = &f->run;

	for (; *at < size; *at += ARCHIVE_CHUNK) {
		uint64_t end = size - *at < ARCHIVE_CHUNK ? size : *at + ARCHIVE_CHUNK, step;
		bool data = false;

		for (uint64_t i = *at; i < end; i += step) {
			/* Asked about once: the answer takes time that grows with the run. */
			if ((i < r->goff || i - r->goff >= r->len) && image_map(f->img, f->snap, i, size - i, r, e) < 0)
				return e->code;
			step = r->goff + r->len < end ? r->goff + r->len - i : end - i;
			data |= r->data && !r->zero;
			if (buf && image_read_run(r, i, buf + (i - *at), (size_t)step, e) < 0)
				return e->code;
		}
		*n = (size_t)(end - *at);
		if (data && (!buf || !is_zero(buf, *n)))
			return 0;
		/* A long hole is passed without looking at each chunk. */
		if (!data && r->goff + r->len > end)
			*at += (r->goff + r->len - end) / ARCHIVE_CHUNK * ARCHIVE_CHUNK;
	}
	*n = 0;
	return 0;
}

/* ---- what there is to be told ------------------------------------------------------------------------------ */

static int measure(const struct job *j, struct source *f, struct archive_part *p, struct err *e)
{
	size_t n = 1;

	if (source_open(j, f, e) < 0)
		return e->code;
	p->size = f->img->size;
	if (f->snap >= 0)
		p->size = qcow2_snaps(f->img->q, &(unsigned){ 0 })[f->snap].disk_size;
	for (uint64_t at = 0; n; at += n) {
		if (next_chunk(f, p->size, &at, NULL, &n, e) < 0)
			return e->code;
		p->data += n;
	}
	return 0;
}

/* One more part; its image is looked at. */
static int add(struct job *j, struct archive_part p, struct source f, struct err *e)
{
	int rc = f.file && !p.size ? measure(j, &f, &p, e) : 0;

	source_close(&f);
	if (rc < 0)
		return err_at(e, "%s", p.name[0] ? p.name : archive_roles[p.role]);
	j->parts[j->n] = p;
	j->from[j->n++] = f;
	j->total += p.data;
	return 0;
}

static bool with_memory(const struct fermata_snap *s)
{
	return s->kind == FERMATA_CHECKPOINT_INTERNAL || s->kind == FERMATA_CHECKPOINT_EXTERNAL;
}

static int add_disk(struct job *j, const struct fermata_snap_disk *d, struct err *e)
{
	bool flash = !strcmp(d->disk, KVM_NODE_NVRAM) && !def_disk_find(j->vm->def, d->disk);

	if (chain_check(j->vm, d->file, d->raw, e) < 0)
		return err_at(e, "%s", d->disk);
	/* A checkpoint has the firmware's variables in its memory. */
	if (flash && with_memory(j->s))
		return 0;
	return add(j, (struct archive_part){ .role = flash ? ARCHIVE_NVRAM : ARCHIVE_DISK, .name = flash ? "" : d->disk },
		(struct source){ .file = d->file, .raw = d->raw, .tag = d->external ? NULL : d->tag }, e);
}

/* What differs from a base comes as a part of the whole. */
static int add_ram(struct job *j, const struct mem_in *in, struct err *e)
{
	struct archive_part p = { .role = ARCHIVE_RAM, .name = "" };
	struct source f = { .raw = true };
	struct ram_in r;

	if (ram_look(in, j->s, &r, e) < 0)
		return e->code;
	f.file = r.base ? r.base : r.file;
	if (measure(j, &f, &p, e) < 0) {
		source_close(&f);
		return e->code;
	}
	source_close(&f);
	p.data += r.base ? r.stored : 0;
	p.data = p.data < p.size ? p.data : p.size;
	return add(j, p, (struct source){ .memory = j->s->memory }, e);
}

static int add_memory(struct job *j, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };

	if (memory_open(j->s->memory, j->s, &in, e) < 0 || (fermata_snap_instant(j->s) && add_ram(j, &in, e) < 0))
		return e->code;
	return add(j, (struct archive_part){ ARCHIVE_MEMORY, "", in.stream, in.stream }, (struct source){ .memory = j->s->memory }, e);
}

/* The memory comes last: what it has beside it goes before. */
static int add_parts(struct job *j, struct err *e)
{
	const struct fermata_snap *s = j->s;

	if (s->n_disks + 3 > ARCHIVE_PARTS_MAX)
		return err_set(e, -EFBIG, "it has %zu disks, the limit is %d", s->n_disks, ARCHIVE_PARTS_MAX - 3);
	for (size_t i = 0; i < s->n_disks; i++)
		if (add_disk(j, &s->disks[i], e) < 0)
			return e->code;
	if (s->nvram && add(j, (struct archive_part){ .role = ARCHIVE_NVRAM, .name = "" },
				(struct source){ .file = s->nvram, .raw = true }, e) < 0)
		return e->code;
	if (s->kind == FERMATA_CHECKPOINT_EXTERNAL)
		return add_memory(j, e);
	for (size_t i = 0; i < s->n_disks && with_memory(s); i++) {
		const struct fermata_snap_disk *d = &s->disks[i];

		if (d->vmstate)
			return add(j, (struct archive_part){ ARCHIVE_MEMORY, "", d->vmstate, d->vmstate },
				(struct source){ .file = d->file, .tag = d->tag }, e);
	}
	return with_memory(s) ? err_set(e, -ENODATA, "no disk carries its memory") : 0;
}

static int describe(const struct job *j, struct buf *b, struct err *e)
{
	const struct def *def = j->vm->def;
	auto_buf struct buf text = { 0 };
	struct json_out w;

	if (file_read(def->path, DEF_MAX_FILE, &text, e) < 0)
		return e->code;
	json_out_init(&w, b, true);
	json_obj(&w, NULL);
	json_put_str(&w, "vm", j->vm->name);
	json_put_str(&w, "name", j->s->name);
	json_put_str(&w, "description", j->s->description);
	json_put_str(&w, "state", archive_states[j->s->state]);
	json_put_int(&w, "created", j->s->created);
	json_put_uint(&w, "vm-clock-ns", j->s->clock_ns);
	json_put_str(&w, "qemu", j->s->qemu);
	json_put_str(&w, "versioned-machine", j->s->machine);
	if (j->s->made[0])
		json_put_str(&w, "made", j->s->made);
	json_put_str(&w, "machine", def->machine);
	json_put_uint(&w, "vcpus", def->vcpus);
	json_put_uint(&w, "memory", def->memory);
	json_arr(&w, "parts");
	for (size_t i = 0; i < j->n; i++) {
		json_obj(&w, NULL);
		json_put_str(&w, "role", archive_roles[j->parts[i].role]);
		json_put_str(&w, "name", j->parts[i].name);
		json_put_uint(&w, "size", j->parts[i].size);
		json_put_uint(&w, "data", j->parts[i].data);
		json_obj_end(&w);
	}
	json_arr_end(&w);
	json_put_str(&w, "definition", buf_str(&text));
	json_obj_end(&w);
	return buf_check(b, "export a snapshot", e);
}

/* ---- the bytes ----------------------------------------------------------------------------------------------- */

static int put(struct job *j, uint64_t at, const uint8_t *p, size_t n, struct err *e)
{
	if (memory_step(j->vm, "Export", j->began_ms, j->done, j->total, e) < 0)
		return e->code;
	j->done += n;
	return archive_put(&j->a, at, p, n, e);
}

static int put_image(struct job *j, struct source *f, const struct archive_part *p, uint8_t *buf, struct err *e)
{
	size_t n = 1;

	for (uint64_t at = 0; n; at += n)
		if (next_chunk(f, p->size, &at, buf, &n, e) < 0 || (n && put(j, at, buf, n, e) < 0))
			return e->code;
	return 0;
}

/* Memory is a stream: every byte of it comes, zeros too. @buf: a chunk of a memory file. */
static int put_stream(struct job *j, struct source *f, uint64_t size, uint8_t *buf, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	size_t n;

	if (f->memory && memory_open(f->memory, j->s, &in, e) < 0)
		return e->code;
	for (uint64_t at = 0; at < size; at += n) {
		n = size - at < MEM_CHUNK ? (size_t)(size - at) : MEM_CHUNK;
		if ((f->memory ? mem_in_chunk(&in, at / MEM_CHUNK, buf, &n, e) :
				 image_read_vm_state(f->img, (unsigned)f->snap, at, buf, n, e)) < 0)
			return e->code;
		for (size_t i = 0, step; i < n; i += step) {
			step = n - i < ARCHIVE_CHUNK ? n - i : ARCHIVE_CHUNK;
			if (put(j, at + i, buf + i, step, e) < 0)
				return e->code;
		}
	}
	return 0;
}

/* A MiB of memory, without its pages of zeros. */
static int put_pages(void *ctx, uint64_t at, const uint8_t *chunk, struct err *e)
{
	struct job *j = ctx;

	for (size_t i = 0, n; i < MEM_CHUNK; i += n ? n : ARCHIVE_PAGE) {
		for (n = 0; i + n < MEM_CHUNK && n < ARCHIVE_CHUNK && !is_zero(chunk + i + n, ARCHIVE_PAGE);)
			n += ARCHIVE_PAGE;
		if (n && put(j, at + i, chunk + i, n, e) < 0)
			return e->code;
	}
	return 0;
}

static int put_ram(struct job *j, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct ram_in r;

	return memory_open(j->s->memory, j->s, &in, e) < 0 || ram_look(&in, j->s, &r, e) < 0 || ram_read(&r, put_pages, j, e) < 0 ?
		e->code : 0;
}

static int put_part(struct job *j, size_t i, uint8_t *buf, struct err *e)
{
	struct source *f = &j->from[i];
	const struct archive_part *p = &j->parts[i];
	int rc = f->file ? source_open(j, f, e) : 0;

	if (rc == 0)
		rc = p->role == ARCHIVE_RAM ? put_ram(j, e) :
			p->role == ARCHIVE_MEMORY ? put_stream(j, f, p->size, buf, e) : put_image(j, f, p, buf, e);
	source_close(f);
	return rc < 0 ? rc : archive_put_end(&j->a, e);
}

static int write_all(struct job *j, int fd, const char *name, struct err *e)
{
	auto_free uint8_t *buf = malloc(MEM_CHUNK);
	auto_buf struct buf text = { 0 };

	if (!buf)
		return err_nomem(e, "export a snapshot");
	j->began_ms = clock_mono_ms();
	j->a.cancel = j->vm->host->cancel;
	if (describe(j, &text, e) < 0 || archive_create(&j->a, fd, name, &text, e) < 0)
		return e->code;
	buf_done(&text);
	text = (struct buf){ 0 };
	for (size_t i = 0; i < j->n; i++)
		if (put_part(j, i, buf, e) < 0)
			return e->code;
	return archive_finish(&j->a, e);
}

/* A file is there whole and flushed, or not at all; a pipe or a device takes what comes. */
static int write_file(struct job *j, const char *file, struct err *e)
{
	static const struct output_kind kind = { "an archive of a snapshot", archive_is };
	auto_free char *path = path_beside("", file), *tmp = path ? mem_tmp(path) : NULL;
	struct stat st;
	bool direct = stat(file, &st) == 0 && !S_ISREG(st.st_mode);
	auto_fd int fd = -1;
	int rc;

	if (!tmp)
		return err_nomem(e, "export a snapshot");
	if ((direct ? output_spare(j->vm, path, e) : output_check(j->vm, path, tmp, &kind, e)) < 0)
		return e->code;
	fd = direct ? open(path, O_WRONLY | O_CLOEXEC) : open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(e, errno, "cannot create %s", path);
	rc = write_all(j, fd, path, e);
	if (rc == 0 && ((fsync(fd) < 0 && errno != EINVAL) || (!direct && rename(tmp, path) < 0)))
		rc = err_sys(e, errno, "cannot write %s", path);
	if (rc < 0 && !direct)
		unlink(tmp);
	return rc < 0 || direct ? rc : file_flush_name(path, e);
}

int fermata_snapshot_export(struct fermata_vm *vm, const char *name, const char *file, int fd, struct err *e)
{
	struct job j = { .vm = vm };
	int rc;

	if (jobs_none(vm, e) < 0)
		return err_at(e, "%s", vm->name);
	if (fermata_snap_find(vm, name, &j.s, e) < 0)
		return e->code;
	rc = add_parts(&j, e) < 0 ? e->code : file ? write_file(&j, file, e) : write_all(&j, fd, "standard output", e);
	archive_done(&j.a);
	return rc < 0 ? err_at(e, "%s: cannot export '%s'", vm->name, name) : 0;
}
