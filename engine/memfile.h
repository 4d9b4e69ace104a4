/*
 * Files of saved memory: QEMU's migration stream between a header page and a tail. Numbers are big-endian.
 *
 *	0     "FERMATAM"
 *	8     u32 version, 1
 *	12    u32 bytes of the manifest
 *	16    u64 bytes of the stream
 *	24    u64 checksum of the tail
 *	32    u64 bytes of what the tail has more
 *	4088  u64 checksum of the page so far
 *	4096  the stream, then zeros up to a multiple of 4096
 *	...   the tail: the manifest (JSON), then a u64 checksum for each MiB of the stream and its zeros; then, of an instant
 *	      checkpoint, what engine/instant.h says of the file that has its memory
 *
 * The header is written last: without one, there is no file. QEMU's streams carry no checksums, and QEMU loads damaged
 * ones without a word; these here stand between a flipped bit and a wrong guest.
 */
#ifndef ENGINE_MEMFILE_H
#define ENGINE_MEMFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "lib/json.h"

#define MEM_PAGE  4096u
#define MEM_CHUNK (1u << 20)

/* The checksum of @n bytes: any change within 8 of them shows for certain. A last part that is shorter counts as padded. */
uint64_t mem_sum(const void *data, size_t n);

/* A file that is being written, beside its final place. */
struct mem_out {
	int fd;
	char *path, *tmp;
	uint8_t *chunk; /* what is not written yet */
	size_t fill;
	uint64_t bytes; /* of the stream so far */
	struct buf sums;
	struct buf more; /* the end of the tail: the caller's to fill before mem_out_seal() */
	bool bare;      /* nothing but the stream */
};

/* @path: where it goes in the end; @direct: past the page cache. @o: out; mem_out_done(). */
int mem_out_open(const char *path, bool bare, bool direct, struct mem_out *o, struct err *e) MUST_CHECK;

/* Take up to a chunk of the stream from @fd, once. @n: out, bytes; 0 at its end. */
int mem_out_take(struct mem_out *o, int fd, size_t *n, struct err *e) MUST_CHECK;

/* Take @n bytes of the stream from memory. */
int mem_out_add(struct mem_out *o, const void *p, size_t n, struct err *e) MUST_CHECK;

/* Reserve room for @more bytes of the stream. File systems that cannot are none the worse. -ENOSPC. */
int mem_out_reserve(struct mem_out *o, uint64_t more, struct err *e) MUST_CHECK;

/* The stream is whole: write what is left, flush. @manifest: JSON; not used when bare. */
int mem_out_seal(struct mem_out *o, const struct buf *manifest, struct err *e) MUST_CHECK;

/* Put it in its place. Commit point: the rename. */
int mem_out_place(struct mem_out *o, struct err *e) MUST_CHECK;

/* Close; what was not placed is removed. All zero is fine. */
void mem_out_done(struct mem_out *o);
#define auto_mem_out __attribute__((cleanup(mem_out_done)))

/* Whether @path begins as saved memory does. */
bool mem_is(const char *path);

/* The name that a file has until it is placed. Caller frees; NULL: no memory. */
char *mem_tmp(const char *path);

struct mem_in {
	int fd;
	char *path;
	uint64_t stream;         /* bytes */
	uint8_t *tail;
	const uint8_t *sums;     /* inside it */
	const uint8_t *more;     /* inside it: what the end of the tail has */
	uint64_t n_more;
	struct json_doc *manifest;
};

/*
 * Open @path, look at header, tail and length. @in: out; mem_in_done(), also when this fails.
 * -EUCLEAN: it is none of ours, or damaged, with the place that is wrong.
 */
int mem_in_open(const char *path, struct mem_in *in, struct err *e) MUST_CHECK;

/* Chunk number @i of the stream into @chunk (MEM_CHUNK bytes). @n: out, how much of it is stream. -EUCLEAN: damaged. */
int mem_in_chunk(const struct mem_in *in, uint64_t i, uint8_t *chunk, size_t *n, struct err *e) MUST_CHECK;
void mem_in_done(struct mem_in *in);
#define auto_mem_in __attribute__((cleanup(mem_in_done)))

/* A member of the manifest, or "". */
const char *mem_in_str(const struct mem_in *in, const char *key);

#endif
