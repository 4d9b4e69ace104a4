/* What the files of engine/memory/ share: private to the room. */
#ifndef ENGINE_MEMORY_INTERNAL_H
#define ENGINE_MEMORY_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/memory/memory.h"
#include "lib/err.h"

struct buf;

#define MEM_PAGE    4096u
#define CHUNK_PAGES (MEM_CHUNK / MEM_PAGE)

/* Bits of /proc/PID/pagemap: kernel's Documentation/admin-guide/mm/pagemap.rst */
#define PM_PRESENT (1ull << 63)
#define PM_SWAP    (1ull << 62)
#define PM_FILE    (1ull << 61)

/* ---- blocks.c ---- */

/* Memory whose content comes from files that QEMU reads when it starts; not flash1, where the guest keeps variables. */
bool block_is_firmware(const char *name);

#define BOARD_FLASH "virt.flash1"

/* @other: out, as of mon_hmp_block(): memory with content of its own. flash_check(): -EOPNOTSUPP when it is not empty. */
int flash_find(struct fermata_vm *vm, struct flash *f, char other[128], struct err *e) MUST_CHECK;
int flash_check(const struct flash *f, struct err *e) MUST_CHECK;

/* Open /proc/PID/@what: of a QEMU that may not be ours to look into. */
int proc_open(pid_t pid, const char *what, int flags, int *fd, struct err *e) MUST_CHECK;

/* ---- memfile.c ---- */

/* Reserve room for @more bytes of the stream. File systems that cannot are none the worse. -ENOSPC. */
int mem_out_reserve(struct mem_out *o, uint64_t more, struct err *e) MUST_CHECK;

/* ---- ram_out.c ---- */

/* A bit for each page of a memory. */
bool page_is_set(const uint8_t *pages, uint64_t i);
void page_set(uint8_t *pages, uint64_t i);

/* How many pages from @i on, before @end, are all set (@on) or all clear. */
size_t page_run(const uint8_t *pages, uint64_t i, uint64_t end, bool on);

/* Add the checksum of a chunk to those that the manifest gets. */
void ram_add_sum(struct buf *b, uint64_t v);

/* Write @chunk, MEM_CHUNK bytes of a whole memory, to byte @at of the file; pages of zeros become holes. */
int ram_out_chunk(struct ram_out *o, const uint8_t *chunk, uint64_t at, struct err *e) MUST_CHECK;

/* Write the @n bytes of differing pages that are gathered in o->chunk behind what is stored. */
int ram_out_flush(struct ram_out *o, size_t n, struct err *e) MUST_CHECK;

/* The chunk that ram_out_put() fills is complete: its checksum is added, the next one begins. */
void ram_next_chunk(struct ram_out *o);

/* All that ram_out_chunk() wrote, of @bytes, is there: its checksums go to @more, for the manifest. */
int ram_out_baked(struct ram_out *o, uint64_t bytes, struct buf *more, struct err *e) MUST_CHECK;

/* ---- ram_in.c ---- */

uint64_t ram_chunks(uint64_t bytes);

/*
 * Read chunk @i of @fd, a file of @bytes, into @chunk (MEM_CHUNK bytes); *@n: how many they are. @sums: of every chunk, 8
 * bytes each. -EUCLEAN names @file and the place that is damaged.
 */
int ram_read_chunk(int fd, const char *file, uint64_t i, uint64_t bytes, const uint8_t *sums, uint8_t *chunk, size_t *n,
	struct err *e) MUST_CHECK;

#endif
