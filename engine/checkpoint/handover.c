/* A hand-over: a second QEMU maps the memory that the present one wrote, and the guest goes on in it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/internal.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/qemu/qemu.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "monitor/mon.h"
#include "monitor/monitor.h"

/* First the link, so that whatever is cut off in between finds its way to the name. */
static int give_name(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_free char *live = live_memory_name(vm, s);
	char file[48];

	if (!live)
		return err_nomem(e, "name the memory");
	snprintf(file, sizeof file, "/proc/%d/fd/%d", (int)kvm_process(vm->kvm), KVM_FD_MEMORY);
	if (symlink(live, s->ram) < 0)
		return err_sys(e, errno, "cannot create %s", s->ram);
	if (linkat(AT_FDCWD, file, AT_FDCWD, live, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	err_sys(e, errno, "cannot create %s", live);
	/* The kernel gives a name to such a file once. */
	return errno == ENOENT ? err_hint(e, "a handover was tried before; --instant=copy copies it") : e->code;
}

/* ---- taking ------------------------------------------------------------------------------------------------ */

struct handover {
	struct kvm *next;
	int feed; /* where it reads its state */
};

static int hold_second(struct fermata_vm *vm, struct instance *second, const struct fermata_snap *s, void *ctx, struct err *e)
{
	struct handover *h = ctx;

	(void)vm;
	(void)s;
	if (set_late_block_activate(second->kvm, true, e) < 0 || memory_load_ready(second->kvm, &h->feed, e) < 0)
		return e->code;
	h->next = take_ptr(&second->kvm);
	return 0;
}

/* Of the present one, which stands: its devices into a file, and into the second one. */
static int pass_on(struct fermata_vm *vm, const struct fermata_snap *s, struct handover *h, const struct state_file *f, struct err *e)
{
	auto_free char *devices = device_state_name(vm, s);
	auto_buf struct buf stream = { 0 };
	auto_fd int fd = -1;

	if (state_save(vm, f, vm->rec->pending.run, e) < 0 || state_stream(vm, f->fd, s->machine, &stream, e) < 0)
		return e->code;
	fd = devices ? open(devices, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		return err_sys(e, devices ? errno : ENOMEM, "cannot create %s", devices);
	if (io_write_full(fd, stream.p, stream.n, devices, e) < 0)
		return e->code;
	return memory_load_bytes(vm, h->next, h->feed, &stream, e);
}

/* When the last event called @name was, by QEMU's clock; 0: there was none. Takes them all. */
static int64_t event_usec(struct mon *m, const char *name)
{
	int64_t at = 0;

	for (struct mon_event *ev; (ev = mon_next_event(m)); mon_event_free(ev))
		if (!strcmp(ev->name, name))
			at = ev->usec;
	return at;
}

/*
 * The second one goes on while the present one, whose images it has set free, still stands: what it takes to end a process of
 * so much memory is no pause. Should it not, the present one can: what the second one writes is in files of its own, but for
 * disks that were left out of the checkpoint, which are as after a crash then.
 */
static int let_go(struct fermata_vm *vm, struct handover *h, struct fermata_taken *made, struct err *e)
{
	int64_t stopped = event_usec(kvm_mon(vm->kvm), "STOP"), goes_on;

	if (!vm->rec->pending.run)
		return 0;
	if (kvm_cont(h->next, deadline_in(CALL_MS), e) < 0) {
		/* A second one that says nothing may be running: there is no going back behind that. */
		if (e->code == -ETIMEDOUT)
			return e->code = FERMATA_PENDING;
		return err_hint(e, "--instant=copy does without a second QEMU");
	}
	goes_on = event_usec(kvm_mon(h->next), "RESUME");
	made->pause_us = stopped && goes_on > stopped ? (uint64_t)(goes_on - stopped) : 0;
	return 0;
}

/* From here on there is no way back. */
static int change(struct fermata_vm *vm, struct handover *h, struct err *e)
{
	vm_hang_up(vm);
	if (kvm_destroy(vm->run_dir, 0, false, e) < 0)
		return e->code;
	vm->kvm = take_ptr(&h->next);
	return checkpoint_move_in(vm, e) < 0 || set_late_block_activate(vm->kvm, false, e) < 0 ? e->code : 0;
}

static int switch_over(struct fermata_vm *vm, const struct fermata_snap *s, struct handover *h, struct state_file *f,
	struct fermata_taken *made, struct err *e)
{
	bool ran = vm->rec->pending.run;
	struct kvm_guard guard;
	struct err also;
	struct kvm *k;
	int rc;

	if (fermata_vm_kvm(vm, &k, e) < 0 || state_open(vm, f, e) < 0 || kvm_guard_call(vm_rescue, vm, &guard, e) < 0) {
		dismiss_old_qemu(vm);
		return e->code;
	}
	rc = (ran && kvm_stop(k, deadline_in(CALL_MS), e) < 0) || pass_on(vm, s, h, f, e) < 0 || let_go(vm, h, made, e) < 0 ? e->code : 0;
	if (rc == 0) {
		f->set = 0; /* goes with its QEMU */
		if (change(vm, h, e) < 0)
			rc = e->code = FERMATA_PENDING;
		else if (complete_memory_file(vm, s, e) < 0)
			rc = give_up_memory(vm, e);
	} else if (rc != FERMATA_PENDING) {
		dismiss_old_qemu(vm);
		if (ran && vm_alive(vm) && kvm_cont(k, deadline_in(CALL_MS), &also) < 0)
			err_also(e, "and could not let the guest go on: %s", also.msg);
	}
	kvm_guard_end(&guard);
	return rc;
}

int handover_take(struct fermata_vm *vm, const struct take *t, struct fermata_taken *made, struct err *e)
{
	const struct fermata_snap *s = t->snap;
	struct handover h = { .feed = -1 };
	struct state_file f = { .fd = -1 };
	int rc;

	/* The second QEMU is the definition's, which may have changed since the present one was started. */
	if (check_installed_qemu(vm, s, e) < 0 || overlays_make(vm, s, NULL, NULL, e) < 0 || give_name(vm, s, e) < 0 ||
		checkpoint_next(vm, s, s->machine, hold_second, &h, e) < 0)
		return e->code;
	rc = switch_over(vm, s, &h, &f, made, e);
	state_close(vm, &f);
	own_close(&h.feed);
	kvm_close(h.next);
	return rc;
}
