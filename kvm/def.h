/* A VM's definition: what /etc/fermata/NAME.conf says, checked, with every default filled in. */
#ifndef KVM_DEF_H
#define KVM_DEF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvm/def_keys.h"
#include "lib/buf.h"
#include "lib/err.h"

#define DEF_NAME_MAX 64  /* a VM's name: letters, digits, '-', '_', '.', not starting with '.' or '-' */
#define DEF_DISK_MAX 16  /* a disk's or net's name: letter, then letters, digits, '-', '_'; node names made from it fit QEMU's 31 */
#define DEF_MAX_DISKS 32
#define DEF_MAX_NETS 16
#define DEF_MAX_FILE (256 * 1024) /* bytes of a definition */

enum def_format { FORMAT_QCOW2, FORMAT_RAW, FORMAT_UNSAID };
enum def_bus { BUS_VIRTIO, BUS_IDE, BUS_SATA, BUS_SCSI };
enum def_snapshot { DISK_SNAP_DEFAULT, DISK_SNAP_INTERNAL, DISK_SNAP_EXTERNAL, DISK_SNAP_NO };
enum def_device_kind { DEVICE_DISK, DEVICE_CDROM };
enum def_accel { ACCEL_KVM, ACCEL_TCG, ACCEL_KVM_TCG };

struct def_disk {
	char *name;
	unsigned line; /* of its section's head */
	char *file; /* this and every other path: absolute */
	enum def_format format;
	enum def_bus bus;
	enum def_snapshot snapshot;
	char *cache;   /* none | writeback | writethrough | unsafe | directsync; NULL: none where O_DIRECT works */
	char *discard; /* unmap | ignore */
	char *serial;  /* NULL: none */
	bool readonly;
	enum def_device_kind device;
	unsigned boot;       /* 1 is tried first; 0: behind those that say so, in the order of the file */
	char *address;       /* on its bus, see def_address(); NULL: the next free one */
	bool iothread;       /* a thread of its own */
	unsigned queues;     /* 0: as QEMU does */
	char *detect_zeroes; /* off | on | unmap; NULL: off */
	unsigned iops;       /* requests and bytes a second; 0: no limit */
	uint64_t bps;
};

struct def_net {
	char *name;
	unsigned line;
	char *type;   /* user | tap | none */
	char *ifname; /* tap only */
	char *mac;    /* always set: derived from the VM's and the interface's name when not given */
	char *model;  /* virtio | e1000 | ... as QEMU's device of that family */
	char *address; /* NULL: the next free one */
	unsigned queues; /* 0: one */
	struct key_list hostfwd; /* type user: PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest */
};

struct def {
	char *name;
	char *path; /* of the definition */
	char *text; /* all of it, as it was read */
	uint64_t memory; /* bytes */
	unsigned vcpus;
	char *machine;
	enum def_accel accel;
	char *uuid; /* NULL: none */
	char *cpu; /* NULL: "host" under kvm, "max" under tcg */
	bool agent;
	char *kernel, *initrd, *append;
	char *firmware, *nvram;
	enum def_format nvram_format;
	char *memory_mode;  /* normal | instant: the memory is a file that can become a checkpoint as it is */
	char *memory_dir;   /* where that file is, of a tmpfs or hugetlbfs; NULL: the host's */
	char *snapshot_dir; /* NULL: beside each disk */
	struct key_list backing_dirs; /* backing and data files may lie there, too; nothing is made there */
	char *qemu;         /* name or path */
	char *user;         /* NULL: as started */
	struct def_disk *disks;
	size_t n_disks;
	struct def_disk *cdroms; /* apart from the disks: nothing is written to them; file NULL: empty */
	size_t n_cdroms;
	struct def_net *nets;
	size_t n_nets;
	void *further; /* the section of those who know more of a VM than kvm/ does */
	const struct def_section *further_keys;
	struct key_list qemu_args; /* the [qemu] arg lines, split into words as a shell would, without expansion */
	char *left_out; /* disks of those that take no part in snapshots, with commas; NULL: none */
};

/*
 * Read the definition at @path for the VM @name. @further: a section that the caller has beside those of kvm/, or NULL; it
 * outlives @def. @def: out; def_free(). A wrong key, a wrong value, a duplicate, a
 * missing disk file key or format: -EINVAL as "FILE:LINE: what"; -ENOENT when the file is not there.
 */
int def_read(const char *path, const char *name, const struct def_section *further, struct def **def, struct err *e) MUST_CHECK;

/* The same from @file, a copy of what was at @path: that is what errors name and relative paths begin at. */
int def_read_as(const char *file, const char *path, const char *name, const struct def_section *further, struct def **def,
	struct err *e) MUST_CHECK;

/* The same from its @text, which was at @path. */
int def_parse(const struct buf *text, const char *path, const char *name, const struct def_section *further, struct def **def,
	struct err *e) MUST_CHECK;
void def_free(struct def *def);
static inline void def_freep(struct def **def)
{
	def_free(*def);
}
#define auto_def __attribute__((cleanup(def_freep)))

/* The next name in "a, b c": where and how long. False: there is none. */
bool def_next_name(const char **list, size_t *n);

/* The first disk in the [qemu] args that the guest can write to and that "left-out" does not name; @name: out, how it is called. */
#define DEF_EXTRA_MAX 256
bool def_extra_disk(const struct def *def, char name[DEF_EXTRA_MAX]);

/*
 * The address @s of a device on @bus as a number: the slot and function of a PCI device (virtio) times 8, the channel and unit of
 * IDE times 2, the port of SATA, the target of SCSI. False: it is none.
 */
bool def_address(enum def_bus bus, const char *s, unsigned *n);

struct def_disk *def_disk_find(const struct def *def, const char *name);

/* Whether @name can name a VM: -EINVAL says why not. */
int def_check_name(const char *name, struct err *e) MUST_CHECK;

#endif
