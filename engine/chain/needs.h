/* Who needs an image: every chain that begins in a definition, a record or a standby of any VM of this host. */
#ifndef ENGINE_CHAIN_NEEDS_H
#define ENGINE_CHAIN_NEEDS_H

#include "engine/vm/vm.h"
#include "lib/err.h"

/*
 * 0 if @base may be written to in favour of what @top, above it in disk @disk's chain, has: all else that has @base below it
 * is backed by @top, or is one of @top's own chain that disk's snapshots froze. -EBUSY names what is not.
 * @but: the id of a snapshot that is going and has no say; 0: none.
 */
int image_spares_all(struct fermata_vm *vm, const char *disk, const char *top, const char *base, uint64_t but,
	struct err *e) MUST_CHECK;

/*
 * 0 if @file can become disk @disk's active layer: it is no backing file of anything but of that disk's present active
 * layer, and no external snapshot froze it. -EBUSY names what it is needed by.
 */
int image_can_be_active(struct fermata_vm *vm, const char *disk, const char *file, struct err *e) MUST_CHECK;

#endif
