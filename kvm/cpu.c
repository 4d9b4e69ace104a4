/* Which of the host's CPU features its KVM offers but does not take. */
#include "kvm/host.h"

#if defined(__x86_64__) || defined(__i386__)
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "lib/own.h"

#define MSR_ARCH_CAPABILITIES 0x10a
#define MAX_CPUID 256 /* as QEMU's first guess, doubled */

/* One MSR from or to @fd: the number of registers done, as the kernel says. */
static int one_msr(int fd, unsigned long request, uint64_t *value)
{
	auto_free struct kvm_msrs *m = calloc(1, sizeof *m + sizeof m->entries[0]);
	int n;

	if (!m)
		return -1;
	m->nmsrs = 1;
	m->entries[0].index = MSR_ARCH_CAPABILITIES;
	m->entries[0].data = *value;
	n = ioctl(fd, request, m);
	*value = m->entries[0].data;
	return n;
}

/* Give a fresh VCPU all that @kvm offers, and then the value of the register that it offers. */
static bool refuses_its_own(int kvm)
{
	auto_free struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + MAX_CPUID * sizeof cpuid->entries[0]);
	auto_fd int vm = -1, vcpu = -1;
	uint64_t value = 0;

	if (!cpuid || one_msr(kvm, KVM_GET_MSRS, &value) != 1)
		return false;
	cpuid->nent = MAX_CPUID;
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	vcpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0 || ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0 || ioctl(vcpu, KVM_SET_CPUID2, cpuid) < 0)
		return false;
	return one_msr(vcpu, KVM_SET_MSRS, &value) == 0;
}

const char *host_cpu(void)
{
	auto_fd int kvm = -1;
	struct err e;

	return kvm_open_device(&kvm, &e) == 0 && refuses_its_own(kvm) ? "host,-arch-capabilities" : "host";
}
#else
const char *host_cpu(void)
{
	return "host";
}
#endif
