/* engine/memory/internal.h */
#ifndef ENGINE_MEMORY_INTERNAL_H
#define ENGINE_MEMORY_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/memory/memory.h"
#include "lib/err.h"

struct buf;

#define MEM_PAGE  4096u

/* ---- memfile.c ---- */

/* Reserve room for @more bytes of the stream. File systems that cannot are none the worse. -ENOSPC. */
int mem_out_reserve(struct mem_out *o, uint64_t more, struct err *e) MUST_CHECK;

/* ---- ram_out.c ---- */

bool page_is_set(const uint8_t *pages, uint64_t i);
void page_set(uint8_t *pages, uint64_t i);
void ram_add_sum(struct buf *b, uint64_t v);
size_t page_run(const uint8_t *pages, uint64_t i, uint64_t end, bool on);
int ram_out_chunk(struct ram_out *o, const uint8_t *chunk, uint64_t at, struct err *e);
int ram_out_flush(struct ram_out *o, size_t n, struct err *e);
void ram_next_chunk(struct ram_out *o);

/* ---- ram_in.c ---- */

uint64_t ram_chunks(uint64_t bytes);
int ram_read_chunk(int fd, const char *file, uint64_t i, uint64_t bytes, const uint8_t *sums, uint8_t *chunk, size_t *n, struct err *e);

/* ---- ram_out.c ---- */

int ram_out_baked(struct ram_out *o, uint64_t bytes, struct buf *more, struct err *e);
#define CHUNK_PAGES (MEM_CHUNK / MEM_PAGE)

#endif
