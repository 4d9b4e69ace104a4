/* The hash XXH64 with seed 0: identifies content. Zstandard's frame checksum is its lower half. */
#ifndef LIB_XXH64_H
#define LIB_XXH64_H

#include <stddef.h>
#include <stdint.h>

uint64_t xxh64(const uint8_t *p, size_t n);

#endif
