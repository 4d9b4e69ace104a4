/* qemu-img as a second judge, where it is installed. */
#ifndef HARNESS_QEMU_IMG_H
#define HARNESS_QEMU_IMG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool qemu_img_there(void);

/* A path in this process's own temporary directory (made on first use, tmpfs if there is one). Borrowed, 4 at a time. */
const char *qemu_img_path(const char *file);

/* Run a program (found in PATH) with stdout and stderr going to "out" in that directory. Returns its exit status. */
int qemu_img_run(const char *const argv[]);

/* What the last one printed; caller frees. */
char *qemu_img_said(void);

/* `qemu-img check` of these bytes: 0 clean, 2 corrupt, 3 leaks, 1 or 63 could not. */
int qemu_img_check(const void *bytes, size_t n);

/* The guest's content of the active disk or of a snapshot, as qemu-img reads it; NULL if it cannot. Caller frees. */
uint8_t *qemu_img_content(const void *bytes, size_t n, const char *snap, size_t *got);

/* Remove the directory; has the shape of a cmocka group teardown. */
int qemu_img_cleanup(void **state);

#endif
