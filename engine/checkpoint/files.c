/* The files that a checkpoint with its memory outside has: names, keeping, dropping. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/internal.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

bool checkpoint_complete(struct fermata_vm *vm, struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 }, part = { .fd = -1 };
	auto_free char *tmp = mem_tmp(s->memory);
	struct err e;

	if (memory_open(s->memory, s, &in, &e) == 0)
		return true;
	if (!tmp || memory_open(tmp, s, &part, &e) < 0)
		return false;
	if (file_place_new(tmp, s->memory, &e) == 0)
		return true;
	if (e.code != -EEXIST)
		return false;
	/* The memory is whole, its name is taken: it goes by the one that it has. */
	made_stays(vm, s->memory);
	free(s->memory);
	s->memory = take_ptr(&tmp);
	return true;
}

void checkpoint_keep(struct fermata_vm *vm, struct fermata_snap *s)
{
	char *other;

	if (checkpoint_complete(vm, s))
		return;
	/* What it was to replace stays, and has the name. */
	if (vm->rec->pending.replaces && (other = str_fmt("%s~%llu", s->name, (unsigned long long)s->id))) {
		free(s->name);
		s->name = other;
		s->parent = vm->rec->current;
		vm->rec->pending.replaces = 0;
	}
	s->adopted = false;
	checkpoint_drop(vm, s);
	s->memory[0] = '\0';
	if (fermata_snap_instant(s))
		s->ram[0] = '\0';
	if (s->ram_base)
		s->ram_base[0] = '\0';
	s->kind = FERMATA_DISK_EXTERNAL;
	s->state = FERMATA_SNAP_DISK;
}

void checkpoint_kept(struct fermata_vm *vm, const struct fermata_snap *s)
{
	vm_notice(vm, "'%s': its memory is not whole: the disks' part is kept, as a disk snapshot", s->name);
}

/* The name that the memory file gets: one for each operation of each VM of each root. NULL: no memory. */
char *live_memory_name(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	return str_fmt("%s/fermata-%s-%llu-%016llx.ram", life_memory_dir(vm), vm->name, (unsigned long long)s->id,
		(unsigned long long)(mem_sum(vm->state_dir, strlen(vm->state_dir)) ^ vm->rec->pending.mark));
}

/* Whether the memory of @s is still the link to that name which a hand-over makes first. */
static bool handover_linked(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_free char *live = life_memory_dir(vm) ? live_memory_name(vm, s) : NULL;
	char to[PATH_MAX];
	ssize_t n = readlink(s->ram, to, sizeof to - 1);

	if (n < 0 || !live)
		return false;
	to[n] = '\0';
	return !strcmp(to, live);
}

/* Not beside the memory: nothing can be written to files of a hugetlbfs. A record from before there were marks has the old name. */
char *device_state_name(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	unsigned long long id = s->id, mark = vm->rec->pending.mark;

	return mark ? str_fmt("%s/devices-%llu-%016llx", vm->run_dir, id, mark) : str_fmt("%s/devices-%llu", vm->run_dir, id);
}

/* Whether it is another snapshot's memory too, as that of an import may be: the other name stays. */
static bool ram_is_shared(struct fermata_vm *vm, const char *ram)
{
	auto_free char *whose = NULL;
	struct stat st;

	if (lstat(ram, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink < 2)
		return false;
	for (size_t i = 0; i < vm->rec->n_snaps; i++)
		if (fermata_snap_instant(vm->rec->snaps[i]) && same_file(vm->rec->snaps[i]->ram, ram))
			return true;
	whose = needed_by_whom(vm, ram);
	return whose;
}

/* Remove the file of the memory, as far as it came. */
static void instant_drop(struct fermata_vm *vm, const struct fermata_snap *s)
{
	uint64_t mark = vm->rec->pending.mark;
	auto_free char *part = mark ? made_tmp(s->ram, mark) : mem_tmp(s->ram);

	if (!mark || made_stamped(vm, s->ram) || handover_linked(vm, s) || ram_is_shared(vm, s->ram))
		unlink(s->ram);
	else if (file_exists(s->ram))
		made_stays(vm, s->ram);
	if (part)
		unlink(part);
}

void checkpoint_drop(struct fermata_vm *vm, const struct fermata_snap *s)
{
	uint64_t mark = vm->rec->pending.mark;
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_free char *tmp = mem_tmp(s->memory), *first = made_tmp(s->memory, mark);
	struct err ignored;

	if (first)
		unlink(first);
	if (tmp && (!mark || mem_has_mark(tmp, mark)))
		unlink(tmp);
	else if (tmp && file_exists(tmp))
		made_stays(vm, tmp);
	if (mark ? mem_has_mark(s->memory, mark) : memory_open(s->memory, s, &in, &ignored) == 0)
		unlink(s->memory);
	else if (file_exists(s->memory))
		made_stays(vm, s->memory);
	if (fermata_snap_instant(s)) {
		instant_drop(vm, s);
		handover_drop(vm, s);
	}
}

void handover_drop(struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_free char *live = life_memory_dir(vm) ? live_memory_name(vm, s) : NULL, *devices = device_state_name(vm, s);

	if (devices)
		unlink(devices);
	if (live)
		unlink(live);
}

bool handover_is(struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_free char *live = fermata_snap_instant(s) && life_memory_dir(vm) ? live_memory_name(vm, s) : NULL;
	auto_free char *devices = live ? device_state_name(vm, s) : NULL;

	return devices && (file_exists(live) || file_exists(devices) || handover_linked(vm, s));
}
