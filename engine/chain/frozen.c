/* Images that snapshots froze: another one in such a place is not what the overlays above were written over. */
#include <string.h>
#include <sys/stat.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"

uint64_t frozen_size(const char *file, bool raw)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_info info;
	struct err ignored;
	struct stat st;

	if (stat(file, &st) < 0)
		return 0;
	if (raw)
		return S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	if (qcow2_open(file, QCOW2_SHARE, &q, &ignored) < 0)
		return 0;
	qcow2_get_info(q, &info);
	return info.size;
}

void frozen_forget_size(struct fermata_vm *vm, const char *file)
{
	for (size_t i = 0; i < vm->rec->n_snaps; i++)
		for (size_t j = 0; j < vm->rec->snaps[i]->n_disks; j++) {
			struct fermata_snap_disk *d = &vm->rec->snaps[i]->disks[j];

			if (d->external && !strcmp(d->file, file))
				d->size = 0;
		}
}

/*
 * The size of the disk when it was frozen stays what it is, whatever is merged into the image later: merging leaves every
 * snapshot with the disk that it had. The file's own times and numbers do not, nor does a copy from a backup keep them.
 */
int frozen_check(const struct fermata_vm *vm, const char *file, struct err *e)
{
	/* A job changes what the snapshots have, and the record follows. */
	for (size_t i = 0, n = vm->rec->n_jobs ? 0 : vm->rec->n_snaps; i < n; i++) {
		const struct fermata_snap *s = vm->rec->snaps[i];

		for (size_t j = 0; j < s->n_disks; j++) {
			const struct fermata_snap_disk *d = &s->disks[j];
			uint64_t now;

			/* By name: a chain of many images would be asked for each of them as often as it is long. */
			if (!d->external || !d->size || strcmp(d->file, file))
				continue;
			now = frozen_size(d->file, d->raw);
			if (!now || now == d->size)
				continue;
			err_set(e, -ESTALE, "%s is not the image that '%s' froze: its disk has %llu bytes, not %llu", file, s->name,
				(unsigned long long)now, (unsigned long long)d->size);
			return err_hint(e, "put that one back; if it was only resized, 'fermata img resize%s%s %s %llu' does",
				d->raw ? " -f raw" : "", now > d->size ? " --shrink" : "", file, (unsigned long long)d->size);
		}
	}
	return 0;
}
