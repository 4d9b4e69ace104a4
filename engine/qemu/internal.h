/* engine/qemu/internal.h */
#ifndef ENGINE_QEMU_INTERNAL_H
#define ENGINE_QEMU_INTERNAL_H

#include "engine/qemu/qemu.h"
#include "lib/err.h"

struct fermata_snap;
struct fermata_vm;

/* ---- life.c ---- */

/*
 * The same for a second QEMU, which waits for saved memory on the overlays of @s: the record, which tells what the VM uses,
 * is neither asked for those nor changed.
 */
int life_launch_on(struct fermata_vm *vm, const struct fermata_snap *s, const char *machine, const char *map, struct err *e) MUST_CHECK;
#define KILL_GRACE_MS 10000

#endif
