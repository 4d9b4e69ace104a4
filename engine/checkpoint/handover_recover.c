/* A hand-over that was cut off: which QEMU goes on, and whether the checkpoint is whole. */
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
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "monitor/monitor.h"

#define CMDLINE_MAX (1u << 20) /* bytes */

/* Both are in their places, only what they were made of is still there. */
static bool is_complete(const struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct err ignored;
	struct stat st;

	return lstat(s->ram, &st) == 0 && S_ISREG(st.st_mode) && memory_open(s->memory, s, &in, &ignored) == 0;
}

/* Memory and devices into their places: the guest runs, or is gone. */
int complete_memory_file(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_free char *live = live_memory_name(vm, s), *devices = device_state_name(vm, s);
	struct ram from = { .mem = -1, .own = -1, .bytes = vm->def->memory };
	auto_ram_out struct ram_out ram = { .fd = -1 };
	auto_mem_out struct mem_out mem = { .fd = -1 };
	auto_buf struct buf stream = { 0 };
	int rc;

	if (!live || !devices)
		return err_nomem(e, "finish a checkpoint");
	if (is_complete(s)) {
		handover_drop(vm, s);
		return 0;
	}
	if (file_read(devices, INSTANT_STATE_MAX, &stream, e) < 0)
		return e->code;
	from.own = open(live, O_RDONLY | O_CLOEXEC);
	if (from.own < 0)
		return err_sys(e, errno, "cannot open %s", live);
	rc = mem_out_open(s->memory, false, false, vm->rec->pending.mark, &mem, e) < 0 || ram_out_open(vm, s->ram, &ram, e) < 0 ||
		ram_save(vm, &from, NULL, &ram, &mem.more, e) < 0 ||
		instant_place(vm, s, vm->rec->pending.run, &ram, &mem, &stream, e) < 0 ? e->code : 0;
	close(from.own);
	if (rc == 0)
		handover_drop(vm, s);
	return rc;
}

/* When the disks become its own is for "cont" to say: until then they are those of the present one. */
int set_late_block_activate(struct kvm *k, bool on, struct err *e)
{
	char args[96];

	snprintf(args, sizeof args, "{\"capabilities\":[{\"capability\":\"late-block-activate\",\"state\":%s}]}", on ? "true" : "false");
	return mon_call(kvm_mon(k), "migrate-set-capabilities", args, deadline_in(CALL_MS), NULL, e);
}

/* Away with the second one. */
void dismiss_old_qemu(struct fermata_vm *vm)
{
	auto_free char *next = checkpoint_beside(vm);
	struct err ignored;

	if (next && kvm_destroy(next, 0, false, &ignored) == 0)
		kvm_remove(next, vm->run_dir);
}

int give_up_memory(struct fermata_vm *vm, const struct err *e)
{
	if (!vm->rec->pending.snap->n_disks)
		return e->code;
	vm_notice(vm, "%s", e->msg);
	checkpoint_keep(vm, vm->rec->pending.snap);
	return 0;
}

static bool present_runs(struct fermata_vm *vm)
{
	char status[KVM_STATUS_MAX];
	struct err ignored;
	struct kvm *k;

	return fermata_vm_kvm(vm, &k, &ignored) == 0 && kvm_status(k, status, &ignored) == 0 && !strcmp(status, "running");
}

/*
 * Whether the VM's QEMU is the second one: it has mapped the checkpoint's memory. Asked of the kernel, for it may be ending; one
 * that runs and cannot be seen is taken for neither.
 */
static int find_second(struct fermata_vm *vm, const struct fermata_snap *s, bool *second, struct err *e)
{
	pid_t pid = kvm_pid(vm->run_dir);
	auto_buf struct buf line = { 0 }, map = { 0 };
	char path[32];

	*second = false;
	if (!pid)
		return 0;
	buf_adds(&map, "mem-path=");
	for (const char *p = s->ram; *p; p++)
		buf_addf(&map, "%c%s", *p, *p == ',' ? "," : "");
	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	if (buf_check(&map, "recover", e) < 0)
		return e->code;
	if (file_read(path, CMDLINE_MAX, &line, e) < 0)
		return kvm_pid(vm->run_dir) == pid ? err_at(e, "cannot tell which QEMU runs") : 0;
	*second = memmem(line.p, line.n, map.p, map.n + 1);
	return 0;
}

/*
 * Once the second one has loaded, the present one is not let go on any more, and may have been told to end. But should the
 * loading have been taken for a failure, it runs.
 */
static int choose(struct fermata_vm *vm, const struct fermata_snap *s, bool *second, struct err *e)
{
	auto_free char *next = checkpoint_beside(vm);

	if (!next)
		return err_nomem(e, "recover");
	if (find_second(vm, s, second, e) < 0)
		return e->code;
	if (!*second && checkpoint_stands(next) && !present_runs(vm)) {
		vm_hang_up(vm);
		if (kvm_destroy(vm->run_dir, 0, false, e) < 0)
			return e->code;
		*second = true;
	}
	/* Also of one that had moved in half way. */
	if (*second)
		return checkpoint_move_in(vm, e);
	dismiss_old_qemu(vm);
	return 0;
}

/* Whichever it is goes on, if the guest ran. */
static int go_on(struct fermata_vm *vm, bool second, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0 || (vm->rec->pending.run && !present_runs(vm) && kvm_cont(k, deadline_in(CALL_MS), e) < 0))
		return e->code;
	return second ? set_late_block_activate(k, false, e) : 0;
}

int handover_recover(struct fermata_vm *vm, enum handover_left *left, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	bool second = false;

	*left = HANDOVER_NOTHING;
	if (choose(vm, s, &second, e) < 0 || (vm_alive(vm) && go_on(vm, second, e) < 0))
		return e->code;
	if (vm_alive(vm) && !second)
		return 0;
	*left = HANDOVER_WHOLE;
	if (complete_memory_file(vm, s, e) == 0)
		return 0;
	/* The memory is lost, but what the guest has written since is not. */
	if (second) {
		if (give_up_memory(vm, e) < 0)
			*left = HANDOVER_NOTHING;
	} else {
		*left = HANDOVER_DISKS;
		vm_notice(vm, "%s", e->msg);
	}
	return 0;
}
