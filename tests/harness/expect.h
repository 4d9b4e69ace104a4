/* What each operation may change, and into what: the states before and after, as the independent reader has them. */
#ifndef HARNESS_EXPECT_H
#define HARNESS_EXPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/guest.h"

/* Each returns whether all is as it should be; else @why (200 bytes) says what is not. */
bool expect_create(const struct guest_state *before, const struct guest_state *after, char *why);
bool expect_apply(const struct guest_state *before, const struct guest_state *after, unsigned snap, char *why);
bool expect_delete(const struct guest_state *before, const struct guest_state *after, unsigned snap, char *why);
bool expect_same(const struct guest_state *before, const struct guest_state *after, char *why);

/* The disk is larger or smaller; @size is a multiple of the cluster size when it shrinks. */
bool expect_grown(const struct guest_state *before, const struct guest_state *after, uint64_t size, char *why);

/* Version and refcount width may be others; nothing else. */
bool expect_amended(const struct guest_state *before, const struct guest_state *after, char *why);

/* Only the backing file's name and format are others. */
bool expect_rebased(const struct guest_state *before, const struct guest_state *after, char *why);

/* Only bitmaps are others. */
bool expect_bitmaps(const struct guest_state *before, const struct guest_state *after, char *why);

#endif
