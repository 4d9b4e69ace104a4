/* qcow2/zstd.c: any bytes. The first one says how large a cluster is to come out; what does is the same again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/zstd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t n = size ? (size_t)512 << data[0] % 13 : 0;
	uint8_t *out = malloc(n ? n : 1), *again = malloc(n ? n : 1);
	struct zstd *z = zstd_new();

	if (!z || !out || !again)
		abort();
	if (size && zstd_exactly(z, data + 1, size - 1, out, n)) {
		/* Nothing of what was decoded before is left over. */
		zstd_exactly(z, data + 1, (size - 1) / 2, again, n);
		if (!zstd_exactly(z, data + 1, size - 1, again, n) || memcmp(out, again, n))
			abort();
	}
	free(z);
	free(again);
	free(out);
	return 0;
}
