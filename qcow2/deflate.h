/* Making deflate streams (RFC 1951), as compressed clusters hold them: no zlib header, no checksum. */
#ifndef QCOW2_DEFLATE_H
#define QCOW2_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

/* What is found again is at most this far back: QEMU reads streams with a window of 4 KiB. */
#define DEFLATE_WINDOW 4096u

struct deflate;

/* Free with free(). NULL: no memory. */
struct deflate *deflate_new(void);

/* Deflate @n bytes into @out. How many bytes that takes; 0: more than @cap. */
size_t deflate_cluster(struct deflate *d, const uint8_t *in, size_t n, uint8_t *out, size_t cap);

#endif
