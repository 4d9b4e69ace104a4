/* Whether a snapshot still has all that going back to it needs. */
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"

/* @memory: raised when the image carries the whole memory of an internal checkpoint. */
static int verify_inner(const struct fermata_snap_disk *d, bool *memory, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	bool whole = false;
	uint64_t size;
	int at;

	if (qcow2_open(d->file, QCOW2_SHARE, &q, e) < 0)
		return e->code;
	at = qcow2_snap_find(q, d->tag, QCOW2_BY_NAME);
	if (at < 0)
		return err_set(e, -ENODATA, "%s has no snapshot '%s' any more", d->file, d->tag);
	size = qcow2_snaps(q, &(unsigned){ 0 })[at].vm_state_size;
	if (!size)
		return d->vmstate ? err_set(e, -ENODATA, "'%s' inside %s has lost the VM's memory", d->tag, d->file) : 0;
	if (qcow2_vm_state_whole(q, (unsigned)at, &whole, e) < 0)
		return e->code;
	*memory = true;
	return whole ? 0 : err_set(e, -ENODATA, "'%s' inside %s has only part of the VM's memory", d->tag, d->file);
}

static int verify_disks(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	bool memory = s->kind != FERMATA_CHECKPOINT_INTERNAL;

	for (size_t j = 0; j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];

		if ((d->external ? chain_check(vm, d->file, d->raw, e) : verify_inner(d, &memory, e)) < 0)
			return err_at(e, "%s", d->disk);
	}
	return memory ? 0 : err_set(e, -ENODATA, "none of its disks has the VM's memory");
}

static bool has_disk(const struct fermata_snap *s, const char *disk)
{
	for (size_t j = 0; j < s->n_disks; j++)
		if (!strcmp(s->disks[j].disk, disk))
			return true;
	return false;
}

/* What others made is known by its name alone: a writable disk without it has lost it, or never had it. */
static int verify_adopted(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	for (size_t i = 0; s->adopted && i < vm->def->n_disks; i++) {
		const struct def_disk *def = &vm->def->disks[i];

		if (!def->readonly && def->snapshot != DISK_SNAP_NO && !has_disk(s, def->name))
			return err_set(e, -ENODATA, "%s: %s has no snapshot '%s'", def->name, fermata_vm_disk_file(vm, i), s->name);
	}
	return 0;
}

/* Where no QEMU is there to be asked, a start says it. */
static void say_copied(struct fermata_vm *vm, const struct fermata_snap *s)
{
	const char *map = instant_map(s);
	const struct kvm_caps *caps;
	struct err ignored;

	if (map && vm_caps(vm, &caps, &ignored) == 0 && kvm_map_copies(caps, map))
		vm_notice(vm, "'%s': QEMU %s does not map memory from a file system that is read-only: what %s has is copied each time",
			s->name, caps->version, map);
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
	say_copied(vm, s);
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
	int rc;

	if (fermata_snap_find(vm, name, &s, e) < 0)
		return e->code;
	rc = verify_disks(vm, s, e);
	if (rc == 0)
		rc = verify_adopted(vm, s, e);
	if (rc == 0 && s->nvram && !file_exists(s->nvram))
		rc = err_set(e, -ENOENT, "its copy of the nvram, %s, is gone", s->nvram);
	if (rc == 0 && s == fermata_snap_current(vm))
		rc = verify_present(vm, e);
	if (CONFIG_MEMORY && rc == 0 && s->kind == FERMATA_CHECKPOINT_EXTERNAL)
		rc = verify_memory(vm, s, e);
	return rc < 0 ? err_at(e, "%s: snapshot '%s' is not whole", vm->name, name) : 0;
}
