/* qcow2/image/name.c: any bytes as an image's name, and as its options. What is taken names a file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "qcow2/image/name.h"

static void want(bool ok)
{
	if (!ok)
		abort();
}

static void check(struct image_name *n)
{
	for (const struct image_name *i = n; i; i = i->backing) {
		want(i->path && *i->path);
		want(!i->format || !strcmp(i->format, "qcow2") || !strcmp(i->format, "raw"));
		want(!i->backing || i->alone);
	}
	image_name_free(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *s = malloc(size + 1);
	struct image_name *n;
	struct err e;

	if (!s)
		return 0;
	memcpy(s, data, size);
	s[size] = '\0';
	if (image_name_read(s, &n, &e) == 0)
		check(n);
	if (image_name_options(s, &n, &e) == 0)
		check(n);
	return 0;
}
