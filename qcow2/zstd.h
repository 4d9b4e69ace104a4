/* Zstandard frames (RFC 8878), as compressed clusters of images with compression_type=zstd hold them. */
#ifndef QCOW2_ZSTD_H
#define QCOW2_ZSTD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What decoding takes besides its output: some 160 KiB, whatever a frame says. */
struct zstd;

/* Free with free(). NULL: no memory. */
struct zstd *zstd_new(void);

/*
 * Decode @n bytes into exactly @size: one frame or several, the last of which ends there. Padding behind it is fine: a
 * compressed cluster's length is told in sectors. False if it is damaged, too short or too long, or needs a dictionary.
 */
bool zstd_exactly(struct zstd *z, const uint8_t *in, size_t n, uint8_t *out, size_t size);

#endif
