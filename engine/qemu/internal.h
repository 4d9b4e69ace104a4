/* engine/qemu/internal.h */
#ifndef ENGINE_QEMU_INTERNAL_H
#define ENGINE_QEMU_INTERNAL_H

#include "engine/qemu/qemu.h"
#include "lib/err.h"

struct fermata_snap;
struct fermata_vm;

/* ---- life.c ---- */

/*
 * life_launch() for a second QEMU, @q, which waits for saved memory on the overlays of @s: the record, which tells what the VM
 * uses, is neither asked for those nor changed. @aside: kvm_sockets_aside().
 */
int life_launch_on(struct fermata_vm *vm, struct instance *q, const struct fermata_snap *s, const char *machine, const char *map,
	const char *aside, struct err *e) MUST_CHECK;
#define KILL_GRACE_MS 10000

/* ---- opened.c ---- */

struct chains;

/*
 * Whether @k, which was started on @c, has opened the images that were looked at and no more. Who may write to their
 * folder can put others in their place in between; the guest has not run by now. -EACCES: it has not.
 */
int chains_opened(struct fermata_vm *vm, struct kvm *k, const struct chains *c, struct err *e) MUST_CHECK;

#endif
