/* Starting, stopping, suspending: what a user asks of a VM's life. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/qemu/internal.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/own.h"
#include "monitor/monitor.h"

#define AGENT_MS      3000

int life_launch_on(struct fermata_vm *vm, struct instance *q, const struct fermata_snap *s, const char *machine, const char *map,
	const char *aside, struct err *e)
{
	struct kvm_spec spec = { .machine = machine, .incoming = true, .memory_map = map, .aside = aside };
	auto_chains struct chains chains = { 0 };

	/* No native_reclaim(): it is the VM's images that have something to give back, and the VM may run on them. */
	if (vm_caps(vm, &spec.caps, e) < 0 || chains_find_on(vm, s, &chains, e) < 0)
		return e->code;
	return launch(vm, q, &spec, &chains, e);
}

/* By the agent, if one answers soon. 1: it took the request. 0: there is none. */
static int by_agent(struct fermata_vm *vm, const char *mode, struct err *e)
{
	auto_agent struct agent *a = NULL;
	struct deadline d = deadline_in(AGENT_MS);
	int fd;

	if (!CONFIG_AGENT || !vm->def->agent)
		return err_set(e, -ENOENT, "the definition has no agent channel (agent = yes)");
	if (kvm_agent_connect(vm->run_dir, d, &fd, e) < 0 || agent_open(fd, d, &a, e) < 0)
		return e->code;
	return agent_shutdown(a, mode, d, e);
}

int fermata_shutdown(struct fermata_vm *vm, enum fermata_shutdown how, bool reboot, struct err *e)
{
	struct err agent;
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	disks_note_switched(vm);
	if (how != FERMATA_BY_ACPI && (how == FERMATA_BY_AGENT || vm->def->agent)) {
		if (by_agent(vm, reboot ? "reboot" : "powerdown", &agent) == 0)
			return 0;
		if (how == FERMATA_BY_AGENT) {
			*e = agent;
			return err_at(e, "%s", vm->name);
		}
	}
	/* There is no ACPI event for a reboot: without an agent all that is left is the reset line. */
	if ((reboot ? kvm_reset(k, e) : kvm_powerdown(k, e)) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

int fermata_wait_off(struct fermata_vm *vm, uint64_t wait_ms, struct err *e)
{
	pid_t pid = kvm_pid(vm->run_dir);

	vm_hang_up(vm);
	if (pid && kvm_wait_gone(vm->run_dir, pid, deadline_in(wait_ms), e) < 0)
		return err_at(e, "%s", vm->name);
	kvm_clean(vm->run_dir);
	vm_because(vm, FERMATA_SHUTOFF, "shutdown");
	return 0;
}

static int need_alive(struct fermata_vm *vm, struct err *e)
{
	if (vm_alive(vm))
		return 0;
	err_set(e, -ESRCH, "%s: the VM is not running", vm->name);
	return err_hint(e, "'fermata start %s' starts it", vm->name);
}

int fermata_destroy(struct fermata_vm *vm, bool graceful, struct err *e)
{
	if (need_alive(vm, e) < 0)
		return e->code;
	disks_note_switched(vm);
	vm_hang_up(vm);
	if (kvm_destroy(vm->run_dir, KILL_GRACE_MS, graceful, e) < 0)
		return err_at(e, "%s", vm->name);
	vm_because(vm, FERMATA_SHUTOFF, "destroyed");
	return 0;
}

int fermata_reset(struct fermata_vm *vm, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	return kvm_reset(k, e) < 0 ? err_at(e, "%s", vm->name) : 0;
}

int fermata_suspend(struct fermata_vm *vm, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	if (kvm_stop(k, deadline_in(CALL_MS), e) < 0)
		return err_at(e, "%s: cannot suspend", vm->name);
	vm_because(vm, FERMATA_PAUSED, "user");
	return 0;
}

int fermata_resume(struct fermata_vm *vm, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	if (kvm_cont(k, deadline_in(CALL_MS), e) < 0)
		return err_at(e, "%s: cannot resume", vm->name);
	vm_because(vm, FERMATA_RUNNING, "unpaused");
	return 0;
}

/* ---- file systems in the guest ------------------------------------------------------------------------ */

static int open_agent(struct fermata_vm *vm, struct deadline d, struct agent **a, struct err *e)
{
	int fd;

	if (need_alive(vm, e) < 0)
		return e->code;
	if (kvm_agent_connect(vm->run_dir, d, &fd, e) < 0 || agent_open(fd, d, a, e) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

int fermata_freeze(struct fermata_vm *vm, uint64_t deadline_ms, int *count, struct err *e)
{
	auto_agent struct agent *a = NULL;
	struct deadline d = deadline_in(deadline_ms);
	int64_t n;

	if (open_agent(vm, d, &a, e) < 0)
		return e->code;
	if (agent_freeze(a, d, AGENT_MS, &n, e) < 0)
		return err_at(e, "%s: cannot freeze", vm->name);
	*count = (int)n;
	return 0;
}

int fermata_thaw(struct fermata_vm *vm, int *count, struct err *e)
{
	auto_agent struct agent *a = NULL;
	struct deadline d = deadline_in(CALL_MS);
	int64_t n;

	if (open_agent(vm, d, &a, e) < 0)
		return e->code;
	if (agent_thaw(a, d, &n, e) < 0)
		return err_at(e, "%s: cannot thaw", vm->name);
	*count = (int)n;
	return 0;
}

/* ---- the command line --------------------------------------------------------------------------------- */

int fermata_vm_argv(struct fermata_vm *vm, char **words, struct err *e)
{
	auto_chains struct chains chains = { 0 };
	struct kvm_spec spec = { .def = vm->def, .run_dir = vm->run_dir, .memory_dir = life_memory_dir(vm) };
	auto_buf struct buf b = { 0 };
	struct argv argv = { 0 };
	char notice[200];
	const char *accel;
	int rc;

	if (vm_caps(vm, &spec.caps, e) < 0 || chains_find(vm, &chains, e) < 0)
		return err_at(e, "%s", vm->name);
	spec.chains = chains.chain;
	rc = kvm_argv(&spec, &argv, &accel, notice, sizeof notice, e);
	for (size_t i = 0; rc == 0 && i < argv.n; i++)
		buf_add(&b, argv.v[i], strlen(argv.v[i]) + 1);
	argv_done(&argv);
	if (rc < 0)
		return err_at(e, "%s", vm->name);
	buf_addc(&b, '\0');
	if (buf_check(&b, "build the command line", e) < 0)
		return e->code;
	*words = buf_take(&b);
	return 0;
}
