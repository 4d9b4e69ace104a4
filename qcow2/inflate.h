/* Deflate streams (RFC 1951), as compressed clusters hold them: no zlib header, no checksum. */
#ifndef QCOW2_INFLATE_H
#define QCOW2_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Inflate @n bytes into exactly @size. Padding behind the stream's end is fine, and so is a stream that would go on:
 * QEMU writes one that ends with the cluster. False if it is damaged or too short.
 */
bool inflate_exactly(const uint8_t *in, size_t n, uint8_t *out, size_t size);

#endif
