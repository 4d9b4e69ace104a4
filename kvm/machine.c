#include "kvm/machine.h"

#include "lib/text.h"

/* The first that fits. Arm's, RISC-V's and LoongArch's virt are boards of their own, and alike in all that matters here. */
static const struct machine machines[] = {
	{ "pc-q35", "pci", .sata = "ide", .pci = true, .slots = true, .flash = true, .vmgenid = true },
	{ "pc-i440fx", "pci", .pci = true, .slots = true, .ide = true, .flash = true, .vmgenid = true },
	{ "microvm", "device", .pci = false },
	{ "virt", "pci", .pci = true, .slots = true, .flash = true },
	{ "", "pci", .pci = true, .flash = true },
};

const struct machine *machine_of(const char *name)
{
	const struct machine *m = machines;

	while (!str_starts(name, m->type))
		m++;
	return m;
}

const char *machine_cpu(const struct kvm_caps *c)
{
	/* RISC-V has had a "max" since 8.2; the machine's own has all that the older ones know. */
	return str_eq(c->arch, "riscv64") || str_eq(c->arch, "riscv32") ? NULL : "max";
}

/* GICv2, which is what a board has unless it is told, is for eight CPUs. */
#define GICV2_CPUS 8

const char *machine_props(const struct machine *m, const struct kvm_caps *c, bool kvm, unsigned vcpus)
{
	if (!str_eq(m->type, "virt") || (!str_eq(c->arch, "aarch64") && !str_eq(c->arch, "arm")))
		return "";
	return kvm ? ",gic-version=host" : vcpus > GICV2_CPUS ? ",gic-version=3" : "";
}

#if defined(__aarch64__)
#define ARCH "aarch64"
#define TYPE "virt"
#elif defined(__arm__)
#define ARCH "arm"
#define TYPE "virt"
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH "riscv64"
#define TYPE "virt"
#elif defined(__powerpc64__)
#define ARCH "ppc64"
#define TYPE "pseries"
#elif defined(__s390x__)
#define ARCH "s390x"
#define TYPE "s390-ccw-virtio"
#else
#define ARCH "x86_64"
#define TYPE "q35"
#endif

const char *machine_host_qemu(void)
{
	return CONFIG_QEMU[0] ? CONFIG_QEMU : "qemu-system-" ARCH;
}

const char *machine_host_type(void)
{
	return TYPE;
}
