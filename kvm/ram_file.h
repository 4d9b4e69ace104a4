/* Private to kvm/: the file that a guest's memory is, or begins as. */
#ifndef KVM_RAM_FILE_H
#define KVM_RAM_FILE_H

#include <stdint.h>

#include "kvm/kvm.h"
#include "lib/err.h"

struct spawn_user;

enum ram_file {
	RAM_NONE,     /* anonymous */
	RAM_OWN,      /* a file without a name, mapped shared */
	RAM_MAPPED,   /* the file of a checkpoint, mapped privately */
	RAM_READONLY, /* the same, opened for reading */
	RAM_COPY,     /* RAM_OWN, that begins as a copy of the checkpoint's */
};

enum ram_file ram_file_of(const struct kvm_spec *spec);

/* Make that file, if there is one to be made; QEMU's user can open it. *fd: out, -1: there is none; close(). */
int ram_file_make(const struct kvm_spec *spec, const struct spawn_user *u, int *fd, struct err *e) MUST_CHECK;

#endif
