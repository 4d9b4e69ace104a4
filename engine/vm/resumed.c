/* What belongs after a restore: the guest has not noticed that time went on, nor the network that it moved. */
#include <string.h>
#include <time.h>

#include "engine/fermata.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "monitor/monitor.h"

#define AGENT_MS 1000 /* for an agent that may not be there */

/* QMP announce-self, as QEMU does after a migration: switches learn where its addresses are. */
static void announce(struct fermata_vm *vm)
{
	struct err e;
	size_t n = 0;

	for (size_t i = 0; i < vm->def->n_nets; i++)
		n += strcmp(vm->def->nets[i].type, "none") != 0;
	if (n && mon_call(kvm_mon(vm->kvm), "announce-self", "{\"initial\":50,\"max\":550,\"rounds\":5,\"step\":100}",
		deadline_in(AGENT_MS), NULL, &e) < 0)
		vm_notice(vm, "the network is not told: %s", e.msg);
}

/* guest-set-time. */
static void set_clock(struct fermata_vm *vm)
{
	struct deadline d = deadline_in(AGENT_MS);
	auto_agent struct agent *a = NULL;
	struct timespec now;
	struct err e;
	int fd;

	if (kvm_agent_connect(vm->run_dir, d, &fd, &e) < 0 || agent_open(fd, d, &a, &e) < 0) {
		vm_notice(vm, "the guest's clock is not set: %s", e.msg);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	if (agent_set_time(a, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, d, &e) < 0)
		vm_notice(vm, "the guest's clock may not be set: %s", e.msg);
}

void after_restore(struct fermata_vm *vm, bool keep_time)
{
	struct err ignored;
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, &ignored) < 0)
		return;
	announce(vm);
	if (vm->def->agent && !keep_time)
		set_clock(vm);
}
