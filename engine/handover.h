/*
 * Instant checkpoints by handing over: the memory file of the running QEMU becomes the checkpoint as it is, and the guest
 * goes on in a second QEMU, which maps that file privately. How long the guest stands does not depend on its memory's size:
 * the present one sets its images free (QMP xen-save-devices-state with "live" while it stands), the second one goes on, and
 * only then the present one ends, which takes longer the more memory it has.
 *
 * The file has no name while only its QEMU uses it. For this it gets one in its own file system, and the checkpoint's file
 * is a link to that until it has been copied, when the guest runs again. What the devices were is kept in the run folder: with
 * both, a checkpoint can be finished whatever has happened to either QEMU.
 */
#ifndef ENGINE_HANDOVER_H
#define ENGINE_HANDOVER_H

#include "engine/instant.h"

/*
 * Take the pending one. Commit point: the end of the present QEMU, when the second one has gone on. Until then it can be
 * undone at any time, since the second one writes to no disk of the present one that is part of the checkpoint.
 */
int handover_take(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Whether the pending creation of @s is one, cut off or under way. */
bool handover_is(struct fermata_vm *vm, const struct fermata_snap *s);

/*
 * It was cut off. If the present QEMU lives, it goes on, and nothing has happened (@whole: false); else what there is of the
 * second one is the guest, and the checkpoint is finished.
 */
int handover_recover(struct fermata_vm *vm, bool *whole, struct err *e) MUST_CHECK;

/* Remove the files that the pending one has made. */
void handover_drop(struct fermata_vm *vm, const struct fermata_snap *s);

#endif
