/* Which disks a snapshot takes, and how: internal, external, not at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/snapshot/internal.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"

#define DEVICES_BYTES  (16u << 20) /* device state, tables and the pages that change while we look: on the safe side */

const struct fermata_diskspec *diskspec_of(const struct plan *p, size_t i)
{
	for (size_t k = 0; k < p->c->n_specs; k++)
		if (!strcmp(p->c->specs[k].disk, p->ds.d[i].def->name) || !strcmp(p->c->specs[k].disk, p->ds.d[i].file))
			return &p->c->specs[k];
	return NULL;
}

static int check_specs(const struct plan *p, struct err *e)
{
	for (size_t k = 0; k < p->c->n_specs; k++) {
		size_t i = 0;

		while (i < p->ds.n && diskspec_of(p, i) != &p->c->specs[k])
			i++;
		if (i == p->ds.n)
			return err_set(e, -ENOENT, "the VM has no disk '%s', or it is named twice", p->c->specs[k].disk);
	}
	return 0;
}

/* What becomes of disk @i: what was asked for it, else what its definition says, else what the kind of snapshot implies. */
static enum fermata_mode mode_of(const struct plan *p, size_t i)
{
	const struct def_disk *def = p->ds.d[i].def;
	const struct fermata_diskspec *spec = diskspec_of(p, i);

	if (def->readonly)
		return FERMATA_MODE_NO;
	/* The firmware's flash is part of the memory; QEMU writes it back. */
	if (!strcmp(def->name, KVM_NODE_NVRAM))
		return p->file ? FERMATA_MODE_NO : FERMATA_MODE_INTERNAL;
	if (spec && spec->mode != FERMATA_MODE_DEFAULT)
		return spec->mode;
	switch (def->snapshot) {
	case DISK_SNAP_INTERNAL: return FERMATA_MODE_INTERNAL;
	case DISK_SNAP_EXTERNAL: return FERMATA_MODE_EXTERNAL;
	case DISK_SNAP_NO: return FERMATA_MODE_NO;
	case DISK_SNAP_DEFAULT: break;
	}
	return p->c->disk_only || p->file ? FERMATA_MODE_EXTERNAL : FERMATA_MODE_INTERNAL;
}

static int cannot_hold(const struct plan *p, const struct disk_state *d, struct err *e)
{
	err_set(e, -EOPNOTSUPP, "%s: %s is %s, which holds no snapshots", d->def->name, d->file,
		d->def->format == FORMAT_RAW ? "raw" : "not a qcow2 image QEMU can write");
	if (!p->memory || p->file)
		return err_hint(e, "take an external one of it: --diskspec %s,snapshot=external", d->def->name);
	return err_hint(e, "convert it to qcow2, or leave it out with 'snapshot = no' or 'readonly = yes'");
}

/* Whether there is a disk that the guest can change. The firmware's flash is none: it is as good as memory. */
static bool has_writable(const struct plan *p)
{
	for (size_t i = 0; i < p->ds.n; i++)
		if (!p->ds.d[i].def->readonly && strcmp(p->ds.d[i].def->name, KVM_NODE_NVRAM))
			return true;
	return false;
}

/* A checkpoint is memory and disks; a VM may have none that can be written, and then its memory has to be in a file. */
static int enough(const struct plan *p, struct err *e)
{
	bool carrier = false;

	for (size_t i = 0; i < p->ds.n; i++)
		carrier |= p->on & (1u << i) && strcmp(p->ds.d[i].def->name, KVM_NODE_NVRAM);
	if (p->file && !has_writable(p))
		return 0;
	if ((p->on || p->external) && (!p->memory || p->file || carrier))
		return 0;
	if (has_writable(p))
		return err_set(e, -EOPNOTSUPP, "no disk of the VM takes part in it");
	err_set(e, -EOPNOTSUPP, "the VM has no disk that can be written, and none to hold it");
	return err_hint(e, "--memspec or --instant keeps the memory of a running VM in a file");
}

/* Every writable disk takes part; one that cannot is an error unless it is left out on purpose. */
int choose_disks(struct plan *p, struct err *e)
{
	if (check_specs(p, e) < 0)
		return e->code;
	for (size_t i = 0; i < p->ds.n; i++) {
		const struct disk_state *d = &p->ds.d[i];
		enum fermata_mode mode = mode_of(p, i);

		/* A filter on top of it: only jobs put one there. */
		if (mode != FERMATA_MODE_NO && !d->file[0])
			return err_set(e, -EBUSY, "%s: a block job works on it", d->def->name);
		if (mode == FERMATA_MODE_INTERNAL && !d->snapshots)
			return cannot_hold(p, d, e);
		if (mode == FERMATA_MODE_EXTERNAL && p->memory && !p->file) {
			err_set(e, -EOPNOTSUPP, "%s: an external snapshot of a disk does not go with memory inside a disk", d->def->name);
			return err_hint(e, "--memspec snapshot=external puts it into a file, --disk-only leaves it out");
		}
		if (mode == FERMATA_MODE_INTERNAL && p->file)
			return err_set(e, -EOPNOTSUPP, "%s: an internal snapshot of a disk does not go with memory in a file",
				d->def->name);
		if (mode == FERMATA_MODE_INTERNAL)
			p->on |= 1u << i;
		else if (mode == FERMATA_MODE_EXTERNAL)
			p->external |= 1u << i;
		json_each(b, mode == FERMATA_MODE_EXTERNAL ? d->bitmaps : NULL)
			return bitmap_stays(d->file, json_str(json_get(b, "name"), ""), e);
	}
	return enough(p, e);
}

/* The first disk whose file system takes all of the memory carries it. */
int choose_vmstate(struct fermata_vm *vm, struct plan *p, struct err *e)
{
	uint64_t used, need, most = 0;
	const char *where = "";

	if (kvm_memory_used(kvm_process(vm->kvm), &used, e) < 0)
		return e->code;
	need = (used < vm->def->memory ? used : vm->def->memory) + DEVICES_BYTES;
	for (size_t i = 0; i < p->ds.n; i++) {
		const char *file = p->ds.d[i].file;
		uint64_t has;
		struct stat st;

		if (!(p->on & (1u << i)) || i == vm->def->n_disks)
			continue;
		/* A block device has no file system that could fill up; its own end is QEMU's to find. */
		if (stat(file, &st) == 0 && S_ISBLK(st.st_mode)) {
			p->vmstate = i;
			return 0;
		}
		if (file_free_space(file, &has, e) < 0)
			return err_at(e, "%s", p->ds.d[i].def->name);
		if (has >= need) {
			p->vmstate = i;
			return 0;
		}
		if (has >= most) {
			most = has;
			where = file;
		}
	}
	err_set(e, -ENOSPC, "the memory in use may take %llu MiB, the file system of %s has %llu MiB free",
		(unsigned long long)(need >> 20), where, (unsigned long long)(most >> 20));
	return err_hint(e, "free some space there, or delete a snapshot");
}
