/* Read and write big-endian numbers, as qcow2 stores them, at any address. Compiles to one load and one swap. */
#ifndef LIB_ENDIAN_H
#define LIB_ENDIAN_H

#include <stdint.h>
#include <string.h>

/* The compiler's builtins: a libc's htobe64() may be a function call for each half. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(v) __builtin_bswap16(v)
#define BE32(v) __builtin_bswap32(v)
#define BE64(v) __builtin_bswap64(v)
#else
#define BE16(v) (v)
#define BE32(v) (v)
#define BE64(v) (v)
#endif

static inline __attribute__((always_inline)) uint16_t get_be16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return BE16(v);
}

static inline __attribute__((always_inline)) uint32_t get_be32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return BE32(v);
}

static inline __attribute__((always_inline)) uint64_t get_be64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return BE64(v);
}

static inline __attribute__((always_inline)) void put_be16(void *p, uint16_t v)
{
	v = BE16(v);
	memcpy(p, &v, sizeof v);
}

static inline __attribute__((always_inline)) void put_be32(void *p, uint32_t v)
{
	v = BE32(v);
	memcpy(p, &v, sizeof v);
}

static inline __attribute__((always_inline)) void put_be64(void *p, uint64_t v)
{
	v = BE64(v);
	memcpy(p, &v, sizeof v);
}

#endif
