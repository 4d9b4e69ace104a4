/* status.c */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/fermata.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"

#define STATUS_WAIT_MS 500

const char *fermata_state_name(enum fermata_state s)
{
	static const char *const names[] = { "shut off", "running", "paused", "in shutdown", "crashed" };

	return names[s];
}

void vm_because(struct fermata_vm *vm, enum fermata_state state, const char *reason)
{
	auto_free char *path = str_fmt("%s/why", vm->run_dir);
	auto_fd int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;

	if (fd >= 0)
		dprintf(fd, "%d %s\n", state, reason);
}

/* The reason on file if it was noted for @state. */
static bool noted_reason(const struct fermata_vm *vm, enum fermata_state state, char *out, size_t size)
{
	auto_free char *path = str_fmt("%s/why", vm->run_dir);
	auto_buf struct buf text = { 0 };
	struct err ignored;
	char *nl, *blank;

	if (!path || file_read(path, 200, &text, &ignored) < 0 || !text.n)
		return false;
	nl = strchr(text.p, '\n');
	blank = strchr(text.p, ' ');
	if (!nl || !blank || atoi(text.p) != (int)state)
		return false;
	*nl = '\0';
	snprintf(out, size, "%s", blank + 1);
	return true;
}

/* QEMU's run states in virsh's words (qapi/run-state.json, RunState). */
static void set_state(struct fermata_status *st, const char *status)
{
	static const struct {
		const char *status;
		enum fermata_state state;
		const char *reason;
	} map[] = {
		{ "running", FERMATA_RUNNING, "unknown" },
		{ "paused", FERMATA_PAUSED, "user" },
		{ "prelaunch", FERMATA_PAUSED, "starting up" },
		{ "io-error", FERMATA_PAUSED, "I/O error" },
		{ "watchdog", FERMATA_PAUSED, "watchdog" },
		{ "save-vm", FERMATA_PAUSED, "saving" },
		{ "restore-vm", FERMATA_PAUSED, "from snapshot" },
		{ "inmigrate", FERMATA_PAUSED, "migrating" },
		{ "postmigrate", FERMATA_PAUSED, "saving" },
		{ "finish-migrate", FERMATA_PAUSED, "migrating" },
		{ "internal-error", FERMATA_CRASHED, "internal error" },
		{ "guest-panicked", FERMATA_CRASHED, "panicked" },
		{ "shutdown", FERMATA_IN_SHUTDOWN, "unknown" },
	};

	st->state = FERMATA_PAUSED;
	snprintf(st->reason, sizeof st->reason, "%.40s", status);
	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (!strcmp(map[i].status, status)) {
			st->state = map[i].state;
			snprintf(st->reason, sizeof st->reason, "%s", map[i].reason);
		}
}

/* QEMU does not say how its guest is: another command has the monitor, or it hangs. */
static int silent(const struct fermata_vm *vm, struct fermata_status *st)
{
	auto_free char *lock = str_fmt("%s/lock", vm->run_dir);

	st->state = FERMATA_RUNNING;
	if (!lock || !lock_holder(lock, st->reason, sizeof st->reason))
		snprintf(st->reason, sizeof st->reason, "QEMU does not answer");
	return 0;
}

int fermata_vm_status(struct fermata_vm *vm, struct fermata_status *st, struct err *e)
{
	char status[KVM_STATUS_MAX];
	auto_free char *path = str_fmt("%s/pid", vm->run_dir);
	struct deadline d;
	struct err busy;

	*st = (struct fermata_status){ .state = FERMATA_SHUTOFF, .pid = kvm_pid(vm->run_dir) };
	if (!path)
		return err_nomem(e, "ask for the state");
	if (!st->pid) {
		/* A pid file without its process: QEMU ended by itself, which it does when the guest powers off. */
		if (!noted_reason(vm, FERMATA_SHUTOFF, st->reason, sizeof st->reason))
			snprintf(st->reason, sizeof st->reason, "%s", file_exists(path) ? "shutdown" : "unknown");
		return 0;
	}
	d = deadline_in(STATUS_WAIT_MS);
	if ((!vm->kvm && kvm_open(vm->run_dir, d, &vm->kvm, &busy) < 0) || kvm_status_by(vm->kvm, d, status, &busy) < 0) {
		vm_hang_up(vm);
		if (!vm_alive(vm))
			return fermata_vm_status(vm, st, e); /* it has ended meanwhile */
		return silent(vm, st);
	}
	set_state(st, status);
	/* QEMU knows its own stops best; "running" and "paused" it does not explain. */
	if (!strcmp(status, "running") || !strcmp(status, "paused"))
		noted_reason(vm, st->state, st->reason, sizeof st->reason);
	return 0;
}
