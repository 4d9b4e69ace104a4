/* Guarding a command: a checkpoint that is gone back to unless all ends well, and a child that watches who guards. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/boot/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/guarded.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

#define GUARD    "before-update"
#define SETTLE_MS 2000 /* a host that goes down takes the guest with it */

struct fermata_guard {
	struct kvm_guard watch;
	struct fermata *host;
	char *name;
	int lock;
};

static void look_after_death(void *ctx)
{
	struct fermata_guard *g = ctx;
	struct fermata_vm *vm;
	struct err e;

	poll(NULL, 0, SETTLE_MS);
	/* Opening it does all. Whoever has the VM's lock now may have looked too early. */
	for (int tries = 0; tries < 30 && fermata_vm_open(g->host, g->name, FERMATA_WRITE, "guard", &vm, &e) < 0; tries++)
		poll(NULL, 0, SETTLE_MS);
}

void fermata_guard_free(struct fermata_guard *g)
{
	if (!g)
		return;
	if (g->watch.pid > 0)
		kvm_guard_end(&g->watch);
	own_close(&g->lock);
	free(g->name);
	free(g);
}

static int hold(struct fermata_vm *vm, struct fermata_guard **out, struct err *e)
{
	struct fermata_guard *g = calloc(1, sizeof *g);
	auto_free char *path = guard_lock(vm);

	if (!g || !path) {
		free(g);
		return err_nomem(e, "guard a command");
	}
	g->lock = -1;
	g->host = vm->host;
	g->name = strdup(vm->name);
	if ((g->name ? lock_take(path, "guard", 0, &g->lock, e) : err_nomem(e, "guard a command")) < 0 ||
		kvm_guard_death(look_after_death, g, &g->watch, e) < 0) {
		g->watch.pid = 0;
		fermata_guard_free(g);
		return e->code;
	}
	*out = g;
	return 0;
}

static int begin(struct fermata_vm *vm, struct err *e)
{
	struct record_boot *b = &vm->rec->boot;
	auto_free char *name = boot_snap_name(vm, GUARD, b->guard_id);
	struct fermata_create c = { .name = name, .description = "kept by guard", .replace = record_by_id(vm->rec, b->guard_id) };
	struct fermata_taken taken;

	if (!name)
		return err_nomem(e, "guard a command");
	if (fermata_snapshot_create(vm, &c, &taken, e) < 0)
		return e->code;
	b->guard_id = taken.snap->id;
	b->cut = false;
	return record_string(&b->guard, name, e) < 0 || boot_note(vm, 0, NULL, "guarded", e) < 0 ? err_at(e, "%s", vm->name) : 0;
}

int fermata_guard_begin(struct fermata_vm *vm, struct fermata_guard **out, struct err *e)
{
	*out = NULL;
	if (vm->rec->boot.guard && !guard_is_held(vm)) {
		err_set(e, -EBUSY, "%s: a guard was cut off, and it is not decided what becomes of it", vm->name);
		return err_hint(e, "'fermata recover %s --guard=keep', or --guard=back", vm->name);
	}
	if (hold(vm, out, e) < 0)
		return err_at(e, "%s", vm->name);
	if (begin(vm, e) == 0)
		return 0;
	fermata_guard_free(*out);
	*out = NULL;
	return e->code;
}

int fermata_guard_end(struct fermata_vm *vm, bool keep, struct err *e)
{
	static const struct fermata_revert as_it_was;
	static const struct fermata_delete whole;
	struct record_boot *b = &vm->rec->boot;
	const struct fermata_snap *s = record_by_id(vm->rec, b->guard_id);
	auto_free char *name = b->guard ? strdup(b->guard) : NULL;
	struct err also;

	if (!name)
		return err_set(e, -ENOENT, "%s: nothing is guarded", vm->name);
	/* One that an earlier version made has no id. */
	if (b->guard_id && (!s || strcmp(s->name, name)))
		name[0] = '\0';
	if (!keep && !name[0])
		return err_set(e, -ENOENT, "%s: the guard's checkpoint '%s' is gone", vm->name, b->guard);
	if (!keep && fermata_snapshot_revert(vm, name, &as_it_was, e) < 0)
		return e->code;
	b->cut = false;
	if (boot_note_healthy(vm, NULL, e) < 0)
		return e->code;
	/* Not in the way of anything: the next guard replaces it. */
	if (name[0] && fermata_snapshot_delete(vm, name, &whole, &also) < 0)
		vm_notice(vm, "'%s' stays: %s", name, also.msg);
	return 0;
}

int fermata_guard_decide(struct fermata_vm *vm, bool keep, struct err *e)
{
	if (guard_is_held(vm))
		return err_set(e, -EBUSY, "%s: its guard is there, and decides", vm->name);
	return fermata_guard_end(vm, keep, e);
}

void fermata_guard_tell(struct fermata_vm *vm)
{
	guard_tell(vm);
}
