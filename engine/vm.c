/* One VM: its definition, its record, its lock, and the QEMU behind it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/internal.h"
#include "engine/overlay.h"
#include "engine/standby.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"

#define LOCK_WAIT_MS  10000
#define STATUS_WAIT_MS 500

/* @lenient: a record that cannot be read is trouble, but not in the way of what does not need it. */
static int read_files(struct fermata_vm *vm, bool lenient, struct err *e)
{
	auto_free char *state = str_fmt("%s/state.json", vm->state_dir);

	if (!state)
		return err_nomem(e, "open a VM");
	if (definition_read(vm, e) < 0)
		return e->code;
	if (record_load(state, &vm->rec, e) == 0)
		return 0;
	if (!lenient)
		return e->code;
	vm->trouble = *e;
	return record_none(state, &vm->rec, e);
}

static int take_lock(struct fermata_vm *vm, const char *what, struct err *e)
{
	auto_free char *path = str_fmt("%s/lock", vm->run_dir);

	if (!path)
		return err_nomem(e, "open a VM");
	if (dir_make(vm->run_dir, 0700, e) < 0 || dir_make(vm->state_dir, 0700, e) < 0 ||
		lock_take(path, what, LOCK_WAIT_MS, &vm->lock, e) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

/* What earlier commands left: finished or undone. */
static int settle(struct fermata_vm *vm, struct err *e)
{
	record_clean(vm->rec);
	if (!vm_alive(vm))
		kvm_clean(vm->run_dir);
	if ((CONFIG_SNAPSHOT && jobs_settle(vm, e) < 0) || vm_recover(vm, e) < 0 || (CONFIG_MEMORY && standby_recover(vm, e) < 0) ||
		trash_empty(vm, e) < 0)
		return err_at(e, "%s", vm->name);
	return 0;
}

static int open_locked(struct fermata_vm *vm, bool steer, const char *what, struct err *e)
{
	/* The record is read under the lock, or another command could replace it in between. */
	if (take_lock(vm, what, e) < 0 || read_files(vm, steer, e) < 0)
		return e->code;
	if (vm->trouble.code)
		vm_notice(vm, "%s", vm->trouble.msg);
	if (vm->rec->none || settle(vm, e) == 0)
		return 0;
	if (!steer)
		return e->code;
	/* Whatever is pending stays so: what runs can be asked and stopped. */
	vm_notice(vm, "%s", e->msg);
	vm_ask_anew(vm);
	return 0;
}

static void vm_freep(struct fermata_vm **vm)
{
	fermata_vm_close(*vm);
}

int fermata_vm_open(struct fermata *f, const char *name, enum fermata_access access, const char *what,
	struct fermata_vm **out, struct err *e)
{
	__attribute__((cleanup(vm_freep))) struct fermata_vm *vm = NULL;
	struct err bad_name;

	if (def_check_name(name, &bad_name) < 0)
		return no_such_vm(f, name, e);
	vm = calloc(1, sizeof *vm);
	if (!vm)
		return err_nomem(e, "open a VM");
	vm->host = f;
	vm->lock = -1;
	vm->name = strdup(name);
	vm->run_dir = str_fmt("%s/%s", f->run_dir, name);
	vm->state_dir = str_fmt("%s/%s", f->state_dir, name);
	if (!vm->name || !vm->run_dir || !vm->state_dir)
		return err_nomem(e, "open a VM");
	if (access == FERMATA_READ || access == FERMATA_LOOK) {
		if (read_files(vm, access == FERMATA_LOOK, e) < 0)
			return e->code;
	} else if (definition_there(vm, e) < 0 || open_locked(vm, access == FERMATA_STEER, what, e) < 0) {
		return e->code; /* a mistyped name has left no folders behind: it was asked for before the lock made them */
	}
	*out = take_ptr(&vm);
	return 0;
}

void fermata_vm_close(struct fermata_vm *vm)
{
	if (!vm)
		return;
	vm_hang_up(vm);
	kvm_caps_free(vm->caps);
	record_free(vm->rec);
	snap_free(vm->loose);
	def_free(vm->def);
	if (vm->lock >= 0)
		close(vm->lock);
	free(vm->name);
	free(vm->run_dir);
	free(vm->state_dir);
	free(vm);
}

const struct def *fermata_vm_def(const struct fermata_vm *vm)
{
	return vm->def;
}

const char *fermata_vm_name(const struct fermata_vm *vm)
{
	return vm->name;
}

uint64_t fermata_frozen_ms(const struct fermata_vm *vm)
{
	return vm->frozen_ms;
}

enum fermata_way fermata_live_way(const struct fermata_vm *vm)
{
	return vm->way;
}

uint64_t fermata_pause_us(const struct fermata_vm *vm)
{
	return vm->pause_us;
}

const char *fermata_vm_run_dir(const struct fermata_vm *vm)
{
	return vm->run_dir;
}

const char *fermata_vm_disk_file(const struct fermata_vm *vm, size_t i)
{
	const struct record_disk *d = record_disk(vm->rec, vm->def->disks[i].name);

	return d && d->active ? d->active : vm->def->disks[i].file;
}

bool fermata_vm_disk_raw(const struct fermata_vm *vm, size_t i)
{
	const struct record_disk *d = record_disk(vm->rec, vm->def->disks[i].name);

	return d && d->active ? d->raw : vm->def->disks[i].format == FORMAT_RAW;
}

bool vm_alive(const struct fermata_vm *vm)
{
	return kvm_pid(vm->run_dir) != 0;
}

void vm_hang_up(struct fermata_vm *vm)
{
	kvm_close(vm->kvm);
	vm->kvm = NULL;
}

void vm_ask_anew(struct fermata_vm *vm)
{
	if (vm->kvm)
		mon_ahead_forget(kvm_mon(vm->kvm));
}

int vm_caps(struct fermata_vm *vm, const struct kvm_caps **caps, struct err *e)
{
	auto_free char *cache = str_fmt("%s/.probe", vm->host->state_dir);

	if (!cache)
		return err_nomem(e, "probe QEMU");
	if (!vm->caps && kvm_probe(vm->def->qemu, cache, &vm->caps, e) < 0)
		return e->code;
	*caps = vm->caps;
	return 0;
}

int fermata_vm_kvm(struct fermata_vm *vm, struct kvm **out, struct err *e)
{
	if (!vm->kvm && kvm_open(vm->run_dir, deadline_in(CALL_MS), &vm->kvm, e) < 0) {
		if (e->code == -ESRCH) {
			err_set(e, -ESRCH, "%s: the VM is not running", vm->name);
			return err_hint(e, "'fermata start %s' starts it", vm->name);
		}
		return err_at(e, "%s", vm->name);
	}
	*out = vm->kvm;
	return 0;
}

/* ---- state -------------------------------------------------------------------------------------------- */

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
