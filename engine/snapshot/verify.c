/* Whether a snapshot still has all that going back to it needs. */
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"

static int verify_disk(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;

	if (d->external)
		return chain_check(vm, d->file, d->raw, e);
	if (qcow2_open(d->file, QCOW2_SHARE, &q, e) < 0)
		return e->code;
	return qcow2_snap_find(q, d->tag, QCOW2_BY_NAME) >= 0 ? 0 :
		err_set(e, -ENODATA, "%s has no snapshot '%s' any more", d->file, d->tag);
}

static int verify_memory(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_free uint8_t *chunk = malloc(MEM_CHUNK);
	struct ram_in r;
	size_t n;

	if (!chunk)
		return err_nomem(e, "verify a snapshot");
	if (memory_open(s->memory, s, &in, e) < 0)
		return e->code;
	for (uint64_t i = 0; i * MEM_CHUNK < in.stream; i++) {
		if (mem_in_chunk(&in, i, chunk, &n, e) < 0)
			return e->code;
		if (vm->host->progress && i % 64 == 0)
			vm->host->progress(vm->host->progress_ctx, "Verify", i * MEM_CHUNK, in.stream);
	}
	if (fermata_snap_instant(s) && (ram_look(&in, s, &r, e) < 0 || ram_verify(vm, &r, e) < 0))
		return e->code;
	return 0;
}

/* What writes go to now: lost, the present would be. */
static int verify_present(struct fermata_vm *vm, struct err *e)
{
	auto_chains struct chains c = { 0 };

	return chains_find(vm, &c, e);
}

int fermata_snapshot_verify(struct fermata_vm *vm, const char *name, struct err *e)
{
	const struct fermata_snap *s;
	int rc = 0;

	if (fermata_snap_find(vm, name, &s, e) < 0)
		return e->code;
	for (size_t j = 0; rc == 0 && j < s->n_disks; j++)
		if ((rc = verify_disk(vm, &s->disks[j], e)) < 0)
			err_at(e, "%s", s->disks[j].disk);
	if (rc == 0 && s->nvram && !file_exists(s->nvram))
		rc = err_set(e, -ENOENT, "its copy of the nvram, %s, is gone", s->nvram);
	if (rc == 0 && s == fermata_snap_current(vm))
		rc = verify_present(vm, e);
	if (CONFIG_MEMORY && rc == 0 && s->kind == FERMATA_CHECKPOINT_EXTERNAL)
		rc = verify_memory(vm, s, e);
	return rc < 0 ? err_at(e, "%s: snapshot '%s' is not whole", vm->name, name) : 0;
}
