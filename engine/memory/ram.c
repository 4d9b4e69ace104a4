/* ram.c */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/memory/internal.h"
#include "engine/memory/memory.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "monitor/monitor.h"

#define RAM0       "{\"path\":\"/objects/ram0\",\"property\":\"%s\"}"

#define PM_WORDS   4096

/* ---- where it is ------------------------------------------------------------------------------------------ */

static int qom(struct kvm *k, const char *property, struct json_doc **reply, struct err *e)
{
	char args[80];

	snprintf(args, sizeof args, RAM0, property);
	return mon_call(kvm_mon(k), "qom-get", args, deadline_in(CALL_MS), reply, e);
}

/* Where a board's memory begins: a PC's, Arm's, RISC-V's. */
static int find_ram(struct mon *m, uint64_t *at, struct err *e)
{
	static const uint64_t starts[] = { 0, 0x40000000, 0x80000000 };
	int rc = -ENOENT;

	for (size_t i = 0; i < ARRAY_SIZE(starts) && rc == -ENOENT; i++)
		rc = mon_hmp_memory(m, "ram0", starts[i], deadline_in(CALL_MS), at, e);
	return rc;
}

static int open_ram_of(struct fermata_vm *vm, struct kvm *k, struct ram *r, struct err *e)
{
	auto_json struct json_doc *path = NULL, *share = NULL;
	struct err none;
	char file[16];

	snprintf(file, sizeof file, "fd/%d", KVM_FD_MEMORY);
	*r = (struct ram){ .mem = -1, .own = -1, .bytes = vm->def->memory };
	r->pid = kvm_process(k);
	if (find_ram(kvm_mon(k), &r->at, e) < 0 || proc_open(r->pid, "mem", O_RDWR, &r->mem, e) < 0)
		return e->code;
	if (qom(k, "mem-path", &path, &none) < 0)
		return 0;
	if (qom(k, "share", &share, e) < 0)
		return e->code;
	if (json_bool(json_root(share), false))
		return proc_open(r->pid, file, O_RDONLY, &r->own, e);
	r->base = strdup(json_str(json_root(path), ""));
	return r->base ? 0 : err_nomem(e, "look into QEMU's memory");
}

int ram_open(struct fermata_vm *vm, struct ram *r, struct err *e)
{
	struct kvm *k;

	*r = (struct ram){ .mem = -1, .own = -1 };
	return fermata_vm_kvm(vm, &k, e) < 0 ? e->code : open_ram_of(vm, k, r, e);
}

void ram_done(struct ram *r)
{
	own_close(&r->mem);
	own_close(&r->own);
	free(r->base);
}

/* ---- which pages ------------------------------------------------------------------------------------------ */

/* Those that QEMU has, and (with @changed) that are not the mapped file's any more. */
static int find_mapped(const struct ram *r, bool changed, uint8_t *pages, struct err *e)
{
	auto_free uint64_t *words = malloc(PM_WORDS * sizeof *words);
	uint64_t n = r->bytes / MEM_PAGE;
	auto_fd int fd = -1;

	if (!words)
		return err_nomem(e, "look into QEMU's memory");
	if (proc_open(r->pid, "pagemap", O_RDONLY, &fd, e) < 0 || lseek(fd, (off_t)(r->at / MEM_PAGE * 8), SEEK_SET) < 0)
		return err_sys(e, errno, "cannot look into QEMU's memory");
	for (uint64_t i = 0; i < n; i += PM_WORDS) {
		size_t k = n - i < PM_WORDS ? (size_t)(n - i) : PM_WORDS;

		if (io_read_full(fd, words, k * 8, "QEMU's page map", e) < 0)
			return e->code;
		for (size_t j = 0; j < k; j++)
			if (words[j] & (PM_PRESENT | PM_SWAP) && !(changed && words[j] & PM_FILE))
				page_set(pages, i + j);
	}
	return 0;
}

/* Those that are not holes of its file. */
static void find_data(const struct ram *r, uint8_t *pages)
{
	off_t from = 0, to = 0, end = (off_t)r->bytes;

	while (to < end && (from = lseek(r->own, to, SEEK_DATA)) >= 0) {
		to = lseek(r->own, from, SEEK_HOLE);
		if (to < 0)
			to = end;
		for (off_t at = from; at < to; at += MEM_PAGE)
			page_set(pages, (uint64_t)at / MEM_PAGE);
	}
	/* A file system that cannot tell. */
	if (from < 0 && errno != ENXIO)
		memset(pages, 0xff, r->bytes / MEM_PAGE / 8);
}

/* ---- saving ------------------------------------------------------------------------------------------------- */

static int get(const struct ram *r, uint64_t page, size_t n, uint8_t *to, struct err *e)
{
	uint64_t at = page * MEM_PAGE;
	size_t done = 0;

	while (done < n * MEM_PAGE) {
		ssize_t k = pread(r->own < 0 ? r->mem : r->own, to + done, n * MEM_PAGE - done,
			(off_t)((r->own < 0 ? r->at + at : at) + done));

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return err_sys(e, k ? errno : EIO, "cannot read the guest's memory at byte %llu", (unsigned long long)(at + done));
		done += (size_t)k;
	}
	return 0;
}

static int save_chunk(const struct ram *r, const uint8_t *pages, uint64_t first, struct ram_out *o, struct err *e)
{
	uint64_t end = first + CHUNK_PAGES;

	memset(o->chunk, 0, MEM_CHUNK);
	for (uint64_t i = first; i < end;) {
		size_t n = page_run(pages, i, end, true);

		if (n && get(r, i, n, o->chunk + (i - first) * MEM_PAGE, e) < 0)
			return e->code;
		i += n;
		i += page_run(pages, i, end, false);
	}
	return ram_out_chunk(o, o->chunk, first * MEM_PAGE, e);
}

static int save_whole(struct fermata_vm *vm, const struct ram *r, const uint8_t *pages, struct ram_out *o, struct err *e)
{
	uint64_t n = r->bytes / MEM_PAGE, zeros, from = clock_mono_ms();

	memset(o->chunk, 0, MEM_CHUNK);
	zeros = mem_sum(o->chunk, MEM_CHUNK);
	for (uint64_t i = 0; i < n; i += CHUNK_PAGES) {
		if (page_run(pages, i, i + CHUNK_PAGES, false) == CHUNK_PAGES)
			ram_add_sum(&o->sums, zeros);
		else if (memory_step(vm, "Save", from, i * MEM_PAGE, r->bytes, e) < 0 || save_chunk(r, pages, i, o, e) < 0)
			return e->code;
	}
	o->stored = r->bytes;
	return ftruncate(o->fd, (off_t)r->bytes) < 0 ? err_sys(e, errno, "cannot write %s", o->path) : 0;
}

/* Those in @pages, one behind the other. */
static int save_some(struct fermata_vm *vm, const struct ram *r, const uint8_t *pages, struct ram_out *o, struct err *e)
{
	uint64_t n = r->bytes / MEM_PAGE, from = clock_mono_ms();
	size_t fill = 0;

	for (uint64_t i = 0; i < n;) {
		size_t k = page_run(pages, i, n, true), room = CHUNK_PAGES - fill / MEM_PAGE;

		k = k < room ? k : room;
		if (!k) {
			i += page_run(pages, i, n, false);
			continue;
		}
		if (get(r, i, k, o->chunk + fill, e) < 0)
			return e->code;
		i += k;
		fill += k * MEM_PAGE;
		if (fill < MEM_CHUNK)
			continue;
		if (memory_step(vm, "Save", from, i * MEM_PAGE, r->bytes, e) < 0 || ram_out_flush(o, fill, e) < 0)
			return e->code;
		fill = 0;
	}
	return ram_out_flush(o, fill, e);
}

int ram_save(struct fermata_vm *vm, const struct ram *r, const struct buf *base_sums, struct ram_out *o, struct buf *more,
	struct err *e)
{
	size_t n = (size_t)(r->bytes / MEM_PAGE / 8);
	auto_free uint8_t *pages = calloc(1, n);

	if (!pages)
		return err_nomem(e, "save memory");
	o->bytes = r->bytes;
	if (base_sums) {
		if (find_mapped(r, true, pages, e) < 0 || save_some(vm, r, pages, o, e) < 0)
			return e->code;
	} else {
		if (r->own >= 0)
			find_data(r, pages);
		else if (r->base)
			memset(pages, 0xff, n);
		else if (find_mapped(r, false, pages, e) < 0)
			return e->code;
		if (save_whole(vm, r, pages, o, e) < 0)
			return e->code;
	}
	buf_add(more, buf_str(&o->sums), o->sums.n);
	if (base_sums) {
		buf_add(more, buf_str(base_sums), base_sums->n);
		buf_add(more, pages, n);
	}
	return o->sums.oom ? err_nomem(e, "save memory") : buf_check(more, "save memory", e);
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static int poke(const struct ram *r, const uint8_t *p, size_t n, uint64_t at, struct err *e)
{
	while (n) {
		ssize_t k = pwrite(r->mem, p, n, (off_t)(r->at + at));

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return err_sys(e, k ? errno : EIO, "cannot write the guest's memory at byte %llu", (unsigned long long)at);
		p += k;
		n -= (size_t)k;
		at += (uint64_t)k;
	}
	return 0;
}

int ram_patch(struct fermata_vm *vm, struct kvm *of, const struct ram_in *in, struct err *e)
{
	auto_free uint8_t *chunk = malloc(MEM_CHUNK);
	auto_fd int fd = open(in->file, O_RDONLY | O_CLOEXEC);
	auto_ram struct ram r = { .mem = -1, .own = -1 };
	uint64_t page = 0, end = in->bytes / MEM_PAGE;
	size_t n;

	if (!chunk)
		return err_nomem(e, "load memory");
	if (fd < 0)
		return err_sys(e, errno, "cannot open %s", in->file);
	if (open_ram_of(vm, of, &r, e) < 0)
		return e->code;
	for (uint64_t i = 0; i < ram_chunks(in->stored); i++) {
		if (ram_read_chunk(fd, in->file, i, in->stored, in->sums, chunk, &n, e) < 0)
			return e->code;
		for (size_t from = 0, k; from < n; from += k * MEM_PAGE, page += k) {
			page += page_run(in->pages, page, end, false);
			k = page_run(in->pages, page, end, true);
			k = k < (n - from) / MEM_PAGE ? k : (n - from) / MEM_PAGE;
			if (poke(&r, chunk + from, k * MEM_PAGE, page * MEM_PAGE, e) < 0)
				return e->code;
		}
	}
	return 0;
}

/* ---- baking ------------------------------------------------------------------------------------------------ */

struct fold {
	struct fermata_vm *vm;
	struct ram_out *o;
	uint64_t from, bytes;
};

static int fold_chunk(void *ctx, uint64_t at, const uint8_t *chunk, struct err *e)
{
	struct fold *f = ctx;

	if (memory_step(f->vm, "Bake", f->from, at, f->bytes, e) < 0)
		return e->code;
	while (f->o->bytes < at)
		ram_next_chunk(f->o);
	f->o->bytes += MEM_CHUNK;
	return ram_out_chunk(f->o, chunk, at, e);
}

int ram_fold(struct fermata_vm *vm, const struct ram_in *in, struct ram_out *o, struct buf *more, struct err *e)
{
	struct fold f = { vm, o, clock_mono_ms(), in->bytes };

	return ram_read(in, fold_chunk, &f, e) < 0 ? e->code : ram_out_baked(o, in->bytes, more, e);
}
