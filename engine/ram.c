#include "engine/ram.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/overlay.h"
#include "lib/endian.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

#define CHUNK_PAGES (MEM_CHUNK / MEM_PAGE)
#define RAM_MAX    (1ull << 44) /* bytes: the definition's limit */
#define RAM0       "{\"path\":\"/objects/ram0\",\"property\":\"%s\"}"

/* Bits of /proc/PID/pagemap: kernel's Documentation/admin-guide/mm/pagemap.rst */
#define PM_PRESENT (1ull << 63)
#define PM_SWAP    (1ull << 62)
#define PM_FILE    (1ull << 61)
#define PM_WORDS   4096

/* ---- where it is ------------------------------------------------------------------------------------------ */

static int qom(struct fermata_vm *vm, const char *property, struct json_doc **reply, struct err *e)
{
	char args[80];

	snprintf(args, sizeof args, RAM0, property);
	return mon_call(kvm_mon(vm->kvm), "qom-get", args, deadline_in(CALL_MS), reply, e);
}

static int proc_open(pid_t pid, const char *what, int flags, int *fd, struct err *e)
{
	char path[48];

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
	*fd = open(path, flags | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	err_sys(e, errno, "cannot look into QEMU's memory: %s", path);
	return errno == EACCES || errno == EPERM ? err_hint(e, "it takes root, or the user that QEMU runs as") : e->code;
}

int ram_open(struct fermata_vm *vm, struct ram *r, struct err *e)
{
	auto_json struct json_doc *path = NULL, *share = NULL;
	struct err none;
	char file[16];
	struct kvm *k;

	snprintf(file, sizeof file, "fd/%d", KVM_FD_MEMORY);
	*r = (struct ram){ .mem = -1, .own = -1, .bytes = vm->def->memory };
	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	r->pid = kvm_process(k);
	if (mon_hmp_memory(kvm_mon(k), deadline_in(CALL_MS), &r->at, e) < 0 || proc_open(r->pid, "mem", O_RDWR, &r->mem, e) < 0)
		return e->code;
	if (qom(vm, "mem-path", &path, &none) < 0)
		return 0;
	if (qom(vm, "share", &share, e) < 0)
		return e->code;
	if (json_bool(json_root(share), false))
		return proc_open(r->pid, file, O_RDONLY, &r->own, e);
	r->base = strdup(json_str(json_root(path), ""));
	return r->base ? 0 : err_nomem(e, "look into QEMU's memory");
}

void ram_done(struct ram *r)
{
	own_close(&r->mem);
	own_close(&r->own);
	free(r->base);
}

/* What a QEMU makes anew from its firmware and its definition; all else has content of its own. */
static bool is_made_anew(const char *block)
{
	return !strcmp(block, "ram0") || str_starts(block, "/rom@") || str_ends(block, ".rom") || str_ends(block, ".bios") ||
		str_ends(block, "-bios");
}

int ram_check(struct fermata_vm *vm, struct err *e)
{
	char block[128];

	if (vm->def->nvram) {
		err_set(e, -EOPNOTSUPP, "the firmware's variables cannot be part of an instant checkpoint");
		return err_hint(e, "without --instant they are");
	}
	if (mon_hmp_block(kvm_mon(vm->kvm), deadline_in(CALL_MS), is_made_anew, block, e) < 0)
		return e->code;
	if (!block[0])
		return 0;
	err_set(e, -EOPNOTSUPP, "'%s' is memory of a device, which cannot be part of an instant checkpoint", block);
	return err_hint(e, "without --instant it is");
}

/* ---- which pages ------------------------------------------------------------------------------------------ */

static bool has(const uint8_t *pages, uint64_t i)
{
	return pages[i / 8] & (1u << i % 8);
}

static void set(uint8_t *pages, uint64_t i)
{
	pages[i / 8] |= (uint8_t)(1u << i % 8);
}

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
				set(pages, i + j);
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
			set(pages, (uint64_t)at / MEM_PAGE);
	}
	/* A file system that cannot tell. */
	if (from < 0 && errno != ENXIO)
		memset(pages, 0xff, r->bytes / MEM_PAGE / 8);
}

/* ---- saving ------------------------------------------------------------------------------------------------- */

int ram_out_open(struct fermata_vm *vm, const char *path, struct ram_out *o, struct err *e)
{
	*o = (struct ram_out){ .fd = -1, .path = strdup(path), .tmp = mem_tmp(path), .chunk = malloc(MEM_CHUNK) };
	if (!o->path || !o->tmp || !o->chunk)
		return err_nomem(e, "save memory");
	o->fd = open(o->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (o->fd < 0)
		return err_sys(e, errno, "cannot create %s", o->tmp);
	return give_to_user(vm, o->fd, o->tmp, e);
}

void ram_out_done(struct ram_out *o)
{
	if (o->fd >= 0 && o->tmp)
		unlink(o->tmp);
	own_close(&o->fd);
	free(o->path);
	free(o->tmp);
	free(o->chunk);
	buf_done(&o->sums);
}

static void add_sum(struct buf *b, uint64_t v)
{
	uint8_t s[8];

	put_be64(s, v);
	buf_add(b, s, 8);
}

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

static int put(const struct ram_out *o, const uint8_t *p, size_t n, uint64_t at, struct err *e)
{
	while (n) {
		ssize_t k = pwrite(o->fd, p, n, (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return err_sys(e, k ? errno : ENOSPC, "cannot write %s", o->path);
		p += k;
		n -= (size_t)k;
		at += (uint64_t)k;
	}
	return 0;
}

static bool is_zero(const uint8_t *p)
{
	return !*(const uint64_t *)(const void *)p && !memcmp(p, p + 8, MEM_PAGE - 8);
}

/* A run of set (@on) or clear bits that begins at page @i. */
static size_t run(const uint8_t *pages, uint64_t i, uint64_t end, bool on)
{
	uint64_t n = i;

	while (n < end && has(pages, n) == on)
		n++;
	return (size_t)(n - i);
}

/* @chunk, a MiB of a whole memory, for its byte @at. */
static int put_chunk(struct ram_out *o, const uint8_t *chunk, uint64_t at, struct err *e)
{
	for (size_t i = 0, n; i < MEM_CHUNK; i += n ? n : MEM_PAGE) {
		for (n = 0; i + n < MEM_CHUNK && !is_zero(chunk + i + n);)
			n += MEM_PAGE;
		if (n && put(o, chunk + i, n, at + i, e) < 0)
			return e->code;
	}
	add_sum(&o->sums, mem_sum(chunk, MEM_CHUNK));
	return 0;
}

static int save_chunk(const struct ram *r, const uint8_t *pages, uint64_t first, struct ram_out *o, struct err *e)
{
	uint64_t end = first + CHUNK_PAGES;

	memset(o->chunk, 0, MEM_CHUNK);
	for (uint64_t i = first; i < end;) {
		size_t n = run(pages, i, end, true);

		if (n && get(r, i, n, o->chunk + (i - first) * MEM_PAGE, e) < 0)
			return e->code;
		i += n;
		i += run(pages, i, end, false);
	}
	return put_chunk(o, o->chunk, first * MEM_PAGE, e);
}

static int save_whole(struct fermata_vm *vm, const struct ram *r, const uint8_t *pages, struct ram_out *o, struct err *e)
{
	uint64_t n = r->bytes / MEM_PAGE, zeros, from = clock_mono_ms();

	memset(o->chunk, 0, MEM_CHUNK);
	zeros = mem_sum(o->chunk, MEM_CHUNK);
	for (uint64_t i = 0; i < n; i += CHUNK_PAGES) {
		if (run(pages, i, i + CHUNK_PAGES, false) == CHUNK_PAGES)
			add_sum(&o->sums, zeros);
		else if (memory_step(vm, "Save", from, i * MEM_PAGE, r->bytes, e) < 0 || save_chunk(r, pages, i, o, e) < 0)
			return e->code;
	}
	o->stored = r->bytes;
	return ftruncate(o->fd, (off_t)r->bytes) < 0 ? err_sys(e, errno, "cannot write %s", o->path) : 0;
}

static int flush(struct ram_out *o, size_t n, struct err *e)
{
	if (!n)
		return 0;
	add_sum(&o->sums, mem_sum(o->chunk, n));
	o->stored += n;
	return put(o, o->chunk, n, o->stored - n, e);
}

/* Those in @pages, one behind the other. */
static int save_some(struct fermata_vm *vm, const struct ram *r, const uint8_t *pages, struct ram_out *o, struct err *e)
{
	uint64_t n = r->bytes / MEM_PAGE, from = clock_mono_ms();
	size_t fill = 0;

	for (uint64_t i = 0; i < n;) {
		size_t k = run(pages, i, n, true), room = CHUNK_PAGES - fill / MEM_PAGE;

		k = k < room ? k : room;
		if (!k) {
			i += run(pages, i, n, false);
			continue;
		}
		if (get(r, i, k, o->chunk + fill, e) < 0)
			return e->code;
		i += k;
		fill += k * MEM_PAGE;
		if (fill < MEM_CHUNK)
			continue;
		if (memory_step(vm, "Save", from, i * MEM_PAGE, r->bytes, e) < 0 || flush(o, fill, e) < 0)
			return e->code;
		fill = 0;
	}
	return flush(o, fill, e);
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

/* The chunk is complete: the next one. */
static void next_chunk(struct ram_out *o)
{
	if (!o->zeros) {
		auto_free uint8_t *none = calloc(1, MEM_CHUNK);

		o->sums.oom |= !none;
		o->zeros = none ? mem_sum(none, MEM_CHUNK) : 0;
	}
	add_sum(&o->sums, o->some ? mem_sum(o->chunk, MEM_CHUNK) : o->zeros);
	o->some = false;
	o->bytes += MEM_CHUNK;
}

int ram_out_put(struct ram_out *o, uint64_t at, const uint8_t *p, size_t n, struct err *e)
{
	if (put(o, p, n, at, e) < 0)
		return e->code;
	for (; n; at += MEM_PAGE, p += MEM_PAGE, n -= MEM_PAGE) {
		while (at - o->bytes >= MEM_CHUNK)
			next_chunk(o);
		if (!o->some)
			memset(o->chunk, 0, MEM_CHUNK);
		memcpy(o->chunk + (at - o->bytes), p, MEM_PAGE);
		o->some = true;
	}
	return 0;
}

int ram_out_end(struct ram_out *o, uint64_t bytes, struct err *e)
{
	while (o->bytes < bytes)
		next_chunk(o);
	o->stored = bytes;
	return ftruncate(o->fd, (off_t)bytes) < 0 ? err_sys(e, errno, "cannot write %s", o->path) : 0;
}

int ram_out_place(struct ram_out *o, struct err *e)
{
	if (fsync(o->fd) < 0 || rename(o->tmp, o->path) < 0)
		return err_sys(e, errno, "cannot flush %s", o->path);
	free(take_ptr(&o->tmp));
	return file_flush_name(o->path, e);
}

void ram_manifest(const struct ram_out *o, bool differing, struct json_out *w)
{
	json_obj(w, "ram");
	json_put_uint(w, "bytes", o->bytes);
	json_put_uint(w, "stored", o->stored);
	json_put_bool(w, "differing", differing);
	json_obj_end(w);
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static int check_file(const char *file, uint64_t bytes, struct err *e)
{
	struct stat st;

	if (stat(file, &st) < 0)
		return err_sys(e, errno, "the memory %s", file);
	return S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes ? 0 :
		err_set(e, -EUCLEAN, "%s is damaged: it has %llu bytes, not %llu", file, (unsigned long long)st.st_size,
			(unsigned long long)bytes);
}

static uint64_t chunks(uint64_t bytes)
{
	return (bytes + MEM_CHUNK - 1) / MEM_CHUNK;
}

int ram_look(const struct mem_in *in, const struct fermata_snap *s, struct ram_in *r, struct err *e)
{
	const struct json *o = json_get(json_root(in->manifest), "ram");
	bool differing = json_bool(json_get(o, "differing"), false);
	uint64_t need, n = 0;

	*r = (struct ram_in){ .file = s->ram, .base = differing ? s->ram_base : NULL, .sums = in->more };
	if (json_need_uint(o, "bytes", &r->bytes, e) < 0 || json_need_uint(o, "stored", &r->stored, e) < 0)
		return e->code;
	need = chunks(r->stored) * 8 + (differing ? chunks(r->bytes) * 8 + r->bytes / MEM_PAGE / 8 : 0);
	if (!r->bytes || r->bytes > RAM_MAX || r->bytes % MEM_CHUNK || r->stored > r->bytes || in->n_more != need ||
		(!differing && r->stored != r->bytes))
		return err_set(e, -EUCLEAN, "%s is damaged: its figures of the memory do not fit", in->path);
	if (differing) {
		r->base_sums = r->sums + chunks(r->stored) * 8;
		r->pages = r->base_sums + chunks(r->bytes) * 8;
		for (uint64_t i = 0; i < r->bytes / MEM_PAGE; i++)
			n += has(r->pages, i);
		if (n * MEM_PAGE != r->stored || !r->base || !r->base[0])
			return err_set(e, -EUCLEAN, "%s is damaged: its map of the memory does not fit", in->path);
	}
	return check_file(r->file, r->stored, e) < 0 || (differing && check_file(r->base, r->bytes, e) < 0) ? e->code : 0;
}

int ram_base_sums(struct fermata_vm *vm, const char *file, struct buf *sums, struct err *e)
{
	for (size_t i = 0; i < vm->rec->n_snaps && !sums->n; i++) {
		const struct fermata_snap *s = vm->rec->snaps[i];
		auto_mem_in struct mem_in in = { .fd = -1 };
		struct ram_in r;
		struct err skip;

		if (!fermata_snap_instant(s) || (!str_eq(s->ram, file) && !str_eq(s->ram_base, file)))
			continue;
		if (memory_open(s->memory, s, &in, &skip) < 0 || ram_look(&in, s, &r, &skip) < 0 || r.bytes != vm->def->memory)
			continue;
		if (r.base ? !strcmp(r.base, file) : !strcmp(r.file, file))
			buf_add(sums, r.base ? r.base_sums : r.sums, chunks(r.bytes) * 8);
	}
	return buf_check(sums, "look for the memory below", e);
}

static int read_chunk(int fd, const char *file, uint64_t i, uint64_t bytes, const uint8_t *sums, uint8_t *chunk, size_t *n, struct err *e)
{
	uint64_t at = i * MEM_CHUNK;

	*n = bytes - at < MEM_CHUNK ? (size_t)(bytes - at) : MEM_CHUNK;
	if (lseek(fd, (off_t)at, SEEK_SET) < 0)
		return err_sys(e, errno, "cannot read %s", file);
	if (io_read_full(fd, chunk, *n, file, e) < 0)
		return e->code;
	return mem_sum(chunk, *n) == get_be64(sums + i * 8) ? 0 :
		err_set(e, -EUCLEAN, "%s is damaged: the memory at byte %llu", file, (unsigned long long)at);
}

static int verify_file(struct fermata_vm *vm, const char *file, uint64_t bytes, const uint8_t *sums, struct err *e)
{
	auto_free uint8_t *chunk = malloc(MEM_CHUNK);
	auto_fd int fd = open(file, O_RDONLY | O_CLOEXEC);
	uint64_t from = clock_mono_ms();
	size_t n;

	if (!chunk)
		return err_nomem(e, "verify memory");
	if (fd < 0)
		return err_sys(e, errno, "cannot open %s", file);
	for (uint64_t i = 0; i < chunks(bytes); i++)
		if (memory_step(vm, "Verify", from, i * MEM_CHUNK, bytes, e) < 0 ||
			read_chunk(fd, file, i, bytes, sums, chunk, &n, e) < 0)
			return e->code;
	return 0;
}

int ram_verify(struct fermata_vm *vm, const struct ram_in *r, struct err *e)
{
	return verify_file(vm, r->file, r->stored, r->sums, e) < 0 ? e->code :
		r->base ? verify_file(vm, r->base, r->bytes, r->base_sums, e) : 0;
}

int ram_read(const struct ram_in *r, ram_chunk_fn *fn, void *ctx, struct err *e)
{
	auto_free uint8_t *chunk = calloc(1, MEM_CHUNK), *over = malloc(MEM_CHUNK);
	const char *whole = r->base ? r->base : r->file;
	const uint8_t *sums = r->base ? r->base_sums : r->sums;
	auto_fd int fd = open(whole, O_RDONLY | O_CLOEXEC), differing = r->base ? open(r->file, O_RDONLY | O_CLOEXEC) : -1;
	size_t n, at = 0, fill = 0;
	uint64_t zeros, next = 0;

	if (!chunk || !over)
		return err_nomem(e, "read memory");
	if (fd < 0 || (r->base && differing < 0))
		return err_sys(e, errno, "cannot open %s", fd < 0 ? whole : r->file);
	zeros = mem_sum(chunk, MEM_CHUNK);
	for (uint64_t i = 0; i < chunks(r->bytes); i++) {
		uint64_t first = i * CHUNK_PAGES, end = first + CHUNK_PAGES;
		bool hole = get_be64(sums + i * 8) == zeros;

		if (hole && (!r->base || run(r->pages, first, end, false) == CHUNK_PAGES))
			continue;
		if (hole)
			memset(chunk, 0, MEM_CHUNK);
		else if (read_chunk(fd, whole, i, r->bytes, sums, chunk, &n, e) < 0)
			return e->code;
		for (uint64_t p = first; r->base && p < end; p++) {
			if (!has(r->pages, p))
				continue;
			if (at == fill) {
				if (read_chunk(differing, r->file, next++, r->stored, r->sums, over, &fill, e) < 0)
					return e->code;
				at = 0;
			}
			memcpy(chunk + (p - first) * MEM_PAGE, over + at, MEM_PAGE);
			at += MEM_PAGE;
		}
		if (fn(ctx, i * MEM_CHUNK, chunk, e) < 0)
			return e->code;
	}
	return 0;
}

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

int ram_patch(struct fermata_vm *vm, const struct ram_in *in, struct err *e)
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
	if (ram_open(vm, &r, e) < 0)
		return e->code;
	for (uint64_t i = 0; i < chunks(in->stored); i++) {
		if (read_chunk(fd, in->file, i, in->stored, in->sums, chunk, &n, e) < 0)
			return e->code;
		for (size_t from = 0, k; from < n; from += k * MEM_PAGE, page += k) {
			page += run(in->pages, page, end, false);
			k = run(in->pages, page, end, true);
			k = k < (n - from) / MEM_PAGE ? k : (n - from) / MEM_PAGE;
			if (poke(&r, chunk + from, k * MEM_PAGE, page * MEM_PAGE, e) < 0)
				return e->code;
		}
	}
	return 0;
}

/* ---- baking ------------------------------------------------------------------------------------------------ */

static int baked(struct ram_out *o, uint64_t bytes, struct buf *more, struct err *e)
{
	if (ram_out_end(o, bytes, e) < 0)
		return e->code;
	buf_add(more, buf_str(&o->sums), o->sums.n);
	return o->sums.oom ? err_nomem(e, "bake") : buf_check(more, "bake", e);
}

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
		next_chunk(f->o);
	f->o->bytes += MEM_CHUNK;
	return put_chunk(f->o, chunk, at, e);
}

int ram_fold(struct fermata_vm *vm, const struct ram_in *in, struct ram_out *o, struct buf *more, struct err *e)
{
	struct fold f = { vm, o, clock_mono_ms(), in->bytes };

	return ram_read(in, fold_chunk, &f, e) < 0 ? e->code : baked(o, in->bytes, more, e);
}

int ram_out_written(struct fermata_vm *vm, struct ram_out *o, uint64_t bytes, struct buf *more, struct err *e)
{
	uint64_t from = clock_mono_ms();

	for (uint64_t at = 0; at < bytes; at += MEM_CHUNK) {
		off_t data = lseek(o->fd, (off_t)at, SEEK_DATA);

		if (memory_step(vm, "Sum", from, at, bytes, e) < 0)
			return e->code;
		if (data < 0 ? errno != ENXIO : (uint64_t)data < at + MEM_CHUNK) {
			if (lseek(o->fd, (off_t)at, SEEK_SET) < 0)
				return err_sys(e, errno, "cannot read %s", o->path);
			if (io_read_full(o->fd, o->chunk, MEM_CHUNK, o->path, e) < 0)
				return e->code;
			o->some = true;
		}
		next_chunk(o);
	}
	return baked(o, bytes, more, e);
}
