/* The migration stream, saved memory, mapped memory, manifests. */
#ifndef ENGINE_MEMORY_MEMORY_H
#define ENGINE_MEMORY_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/buf.h"
#include "lib/err.h"

struct dev;
struct fermata_snap;
struct fermata_vm;
struct instance;
struct json_doc;
struct json_out;
struct kvm;
struct mon;
struct ram_out;

/* ---- migrate.c ---- */

/* How long the guest was paused last, as the events tell. Takes them all. */
uint64_t checkpoint_pause_us(struct mon *m);

/* ---- devices.c ---- */

/*
 * What a running QEMU's devices are, as a file for it to write to, and the stream that this becomes. QEMU is asked for it when
 * the guest is paused. @release: it sets its images free, so that another QEMU can have them, until "cont" takes them back.
 * state_close() in any case.
 */
#define INSTANT_STATE_MAX (64u << 20) /* bytes */

/* Where a board has the flash for its firmware's variables: without a file it is empty anew in every QEMU. bytes 0: nowhere. */
struct flash {
	pid_t pid;
	uint64_t at, bytes;
};

struct state_file {
	int fd;
	uint64_t set; /* what QEMU calls it; 0: nothing */
	struct flash flash;
};

/* state_save(): -EOPNOTSUPP when the guest has written where no device state tells of it. */
int state_open(struct fermata_vm *vm, struct state_file *f, struct err *e) MUST_CHECK;
int state_save(struct fermata_vm *vm, const struct state_file *f, bool release, struct err *e) MUST_CHECK;
int state_stream(struct fermata_vm *vm, int fd, const char *machine, struct buf *out, struct err *e) MUST_CHECK;
void state_close(struct fermata_vm *vm, struct state_file *f);
#define MEM_CHUNK (1u << 20)

/* ---- memfile.c ---- */

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
	uint64_t mark;
};

/*
 * @path: where it goes in the end; @direct: past the page cache. @o: out; mem_out_done().
 * @mark: of the operation that is pending: neither name replaces anything, and mem_has_mark() says so from the first moment
 *        on. -EEXIST. 0: what is there is the caller's to have looked at.
 */
int mem_out_open(const char *path, bool bare, bool direct, uint64_t mark, struct mem_out *o, struct err *e) MUST_CHECK;

/* Whether @path, whole or not, was written by the operation with this mark. */
bool mem_has_mark(const char *path, uint64_t mark);

/* Take up to a chunk of the stream from @fd, once. @n: out, bytes; 0 at its end. */
int mem_out_take(struct mem_out *o, int fd, size_t *n, struct err *e) MUST_CHECK;

/* Take @n bytes of the stream from memory. */
int mem_out_add(struct mem_out *o, const void *p, size_t n, struct err *e) MUST_CHECK;

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

/* ---- migrate.c ---- */

/* 0 if QEMU can save this VM's memory, and @path's file system has room for what is in use of it. */
int memory_check(struct fermata_vm *vm, const char *path, struct err *e) MUST_CHECK;

/*
 * Save it all to @o, which is then sealed. The caller has stopped the guest. On success its disks are inactive, until
 * memory_go_on(). QMP: migrate.
 * @manifest: called when QEMU is through, for what goes into the file. -ECANCELED: by the user.
 */
int memory_save(struct fermata_vm *vm, struct mem_out *o,
	int (*manifest)(void *ctx, struct buf *b, struct err *e), void *ctx, struct err *e) MUST_CHECK;

/* What a file says of the VM whose memory it is: memory_save()'s @manifest; @ctx: a struct saving. */
struct saving {
	struct fermata_vm *vm;
	const struct fermata_snap *snap;
	bool run; /* the guest is to run when it is restored */
	const struct ram_out *ram; /* instant: the file with the memory itself; else NULL */
};

/* ---- manifest.c ---- */

int memory_manifest(void *ctx, struct buf *b, struct err *e) MUST_CHECK;

/* mem_in_open() of the file that was saved for @s; -ESTALE: it is another. */
int memory_open(const char *path, const struct fermata_snap *s, struct mem_in *in, struct err *e) MUST_CHECK;

/* ---- migrate.c ---- */

/* For who streams it in another way: give QEMU @fd as "fermata", and close it here; whether the user has called it off; progress. */
int memory_give(struct kvm *k, int *fd, struct err *e) MUST_CHECK;

/* Wait until what query-migrate or query-dump tells of is over. -EREMOTEIO: it did not succeed; -ETIMEDOUT: it does not end. */
int memory_settle(struct fermata_vm *vm, const char *command, struct err *e) MUST_CHECK;

/* QMP dump-guest-memory: as ELF; the guest is paused meanwhile. */
int memory_dump(struct fermata_vm *vm, struct mem_out *o, struct err *e) MUST_CHECK;

/* End whatever migration is under way, and bring the guest back into the state it was in. */
int memory_go_on(struct fermata_vm *vm, bool ran, struct err *e) MUST_CHECK;

/* The same from memory, in two steps. The first can be done long before: it says where the second is to write to. */
int memory_load_ready(struct kvm *k, int *fd, struct err *e) MUST_CHECK;
int memory_load_bytes(struct fermata_vm *vm, struct kvm *k, int fd, const struct buf *b, struct err *e) MUST_CHECK;

/* Load @in into @q, which was started for it; every byte is checked before QEMU sees it. The guest is paused then. */
int memory_load(struct fermata_vm *vm, struct instance *q, const struct mem_in *in, struct err *e) MUST_CHECK;

/* Where a running QEMU has it. ram_done(). */
struct ram {
	pid_t pid;
	uint64_t at, bytes; /* in its address space */
	int mem;            /* /proc/PID/mem */
	int own;            /* the file that only this QEMU writes; -1: its memory is none */
	char *base;         /* the file that it has mapped privately; NULL: none */
};

/* ---- ram.c ---- */

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
	struct fermata_vm *vm;
	bool marked;    /* of a pending operation: it has a name of its own, and replaces nothing */
};

/* ---- ram_out.c ---- */

int ram_out_open(struct fermata_vm *vm, const char *path, struct ram_out *o, struct err *e) MUST_CHECK;
void ram_out_done(struct ram_out *o);
#define auto_ram_out __attribute__((cleanup(ram_out_done)))

/* ---- ram.c ---- */

/*
 * Copy the memory of @r, which stands: the pages that differ from @base's (by its checksums, @base_sums), or all of them
 * (NULL). @more: out, what the end of the container's tail is to have. -ENOSPC, -ECANCELED.
 */
int ram_save(struct fermata_vm *vm, const struct ram *r, const struct buf *base_sums, struct ram_out *o, struct buf *more,
	struct err *e) MUST_CHECK;

/* ---- ram_out.c ---- */

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

/* ---- ram_in.c ---- */

/* -EUCLEAN: the container is damaged, or the file has another length; -ENOENT: it is gone. */
int ram_look(const struct mem_in *in, const struct fermata_snap *s, struct ram_in *r, struct err *e) MUST_CHECK;

/* The checksums of @file, whole, as some snapshot on record knows them; @sums stays empty when none does. */
int ram_base_sums(struct fermata_vm *vm, const char *file, struct buf *sums, struct err *e) MUST_CHECK;

/* Read it all, and compare. -EUCLEAN, with the place. */
int ram_verify(struct fermata_vm *vm, const struct ram_in *r, struct err *e) MUST_CHECK;

/* Hand it on MiB by MiB, each checked, those with only zeros left out. -EUCLEAN, with the place; what @fn returns if not 0. */
typedef int ram_chunk_fn(void *ctx, uint64_t at, const uint8_t *chunk, struct err *e);
int ram_read(const struct ram_in *r, ram_chunk_fn *fn, void *ctx, struct err *e) MUST_CHECK;

/* ---- ram.c ---- */

/* Put the differing pages, each checked, over what the QEMU of @vm has mapped. */
int ram_patch(struct fermata_vm *vm, struct kvm *of, const struct ram_in *r, struct err *e) MUST_CHECK;

/* @r, of differing pages, as a whole memory: what it takes of both files is checked on the way. @more: as ram_save(). */
int ram_fold(struct fermata_vm *vm, const struct ram_in *r, struct ram_out *o, struct buf *more, struct err *e) MUST_CHECK;

/* ---- ram_out.c ---- */

/* The same for @bytes of a whole memory that somebody else has written into the file of @o. */
int ram_out_written(struct fermata_vm *vm, struct ram_out *o, uint64_t bytes, struct buf *more, struct err *e) MUST_CHECK;

struct stream_in {
	/* The next piece, of any length, borrowed until the next call. @n: out, bytes; 0 at the end. */
	int (*next)(void *ctx, const uint8_t **p, size_t *n, struct err *e);
	void *ctx;
};

/* ---- stream.c ---- */

/*
 * Read @in to its end.
 *
 * @ram:     bytes of the guest's memory; a multiple of 4096
 * @out:     gets exactly these bytes, whatever it was before, with holes for pages of zeros; not flushed here
 * @devices: gets the state of the devices, to be loaded by `-incoming` as any stream
 *
 * What QEMU makes anew out of its firmware is left out. Nothing is guessed: -EUCLEAN with the place in the stream that is
 * damaged, -ENODATA where it ends too early, -EOPNOTSUPP with the name of what is not known or would be lost (memory of a
 * device's own, a device that sends its state in parts), -EFBIG.
 */
int stream_bake(const struct stream_in *in, uint64_t ram, struct dev *out, struct buf *devices, struct err *e) MUST_CHECK;

/* ---- manifest.c ---- */

uint64_t nonce(const struct fermata_snap *s);
int manifest_check_disks(const struct fermata_vm *vm, const struct mem_in *in, struct err *e);
int manifest_check_definition(const struct fermata_vm *vm, const struct mem_in *in, struct err *e);

/* ---- progress.c ---- */

/* Between two pieces of long work: -ECANCELED when the user has called it off; shows progress now and then. */
int memory_step(struct fermata_vm *vm, const char *what, uint64_t from_ms, uint64_t done, uint64_t total, struct err *e) MUST_CHECK;
int memory_cancelled(const struct fermata_vm *vm, struct err *e) MUST_CHECK;
void memory_show(struct fermata_vm *vm, const char *what, uint64_t from_ms, uint64_t bytes, uint64_t total);

#endif
