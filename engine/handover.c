#include "engine/handover.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/overlay.h"
#include "lib/file.h"
#include "lib/own.h"

#define CMDLINE_MAX (1u << 20) /* bytes */

/* The name that the memory file gets: one for each checkpoint of each VM of each root. NULL: no memory. */
static char *live_name(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	return str_fmt("%s/fermata-%s-%llu-%016llx.ram", life_memory_dir(vm), vm->name, (unsigned long long)s->id,
		(unsigned long long)mem_sum(vm->state_dir, strlen(vm->state_dir)));
}

/* Not beside the memory: nothing can be written to files of a hugetlbfs. */
static char *devices_name(const struct fermata_vm *vm, const struct fermata_snap *s)
{
	return str_fmt("%s/devices-%llu", vm->run_dir, (unsigned long long)s->id);
}

/* First the link, so that whatever is cut off in between finds its way to the name. */
static int give_name(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_free char *live = live_name(vm, s);
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

void handover_drop(struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_free char *live = life_memory_dir(vm) ? live_name(vm, s) : NULL, *devices = devices_name(vm, s);

	if (devices)
		unlink(devices);
	if (live)
		unlink(live);
}

bool handover_is(struct fermata_vm *vm, const struct fermata_snap *s)
{
	auto_free char *live = fermata_snap_instant(s) && life_memory_dir(vm) ? live_name(vm, s) : NULL;
	auto_free char *devices = live ? devices_name(vm, s) : NULL;
	struct stat st;

	return devices && (file_exists(live) || file_exists(devices) || (lstat(s->ram, &st) == 0 && S_ISLNK(st.st_mode)));
}

/* ---- afterwards ------------------------------------------------------------------------------------------- */

/* Both are in their places, only what they were made of is still there. */
static bool is_complete(const struct fermata_snap *s)
{
	auto_mem_in struct mem_in in = { .fd = -1 };
	struct err ignored;
	struct stat st;

	return lstat(s->ram, &st) == 0 && S_ISREG(st.st_mode) && memory_open(s->memory, s, &in, &ignored) == 0;
}

/* Memory and devices into their places: the guest runs, or is gone. */
static int complete(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_free char *live = live_name(vm, s), *devices = devices_name(vm, s);
	struct ram from = { .mem = -1, .own = -1, .bytes = vm->def->memory };
	auto_ram_out struct ram_out ram = { .fd = -1 };
	auto_mem_out struct mem_out mem = { .fd = -1 };
	auto_buf struct buf stream = { 0 };
	int rc;

	if (!live || !devices)
		return err_nomem(e, "finish a checkpoint");
	if (is_complete(s)) {
		handover_drop(vm, s);
		return 0;
	}
	if (file_read(devices, INSTANT_STATE_MAX, &stream, e) < 0)
		return e->code;
	from.own = open(live, O_RDONLY | O_CLOEXEC);
	if (from.own < 0)
		return err_sys(e, errno, "cannot open %s", live);
	rc = mem_out_open(s->memory, false, false, &mem, e) < 0 || ram_out_open(vm, s->ram, &ram, e) < 0 ||
		ram_save(vm, &from, NULL, &ram, &mem.more, e) < 0 ||
		instant_place(vm, s, vm->rec->pending.run, &ram, &mem, &stream, e) < 0 ? e->code : 0;
	close(from.own);
	if (rc == 0)
		handover_drop(vm, s);
	return rc;
}

/* The second QEMU is the VM's from now on. */
static int move_in(struct fermata_vm *vm, struct err *e)
{
	auto_free char *next = checkpoint_beside(vm);

	return next ? kvm_move(next, vm->run_dir, e) : err_nomem(e, "move a VM");
}

/* ---- taking ------------------------------------------------------------------------------------------------ */

struct handover {
	struct kvm *next;
	int feed; /* where it reads its state */
};

/* When the disks become its own is for "cont" to say: until then they are those of the present one. */
static int late(struct fermata_vm *vm, bool on, struct err *e)
{
	char args[96];

	snprintf(args, sizeof args, "{\"capabilities\":[{\"capability\":\"late-block-activate\",\"state\":%s}]}", on ? "true" : "false");
	return mon_call(kvm_mon(vm->kvm), "migrate-set-capabilities", args, deadline_in(CALL_MS), NULL, e);
}

static int hold(struct fermata_vm *vm, const struct fermata_snap *s, void *ctx, struct err *e)
{
	struct handover *h = ctx;

	(void)s;
	if (late(vm, true, e) < 0 || memory_load_ready(vm, &h->feed, e) < 0)
		return e->code;
	h->next = take_ptr(&vm->kvm);
	return 0;
}

/* Of the present one, which stands: its devices into a file, and into the second one. */
static int pass_on(struct fermata_vm *vm, const struct fermata_snap *s, struct handover *h, const struct state_file *f, struct err *e)
{
	auto_free char *devices = devices_name(vm, s);
	auto_buf struct buf stream = { 0 };
	auto_fd int fd = -1;
	struct kvm *present;
	int rc;

	if (state_save(vm, f, vm->rec->pending.run, e) < 0 || state_stream(f->fd, s->machine, &stream, e) < 0)
		return e->code;
	fd = devices ? open(devices, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		return err_sys(e, devices ? errno : ENOMEM, "cannot create %s", devices);
	if (io_write_full(fd, stream.p, stream.n, devices, e) < 0)
		return e->code;
	present = vm->kvm;
	vm->kvm = h->next;
	rc = memory_load_bytes(vm, h->feed, &stream, e);
	vm->kvm = present;
	return rc;
}

/* Away with the second one. */
static void dismiss(struct fermata_vm *vm)
{
	auto_free char *next = checkpoint_beside(vm);
	struct err ignored;

	if (next && kvm_destroy(next, 0, false, &ignored) == 0)
		kvm_remove(next, vm->run_dir);
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
static int let_go(struct fermata_vm *vm, struct handover *h, struct err *e)
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
	vm->pause_us = stopped && goes_on > stopped ? (uint64_t)(goes_on - stopped) : 0;
	return 0;
}

/* From here on there is no way back. */
static int change(struct fermata_vm *vm, struct handover *h, struct err *e)
{
	vm_hang_up(vm);
	if (kvm_destroy(vm->run_dir, 0, false, e) < 0)
		return e->code;
	vm->kvm = take_ptr(&h->next);
	return move_in(vm, e) < 0 || late(vm, false, e) < 0 ? e->code : 0;
}

/* What is left is a disk snapshot. */
static void give_up(struct fermata_vm *vm, const struct err *e)
{
	vm_notice(vm, "%s", e->msg);
	checkpoint_keep(vm, vm->rec->pending.snap);
}

static int switch_over(struct fermata_vm *vm, const struct fermata_snap *s, struct handover *h, struct state_file *f, struct err *e)
{
	bool ran = vm->rec->pending.run;
	struct kvm_guard guard;
	struct err also;
	struct kvm *k;
	int rc;

	if (fermata_vm_kvm(vm, &k, e) < 0 || state_open(vm, f, e) < 0 || kvm_guard_call(recover_now, vm, &guard, e) < 0) {
		dismiss(vm);
		return e->code;
	}
	rc = (ran && kvm_stop(k, deadline_in(CALL_MS), e) < 0) || pass_on(vm, s, h, f, e) < 0 || let_go(vm, h, e) < 0 ? e->code : 0;
	if (rc == 0) {
		f->set = 0; /* goes with its QEMU */
		if (change(vm, h, e) < 0)
			rc = e->code = FERMATA_PENDING;
		else if (complete(vm, s, e) < 0)
			give_up(vm, e);
	} else if (rc != FERMATA_PENDING) {
		dismiss(vm);
		if (ran && vm_alive(vm) && kvm_cont(k, deadline_in(CALL_MS), &also) < 0)
			err_also(e, "and could not let the guest go on: %s", also.msg);
	}
	kvm_guard_end(&guard);
	return rc;
}

int handover_take(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	struct handover h = { .feed = -1 };
	struct state_file f = { .fd = -1 };
	int rc;

	if (overlays_make(vm, s, NULL, NULL, e) < 0 || give_name(vm, s, e) < 0 || checkpoint_next(vm, s, s->machine, hold, &h, e) < 0)
		return e->code;
	rc = switch_over(vm, s, &h, &f, e);
	state_close(vm, &f);
	own_close(&h.feed);
	kvm_close(h.next);
	return rc;
}

/* ---- cut off ------------------------------------------------------------------------------------------------ */

/*
 * Whether the VM's QEMU is the second one: it has mapped the checkpoint's memory. Asked of the kernel, for it may be ending; one
 * that runs and cannot be seen is taken for neither.
 */
static int find_second(struct fermata_vm *vm, const struct fermata_snap *s, bool *second, struct err *e)
{
	pid_t pid = kvm_pid(vm->run_dir);
	auto_buf struct buf line = { 0 }, map = { 0 };
	char path[32];

	*second = false;
	if (!pid)
		return 0;
	buf_adds(&map, "mem-path=");
	for (const char *p = s->ram; *p; p++)
		buf_addf(&map, "%c%s", *p, *p == ',' ? "," : "");
	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	if (buf_check(&map, "recover", e) < 0)
		return e->code;
	if (file_read(path, CMDLINE_MAX, &line, e) < 0)
		return kvm_pid(vm->run_dir) == pid ? err_at(e, "cannot tell which QEMU runs") : 0;
	*second = memmem(line.p, line.n, map.p, map.n + 1);
	return 0;
}

static bool present_runs(struct fermata_vm *vm)
{
	char status[KVM_STATUS_MAX];
	struct err ignored;
	struct kvm *k;

	return fermata_vm_kvm(vm, &k, &ignored) == 0 && kvm_status(k, status, &ignored) == 0 && !strcmp(status, "running");
}

/*
 * Once the second one has loaded, the present one is not let go on any more, and may have been told to end. But should the
 * loading have been taken for a failure, it runs.
 */
static int choose(struct fermata_vm *vm, const struct fermata_snap *s, bool *second, struct err *e)
{
	auto_free char *next = checkpoint_beside(vm);

	if (!next)
		return err_nomem(e, "recover");
	if (find_second(vm, s, second, e) < 0)
		return e->code;
	if (!*second && checkpoint_stands(next) && !present_runs(vm)) {
		vm_hang_up(vm);
		if (kvm_destroy(vm->run_dir, 0, false, e) < 0)
			return e->code;
		*second = true;
	}
	/* Also of one that had moved in half way. */
	if (*second)
		return move_in(vm, e);
	dismiss(vm);
	return 0;
}

/* Whichever it is goes on, if the guest ran. */
static int go_on(struct fermata_vm *vm, bool second, struct err *e)
{
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0 || (vm->rec->pending.run && !present_runs(vm) && kvm_cont(k, deadline_in(CALL_MS), e) < 0))
		return e->code;
	return second ? late(vm, false, e) : 0;
}

int handover_recover(struct fermata_vm *vm, bool *whole, struct err *e)
{
	const struct fermata_snap *s = vm->rec->pending.snap;
	bool second = false;

	*whole = false;
	if (choose(vm, s, &second, e) < 0 || (vm_alive(vm) && go_on(vm, second, e) < 0))
		return e->code;
	if (vm_alive(vm) && !second)
		return 0;
	*whole = complete(vm, s, e) == 0;
	if (*whole)
		return 0;
	/* The memory is lost, but what the guest has written since is not. */
	if (!second) {
		vm_notice(vm, "%s", e->msg);
		return create_is_whole(vm, whole, e);
	}
	*whole = true;
	give_up(vm, e);
	return 0;
}
