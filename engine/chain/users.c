/* Which disks and snapshots are backed by an image. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/chain/chain.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"

static int add_user(struct users *u, const char *file, const char *frozen, struct err *e)
{
	char **all;
	char next[4096];
	bool raw;

	if (!file[0] || same_file(file, frozen))
		return 0;
	for (size_t i = 0; i < u->n; i++)
		if (same_file(u->file[i], file))
			return 0;
	if (chain_next(file, next, &raw, e) < 0)
		return e->code;
	if (!next[0] || !same_file(next, frozen))
		return 0;
	all = reallocarray(u->file, u->n + 1, sizeof *all);
	if (!all)
		return err_nomem(e, "look for overlays");
	u->file = all;
	all[u->n] = strdup(file);
	return all[u->n] ? (u->n++, 0) : err_nomem(e, "look for overlays");
}

void users_done(struct users *u)
{
	while (u->n)
		free(u->file[--u->n]);
	free(u->file);
	*u = (struct users){ 0 };
}

int find_users(struct fermata_vm *vm, const char *frozen, struct users *u, struct err *e)
{
	const struct record *r = vm->rec;

	for (size_t i = 0; i < r->n_disks; i++)
		if (r->disks[i].active && add_user(u, r->disks[i].active, frozen, e) < 0)
			return e->code;
	for (size_t i = 0; i < r->n_snaps; i++)
		for (size_t j = 0; j < r->snaps[i]->n_disks; j++)
			if (!r->snaps[i]->disks[j].raw && add_user(u, r->snaps[i]->disks[j].file, frozen, e) < 0)
				return e->code;
	for (size_t i = 0; i < r->n_stays; i++)
		if (!r->stays[i].raw && file_exists(r->stays[i].file) && add_user(u, r->stays[i].file, frozen, e) < 0)
			return e->code;
	return 0;
}
