/* Write the qcow2 seed corpus: one small image of each kind that the zoo knows. Usage: corpus DIR */
#include <stdio.h>
#include <stdlib.h>

#include "tests/harness/logdev.h"
#include "tests/harness/zoo.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	for (size_t i = 0; i < zoo_n; i++) {
		struct zoo_animal a = zoo[i];
		uint8_t *img, *backing;
		size_t n, backing_n;
		char path[1024];

		/* As small as it can be and still be that kind; large clusters make large files. */
		if (a.cluster_bits > 10 || a.fill_to)
			continue;
		a.size_kib = 4u << (a.cluster_bits - 9);
		if (a.n_snaps > 3)
			a.n_snaps = 3;
		img = zoo_make(&a, i, &n, &backing, &backing_n);
		snprintf(path, sizeof(path), "%s/%s", argv[1], a.name);
		bytes_export(img, n, path);
		free(img);
		free(backing);
	}
	return 0;
}
