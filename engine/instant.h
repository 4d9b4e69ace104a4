/*
 * Instant checkpoints: the device state in a container, the memory beside it in a file of its own (ram.h) that a QEMU maps.
 * Going back to one reads nothing that the guest does not touch, whatever the size of its memory.
 */
#ifndef ENGINE_INSTANT_H
#define ENGINE_INSTANT_H

#include "engine/ram.h"

/*
 * Where @s, whose container has its name, will have the memory; and whether only what differs from the file that the
 * running QEMU has mapped. -EOPNOTSUPP: this QEMU, or this VM, cannot.
 */
int instant_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;

/*
 * Take the pending one: stop, copy, switch the disks, go on; what was written is flushed and put in its place while the
 * guest runs. Fails as checkpoint_take(). QMP: xen-save-devices-state.
 */
int instant_take(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/*
 * What a running QEMU's devices are, as a file for it to write to, and the stream that this becomes. QEMU is asked for it when
 * the guest stands. @release: it sets its images free, so that another QEMU can have them, until "cont" takes them back.
 * state_close() in any case.
 */
#define INSTANT_STATE_MAX (64u << 20) /* bytes */
struct state_file {
	int fd;
	uint64_t set; /* what QEMU calls it; 0: nothing */
};
int state_open(struct fermata_vm *vm, struct state_file *f, struct err *e) MUST_CHECK;
int state_save(struct fermata_vm *vm, const struct state_file *f, bool release, struct err *e) MUST_CHECK;
int state_stream(int fd, const char *machine, struct buf *out, struct err *e) MUST_CHECK;
void state_close(struct fermata_vm *vm, struct state_file *f);

/* All is copied: flush, describe, put everything in its place. Commit point: the container's name. */
int instant_place(struct fermata_vm *vm, const struct fermata_snap *s, bool ran, struct ram_out *ram, struct mem_out *mem,
	const struct buf *stream, struct err *e) MUST_CHECK;

/* Remove the file of the memory, as far as it came. */
void instant_drop(const struct fermata_snap *s);

/* What a QEMU has to map for @in, of @s. NULL: it is no instant checkpoint. Borrowed from @s. */
const char *instant_map(const struct fermata_snap *s);

/* @in into a QEMU that was started for it, and has mapped that. */
int instant_load(struct fermata_vm *vm, const struct fermata_snap *s, const struct mem_in *in, struct err *e) MUST_CHECK;

#endif
