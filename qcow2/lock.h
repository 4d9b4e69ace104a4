/* QEMU's image locks: open-file-description locks on single bytes of the image file. */
#ifndef QCOW2_LOCK_H
#define QCOW2_LOCK_H

#include <stdbool.h>

#include "lib/err.h"

/*
 * Lock an open image file as QEMU does, so that it refuses what we edit and we refuse what it runs.
 *
 * @fd:    of the image; the locks live as long as the open file
 * @path:  for the message
 * @write: for changes; else for reading while nobody writes
 *
 * Byte 100 + p is held shared by who uses permission p, byte 200 + p by who does not let others use it; nobody holds
 * a byte exclusively, conflicts are found by asking. Files that cannot be locked (block devices can) are let through
 * as QEMU does. -EBUSY names the holder's process where /proc tells.
 */
int image_lock(int fd, const char *path, bool write, struct err *e) MUST_CHECK;

#endif
