/*
 * QEMU's migration stream, as `migrate` of QEMU 7.2 and later writes it, turned without a QEMU into what another one maps in
 * constant time: guest memory as a flat file, and the state of the devices as a stream of a VM without memory.
 *
 * The stream: "QEVM", version 3, the machine's name; the section "ram" in parts, with every page in it once or more often;
 * one section for each device; a description of those in JSON. Numbers are big-endian. QEMU: docs/devel/migration/main.rst,
 * mapped-ram.rst.
 */
#ifndef ENGINE_STREAM_H
#define ENGINE_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/dev.h"
#include "lib/err.h"

struct stream_in {
	/* The next piece, of any length, borrowed until the next call. @n: out, bytes; 0 at the end. */
	int (*next)(void *ctx, const uint8_t **p, size_t *n, struct err *e);
	void *ctx;
};

/*
 * Read @in to its end.
 *
 * @ram:     bytes of the guest's memory; a multiple of 4096
 * @out:     gets exactly these bytes, whatever it was before, with holes for pages of zeros; not flushed here
 * @devices: gets the state of the devices, to be loaded by `-incoming` as any stream
 *
 * What QEMU makes anew out of its firmware is left out. Nothing is guessed: -EUCLEAN with the place in the stream that is
 * damaged, -ENODATA where it ends too early, -EOPNOTSUPP with the name of what is not known or would be lost (memory of a
 * device's own, a device that sends its state in parts), -EFBIG.
 */
int stream_bake(const struct stream_in *in, uint64_t ram, struct dev *out, struct buf *devices, struct err *e) MUST_CHECK;

#endif
