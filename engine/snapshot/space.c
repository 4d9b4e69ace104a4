/* The space that a snapshot takes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "qcow2/image/chain.h"
#include "qcow2/image/image.h"
#include "qcow2/qcow2.h"

/* What deleting @d would give back: all of an image that nothing is backed by, else what others need not take over. */
static int frozen_space(struct fermata_vm *vm, const struct fermata_snap_disk *d, uint64_t *used, uint64_t *frees, struct err *e)
{
	auto_image struct image *frozen = NULL;
	auto_users struct users u = { 0 };
	uint64_t moved = 0, has;
	int rc;

	if (image_open_chain(d->file, d->raw ? "raw" : "qcow2", QCOW2_SHARE, &frozen, e) < 0 || image_allocated(frozen, &has, e) < 0)
		return e->code;
	rc = find_users(vm, d->file, &u, e);
	for (size_t i = 0; rc == 0 && i < u.n; i++) {
		auto_image struct image *img = NULL;
		struct chain_cost cost = { 0 };

		rc = image_open_chain(u.file[i], "qcow2", QCOW2_SHARE, &img, e);
		if (rc == 0)
			rc = chain_pull_cost(img, img->backing->backing, &cost, e);
		moved += cost.copy;
	}
	*used += has;
	*frees += moved < has ? has - moved : 0;
	return rc;
}

int fermata_snap_space(struct fermata_vm *vm, const struct fermata_snap *s, uint64_t *used, uint64_t *frees, struct err *e)
{
	*used = *frees = (s->memory ? file_allocated(s->memory) : 0) + (s->ram ? file_allocated(s->ram) : 0);
	for (size_t j = 0; j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];
		auto_qcow2 struct qcow2 *q = NULL;
		uint64_t has = 0, alone = 0;
		int at;

		if (d->external) {
			if (frozen_space(vm, d, used, frees, e) < 0)
				return e->code;
			continue;
		}
		if (qcow2_open(d->file, QCOW2_SHARE, &q, e) < 0)
			return e->code;
		at = qcow2_snap_find(q, d->tag, QCOW2_BY_NAME);
		if (at >= 0 && qcow2_snap_space(q, (unsigned)at, &has, &alone, e) < 0)
			return e->code;
		*used += has;
		*frees += alone;
	}
	return 0;
}
