/* Bringing a VM up by its policy: choices, attempts, and a counter that a power cut cannot fool. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/boot/internal.h"
#include "engine/fermata.h"
#include "engine/qemu/qemu.h"
#include "engine/record/record.h"
#include "engine/recover.h"
#include "engine/save/managed.h"
#include "engine/snapshot/snapshot.h"
#include "engine/vm/guarded.h"
#include "engine/vm/policy.h"
#include "engine/vm/vm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/own.h"

#define KEPT      "before-boot"
#define SAVED     "managedsave"

/* ---- health ------------------------------------------------------------------------------------------------ */

/* ---- one attempt --------------------------------------------------------------------------------------------- */

/*
 * A name for a snapshot of ours: @base, or that and a number where somebody else's has it. @id: the one that we made last;
 * if it is still there, it keeps its name. Caller frees.
 */
char *boot_snap_name(struct fermata_vm *vm, const char *base, uint64_t id)
{
	const struct fermata_snap *ours = id ? record_by_id(vm->rec, id) : NULL, *s;
	char *name = strdup(ours ? ours->name : base);
	struct err none;

	for (uint64_t n = vm->rec->next_id; name && !ours && fermata_snap_find(vm, name, &s, &none) == 0; n++) {
		free(name);
		name = str_fmt("%s~%llu", base, (unsigned long long)n);
	}
	return name;
}

/* discard-changes = no: what the last run left stays as a snapshot, until the next boot has one to keep. */
static int keep_present(struct fermata_vm *vm, const char *from, struct err *e)
{
	static const struct fermata_delete whole;
	struct record_boot *b = &vm->rec->boot;
	auto_free char *name = NULL;
	const struct fermata_snap *s;

	if (policy_of(vm->def)->discard_changes || b->kept)
		return 0;
	name = boot_snap_name(vm, KEPT, b->kept_id);
	if (!name)
		return err_nomem(e, "boot");
	if (record_by_id(vm->rec, b->kept_id) && fermata_snapshot_delete(vm, name, &whole, e) < 0)
		return e->code;
	if (fermata_snap_find(vm, from, &s, e) < 0 || revert_keep(vm, s, name, e) < 0)
		return e->code;
	s = record_by_name(vm->rec, name);
	b->kept_id = s ? s->id : 0;
	b->kept = true;
	return record_save(vm->rec, e);
}

/* A managed save that this boot sets aside is there until the next healthy one. */
static int note_aside(struct fermata_vm *vm, struct err *e)
{
	if (!CONFIG_MEMORY || !fermata_managed(vm) || vm->rec->boot.aside)
		return 0;
	vm->rec->boot.aside = managed_next(vm);
	return record_save(vm->rec, e);
}

/* A managed save is in the way of a revert: it is set aside, and put back if nothing came of that. */
static int bring_back(struct fermata_vm *vm, const char *from, const struct fermata_revert *r, struct err *e)
{
	auto_free char *save = NULL;
	struct err also;

	if (CONFIG_MEMORY && managed_set_aside(vm, &save, e) < 0)
		return e->code;
	if (keep_present(vm, from, e) == 0 && fermata_snapshot_revert(vm, from, r, e) == 0) {
		if (CONFIG_MEMORY)
			managed_tell(vm, save);
		return 0;
	}
	if (CONFIG_MEMORY && e->code != FERMATA_PENDING && !vm_alive(vm) && managed_put_back(vm, save, &also) < 0)
		err_also(e, "and: %s", also.msg);
	return e->code;
}

static int bring_up(struct fermata_vm *vm, const char *from, bool paused, struct err *e)
{
	const struct fermata_revert r = { .running = !paused, .paused = paused, .verify = policy_of(vm->def)->verify };
	bool managed = same_text(from, SAVED);

	if (managed && !(CONFIG_MEMORY && fermata_managed(vm)))
		return err_set(e, -ENODATA, "there is no saved state");
	if (managed)
		return fermata_start(vm, paused, e);
	if (note_aside(vm, e) < 0)
		return e->code;
	return same_text(from, "cold") ? fermata_start_afresh(vm, paused, true, e) : bring_back(vm, from, &r, e);
}

static int attempt(struct fermata_vm *vm, const char *from, struct err *e)
{
	struct deadline d = deadline_in(policy_of(vm->def)->within_ms);
	auto_fd int fd = -1;
	size_t n;
	bool listen = health_serial_text(vm, &n);

	if (bring_up(vm, from, listen, e) < 0)
		return e->code;
	/* A guest that was suspended when it was saved runs on, too, as from a checkpoint: to give it up would lose its memory. */
	if ((listen && console_connect(vm, &fd, e) < 0) || ((listen || same_text(from, SAVED)) && fermata_resume(vm, e) < 0))
		return e->code;
	if (listen && !same_text(from, "cold"))
		after_restore(vm, false);
	return wait_healthy(vm, fd, d, e);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

static const char *golden(const struct fermata_vm *vm)
{
	return vm->rec->boot.good ? vm->rec->boot.good : policy_of(vm->def)->from;
}

/* Every choice in its order, each with its NUL; @n: out. NULL: no memory. */
static char *choices(const struct fermata_vm *vm, bool cold, size_t *n)
{
	const char *guard = guard_is_first(vm) ? vm->rec->boot.guard : NULL, *s = policy_of(vm->def)->fallback;
	auto_buf struct buf b = { 0 };
	bool saved = !cold && vm->rec->boot.saved;

	*n = 1;
	if (cold)
		buf_add(&b, "cold", 5);
	else if (guard)
		buf_add(&b, guard, strlen(guard) + 1);
	*n += b.n > 0;
	/* Whoever saved it, the supervisor or an administrator, means the guest to go on from there. */
	if (saved && !same_text(golden(vm), SAVED)) {
		buf_add(&b, SAVED, sizeof SAVED);
		++*n;
	}
	buf_add(&b, golden(vm), strlen(golden(vm)) + 1);
	while (s && *(s += strspn(s, " \t,"))) {
		size_t len = strcspn(s, ","), end = len;

		while (s[end - 1] == ' ' || s[end - 1] == '\t')
			end--;
		/* It has had its turn. */
		if (!saved || end != sizeof SAVED - 1 || strncmp(s, SAVED, end)) {
			buf_add(&b, s, end);
			buf_addc(&b, '\0');
			++*n;
		}
		s += len;
	}
	return b.oom ? NULL : buf_take(&b);
}

static const char *nth(const char *list, uint64_t i)
{
	while (i--)
		list += strlen(list) + 1;
	return list;
}

/* ---- the record --------------------------------------------------------------------------------------------------- */

int boot_note(struct fermata_vm *vm, uint64_t tries, const char *from, const char *result, struct err *e)
{
	struct record_boot *b = &vm->rec->boot;

	b->tries = tries;
	b->since = time(NULL);
	if (record_string(&b->result, result, e) < 0 || (from && record_string(&b->from, from, e) < 0))
		return e->code;
	return record_save(vm->rec, e);
}

int boot_note_healthy(struct fermata_vm *vm, const char *from, struct err *e)
{
	uint64_t aside = vm->rec->boot.aside;

	vm->rec->boot.kept = vm->rec->boot.saved = false;
	vm->rec->boot.aside = 0;
	/* A guard that was cut off waits for the user's word. */
	if ((!vm->rec->boot.cut && record_string(&vm->rec->boot.guard, NULL, e) < 0) || boot_note(vm, 0, from, "healthy", e) < 0)
		return err_at(e, "%s", vm->name);
	/* What the boots before this one have set aside has not been missed. */
	if (CONFIG_MEMORY && from && !same_text(from, SAVED) && managed_expire(vm, aside, e) < 0)
		vm_notice(vm, "%s", e->msg);
	return 0;
}

void fermata_boot_look(const struct fermata_vm *vm, struct fermata_boot_info *out)
{
	const struct record_boot *b = &vm->rec->boot;

	*out = (struct fermata_boot_info){ b->tries, b->since, b->from ? b->from : "", b->result ? b->result : "",
		golden(vm), b->guard ? b->guard : "", record_pending(vm->rec),
		vm->rec->pending.snap ? vm->rec->pending.snap->name : "", guard_is_cut(vm) };
}

int fermata_boot_good(struct fermata_vm *vm, const char *name, struct err *e)
{
	const struct fermata_snap *s;

	if (name && !same_text(name, "cold") && !same_text(name, SAVED) && fermata_snap_find(vm, name, &s, e) < 0)
		return e->code;
	vm->rec->boot.cut = false;
	/* What the definition says needs no second word. */
	if (name && record_string(&vm->rec->boot.good, same_text(name, policy_of(vm->def)->from) ? NULL : name, e) < 0)
		return e->code;
	return boot_note_healthy(vm, NULL, e);
}

/* ---- boot ------------------------------------------------------------------------------------------------------------ */

/*
 * A boot that was cut off after its QEMU had started. True: that guest is healthy. One that has loaded and does not run yet goes
 * on first: its memory may be in no file any more.
 */
static bool resumed(struct fermata_vm *vm, struct err *e)
{
	const char *from = vm->rec->boot.from;
	struct fermata_status st;

	vm_notice(vm, "boot: the last attempt was cut off; waiting for its guest");
	if (fermata_vm_status(vm, &st, e) == 0 && st.state == FERMATA_PAUSED && fermata_resume(vm, e) == 0 && from && !same_text(from, "cold"))
		after_restore(vm, false);
	return fermata_boot_healthy(vm, e) == 0;
}

static int try_all(struct fermata_vm *vm, const char *list, size_t n, struct err *e)
{
	struct record_boot *b = &vm->rec->boot;
	unsigned each = policy_of(vm->def)->attempts;
	uint64_t i = b->tries < n * each ? b->tries : 0;

	err_set(e, -EIO, "the last attempt was cut off");
	for (; i < n * each; i++) {
		const char *from = nth(list, i / each);
		uint64_t began = clock_mono_ms();

		/*
		 * What the last one left: its QEMU, and perhaps a revert half way. While that is neither finished nor undone
		 * no choice is better than another, and none may be tried: it could destroy what recovery needs.
		 */
		if ((vm_alive(vm) && life_kill(vm, e) < 0) || vm_recover(vm, e) < 0 ||
			boot_note(vm, i + 1, from, "trying", e) < 0)
			return e->code;
		vm_notice(vm, "boot: from '%s', attempt %u of %u", from, (unsigned)(i % each) + 1, each);
		if (attempt(vm, from, e) == 0) {
			if (boot_note_healthy(vm, from, e) < 0)
				return e->code;
			vm_notice(vm, "boot: healthy after %llu ms", (unsigned long long)(clock_mono_ms() - began));
			return i >= each;
		}
		vm_notice(vm, "boot: from '%s' failed: %s", from, e->msg);
		/* What is not there will not be there the next time either. */
		if (e->code == -ENOENT || e->code == -ENODATA)
			i += each - 1 - i % each;
	}
	return e->code;
}

int fermata_boot(struct fermata_vm *vm, bool cold, struct err *e)
{
	auto_free char *list = NULL;
	struct err also;
	size_t n;
	int rc;

	if (vm_alive(vm)) {
		if (!vm->rec->boot.tries)
			vm_notice(vm, "boot: it runs already");
		if (!vm->rec->boot.tries || resumed(vm, e))
			return boot_note_healthy(vm, NULL, e);
	}
	if (guard_look(vm, e) < 0)
		return err_at(e, "%s", vm->name);
	if (vm->rec->boot.cut)
		guard_tell(vm);
	list = choices(vm, cold, &n);
	/* The list stays the same until one of it is healthy, or all have failed. */
	if (list && (!vm->rec->boot.tries || vm->rec->boot.tries >= n * policy_of(vm->def)->attempts)) {
		free(list);
		vm->rec->boot.tries = 0;
		vm->rec->boot.saved = CONFIG_MEMORY && fermata_managed(vm);
		list = choices(vm, cold, &n);
	}
	if (!list)
		return err_nomem(e, "boot");
	rc = try_all(vm, list, n, e);
	if (rc >= 0)
		return rc;
	if (rc == FERMATA_PENDING && vm->rec->boot.tries < n * policy_of(vm->def)->attempts)
		return err_at(e, "%s: cannot boot", vm->name);
	if ((vm_alive(vm) && life_kill(vm, &also) < 0) || boot_note(vm, n * policy_of(vm->def)->attempts, NULL, e->msg, &also) < 0)
		err_also(e, "and: %s", also.msg);
	return err_at(e, "%s: cannot boot; every choice failed, the last because", vm->name);
}

/* ---- stop ------------------------------------------------------------------------------------------------------------ */

int fermata_boot_stop(struct fermata_vm *vm, struct err *e)
{
	if (!vm_alive(vm))
		return 0;
	if (CONFIG_MEMORY && same_text(policy_of(vm->def)->on_stop, "managedsave")) {
		if (fermata_save(vm, &(struct fermata_save){ 0 }, e) == 0)
			return 0;
		vm_notice(vm, "stop: %s; it is shut down", e->msg);
	}
	if (!same_text(policy_of(vm->def)->on_stop, "kill")) {
		if (fermata_shutdown(vm, FERMATA_BY_DEFAULT, false, e) == 0 &&
			fermata_wait_off(vm, policy_of(vm->def)->stop_within_ms, e) == 0)
			return 0;
		vm_notice(vm, "stop: %s; its plug is pulled", e->msg);
	}
	return vm_alive(vm) ? fermata_destroy(vm, false, e) : 0;
}
