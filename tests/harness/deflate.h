/* Raw deflate (RFC 1951), small: what compressed clusters hold. */
#ifndef HARNESS_DEFLATE_H
#define HARNESS_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Pack @n bytes: one block of fixed codes, matches only at distance @period (1..32768; what repeats in the
 * input is the caller's to know). Returns the packed length, or 0 if it is more than @cap.
 */
size_t deflate_pack(const uint8_t *in, size_t n, size_t period, uint8_t *out, size_t cap);

/* Unpack until @n bytes have come out. Returns 0, or -1 if the input is no deflate stream of that much. */
int deflate_unpack(const uint8_t *in, size_t n_in, uint8_t *out, size_t n);

#endif
