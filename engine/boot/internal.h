/* engine/boot/internal.h */
#ifndef ENGINE_BOOT_INTERNAL_H
#define ENGINE_BOOT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/clock.h"

struct err;
struct fermata_vm;

/* ---- health.c ---- */

bool same_text(const char *a, const char *b);
const char *health_serial_text(const struct fermata_vm *vm, size_t *n);
int console_connect(struct fermata_vm *vm, int *fd, struct err *e);
int wait_healthy(struct fermata_vm *vm, int fd, struct deadline d, struct err *e);

/* ---- boot.c ---- */

int note_attempt(struct fermata_vm *vm, uint64_t tries, const char *from, const char *result, struct err *e);
int note_healthy(struct fermata_vm *vm, const char *from, struct err *e);

#endif
