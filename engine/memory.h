/* Memory and device state between a QEMU and a file: by QEMU's migration, through a pipe that is read here. */
#ifndef ENGINE_MEMORY_H
#define ENGINE_MEMORY_H

#include "engine/internal.h"
#include "engine/memfile.h"

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
int memory_manifest(void *ctx, struct buf *b, struct err *e) MUST_CHECK;

/* mem_in_open() of the file that was saved for @s; -ESTALE: it is another. */
int memory_open(const char *path, const struct fermata_snap *s, struct mem_in *in, struct err *e) MUST_CHECK;

/* Between two pieces of long work: -ECANCELED when the user has called it off; shows progress now and then. */
int memory_step(struct fermata_vm *vm, const char *what, uint64_t from_ms, uint64_t done, uint64_t total, struct err *e) MUST_CHECK;

/* For who streams it in another way: give QEMU @fd as "fermata", and close it here; whether the user has called it off; progress. */
int memory_give(struct fermata_vm *vm, int *fd, struct err *e) MUST_CHECK;
int memory_cancelled(const struct fermata_vm *vm, struct err *e) MUST_CHECK;
void memory_show(struct fermata_vm *vm, const char *what, uint64_t from_ms, uint64_t bytes, uint64_t total);

/* Wait until what query-migrate or query-dump tells of is over. -EREMOTEIO: it did not succeed; -ETIMEDOUT: it does not end. */
int memory_settle(struct fermata_vm *vm, const char *command, struct err *e) MUST_CHECK;

/* QMP dump-guest-memory: as ELF; the guest stands meanwhile. */
int memory_dump(struct fermata_vm *vm, struct mem_out *o, struct err *e) MUST_CHECK;

/* End whatever migration is under way, and bring the guest back into the state it was in. */
int memory_go_on(struct fermata_vm *vm, bool ran, struct err *e) MUST_CHECK;

/* The same from memory, in two steps. The first can be done long before: it says where the second is to write to. */
int memory_load_ready(struct fermata_vm *vm, int *fd, struct err *e) MUST_CHECK;
int memory_load_bytes(struct fermata_vm *vm, int fd, const struct buf *b, struct err *e) MUST_CHECK;

/* Load @in into a QEMU that was started for it; every byte is checked before QEMU sees it. The guest then stands. */
int memory_load(struct fermata_vm *vm, const struct mem_in *in, struct err *e) MUST_CHECK;

#endif
