/* Private to kvm/: what a machine type has, and has not. */
#ifndef KVM_MACHINE_H
#define KVM_MACHINE_H

#include "kvm/kvm.h"

struct machine {
	const char *type;     /* what its versioned name begins with */
	const char *virtio;   /* how its virtio devices' names end: pci, or device for virtio-mmio */
	const char *sata;     /* the bus of a controller of its own; NULL: one is plugged in */
	bool pci;             /* PCI devices, option ROMs among them */
	bool slots;           /* a PCI bus that has all 32 slots to itself: a disk's address can be said */
	bool ide;             /* an IDE controller with two buses */
	bool flash;           /* two flash chips, for firmware and its variables */
	bool vmgenid;         /* ACPI tables that tell the guest of its generation */
};

/* By versioned name. Never NULL: a type that is not known is taken for one with PCI and flash. */
const struct machine *machine_of(const char *name);

/* What "-cpu" takes where neither the definition nor the host's KVM says: all that QEMU has; NULL: the machine's own. */
const char *machine_cpu(const struct kvm_caps *c);

/*
 * What the machine needs to be told beside all that: ",KEY=VALUE" or "". An Arm board's interrupt controller is the host's own
 * under KVM, and one that @vcpus fit into without it.
 */
const char *machine_props(const struct machine *m, const struct kvm_caps *c, bool kvm, unsigned vcpus);

/* What a definition means that names no QEMU and no machine: those of the processor that this is built for. */
const char *machine_host_qemu(void);
const char *machine_host_type(void);

#endif
