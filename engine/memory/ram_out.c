/* The memory file of an instant checkpoint: written. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/memory/internal.h"
#include "engine/memory/memory.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/endian.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

bool page_is_set(const uint8_t *pages, uint64_t i)
{
	return pages[i / 8] & (1u << i % 8);
}

void page_set(uint8_t *pages, uint64_t i)
{
	pages[i / 8] |= (uint8_t)(1u << i % 8);
}

int ram_out_open(struct fermata_vm *vm, const char *path, struct ram_out *o, struct err *e)
{
	uint64_t mark = vm->rec->pending.mark;

	*o = (struct ram_out){ .fd = -1, .vm = vm, .marked = mark, .path = strdup(path), .chunk = malloc(MEM_CHUNK),
		.tmp = mark ? made_tmp(path, mark) : mem_tmp(path) };
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

void ram_add_sum(struct buf *b, uint64_t v)
{
	uint8_t s[8];

	put_be64(s, v);
	buf_add(b, s, 8);
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
size_t page_run(const uint8_t *pages, uint64_t i, uint64_t end, bool on)
{
	uint64_t n = i;

	while (n < end && page_is_set(pages, n) == on)
		n++;
	return (size_t)(n - i);
}

/* @chunk, a MiB of a whole memory, for its byte @at. */
int ram_out_chunk(struct ram_out *o, const uint8_t *chunk, uint64_t at, struct err *e)
{
	for (size_t i = 0, n; i < MEM_CHUNK; i += n ? n : MEM_PAGE) {
		for (n = 0; i + n < MEM_CHUNK && !is_zero(chunk + i + n);)
			n += MEM_PAGE;
		if (n && put(o, chunk + i, n, at + i, e) < 0)
			return e->code;
	}
	ram_add_sum(&o->sums, mem_sum(chunk, MEM_CHUNK));
	return 0;
}

int ram_out_flush(struct ram_out *o, size_t n, struct err *e)
{
	if (!n)
		return 0;
	ram_add_sum(&o->sums, mem_sum(o->chunk, n));
	o->stored += n;
	return put(o, o->chunk, n, o->stored - n, e);
}

/* The chunk is complete: the next one. */
void ram_next_chunk(struct ram_out *o)
{
	if (!o->zeros) {
		auto_free uint8_t *none = calloc(1, MEM_CHUNK);

		o->sums.oom |= !none;
		o->zeros = none ? mem_sum(none, MEM_CHUNK) : 0;
	}
	ram_add_sum(&o->sums, o->some ? mem_sum(o->chunk, MEM_CHUNK) : o->zeros);
	o->some = false;
	o->bytes += MEM_CHUNK;
}

int ram_out_put(struct ram_out *o, uint64_t at, const uint8_t *p, size_t n, struct err *e)
{
	if (put(o, p, n, at, e) < 0)
		return e->code;
	for (; n; at += MEM_PAGE, p += MEM_PAGE, n -= MEM_PAGE) {
		while (at - o->bytes >= MEM_CHUNK)
			ram_next_chunk(o);
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
		ram_next_chunk(o);
	o->stored = bytes;
	return ftruncate(o->fd, (off_t)bytes) < 0 ? err_sys(e, errno, "cannot write %s", o->path) : 0;
}

int ram_out_place(struct ram_out *o, struct err *e)
{
	struct stat st;

	if (o->marked && made_stamp(o->vm, o->fd, o->path, e) < 0)
		return e->code;
	if (fsync(o->fd) < 0)
		return err_sys(e, errno, "cannot flush %s", o->path);
	/* A hand-over's link gives way to what it leads to, and what it came to before it was cut off to what it comes to now. */
	if (o->marked && !(lstat(o->path, &st) == 0 && S_ISLNK(st.st_mode)) && !made_stamped(o->vm, o->path)) {
		if (file_place_new(o->tmp, o->path, e) < 0)
			return e->code;
	} else if (rename(o->tmp, o->path) < 0) {
		return err_sys(e, errno, "cannot create %s", o->path);
	}
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

int ram_out_baked(struct ram_out *o, uint64_t bytes, struct buf *more, struct err *e)
{
	if (ram_out_end(o, bytes, e) < 0)
		return e->code;
	buf_add(more, buf_str(&o->sums), o->sums.n);
	return o->sums.oom ? err_nomem(e, "bake") : buf_check(more, "bake", e);
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
		ram_next_chunk(o);
	}
	return ram_out_baked(o, bytes, more, e);
}
