/* The files that a checkpoint with its memory outside has: names, keeping, dropping. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/internal.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/qemu/qemu.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

void checkpoint_keep(struct fermata_vm *vm, struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 }, part = { .fd = -1 };
	auto_free char *tmp = mem_tmp(s->memory);
	struct err ignored;
	char *other;

	if (memory_open(s->memory, s, &in, &ignored) == 0)
		return;
	if (tmp && memory_open(tmp, s, &part, &ignored) == 0 && rename(tmp, s->memory) == 0)
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

void checkpoint_drop(struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_free char *tmp = mem_tmp(s->memory);
	struct err ignored;

	if (tmp)
		unlink(tmp);
	if (memory_open(s->memory, s, &in, &ignored) == 0)
		unlink(s->memory);
	if (fermata_snap_instant(s)) {
		instant_drop(s);
		handover_drop(vm, s);
	}
}

/* The name that the memory file gets: one for each checkpoint of each VM of each root. NULL: no memory. */
char *live_memory_name(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	return str_fmt("%s/fermata-%s-%llu-%016llx.ram", life_memory_dir(vm), vm->name, (unsigned long long)s->id,
		(unsigned long long)mem_sum(vm->state_dir, strlen(vm->state_dir)));
}

/* Not beside the memory: nothing can be written to files of a hugetlbfs. */
char *device_state_name(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	return str_fmt("%s/devices-%llu", vm->run_dir, (unsigned long long)s->id);
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
	struct stat st;

	return devices && (file_exists(live) || file_exists(devices) || (lstat(s->ram, &st) == 0 && S_ISLNK(st.st_mode)));
}
