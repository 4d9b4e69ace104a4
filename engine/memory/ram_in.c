/* The memory file of an instant checkpoint: checked and read. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/memory/internal.h"
#include "engine/memory/memory.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/endian.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

#define RAM_MAX    (1ull << 44) /* bytes: the definition's limit */

static int check_file(const char *file, uint64_t bytes, struct err *e)
{
	struct stat st;

	if (stat(file, &st) < 0)
		return err_sys(e, errno, "the memory %s", file);
	return S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes ? 0 :
		err_set(e, -EUCLEAN, "%s is damaged: it has %llu bytes, not %llu", file, (unsigned long long)st.st_size,
			(unsigned long long)bytes);
}

uint64_t ram_chunks(uint64_t bytes)
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
	need = ram_chunks(r->stored) * 8 + (differing ? ram_chunks(r->bytes) * 8 + r->bytes / MEM_PAGE / 8 : 0);
	if (!r->bytes || r->bytes > RAM_MAX || r->bytes % MEM_CHUNK || r->stored > r->bytes || in->n_more != need ||
		(!differing && r->stored != r->bytes))
		return err_set(e, -EUCLEAN, "%s is damaged: its figures of the memory do not fit", in->path);
	if (differing) {
		r->base_sums = r->sums + ram_chunks(r->stored) * 8;
		r->pages = r->base_sums + ram_chunks(r->bytes) * 8;
		for (uint64_t i = 0; i < r->bytes / MEM_PAGE; i++)
			n += page_is_set(r->pages, i);
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
			buf_add(sums, r.base ? r.base_sums : r.sums, ram_chunks(r.bytes) * 8);
	}
	return buf_check(sums, "look for the memory below", e);
}

int ram_read_chunk(int fd, const char *file, uint64_t i, uint64_t bytes, const uint8_t *sums, uint8_t *chunk, size_t *n, struct err *e)
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
	for (uint64_t i = 0; i < ram_chunks(bytes); i++)
		if (memory_step(vm, "Verify", from, i * MEM_CHUNK, bytes, e) < 0 ||
			ram_read_chunk(fd, file, i, bytes, sums, chunk, &n, e) < 0)
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
	for (uint64_t i = 0; i < ram_chunks(r->bytes); i++) {
		uint64_t first = i * CHUNK_PAGES, end = first + CHUNK_PAGES;
		bool hole = get_be64(sums + i * 8) == zeros;

		if (hole && (!r->base || page_run(r->pages, first, end, false) == CHUNK_PAGES))
			continue;
		if (hole)
			memset(chunk, 0, MEM_CHUNK);
		else if (ram_read_chunk(fd, whole, i, r->bytes, sums, chunk, &n, e) < 0)
			return e->code;
		for (uint64_t p = first; r->base && p < end; p++) {
			if (!page_is_set(r->pages, p))
				continue;
			if (at == fill) {
				if (ram_read_chunk(differing, r->file, next++, r->stored, r->sums, over, &fill, e) < 0)
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
