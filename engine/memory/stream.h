/* QEMU's stream as stream_bake() goes through it: what stream.c, stream_io.c, stream_ram.c and stream_devices.c share. */
#ifndef ENGINE_MEMORY_STREAM_H
#define ENGINE_MEMORY_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/memory/memory.h"
#include "lib/err.h"

struct buf;
struct dev;

#define PAGE      4096u
#define NAME_MAX_ 255
#define RUN_MAX   (256u << 10) /* bytes written at once */
#define BLOCKS    128          /* one for each device with a ROM */

#define FOOTER 0x7e
enum { END_OF_ALL, START, PART, END, FULL, SUBSECTION, DESCRIPTION, CONFIGURATION, COMMAND };

struct block {
	uint64_t size;
	char name[NAME_MAX_ + 1];
};

struct stream {
	const struct stream_in *in;
	struct dev *out;
	struct buf *devices;
	size_t n_head; /* of its bytes, in front of the first device */
	struct err *e;
	int rc;           /* the first failure; what is read after it is zero */
	const uint8_t *p; /* the piece at hand */
	size_t left;
	uint64_t at, mark; /* bytes read so far; where the item began that is looked at */
	uint64_t ram;
	const struct block *main, *flash, *block; /* guest memory; a board's variables; the last block named */
	size_t n_blocks;
	uint32_t ram_id;
	bool started, ended, mapped;
	bool hole;             /* run is one, and has no bytes */
	uint64_t run_at, high; /* the end of the last page ever written: what is behind is a hole still */
	size_t run_n;
	/* What follows is written before it is read. */
	uint8_t cut[PAGE]; /* what two pieces have a part of */
	uint8_t run[RUN_MAX];
	struct block blocks[BLOCKS];
};

#define FAIL(s, code, fmt, ...)                                                                                            \
	((s)->rc = err_set((s)->e, code, fmt " at byte %llu of QEMU's stream", ##__VA_ARGS__,              \
		 (unsigned long long)(s)->mark))

/* ---- stream_io.c ---- */

/* The next piece; s->left is 0 at the end. */
int stream_piece(struct stream *s);

/* @n bytes, at most PAGE; borrowed until the next call. NULL: s->rc. */
const uint8_t *stream_take(struct stream *s, size_t n);
int stream_skip(struct stream *s, uint64_t n);

/* A number of @n bytes; 0 after a failure. */
uint64_t stream_num(struct stream *s, size_t n);

/* A name behind its length: printable, so that a message can have it. */
int stream_name(struct stream *s, char out[NAME_MAX_ + 1]);

/* A name behind its length of @n bytes, as one is written. */
void stream_put_name(struct buf *b, size_t n, const void *p, size_t len);

/* ---- stream_ram.c ---- */

/* What a part of "ram" holds, to its end: the guest's pages go to s->out. */
int stream_take_ram(struct stream *s);

/* What is gathered of them is written. */
int stream_flush(struct stream *s);

/* ---- stream_devices.c ---- */

/* All the rest, of which the first byte has been read, into s->devices. */
int stream_take_devices(struct stream *s);

/* The devices are those of the description, each with its end; they are what is kept. @start: where they began */
int stream_check_devices(struct stream *s, uint64_t start);

#endif
