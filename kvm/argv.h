/* Private to kvm/: a command line while it is built. */
#ifndef KVM_ARGV_H
#define KVM_ARGV_H

#include "kvm/machine.h"

struct build {
	const struct kvm_spec *spec;
	struct argv *out;
	const char *machine; /* versioned name */
	const struct machine *has;
	bool kvm;
};

/* Take @s over; NULL is memory that ran out. */
void argv_own(struct argv *a, char *s);

/* Append ",@key=@val" to the option string @b, with the commas in @val doubled. */
void opt_add(struct buf *b, const char *key, const char *val);

/* Append option @name with the string in @b, which is emptied. */
void argv_take(struct argv *a, const char *name, struct buf *b);

/* @type, or @type-pci or @type-device where the machine decides; -EOPNOTSUPP if this QEMU has no such device. */
int device_name(const struct build *b, const char *type, struct buf *name, struct err *e) MUST_CHECK;
int virtio_name(const struct build *b, const char *type, struct buf *name, struct err *e) MUST_CHECK;

/* The PCI @address of a device; -EINVAL: the machine has none. */
int argv_address(const struct build *b, const char *address, struct buf *o, struct err *e) MUST_CHECK;

/* Nodes and devices of every disk, and of the firmware. */
int argv_disks(const struct build *b, struct err *e) MUST_CHECK;
void argv_firmware(const struct build *b);

#endif
