/* memfile.c */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/memory/internal.h"
#include "engine/memory/memory.h"
#include "lib/buf.h"
#include "lib/endian.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

#define MAGIC   "FERMATAM"
#define UNDONE  "FERMATAP" /* until it is sealed */
#define VERSION 1
#define AT_MANIFEST 12
#define AT_STREAM   16
#define AT_TAIL     24
#define AT_MORE     32
#define AT_MARK     40
#define AT_SUM      (MEM_PAGE - 8)
#define MANIFEST_MAX (1u << 20)
#define MANIFEST_NODES 10000

/*
 * A word at a time: each step is a bijection of the sum, so any change within one word shows for certain; the rotation
 * keeps changes of top bits from cancelling out.
 */
static uint64_t sum_word(uint64_t h, uint64_t w)
{
	h = (h ^ le64toh(w)) * 0x9e3779b97f4a7c15;
	return h << 29 | h >> 35;
}

uint64_t mem_sum(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t h = n, w;

	/* A copy of a fixed length is one load; of another it is many times as slow as all else here. */
	for (; n >= sizeof w; p += sizeof w, n -= sizeof w) {
		memcpy(&w, p, sizeof w);
		h = sum_word(h, w);
	}
	w = 0;
	memcpy(&w, p, n);
	return n ? sum_word(h, w) : h;
}

static uint64_t round_page(uint64_t n)
{
	return (n + MEM_PAGE - 1) & ~(uint64_t)(MEM_PAGE - 1);
}

char *mem_tmp(const char *path)
{
	return str_fmt("%s.part", path);
}

bool mem_is(const char *path)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char magic[8];

	return fd >= 0 && read(fd, magic, 8) == 8 && !memcmp(magic, MAGIC, 8);
}

/* ---- writing -------------------------------------------------------------------------------------------- */

bool mem_has_mark(const char *path, uint64_t mark)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	uint8_t head[AT_MARK + 8];

	/* All in one sector: a cut leaves one magic or the other. */
	return fd >= 0 && mark && read(fd, head, sizeof head) == sizeof head && get_be64(head + AT_MARK) == mark &&
		(!memcmp(head, MAGIC, 8) || !memcmp(head, UNDONE, 8));
}

/* The file under its first name: never seen without its mark, and nothing gives way to it. */
static int open_marked(struct mem_out *o, struct err *e)
{
	auto_free char *first = made_tmp(o->path, o->mark);
	uint8_t *page = o->chunk;

	if (!first)
		return err_nomem(e, "save memory");
	memset(page, 0, MEM_PAGE);
	memcpy(page, UNDONE, 8);
	put_be64(page + AT_MARK, o->mark);
	/* Of a try that was cut off. */
	unlink(first);
	if (mem_has_mark(o->tmp, o->mark))
		unlink(o->tmp);
	o->fd = open(first, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (o->fd < 0)
		return err_sys(e, errno, "cannot create %s", first);
	if (io_write_full(o->fd, page, MEM_PAGE, first, e) == 0) {
		if (fdatasync(o->fd) < 0)
			err_sys(e, errno, "cannot flush %s", first);
		else if (file_place_new(first, o->tmp, e) == 0)
			return 0;
	}
	unlink(first);
	own_close(&o->fd);
	return e->code;
}

int mem_out_open(const char *path, bool bare, bool direct, uint64_t mark, struct mem_out *o, struct err *e)
{
	void *chunk = NULL;
	struct stat st;

	*o = (struct mem_out){ .fd = -1, .bare = bare, .mark = mark, .path = path_beside("", path) };
	o->tmp = o->path ? mem_tmp(o->path) : NULL;
	if (!o->tmp || posix_memalign(&chunk, MEM_PAGE, MEM_CHUNK))
		return err_nomem(e, "save memory");
	o->chunk = chunk;
	/* The rename would put a file in the place of a device. */
	if (stat(o->path, &st) == 0 && !S_ISREG(st.st_mode))
		return err_set(e, -EEXIST, "%s is there and no regular file", o->path);
	if (mark)
		return open_marked(o, e);
	o->fd = open(o->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | (direct ? O_DIRECT : 0), 0600);
	if (o->fd >= 0 && !bare && lseek(o->fd, MEM_PAGE, SEEK_SET) == MEM_PAGE)
		return 0;
	return o->fd < 0 || !bare ? err_sys(e, errno, "cannot create %s", o->tmp) : 0;
}

/* Write the chunk out; @n: with what pads it. */
static int put_chunk(struct mem_out *o, size_t n, struct err *e)
{
	uint8_t s[8];

	if (!o->bare) {
		put_be64(s, mem_sum(o->chunk, n));
		buf_add(&o->sums, s, 8);
	}
	o->fill = 0;
	return io_write_full(o->fd, o->chunk, n, o->path, e);
}

int mem_out_take(struct mem_out *o, int fd, size_t *n, struct err *e)
{
	ssize_t r = read(fd, o->chunk + o->fill, MEM_CHUNK - o->fill);

	*n = 0;
	if (r < 0)
		return errno == EINTR || errno == EAGAIN ? (*n = 1, 0) : err_sys(e, errno, "cannot read QEMU's stream");
	*n = (size_t)r;
	o->fill += *n;
	o->bytes += *n;
	return o->fill == MEM_CHUNK ? put_chunk(o, MEM_CHUNK, e) : 0;
}

int mem_out_add(struct mem_out *o, const void *p, size_t n, struct err *e)
{
	while (n) {
		size_t k = MEM_CHUNK - o->fill < n ? MEM_CHUNK - o->fill : n;

		memcpy(o->chunk + o->fill, p, k);
		p = (const uint8_t *)p + k;
		n -= k;
		o->fill += k;
		o->bytes += k;
		if (o->fill == MEM_CHUNK && put_chunk(o, MEM_CHUNK, e) < 0)
			return e->code;
	}
	return 0;
}

int mem_out_reserve(struct mem_out *o, uint64_t more, struct err *e)
{
	off_t at = lseek(o->fd, 0, SEEK_CUR);

	if (fallocate(o->fd, FALLOC_FL_KEEP_SIZE, at, (off_t)more) < 0 && errno == ENOSPC)
		return err_sys(e, errno, "cannot reserve %llu MiB for %s", (unsigned long long)(more >> 20), o->path);
	return 0;
}

static int put_ends(struct mem_out *o, const struct buf *manifest, struct err *e)
{
	uint8_t *page = o->chunk;
	struct buf tail = { 0 };
	int rc;

	buf_add(&tail, buf_str(manifest), manifest->n);
	buf_add(&tail, buf_str(&o->sums), o->sums.n);
	buf_add(&tail, buf_str(&o->more), o->more.n);
	rc = manifest->oom || o->sums.oom || o->more.oom ? err_nomem(e, "save memory") : buf_check(&tail, "save memory", e);
	if (rc == 0)
		rc = io_write_full(o->fd, tail.p, tail.n, o->path, e);
	/* All else first, and safe on disk. */
	if (rc == 0 && fsync(o->fd) < 0)
		rc = err_sys(e, errno, "cannot flush %s", o->path);
	memset(page, 0, MEM_PAGE);
	memcpy(page, MAGIC, 8);
	put_be32(page + 8, VERSION);
	put_be32(page + AT_MANIFEST, (uint32_t)manifest->n);
	put_be64(page + AT_STREAM, o->bytes);
	put_be64(page + AT_TAIL, rc ? 0 : mem_sum(tail.p, tail.n));
	put_be64(page + AT_MORE, o->more.n);
	put_be64(page + AT_MARK, o->mark);
	put_be64(page + AT_SUM, mem_sum(page, AT_SUM));
	buf_done(&tail);
	if (rc == 0 && lseek(o->fd, 0, SEEK_SET) < 0)
		rc = err_sys(e, errno, "cannot write %s", o->path);
	return rc < 0 ? rc : io_write_full(o->fd, page, MEM_PAGE, o->path, e);
}

int mem_out_seal(struct mem_out *o, const struct buf *manifest, struct err *e)
{
	size_t n = o->bare ? o->fill : round_page(o->fill);
	off_t end;

	memset(o->chunk + o->fill, 0, n - o->fill);
	fcntl(o->fd, F_SETFL, 0); /* the rest goes through the page cache */
	if ((n && put_chunk(o, n, e) < 0) || (!o->bare && put_ends(o, manifest, e) < 0))
		return e->code;
	/* What was reserved too much. */
	end = lseek(o->fd, 0, SEEK_END);
	if (ftruncate(o->fd, end) < 0 || fsync(o->fd) < 0)
		return err_sys(e, errno, "cannot flush %s", o->path);
	return 0;
}

int mem_out_place(struct mem_out *o, struct err *e)
{
	/* What the same operation had placed before it was cut off gives way. */
	if (o->mark && !mem_has_mark(o->path, o->mark)) {
		if (file_place_new(o->tmp, o->path, e) < 0)
			return e->code;
	} else if (rename(o->tmp, o->path) < 0) {
		return err_sys(e, errno, "cannot create %s", o->path);
	}
	free(take_ptr(&o->tmp));
	return file_flush_name(o->path, e);
}

void mem_out_done(struct mem_out *o)
{
	if (o->chunk && o->fd >= 0) {
		close(o->fd);
		if (o->tmp)
			unlink(o->tmp);
	}
	free(o->tmp);
	free(o->path);
	free(o->chunk);
	buf_done(&o->sums);
	buf_done(&o->more);
	*o = (struct mem_out){ .fd = -1 };
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static int damaged(const struct mem_in *in, const char *what, uint64_t at, struct err *e)
{
	return err_set(e, -EUCLEAN, "%s is damaged: %s at byte %llu", in->path, what, (unsigned long long)at);
}

static int read_at(const struct mem_in *in, void *p, size_t n, uint64_t at, struct err *e)
{
	if (lseek(in->fd, (off_t)at, SEEK_SET) < 0)
		return err_sys(e, errno, "cannot read %s", in->path);
	return io_read_full(in->fd, p, n, in->path, e);
}

static int read_tail(struct mem_in *in, const uint8_t *page, uint64_t at, size_t n, size_t n_manifest, struct err *e)
{
	in->tail = malloc(n);
	if (!in->tail)
		return err_nomem(e, "read saved memory");
	if (read_at(in, in->tail, n, at, e) < 0)
		return e->code;
	if (mem_sum(in->tail, n) != get_be64(page + AT_TAIL))
		return damaged(in, "the tail", at, e);
	in->sums = in->tail + n_manifest;
	in->more = in->tail + (n - in->n_more);
	return json_parse((char *)in->tail, n_manifest, MANIFEST_NODES, &in->manifest, e);
}

int mem_in_open(const char *path, struct mem_in *in, struct err *e)
{
	uint8_t page[MEM_PAGE];
	uint64_t at, n, n_manifest;
	struct stat st;

	*in = (struct mem_in){ .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), .path = strdup(path) };
	if (!in->path)
		return err_nomem(e, "read saved memory");
	if (in->fd < 0 || fstat(in->fd, &st) < 0)
		return err_sys(e, errno, "cannot open %s", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < MEM_PAGE || read_at(in, page, MEM_PAGE, 0, e) < 0 ||
		memcmp(page, MAGIC, 8))
		return err_set(e, -EUCLEAN, "%s is no saved memory, or was never completed", path);
	if (mem_sum(page, AT_SUM) != get_be64(page + AT_SUM))
		return damaged(in, "the header", 0, e);
	if (get_be32(page + 8) != VERSION)
		return err_set(e, -EOPNOTSUPP, "%s has version %u, this program knows %d", path, get_be32(page + 8), VERSION);
	in->stream = get_be64(page + AT_STREAM);
	n_manifest = get_be32(page + AT_MANIFEST);
	in->n_more = get_be64(page + AT_MORE);
	if (in->stream > (uint64_t)st.st_size || in->n_more > (uint64_t)st.st_size || n_manifest > MANIFEST_MAX)
		return damaged(in, "its lengths", AT_MANIFEST, e);
	at = MEM_PAGE + round_page(in->stream);
	n = n_manifest + (in->stream + MEM_CHUNK - 1) / MEM_CHUNK * 8 + in->n_more;
	if (at + n != (uint64_t)st.st_size)
		return err_set(e, -EUCLEAN, "%s is damaged: it has %llu bytes, not %llu", path, (unsigned long long)st.st_size,
			(unsigned long long)(at + n));
	return read_tail(in, page, at, n, n_manifest, e);
}

int mem_in_chunk(const struct mem_in *in, uint64_t i, uint8_t *chunk, size_t *n, struct err *e)
{
	uint64_t at = i * MEM_CHUNK, left = in->stream - at;
	size_t all;

	*n = left < MEM_CHUNK ? (size_t)left : MEM_CHUNK;
	all = round_page(*n);
	if (read_at(in, chunk, all, MEM_PAGE + at, e) < 0)
		return e->code;
	return mem_sum(chunk, all) == get_be64(in->sums + i * 8) ? 0 : damaged(in, "the memory", MEM_PAGE + at, e);
}

const char *mem_in_str(const struct mem_in *in, const char *key)
{
	return json_str(json_get(json_root(in->manifest), key), "");
}

void mem_in_done(struct mem_in *in)
{
	if (in->path)
		own_close(&in->fd);
	free(in->path);
	free(in->tail);
	json_free(in->manifest);
	*in = (struct mem_in){ .fd = -1 };
}
