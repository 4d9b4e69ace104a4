/* engine/boot/internal.h */
#ifndef ENGINE_BOOT_INTERNAL_H
#define ENGINE_BOOT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/clock.h"

struct err;
struct fermata_vm;

/* ---- boot.c ---- */

/*
 * A name for a snapshot of ours: @base, or that and a number where somebody else's has it. @id: the one that we made last;
 * if it is still there, it keeps its name. Caller frees.
 */
char *boot_snap_name(struct fermata_vm *vm, const char *base, uint64_t id);

/* What became of the boots, on record. @from: NULL leaves what is there. */
int boot_note(struct fermata_vm *vm, uint64_t tries, const char *from, const char *result, struct err *e);
int boot_note_healthy(struct fermata_vm *vm, const char *from, struct err *e);

/* ---- health.c ---- */

bool same_text(const char *a, const char *b);
const char *health_serial_text(const struct fermata_vm *vm, size_t *n);
int console_connect(struct fermata_vm *vm, int *fd, struct err *e);
int wait_healthy(struct fermata_vm *vm, int fd, struct deadline d, struct err *e);

#endif
