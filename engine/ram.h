/*
 * The memory of a guest as pages: out of a QEMU that stands into a plain file, and differing pages back into one that has
 * mapped such a file. Read and written from outside, through /proc/PID, without asking QEMU for a byte.
 *
 * The file of a whole memory has as many bytes as the guest, holes where there are only zeros: QEMU maps it privately and
 * reads nothing of it that the guest does not touch. One of differing pages has just these, in their order. The container
 * (memfile.h) of the device state has a member "ram" in its manifest, and at the end of its tail:
 *
 *	whole:    a u64 checksum for each MiB of the memory
 *	differing: the same for each MiB of the file, then for each MiB of the memory below, then a bit for each page of it
 */
#ifndef ENGINE_RAM_H
#define ENGINE_RAM_H

#include "engine/memory.h"

/* Where a running QEMU has it. ram_done(). */
struct ram {
	pid_t pid;
	uint64_t at, bytes; /* in its address space */
	int mem;            /* /proc/PID/mem */
	int own;            /* the file that only this QEMU writes; -1: its memory is none */
	char *base;         /* the file that it has mapped privately; NULL: none */
};
int ram_open(struct fermata_vm *vm, struct ram *r, struct err *e) MUST_CHECK;
void ram_done(struct ram *r);
#define auto_ram __attribute__((cleanup(ram_done)))

/* -EOPNOTSUPP: QEMU has memory of other devices, or firmware variables, which would be lost. */
int ram_check(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* A file that is being written, beside its place. ram_out_done() removes it unless it was placed. */
struct ram_out {
	int fd;
	char *path, *tmp;
	uint8_t *chunk;
	uint64_t bytes, stored;
	struct buf sums;
	uint64_t zeros; /* ram_out_put(): the checksum of a MiB of them, */
	bool some;      /* and whether the chunk has anything else */
};
int ram_out_open(struct fermata_vm *vm, const char *path, struct ram_out *o, struct err *e) MUST_CHECK;
void ram_out_done(struct ram_out *o);
#define auto_ram_out __attribute__((cleanup(ram_out_done)))

/*
 * Copy the memory of @r, which stands: the pages that differ from @base's (by its checksums, @base_sums), or all of them
 * (NULL). @more: out, what the end of the container's tail is to have. -ENOSPC, -ECANCELED.
 */
int ram_save(struct fermata_vm *vm, const struct ram *r, const struct buf *base_sums, struct ram_out *o, struct buf *more,
	struct err *e) MUST_CHECK;

/*
 * The same of a whole memory that comes from elsewhere: @n bytes, whole pages, for its byte @at, each time further on. At the
 * end, all @bytes of it are there, zeros where nothing came.
 */
int ram_out_put(struct ram_out *o, uint64_t at, const uint8_t *p, size_t n, struct err *e) MUST_CHECK;
int ram_out_end(struct ram_out *o, uint64_t bytes, struct err *e) MUST_CHECK;

/* Flushed, and in its place. Commit point: the rename. */
int ram_out_place(struct ram_out *o, struct err *e) MUST_CHECK;

/* For the manifest: the member "ram". */
struct json_out;
void ram_manifest(const struct ram_out *o, bool differing, struct json_out *w);

/* What a container says of the memory beside it. All borrowed from it and the snapshot. */
struct ram_in {
	const char *file, *base; /* base: NULL when @file is whole */
	uint64_t bytes, stored;
	const uint8_t *sums, *base_sums, *pages;
};

/* -EUCLEAN: the container is damaged, or the file has another length; -ENOENT: it is gone. */
int ram_look(const struct mem_in *in, const struct fermata_snap *s, struct ram_in *r, struct err *e) MUST_CHECK;

/* The checksums of @file, whole, as some snapshot on record knows them; @sums stays empty when none does. */
int ram_base_sums(struct fermata_vm *vm, const char *file, struct buf *sums, struct err *e) MUST_CHECK;

/* Read it all, and compare. -EUCLEAN, with the place. */
int ram_verify(struct fermata_vm *vm, const struct ram_in *r, struct err *e) MUST_CHECK;

/* Hand it on MiB by MiB, each checked, those with only zeros left out. -EUCLEAN, with the place; what @fn returns if not 0. */
typedef int ram_chunk_fn(void *ctx, uint64_t at, const uint8_t *chunk, struct err *e);
int ram_read(const struct ram_in *r, ram_chunk_fn *fn, void *ctx, struct err *e) MUST_CHECK;

/* Put the differing pages, each checked, over what the QEMU of @vm has mapped. */
int ram_patch(struct fermata_vm *vm, const struct ram_in *r, struct err *e) MUST_CHECK;

/* @r, of differing pages, as a whole memory: what it takes of both files is checked on the way. @more: as ram_save(). */
int ram_fold(struct fermata_vm *vm, const struct ram_in *r, struct ram_out *o, struct buf *more, struct err *e) MUST_CHECK;

/* The same for @bytes of a whole memory that somebody else has written into the file of @o. */
int ram_out_written(struct fermata_vm *vm, struct ram_out *o, uint64_t bytes, struct buf *more, struct err *e) MUST_CHECK;

#endif
