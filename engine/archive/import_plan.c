/* What an archive's snapshot will be in this VM: whether it fits, where its parts go, and whether there is room. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/archive/import.h"
#include "engine/archive/internal.h"
#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/limits.h"
#include "lib/own.h"

#define EXTRA_BYTES (2u << 20) /* an image's tables beside what grows with its data; a record */

/* A text of the manifest, which may be shown on a terminal. */
static int need_text(const struct import *j, const char *key, const char **out, struct err *e)
{
	if (json_need_str(j->manifest, key, out, e) < 0)
		return err_at(e, "%s", j->a.name);
	return archive_plain(*out) ? 0 : err_set(e, -EUCLEAN, "%s: control characters in '%s'", j->a.name, key);
}

static int need_same(const struct import *j, const char *key, uint64_t here, struct err *e)
{
	uint64_t there;

	if (json_need_uint(j->manifest, key, &there, e) < 0)
		return err_at(e, "%s", j->a.name);
	return there == here ? 0 : err_set(e, -EINVAL, "the definition has %s = %llu, the archive %llu", key,
		(unsigned long long)here, (unsigned long long)there);
}

/* What memory and devices can only be loaded into. */
static int check_machine(const struct import *j, struct err *e)
{
	const struct def *def = j->vm->def;
	const char *machine;

	if (need_same(j, "memory", def->memory, e) < 0 || need_text(j, "machine", &machine, e) < 0)
		return e->code;
	if (j->o->force)
		return 0;
	if (strcmp(machine, def->machine))
		err_set(e, -EINVAL, "the definition has machine = %s, the archive %s", def->machine, machine);
	else if (need_same(j, "vcpus", def->vcpus, e) == 0)
		return 0;
	return err_hint(e, "--force imports it all the same");
}

/* No image yet, as in an appliance that has never run. */
static bool fresh(struct fermata_vm *vm, size_t i)
{
	const struct record_disk *d = record_disk(vm->rec, vm->def->disks[i].name);

	return !vm_alive(vm) && !(d && d->active) && !file_exists(vm->def->disks[i].file);
}

static int check_size(const struct import *j, size_t i, uint64_t size, struct err *e)
{
	struct fermata_disk_size now;

	if (size % 512)
		return err_set(e, -EUCLEAN, "%s: no disk has %llu bytes", j->a.name, (unsigned long long)size);
	if (j->o->force || fresh(j->vm, i))
		return 0;
	if (fermata_vm_disk_size(j->vm, i, &now, e) < 0)
		return e->code;
	if (((now.capacity + 511) & ~511ull) == size)
		return 0;
	err_set(e, -EINVAL, "the disk has %llu bytes, the archive's %llu", (unsigned long long)now.capacity, (unsigned long long)size);
	return err_hint(e, "--force imports it all the same; going back to it gives the disk that size");
}

/* Disk part @p becomes one of @s's; it stays out where the VM has no such disk and that is no matter. */
static int add_disk(struct import *j, struct fermata_snap *s, const struct archive_part *p, struct err *e)
{
	struct def_disk *def = def_disk_find(j->vm->def, p->name);
	auto_free char *file = NULL, *overlay = NULL;
	size_t i;

	if (!def || def->readonly) {
		if (j->o->force)
			return 0;
		err_set(e, -ENODEV, "the VM has no such disk%s", def ? " that can be written" : "");
		return err_hint(e, "--force leaves it out");
	}
	i = (size_t)(def - j->vm->def->disks);
	if (check_size(j, i, p->size, e) < 0)
		return e->code;
	if (overlay_name(j->vm, i, s->name, s->id, &file, e) < 0 ||
		(fresh(j->vm, i) && overlay_name(j->vm, i, s->name, s->id + 1, &overlay, e) < 0))
		return e->code;
	if (!overlay && !(overlay = strdup("")))
		return err_nomem(e, "import a snapshot");
	if (file_exists(file) || file_exists(overlay))
		return err_set(e, -EEXIST, "%s is there already", file_exists(file) ? file : overlay);
	return snap_add_disk(s, &(struct fermata_snap_disk){ .disk = def->name, .file = file, .overlay = overlay, .external = true }, e);
}

/* Every disk that has to be part of a snapshot is. */
static int check_all_there(const struct import *j, const struct fermata_snap *s, struct err *e)
{
	const struct def *def = j->vm->def;
	bool writable = false;

	for (size_t i = 0, k; i < def->n_disks && !j->o->force; i++) {
		for (k = 0; k < s->n_disks && strcmp(s->disks[k].disk, def->disks[i].name); k++)
			;
		if (k == s->n_disks && !def->disks[i].readonly && def->disks[i].snapshot != DISK_SNAP_NO) {
			err_set(e, -ENODEV, "%s: the archive has no such disk", def->disks[i].name);
			return err_hint(e, "--force imports it all the same; going back to it leaves this disk as it is");
		}
	}
	/* A VM whose disks are only read is its memory; where some are written to, that alone would not fit them. */
	for (size_t i = 0; i < def->n_disks; i++)
		writable |= !def->disks[i].readonly;
	return s->n_disks || (s->kind == FERMATA_CHECKPOINT_EXTERNAL && !writable) ? 0 :
		err_set(e, -ENODEV, "the archive has none of the VM's disks");
}

static int add_nvram(const struct import *j, struct fermata_snap *s, struct err *e)
{
	const struct def *def = j->vm->def;

	if (!def->nvram || def->nvram_format != FORMAT_RAW) {
		if (j->o->force)
			return 0;
		err_set(e, -EINVAL, "the archive has the firmware's variables, the definition has no raw nvram for them");
		return err_hint(e, "--force leaves them out");
	}
	s->nvram = str_fmt("%s/nvram-%llu", j->vm->state_dir, (unsigned long long)s->id);
	return s->nvram ? 0 : err_nomem(e, "import a snapshot");
}

static int add_memory(const struct import *j, struct fermata_snap *s, struct err *e)
{
	const char *dir = j->vm->def->snapshot_dir;

	s->memory = str_fmt("%s/%.*s-%llu.mem", dir ? dir : j->vm->state_dir, name_in_file(s->name), s->name,
		(unsigned long long)s->id);
	if (!s->memory)
		return err_nomem(e, "import a snapshot");
	return file_exists(s->memory) ? err_set(e, -EEXIST, "%s is there already", s->memory) : 0;
}

/* The file beside the one of the stream, which a QEMU can map. */
static int add_ram(const struct import *j, struct fermata_snap *s, uint64_t size, struct err *e)
{
	if (size != j->vm->def->memory)
		return err_set(e, -EINVAL, "the definition has memory = %llu, the archive %llu", (unsigned long long)j->vm->def->memory,
			(unsigned long long)size);
	if (!s->memory && add_memory(j, s, e) < 0)
		return e->code;
	s->ram = str_fmt("%.*s.ram", (int)strlen(s->memory) - 4, s->memory);
	if (!s->ram)
		return err_nomem(e, "import a snapshot");
	return file_exists(s->ram) ? err_set(e, -EEXIST, "%s is there already", s->ram) : 0;
}

static int add_part(struct import *j, struct fermata_snap *s, size_t i, struct err *e)
{
	const struct archive_part *p = &j->parts[i];
	size_t had = s->n_disks;

	switch (p->role) {
	case ARCHIVE_DISK:
		if (add_disk(j, s, p, e) < 0)
			return err_at(e, "%s", p->name);
		j->to[i] = s->n_disks > had ? s->disks[had].file : NULL;
		break;
	case ARCHIVE_NVRAM:
		if (add_nvram(j, s, e) < 0)
			return e->code;
		j->to[i] = s->nvram;
		break;
	case ARCHIVE_RAM:
		if (s->kind == FERMATA_CHECKPOINT_EXTERNAL)
			return err_set(e, -EUCLEAN, "%s: the parts are not in order", j->a.name);
		if (add_ram(j, s, p->size, e) < 0)
			return e->code;
		j->to[i] = s->ram;
		break;
	case ARCHIVE_MEMORY:
		if ((!s->memory && add_memory(j, s, e) < 0) || check_machine(j, e) < 0)
			return e->code;
		s->kind = FERMATA_CHECKPOINT_EXTERNAL;
		j->to[i] = s->memory;
		break;
	}
	j->total += p->data;
	return 0;
}

static int check_name(const struct import *j, const char *name, struct err *e)
{
	bool images = true;

	for (size_t i = 0; i < j->vm->def->n_disks; i++)
		images &= file_exists(fermata_vm_disk_file(j->vm, i));
	if (snap_check_name(name, e) < 0 || (images && vm_adopt(j->vm, e) < 0))
		return e->code;
	if (!record_by_name(j->vm->rec, name))
		return 0;
	err_set(e, -EEXIST, "there is a snapshot of that name");
	return err_hint(e, "--name gives it another");
}

int import_describe(struct import *j, struct fermata_snap **out, struct err *e)
{
	const char *name, *text, *state, *qemu, *machine, *made = "";
	auto_snap struct fermata_snap *s = NULL;
	unsigned i = 0;

	if (need_text(j, "name", &name, e) < 0 || need_text(j, "description", &text, e) < 0 || need_text(j, "state", &state, e) < 0 ||
		need_text(j, "qemu", &qemu, e) < 0 || need_text(j, "versioned-machine", &machine, e) < 0 ||
		(json_get(j->manifest, "made") && need_text(j, "made", &made, e) < 0))
		return e->code;
	name = j->o->name ? j->o->name : name;
	if (check_name(j, name, e) < 0)
		return e->code;
	s = snap_new(name, text);
	if (!s || record_string(&s->qemu, qemu, e) < 0 || record_string(&s->machine, machine, e) < 0 || record_string(&s->made, made, e) < 0)
		return err_nomem(e, "import a snapshot");
	while (i < 4 && strcmp(archive_states[i], state))
		i++;
	s->state = (enum fermata_snap_state)i;
	s->kind = FERMATA_DISK_EXTERNAL;
	s->id = j->vm->rec->next_id;
	if (json_need_int(j->manifest, "created", &s->created, e) < 0 || json_need_uint(j->manifest, "vm-clock-ns", &s->clock_ns, e) < 0)
		return err_at(e, "%s", j->a.name);
	for (size_t k = 0; k < j->n; k++)
		if (add_part(j, s, k, e) < 0)
			return e->code;
	/* Going back to it starts a guest from its memory, or only its disks. */
	if (i == 4 || (s->ram && s->kind != FERMATA_CHECKPOINT_EXTERNAL) || (s->state <= FERMATA_SNAP_PAUSED) != (s->kind == FERMATA_CHECKPOINT_EXTERNAL))
		return err_set(e, -EUCLEAN, "%s: its state '%s' does not go with its parts", j->a.name, state);
	if (check_all_there(j, s, e) < 0)
		return e->code;
	*out = take_ptr(&s);
	return 0;
}

/* ---- room ------------------------------------------------------------------------------------------------------ */

static int folder(const char *file, struct stat *st, char **dir, struct err *e)
{
	*dir = strndup(file, (size_t)(strrchr(file, '/') - file) + 1);
	if (!*dir)
		return err_nomem(e, "import a snapshot");
	return stat(*dir, st) < 0 ? err_sys(e, errno, "cannot find the folder %s", *dir) : 0;
}

int import_check_room(const struct import *j, struct err *e)
{
	dev_t on[ARCHIVE_PARTS_MAX];

	for (size_t i = 0; i < j->n; i++) {
		auto_free char *dir = NULL;
		uint64_t need = 0, has;
		struct stat st;

		if (!j->to[i])
			continue;
		if (folder(j->to[i], &st, &dir, e) < 0 || file_free_space(dir, &has, e) < 0)
			return e->code;
		on[i] = st.st_dev;
		for (size_t k = 0; k <= i; k++)
			if (j->to[k] && on[k] == on[i])
				need += j->parts[k].data + j->parts[k].data / 1024 + EXTRA_BYTES;
		if (has < need)
			return err_set(e, -ENOSPC, "it takes %llu MiB, %s has %llu MiB free", (unsigned long long)(need / MIB + 1), dir,
				(unsigned long long)(has / MIB));
	}
	return 0;
}
