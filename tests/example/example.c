/*
 * The engine from another program: what runs on this host, and which snapshots each VM has.
 *
 *	cc -I. -o example tests/example/example.c build/libfermata.a
 *	./example [ROOT]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fermata.h"

static int show(struct fermata *host, const char *name, struct err *e)
{
	const struct fermata_snap *const *snaps;
	struct fermata_status status;
	struct fermata_vm *vm;
	size_t n;
	int rc;

	if (fermata_vm_open(host, name, FERMATA_READ, "example", &vm, e) < 0)
		return e->code;
	rc = fermata_vm_status(vm, &status, e);
	if (rc == 0)
		rc = fermata_snaps(vm, &snaps, &n, e);
	if (rc == 0) {
		printf("%s: %s\n", name, fermata_state_name(status.state));
		for (size_t i = 0; i < n; i++)
			printf("  %s%s\n", snaps[i]->name, snaps[i] == fermata_snap_current(vm) ? " (current)" : "");
	}
	fermata_vm_close(vm);
	return rc;
}

int main(int argc, char **argv)
{
	struct fermata *host = NULL;
	char *names = NULL;
	struct err e = { 0 };
	int rc = fermata_open(argc > 1 ? argv[1] : "", &host, &e);

	if (rc == 0)
		rc = fermata_names(host, &names, &e);
	for (const char *n = names; rc == 0 && *n; n += strlen(n) + 1)
		rc = show(host, n, &e);
	free(names);
	fermata_close(host);
	if (rc < 0)
		fprintf(stderr, "example: %s\n", e.msg);
	return rc < 0;
}
