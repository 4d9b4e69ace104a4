/* The pending operation: begun and ended on record. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "engine/record/internal.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/err.h"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t pending_new_mark(void)
{
	uint64_t mark = 0;

	if (getrandom(&mark, sizeof mark, GRND_NONBLOCK) != sizeof mark)
		mark = now_ns() ^ (uint64_t)getpid() << 40;
	return mark ? mark : 1;
}

int pending_begin(struct fermata_vm *vm, struct pending p, struct err *e)
{
	uint64_t saved = vm->rec->saved;

	pending_clear(vm->rec);
	p.mark = p.mark ? p.mark : pending_new_mark();
	vm->rec->pending = p;
	/* All but a restore, which may fail, change what the memory goes with. */
	if (p.op != PENDING_RESTORE)
		vm->rec->saved = 0;
	vm->rec->pending.since_ns = now_ns();
	if (record_save(vm->rec, e) < 0) {
		/* Not on disk: nothing has begun. */
		pending_clear(vm->rec);
		vm->rec->saved = saved;
		return e->code;
	}
	return 0;
}

int pending_again(struct fermata_vm *vm, struct err *e)
{
	vm->rec->pending.since_ns = now_ns();
	return record_save(vm->rec, e);
}

int pending_end(struct fermata_vm *vm, struct err *e)
{
	struct pending old = vm->rec->pending;

	vm->rec->pending = (struct pending){ 0 };
	if (record_save(vm->rec, e) < 0) {
		vm->rec->pending = old;
		return e->code;
	}
	snap_free(old.snap);
	free(old.guard);
	return 0;
}

int saved_forget(struct fermata_vm *vm, struct err *e)
{
	uint64_t was = vm->rec->saved;

	vm->rec->saved = 0;
	if (!was || record_save(vm->rec, e) == 0)
		return 0;
	vm->rec->saved = was;
	return e->code;
}

const char *carrier_pending(const struct record *r, const char *disk)
{
	const struct fermata_snap *s = r->pending.op == PENDING_REVERT ? r->pending.snap : NULL;

	for (size_t j = 0; s && j < s->n_disks; j++)
		if (!s->disks[j].external && s->disks[j].overlay[0] && !strcmp(s->disks[j].disk, disk))
			return s->disks[j].file;
	return NULL;
}
