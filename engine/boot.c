/* Bringing a VM up by its policy: choices, attempts, and a counter that a power cut cannot fool. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/internal.h"
#include "lib/own.h"
#include "lib/text.h"

#define KEPT      "before-boot"
#define GUARD     "before-update"
#define ASK_MS    1000 /* for one question to the agent */
#define REST_MS   100  /* between two questions */
#define SERIAL    "serial \""

static bool is(const char *a, const char *b)
{
	return !strcmp(a, b);
}

/* ---- health ------------------------------------------------------------------------------------------------ */

static int agent_answers(struct fermata_vm *vm, struct deadline d, struct err *e)
{
	auto_agent struct agent *a = NULL;
	int fd;

	if (!CONFIG_AGENT)
		return err_set(e, -EOPNOTSUPP, "this fermata was built without the guest agent");
	if (kvm_agent_connect(vm->run_dir, d, &fd, e) < 0 || agent_open(fd, d, &a, e) < 0)
		return e->code;
	return agent_ping(a, d, e);
}

static int wait_agent(struct fermata_vm *vm, struct deadline d, struct err *e)
{
	while (agent_answers(vm, deadline_left_ms(d) < ASK_MS ? d : deadline_in(ASK_MS), e) < 0) {
		if (!CONFIG_AGENT || !vm_alive(vm) || !deadline_left_ms(d))
			return e->code;
		poll(NULL, 0, REST_MS);
	}
	return 0;
}

/* Until @text comes over the console @fd. */
static int wait_serial(int fd, const char *text, size_t n, struct deadline d, struct err *e)
{
	char got[1024];
	size_t have = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t r;

		if (poll(&p, 1, deadline_left_ms(d)) == 0)
			return err_set(e, -ETIMEDOUT, "the guest did not say \"%.*s\" in time", (int)n, text);
		r = read(fd, got + have, sizeof got - have);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return err_set(e, -ECONNRESET, "QEMU ended before the guest said \"%.*s\"", (int)n, text);
		have += (size_t)r;
		if (memmem(got, have, text, n))
			return 0;
		/* Only what may be the text's beginning is of use later. */
		if (have >= n) {
			memmove(got, got + have - n + 1, n - 1);
			have = n - 1;
		}
	}
}

/* The text of healthy = serial "TEXT", or NULL. */
static const char *serial_text(const struct fermata_vm *vm, size_t *n)
{
	const char *h = vm->def->boot.healthy;

	if (strncmp(h, SERIAL, sizeof SERIAL - 1))
		return NULL;
	*n = strlen(h) - sizeof SERIAL;
	return h + sizeof SERIAL - 1;
}

static int console(struct fermata_vm *vm, int *fd, struct err *e)
{
	return kvm_console_connect(vm->run_dir, deadline_in(CALL_MS), fd, e);
}

/* @fd: the console, connected while the guest stood. */
static int wait_healthy(struct fermata_vm *vm, int fd, struct deadline d, struct err *e)
{
	struct fermata_status st;
	const char *text;
	size_t n;

	if (fermata_vm_status(vm, &st, e) < 0)
		return e->code;
	/* While we wait, others may ask QEMU how it is. */
	vm_hang_up(vm);
	if (st.state != FERMATA_RUNNING)
		return err_set(e, -EIO, "the VM is %s", fermata_state_name(st.state));
	if ((text = serial_text(vm, &n)))
		return wait_serial(fd, text, n, d, e);
	return is(vm->def->boot.healthy, "agent") ? wait_agent(vm, d, e) : 0;
}

int fermata_boot_healthy(struct fermata_vm *vm, struct err *e)
{
	auto_fd int fd = -1;
	size_t n;

	if (serial_text(vm, &n) && console(vm, &fd, e) < 0)
		return err_at(e, "%s", vm->name);
	return wait_healthy(vm, fd, deadline_in(vm->def->boot.within_ms), e) < 0 ? err_at(e, "%s", vm->name) : 0;
}

/* ---- one attempt --------------------------------------------------------------------------------------------- */

/* discard-changes = no: what the last run left stays as a snapshot, until the next boot has one to keep. */
static int keep_present(struct fermata_vm *vm, const char *from, struct err *e)
{
	static const struct fermata_delete whole;
	const struct fermata_snap *s;
	struct err none;

	if (vm->def->boot.discard_changes || vm->rec->boot.kept)
		return 0;
	if (fermata_snap_find(vm, KEPT, &s, &none) == 0 && fermata_snapshot_delete(vm, KEPT, &whole, e) < 0)
		return e->code;
	if (fermata_snap_find(vm, from, &s, e) < 0 || revert_keep(vm, s, KEPT, e) < 0)
		return e->code;
	vm->rec->boot.kept = true;
	return record_save(vm->rec, e);
}

static int bring_up(struct fermata_vm *vm, const char *from, bool paused, struct err *e)
{
	const struct fermata_revert r = { .running = !paused, .paused = paused, .verify = vm->def->boot.verify };
	bool managed = is(from, "managedsave");

	if (managed && !(CONFIG_MEMORY && fermata_managed(vm)))
		return err_set(e, -ENODATA, "there is no saved state");
	/* Once the disks have moved on, a managed save is worth nothing. */
	if (CONFIG_MEMORY && is(from, "cold") && fermata_managed_remove(vm, e) < 0)
		return e->code;
	if (managed || is(from, "cold"))
		return fermata_start(vm, paused, e);
	if (keep_present(vm, from, e) < 0)
		return e->code;
	return fermata_snapshot_revert(vm, from, &r, e);
}

static int attempt(struct fermata_vm *vm, const char *from, struct err *e)
{
	struct deadline d = deadline_in(vm->def->boot.within_ms);
	auto_fd int fd = -1;
	size_t n;
	bool listen = serial_text(vm, &n);

	if (bring_up(vm, from, listen, e) < 0)
		return e->code;
	if (listen && (console(vm, &fd, e) < 0 || fermata_resume(vm, e) < 0))
		return e->code;
	if (listen && !is(from, "cold"))
		after_restore(vm);
	return wait_healthy(vm, fd, d, e);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

static const char *golden(const struct fermata_vm *vm)
{
	return vm->rec->boot.good ? vm->rec->boot.good : vm->def->boot.from;
}

/* Every choice in its order, each with its NUL; @n: out. NULL: no memory. */
static char *choices(const struct fermata_vm *vm, bool cold, size_t *n)
{
	const char *guard = vm->rec->boot.guard, *s = vm->def->boot.fallback;
	auto_buf struct buf b = { 0 };

	*n = 1;
	if (cold)
		buf_add(&b, "cold", 5);
	else if (guard)
		buf_add(&b, guard, strlen(guard) + 1);
	*n += b.n > 0;
	buf_add(&b, golden(vm), strlen(golden(vm)) + 1);
	while (s && *(s += strspn(s, " \t,"))) {
		size_t len = strcspn(s, ","), end = len;

		while (s[end - 1] == ' ' || s[end - 1] == '\t')
			end--;
		buf_add(&b, s, end);
		buf_addc(&b, '\0');
		s += len;
		++*n;
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

static int note(struct fermata_vm *vm, uint64_t tries, const char *from, const char *result, struct err *e)
{
	struct record_boot *b = &vm->rec->boot;

	b->tries = tries;
	b->since = time(NULL);
	if (record_string(&b->result, result, e) < 0 || (from && record_string(&b->from, from, e) < 0))
		return e->code;
	return record_save(vm->rec, e);
}

static int note_healthy(struct fermata_vm *vm, const char *from, struct err *e)
{
	vm->rec->boot.kept = false;
	if (record_string(&vm->rec->boot.guard, NULL, e) < 0 || note(vm, 0, from, "healthy", e) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

void fermata_boot_look(const struct fermata_vm *vm, struct fermata_boot_info *out)
{
	const struct record_boot *b = &vm->rec->boot;

	*out = (struct fermata_boot_info){ b->tries, b->since, b->from ? b->from : "", b->result ? b->result : "",
		golden(vm), b->guard ? b->guard : "", record_pending(vm->rec),
		vm->rec->pending.snap ? vm->rec->pending.snap->name : "" };
}

int fermata_boot_good(struct fermata_vm *vm, const char *name, struct err *e)
{
	const struct fermata_snap *s;

	if (name && !is(name, "cold") && !is(name, "managedsave") && fermata_snap_find(vm, name, &s, e) < 0)
		return e->code;
	/* What the definition says needs no second word. */
	if (name && record_string(&vm->rec->boot.good, is(name, vm->def->boot.from) ? NULL : name, e) < 0)
		return e->code;
	return note_healthy(vm, NULL, e);
}

/* ---- boot ------------------------------------------------------------------------------------------------------------ */

/* A boot that was cut off after its QEMU had started. True: that guest is healthy. */
static bool resumed(struct fermata_vm *vm, struct err *e)
{
	vm_notice(vm, "boot: the last attempt was cut off; waiting for its guest");
	return fermata_boot_healthy(vm, e) == 0;
}

static int try_all(struct fermata_vm *vm, const char *list, size_t n, struct err *e)
{
	struct record_boot *b = &vm->rec->boot;
	unsigned each = vm->def->boot.attempts;
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
			note(vm, i + 1, from, "trying", e) < 0)
			return e->code;
		vm_notice(vm, "boot: from '%s', attempt %u of %u", from, (unsigned)(i % each) + 1, each);
		if (attempt(vm, from, e) == 0) {
			if (note_healthy(vm, from, e) < 0)
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
			return note_healthy(vm, NULL, e);
	}
	if (!(list = choices(vm, cold, &n)))
		return err_nomem(e, "boot");
	rc = try_all(vm, list, n, e);
	if (rc >= 0)
		return rc;
	if (rc == FERMATA_PENDING && vm->rec->boot.tries < n * vm->def->boot.attempts)
		return err_at(e, "%s: cannot boot", vm->name);
	if ((vm_alive(vm) && life_kill(vm, &also) < 0) || note(vm, n * vm->def->boot.attempts, NULL, e->msg, &also) < 0)
		err_also(e, "and: %s", also.msg);
	return err_at(e, "%s: cannot boot; every choice failed, the last because", vm->name);
}

/* ---- stop ------------------------------------------------------------------------------------------------------------ */

int fermata_boot_stop(struct fermata_vm *vm, struct err *e)
{
	if (!vm_alive(vm))
		return 0;
	if (CONFIG_MEMORY && is(vm->def->boot.on_stop, "managedsave")) {
		if (fermata_save(vm, &(struct fermata_save){ 0 }, e) == 0)
			return 0;
		vm_notice(vm, "stop: %s; it is shut down", e->msg);
	}
	if (!is(vm->def->boot.on_stop, "kill")) {
		if (fermata_shutdown(vm, FERMATA_BY_DEFAULT, false, e) == 0 &&
			fermata_wait_off(vm, vm->def->boot.stop_within_ms, e) == 0)
			return 0;
		vm_notice(vm, "stop: %s; its plug is pulled", e->msg);
	}
	return vm_alive(vm) ? fermata_destroy(vm, false, e) : 0;
}

/* ---- guard ----------------------------------------------------------------------------------------------------------- */

int fermata_guard_begin(struct fermata_vm *vm, struct err *e)
{
	const struct fermata_create c = { .name = GUARD, .description = "kept by guard", .replace = true };
	const struct fermata_snap *s;

	if (fermata_snapshot_create(vm, &c, &s, e) < 0)
		return e->code;
	if (record_string(&vm->rec->boot.guard, GUARD, e) < 0 || note(vm, 0, NULL, "guarded", e) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

int fermata_guard_end(struct fermata_vm *vm, bool keep, struct err *e)
{
	static const struct fermata_revert as_it_was;
	static const struct fermata_delete whole;
	struct err also;

	if (!keep && fermata_snapshot_revert(vm, GUARD, &as_it_was, e) < 0)
		return e->code;
	if (note_healthy(vm, NULL, e) < 0)
		return e->code;
	/* Not in the way of anything: the next guard replaces it. */
	if (fermata_snapshot_delete(vm, GUARD, &whole, &also) < 0)
		vm_notice(vm, "'%s' stays: %s", GUARD, also.msg);
	return 0;
}
