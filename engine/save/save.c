/* save, restore, managedsave, dump: a VM's memory in a file, and the VM off meanwhile. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/internal.h"
#include "engine/save/managed.h"
#include "engine/save/save.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

/* ---- saving ------------------------------------------------------------------------------------------------- */

/* Whether @path is the file that the pending operation made. */
bool save_is_ours(const char *path, const struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct err ignored;

	return memory_open(path, s, &in, &ignored) == 0;
}

int save_begin(struct fermata_vm *vm, struct pending p, const char *path, struct err *e)
{
	p.live = true;
	p.snap = snap_new(vm->name, NULL);
	if (p.snap)
		p.snap->memory = strdup(path);
	if (!p.snap || !p.snap->memory) {
		snap_free(p.snap);
		return err_nomem(e, "save memory");
	}
	p.snap->created = (int64_t)time(NULL);
	p.snap->clock_ns = clock_mono_ns();
	if (p.op == PENDING_SAVE && note_qemu(vm, p.snap, true, e) < 0) {
		snap_free(p.snap);
		return e->code;
	}
	return pending_begin(vm, p, e);
}

/* It failed: the guest as it was, the record clean. */
int save_give_up(struct fermata_vm *vm, bool ran, struct err *e)
{
	struct err also;

	if ((vm_alive(vm) && memory_go_on(vm, ran, &also) < 0) || pending_end(vm, &also) < 0) {
		err_also(e, "and could not undo: %s", also.msg);
		e->code = FERMATA_PENDING;
	}
	return e->code;
}

/*
 * The guest is stopped before its memory is read: QEMU without KVM misses writes to pages that the guest has
 * touched before. Should this process die, a child does what the next command would.
 */
static int write_memory(struct fermata_vm *vm, const char *path, bool direct, struct saving *m, bool ran, struct err *e)
{
	auto_mem_out struct mem_out o = { .fd = -1 };

	if (mem_out_open(path, false, direct, 0, &o, e) < 0 || (ran && kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0) ||
		memory_save(vm, &o, memory_manifest, m, e) < 0)
		return e->code;
	return mem_out_place(&o, e);
}

/* The memory is whole and has its name: the VM goes off, and is on record as what goes with the disks. */
int end_saved(struct fermata_vm *vm, struct err *e)
{
	if (life_kill(vm, e) < 0)
		return e->code;
	vm->rec->saved = nonce(vm->rec->pending.snap);
	return pending_end(vm, e);
}

static int save(struct fermata_vm *vm, const char *path, const struct fermata_save *s, bool ran, struct err *e)
{
	struct saving m = { .vm = vm, .run = s->running || (ran && !s->paused) };
	struct kvm_guard guard;
	int rc = 0;

	if (save_begin(vm, (struct pending){ .op = PENDING_SAVE, .run = ran }, path, e) < 0)
		return e->code;
	m.snap = vm->rec->pending.snap;
	if (kvm_guard_call(vm_rescue, vm, &guard, e) < 0)
		return save_give_up(vm, ran, e);
	if (write_memory(vm, path, s->direct, &m, ran, e) < 0) {
		rc = save_give_up(vm, ran, e);
	} else if (end_saved(vm, e) < 0) {
		e->code = FERMATA_PENDING;
		rc = err_hint(e, "it is saved and on record; the next command ends the VM");
	} else {
		vm_because(vm, FERMATA_SHUTOFF, "saved");
	}
	kvm_guard_end(&guard);
	return rc;
}

static const struct output_kind saved_memory = { "saved memory", mem_is };

/* An ELF core, of any byte order. */
static bool core_is(const char *path)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint8_t head[18];

	return fd >= 0 && read(fd, head, sizeof head) == sizeof head && !memcmp(head, "\177ELF", 4) && head[16] + head[17] == 4;
}

static const struct output_kind memory_dump_kind = { "a dump of memory", core_is };

/* Whether a file of the user's may be written to. What it has of another VM's memory is the only copy of it. */
static int check_output(struct fermata_vm *vm, const char *path, const struct output_kind *kind, struct err *e)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	auto_free char *tmp = mem_tmp(path);
	struct err damaged;

	if (!tmp)
		return err_nomem(e, "save memory");
	if (output_check(vm, path, tmp, kind, e) < 0)
		return e->code;
	if (!mem_is(path) || mem_in_open(path, &in, &damaged) < 0 || !strcmp(mem_in_str(&in, "vm"), vm->name))
		return 0;
	err_set(e, -EEXIST, "%s is there already, and the memory of VM '%s'", path, mem_in_str(&in, "vm"));
	return err_hint(e, "remove it first, or name another file");
}

int fermata_save(struct fermata_vm *vm, const struct fermata_save *s, struct err *e)
{
	auto_free char *path = s->file ? NULL : managed_path(vm);
	char status[KVM_STATUS_MAX];
	struct kvm *k;

	if (s->file && path_typed(s->file, &path, e) < 0)
		return err_at(e, "%s", vm->name);
	if (!path)
		return err_nomem(e, "save memory");
	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	if (running_check(vm, true, e) < 0 || (s->file && check_output(vm, path, &saved_memory, e) < 0) || memory_check(vm, path, e) < 0 || kvm_status(k, status, e) < 0 ||
		save(vm, path, s, !strcmp(status, "running"), e) < 0)
		return err_at(e, "%s: cannot save to %s", vm->name, path);
	return 0;
}

int fermata_dump(struct fermata_vm *vm, const char *file, bool direct, struct err *e)
{
	auto_mem_out struct mem_out o = { .fd = -1 };
	auto_free char *path = path_beside("", file);

	if (!path)
		return err_nomem(e, "dump memory");
	if (check_output(vm, path, &memory_dump_kind, e) < 0 || memory_check(vm, path, e) < 0 || mem_out_open(path, true, direct, 0, &o, e) < 0 || memory_dump(vm, &o, e) < 0 ||
		mem_out_place(&o, e) < 0)
		return err_at(e, "%s: cannot dump to %s", vm->name, path);
	return 0;
}

/* ---- restoring ---------------------------------------------------------------------------------------------- */

/* What is restored is not the managed save: that would be of no use any more. */
int spare_managed(struct fermata_vm *vm, const char *path, bool force, struct err *e)
{
	auto_free char *managed = managed_path(vm);

	if (!managed)
		return err_nomem(e, "restore");
	return same_file(path, managed) ? 0 : managed_none(vm, force, e);
}

/* ---- after a kill ------------------------------------------------------------------------------------------- */
