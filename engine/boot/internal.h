/* What the files of engine/boot/ share: private to the room. */
#ifndef ENGINE_BOOT_INTERNAL_H
#define ENGINE_BOOT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/clock.h"
#include "lib/err.h"

struct fermata_vm;

/* ---- boot.c ---- */

/*
 * A name for a snapshot of ours: @base, or that and a number where somebody else's has it. @id: the one that we made last;
 * if it is still there, it keeps its name. Caller frees.
 */
char *boot_snap_name(struct fermata_vm *vm, const char *base, uint64_t id);

/* What became of the boots, on record. @from: NULL leaves what is there. */
int boot_note(struct fermata_vm *vm, uint64_t tries, const char *from, const char *result, struct err *e) MUST_CHECK;

/* The same of one that was healthy: what earlier boots have set aside is removed, and the guard ends unless it was cut off. */
int boot_note_healthy(struct fermata_vm *vm, const char *from, struct err *e) MUST_CHECK;

/* ---- health.c ---- */

bool same_text(const char *a, const char *b);

/* The text of healthy = serial "TEXT", of *@n bytes and without a NUL behind it; NULL: it is not that. Borrowed. */
const char *health_serial_text(const struct fermata_vm *vm, size_t *n);

/* A connection to the guest's console, to be made while the guest is paused: what it says before is lost. */
int console_connect(struct fermata_vm *vm, int *fd, struct err *e) MUST_CHECK;

/* Wait until the guest is what the definition calls healthy. @fd: the console, or -1. -ETIMEDOUT says what did not come. */
int wait_healthy(struct fermata_vm *vm, int fd, struct deadline d, struct err *e) MUST_CHECK;

#endif
