/* A save or restore that was cut off. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/save/internal.h"
#include "engine/save/save.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

static int recover_save(struct fermata_vm *vm, struct err *e)
{
	const struct pending *p = &vm->rec->pending;
	auto_free char *tmp = mem_tmp(p->snap->memory);
	bool alive = vm_alive(vm), done;

	if (!tmp)
		return err_nomem(e, "recover");
	done = save_is_ours(p->snap->memory, p->snap);
	/* QEMU gone with the file whole but without its name: then it is all there is of the guest. */
	if (!done && !alive && save_is_ours(tmp, p->snap)) {
		if (rename(tmp, p->snap->memory) < 0)
			return err_sys(e, errno, "cannot create %s", p->snap->memory);
		done = true;
	}
	/* Renamed by us or by the one that was cut off: on disk before the record forgets how to find it. */
	if (done && (file_flush(p->snap->memory, e) < 0 || file_flush_name(p->snap->memory, e) < 0))
		return e->code;
	vm_notice(vm, "save to %s was cut off: %s", p->snap->memory,
		done ? "it is now finished" : alive ? "the guest goes on" : "what it left is removed");
	unlink(tmp);
	if (done)
		return end_saved(vm, e);
	return alive && memory_go_on(vm, p->run, e) < 0 ? e->code : pending_end(vm, e);
}

int save_recover(struct fermata_vm *vm, struct err *e)
{
	const struct pending *p = &vm->rec->pending;
	char status[KVM_STATUS_MAX] = "inmigrate";
	bool loaded;
	struct kvm *k;

	if (p->op == PENDING_SAVE)
		return recover_save(vm, e);
	if (vm_alive(vm) && (fermata_vm_kvm(vm, &k, e) < 0 || kvm_status(k, status, e) < 0))
		return e->code;
	/* A QEMU that has begun to wait for its memory says so until it has all of it. */
	loaded = strcmp(status, "inmigrate") != 0;
	vm_notice(vm, "restore was cut off: %s", loaded ? "it is now finished" : "the VM is off, the file as it was");
	if (loaded)
		return restore_finish(vm, p->run, e);
	return life_kill(vm, e) < 0 ? e->code : pending_end(vm, e);
}
