/* A product that does not fit into 64 bits, divided: 32-bit processors' compilers have no wider numbers. */
#ifndef LIB_MULDIV_H
#define LIB_MULDIV_H

#include <stdint.h>

/* @a * @b / @c, rounded down; UINT64_MAX if that is larger. @c: not 0. @rest: out, or NULL. */
uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c, uint64_t *rest);

#endif
