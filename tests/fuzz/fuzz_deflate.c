/* qcow2/deflate.c: any bytes come back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/deflate.h"
#include "qcow2/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t cap = size + size / 1000 + 32, n;
	uint8_t *packed = malloc(cap), *out = malloc(size ? size : 1);
	struct deflate *d = deflate_new();

	if (!d || !out || !packed)
		abort();
	n = deflate_cluster(d, data, size, packed, cap);
	if (!n || !inflate_exactly(packed, n, out, size) || memcmp(out, data, size))
		abort();
	free(d);
	free(out);
	free(packed);
	return 0;
}
