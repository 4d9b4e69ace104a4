/* live.c */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/internal.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/memory/memory.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "monitor/monitor.h"

#define LOOK_MS  500
#define QUICK_MS 20   /* QEMU may need its stream to be read before it answers */
#define DOWN_MS  20   /* of pre-copy: what may be left for the pause; twice as much each second, so that it comes to an end */
#define DOWN_MAX 2000000

static int ask(struct fermata_vm *vm, const char *command, const char *args, struct err *e)
{
	return mon_call(kvm_mon(vm->kvm), command, args, deadline_in(CALL_MS), NULL, e);
}

/* -ETIMEDOUT: no answer yet; it can be asked again. */
static int quick(struct fermata_vm *vm, const char *command, struct json_doc **reply, struct err *e)
{
	return mon_call(kvm_mon(vm->kvm), command, NULL, deadline_in(QUICK_MS), reply, e);
}

static int capabilities(struct fermata_vm *vm, bool background, bool switchover, struct err *e)
{
	auto_buf struct buf b = { 0 };

	buf_addf(&b, "{\"capabilities\":[{\"capability\":\"events\",\"state\":true},"
		"{\"capability\":\"background-snapshot\",\"state\":%s},{\"capability\":\"pause-before-switchover\",\"state\":%s}]}",
		background ? "true" : "false", switchover ? "true" : "false");
	return buf_check(&b, "ask QEMU for a checkpoint", e) < 0 ? e->code : ask(vm, "migrate-set-capabilities", b.p, e);
}

static int parameters(struct fermata_vm *vm, unsigned down_ms, struct err *e)
{
	auto_buf struct buf b = { 0 };

	buf_addf(&b, "{\"max-bandwidth\":1125899906842624,\"downtime-limit\":%u}", down_ms);
	return buf_check(&b, "ask QEMU for a checkpoint", e) < 0 ? e->code : ask(vm, "migrate-set-parameters", b.p, e);
}

/* Whether QEMU knows capability @name of its migration. @on: out, whether it is on; may be NULL. */
static bool capability(struct fermata_vm *vm, const char *name, bool *on)
{
	auto_json struct json_doc *reply = NULL;
	struct err ignored;

	if (mon_call(kvm_mon(vm->kvm), "query-migrate-capabilities", NULL, deadline_in(CALL_MS), &reply, &ignored) < 0)
		return false;
	json_each(c, json_root(reply))
		if (str_eq(json_str(json_get(c, "capability"), NULL), name)) {
			if (on)
				*on = json_bool(json_get(c, "state"), false);
			return true;
		}
	return false;
}

/*
 * QEMU without KVM misses writes to pages that the guest has touched before: what pre-copy brings back then runs for a while,
 * or traps. Seen on 7.2 and on 10.0.
 */
static bool misses_writes(struct fermata_vm *vm)
{
	auto_json struct json_doc *reply = NULL;
	struct err ignored;

	return mon_call(kvm_mon(vm->kvm), "query-kvm", NULL, deadline_in(CALL_MS), &reply, &ignored) < 0 ||
		!json_bool(json_get(json_root(reply), "enabled"), false);
}

int live_choose(struct fermata_vm *vm, enum fermata_way *way, struct err *e)
{
	struct err why;

	*way = FERMATA_BACKGROUND;
	if (capabilities(vm, true, false, &why) == 0)
		return capabilities(vm, false, false, e);
	*way = FERMATA_PRECOPY;
	if (misses_writes(vm)) {
		*way = FERMATA_STOPPED;
		vm_notice(vm, "no background snapshot (%s), and without KVM pre-copy misses writes: the guest is paused meanwhile",
			why.msg);
		return 0;
	}
	vm_notice(vm, "no background snapshot (%s): by pre-copy", why.msg);
	if (capabilities(vm, false, true, &why) == 0)
		return capabilities(vm, false, false, e);
	*way = FERMATA_STOPPED;
	vm_notice(vm, "nor that (%s): the guest is paused meanwhile", why.msg);
	return 0;
}

struct live {
	struct fermata_vm *vm;
	const struct disks *ds;
	const struct fermata_snap *s;
	struct fermata_taken *made;
	struct mem_out o;
	int in;             /* where the stream is read */
	size_t plug;        /* bytes in the pipe that are not QEMU's */
	bool armed;         /* every write to the guest's memory is tracked: it may go on */
	bool runs;          /* it does */
	uint64_t from_ms, shown_ms, total;
};

/* ---- the stream ------------------------------------------------------------------------------------------- */

static int piped(struct live *l, int *out, struct err *e)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, errno, "cannot make a pipe");
	l->in = p[0];
	*out = p[1];
	fcntl(*out, F_SETPIPE_SZ, MEM_CHUNK); /* only faster */
	l->from_ms = clock_mono_ms();
	return kvm_memory_used(kvm_process(l->vm->kvm), &l->total, e);
}

/* The pipe takes nothing more. */
static void plug(struct live *l, int out)
{
	int n = fcntl(out, F_SETPIPE_SZ, 1);

	memset(l->o.chunk, 0, MEM_CHUNK);
	if (n > 0 && (size_t)n <= MEM_CHUNK && write(out, l->o.chunk, (size_t)n) == n)
		l->plug = (size_t)n;
}

static int unplug(struct live *l, struct err *e)
{
	size_t n = l->plug;

	l->plug = 0;
	if (io_read_full(l->in, l->o.chunk, n, "the pipe", e) < 0)
		return e->code;
	fcntl(l->in, F_SETPIPE_SZ, MEM_CHUNK);
	return 0;
}

/* Take what is there of the stream. @n: out, 0 at its end. */
static int take(struct live *l, size_t *n, struct err *e)
{
	if (mem_out_take(&l->o, l->in, n, e) < 0)
		return e->code;
	if (clock_mono_ms() - l->shown_ms >= LOOK_MS) {
		l->shown_ms = clock_mono_ms();
		memory_show(l->vm, "Save", l->from_ms, l->o.bytes, l->total);
	}
	return memory_cancelled(l->vm, e);
}

/*
 * The next step towards a guest that runs. Not before query-migrate counts pages: until then writes are not tracked, and
 * its memory would be saved as of some later instant. QEMU 7.2 lets it run by itself, later ones do not if they were told to
 * stop before.
 */
static void let_go(struct live *l)
{
	auto_json struct json_doc *reply = NULL;
	const struct json *ram;
	struct err ignored;

	if (!l->armed) {
		if (quick(l->vm, "query-migrate", &reply, &ignored) < 0)
			return;
		ram = json_get(json_root(reply), "ram");
		l->armed = json_uint(json_get(ram, "normal"), 0) || json_uint(json_get(ram, "duplicate"), 0);
	} else if (quick(l->vm, "query-status", &reply, &ignored) == 0) {
		l->runs = json_bool(json_get(json_root(reply), "running"), false);
		if (!l->runs && quick(l->vm, "cont", NULL, &ignored) < 0)
			return;
	}
}

/*
 * To the end, whatever happens here: when the stream of a background snapshot breaks off, QEMU leaves the guest's processors
 * waiting, or cannot take another. @rc: what has failed already.
 */
static int drain(struct live *l, int rc, struct err *e)
{
	struct pollfd p = { .fd = l->in, .events = POLLIN };

	for (size_t n = 1; n;) {
		if (poll(&p, 1, l->runs ? LOOK_MS : 1) > 0) {
			if (rc == 0) {
				rc = take(l, &n, e);
			} else {
				ssize_t r = read(l->in, l->o.chunk, MEM_CHUNK);

				n = r > 0 || (r < 0 && errno == EINTR);
			}
		} else if (rc == 0) {
			rc = memory_cancelled(l->vm, e);
		}
		if (!l->runs)
			let_go(l);
	}
	return rc;
}

/* ---- the ways --------------------------------------------------------------------------------------------- */

/* Disks that have switched and a guest that has not run since: its memory is still the right one. */
static int save_standing(struct live *l, struct saving *m, struct err *e)
{
	vm_notice(l->vm, "QEMU gave up the background snapshot (%s): the guest is paused meanwhile", e->msg);
	l->made->way = FERMATA_STOPPED;
	mem_out_done(&l->o);
	return mem_out_open(l->s->memory, false, false, l->vm->rec->pending.mark, &l->o, e) < 0 ||
		memory_save(l->vm, &l->o, memory_manifest, m, e) < 0 ||
		memory_go_on(l->vm, true, e) < 0 ? e->code : mem_out_place(&l->o, e);
}

static int finish(struct live *l, struct saving *m, struct err *e)
{
	auto_buf struct buf text = { 0 };

	memory_show(l->vm, "Save", l->from_ms, l->total, l->total);
	return memory_manifest(m, &text, e) < 0 || mem_out_seal(&l->o, &text, e) < 0 ? e->code : mem_out_place(&l->o, e);
}

/* Whether QEMU has a migration under way. */
static bool is_under_way(struct fermata_vm *vm)
{
	auto_json struct json_doc *reply = NULL;
	const char *status;
	struct err e;

	if (quick(vm, "query-migrate", &reply, &e) < 0)
		return e.code == -ETIMEDOUT;
	status = json_str(json_get(json_root(reply), "status"), "none");
	return !strcmp(status, "setup") || !strcmp(status, "active") || !strcmp(status, "cancelling");
}

/*
 * QEMU looks at every page of the guest's memory before it tracks writes, 0.2 s for each GiB. The guest need not stand for
 * that: QEMU has nothing to say before it is done, and then the pipe is full. So until it waits there, the guest runs; where
 * that cannot be seen, it does not, and all is right as well.
 */
static int begin_plugged(struct live *l, struct err *e)
{
	pid_t pid = kvm_process(l->vm->kvm);

	if (ask(l->vm, "migrate", "{\"uri\":\"fd:fermata\"}", e) < 0)
		return e->code;
	for (unsigned i = 1; kvm_waits_on(pid, l->in) == 0; i++) {
		if (i % 50 == 0 && !is_under_way(l->vm))
			break;
		if (memory_cancelled(l->vm, e) < 0)
			break; /* drain() sees it too */
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	return 0;
}

static int background(struct live *l, struct saving *m, int *out, struct err *e)
{
	struct fermata_vm *vm = l->vm;
	struct err also;
	int rc, ended;

	/* From 8.2 on QEMU has its big lock while it sets up: plugged, it could be told nothing. Those know switchover-ack, of 8.1. */
	if (!capability(vm, "switchover-ack", NULL))
		plug(l, *out);
	/* The guest stands while that QEMU looks at its memory, of which the last background snapshot has left small pages. */
	if (!l->plug)
		kvm_collapse(kvm_process(vm->kvm), vm->def->memory);
	if (capabilities(vm, true, false, e) < 0 || parameters(vm, DOWN_MAX, e) < 0 || memory_give(vm->kvm, out, e) < 0 ||
		(l->plug && begin_plugged(l, e) < 0))
		return e->code;
	rc = memory_cancelled(vm, e) < 0 || kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0 ||
		diskshot_switch(vm, l->ds, l->s, e) < 0 ? e->code : 0;
	if (l->plug) {
		if (unplug(l, rc ? &also : e) < 0 && rc == 0)
			rc = e->code;
	} else if (rc < 0) {
		return rc;
	} else if (ask(vm, "migrate", "{\"uri\":\"fd:fermata\"}", e) < 0) {
		return e->code == -EREMOTEIO ? save_standing(l, m, e) : e->code;
	}
	rc = drain(l, rc, e);
	ended = memory_settle(vm, "query-migrate", rc ? &also : e);
	if (rc < 0 || ended == 0)
		return rc < 0 ? rc : finish(l, m, e);
	return ended == -EREMOTEIO && !l->runs && !l->armed ? save_standing(l, m, e) : ended;
}

/* QEMU has stopped the guest and waits with the last of its memory. @after: out, nothing more is to be asked. */
static int switch_over(struct live *l, bool *after, struct err *e)
{
	auto_json struct json_doc *reply = NULL;
	const char *status;
	int rc;

	rc = quick(l->vm, "query-migrate", &reply, e);
	if (rc < 0)
		return rc == -ETIMEDOUT ? 0 : rc;
	status = json_str(json_get(json_root(reply), "status"), "");
	if (strcmp(status, "pre-switchover"))
		return 0;
	if (diskshot_switch(l->vm, l->ds, l->s, e) < 0)
		return e->code;
	*after = true;
	rc = mon_call(kvm_mon(l->vm->kvm), "migrate-continue", "{\"state\":\"pre-switchover\"}", deadline_in(QUICK_MS), NULL, e);
	return rc == -ETIMEDOUT ? 0 : rc; /* it has been sent, and its answer may wait for us to read */
}

static int precopy(struct live *l, struct saving *m, int *out, struct err *e)
{
	struct fermata_vm *vm = l->vm;
	unsigned down_ms = DOWN_MS;
	uint64_t raised = l->from_ms;
	bool after = false;

	if (capabilities(vm, false, true, e) < 0 || parameters(vm, down_ms, e) < 0 || memory_give(vm->kvm, out, e) < 0 ||
		ask(vm, "migrate", "{\"uri\":\"fd:fermata\"}", e) < 0)
		return e->code;
	for (size_t n = 1; n;) {
		struct pollfd p[2] = { { .fd = l->in, .events = POLLIN }, { .fd = mon_fd(kvm_mon(vm->kvm)), .events = POLLIN } };

		poll(p, after ? 1 : 2, QUICK_MS);
		if (p[0].revents ? take(l, &n, e) < 0 : memory_cancelled(vm, e) < 0)
			return e->code;
		/* An event, or nothing at all for a while: it may have come to the switch-over. */
		if (n && !after && (p[1].revents || !p[0].revents) &&
			(mon_process(kvm_mon(vm->kvm), e) < 0 || switch_over(l, &after, e) < 0))
			return e->code;
		if (!after && down_ms < DOWN_MAX && clock_mono_ms() - raised > 1000) {
			raised = clock_mono_ms();
			down_ms *= 2;
			if (parameters(vm, down_ms, e) < 0)
				return e->code;
		}
	}
	if (memory_settle(vm, "query-migrate", e) < 0)
		return e->code;
	if (!after)
		return err_set(e, -EPROTO, "QEMU did not wait for the disks");
	return memory_go_on(vm, true, e) < 0 ? e->code : finish(l, m, e);
}

/* ---- and around them ---------------------------------------------------------------------------------------- */

static int eat(void *fd)
{
	char bytes[4096];
	ssize_t n;

	while ((n = read(*(int *)fd, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR))
		;
	return 0;
}

/* In the child that is left when this process dies: the stream's rest is read aside, in one that ends with it. */
static void after_death(void *vm)
{
	int fd = KVM_GUARD_FD;

	kvm_child_start(eat, &fd);
	close(fd);
	vm_rescue(vm);
}

int live_take(struct fermata_vm *vm, const struct take *t, struct fermata_taken *made, struct err *e)
{
	const struct fermata_snap *s = t->snap;
	struct live l = { .vm = vm, .ds = t->ds, .s = s, .made = made, .o = { .fd = -1 }, .in = -1 };
	struct saving m = { .vm = vm, .snap = s, .run = true };
	bool back = made->way == FERMATA_BACKGROUND;
	auto_fd int out = -1;
	struct kvm_guard guard;
	struct err also;
	int rc;

	rc = mem_out_open(s->memory, false, false, vm->rec->pending.mark, &l.o, e) < 0 || piped(&l, &out, e) < 0 ||
		diskshot_prepare(vm, t->ds, s, e) < 0 ||
		kvm_guard_call_with(back ? l.in : -1, back ? after_death : vm_rescue, vm, &guard, e) < 0 ? e->code : 0;
	if (rc == 0) {
		rc = (back ? background : precopy)(&l, &m, &out, e);
		/* That ends it, if it is not over. */
		own_close(&out);
		own_close(&l.in);
		if (rc < 0 && vm_alive(vm) && memory_go_on(vm, true, &also) < 0)
			err_also(e, "and could not let the guest go on: %s", also.msg);
		kvm_guard_end(&guard);
	}
	if (vm_alive(vm) && capabilities(vm, false, false, &also) < 0 && rc == 0)
		vm_notice(vm, "%s", also.msg);
	if (rc == 0)
		made->pause_us = checkpoint_pause_us(kvm_mon(vm->kvm));
	own_close(&l.in);
	mem_out_done(&l.o);
	return rc;
}

int live_end(struct fermata_vm *vm, bool ran, struct err *e)
{
	struct live l = { .vm = vm, .runs = !ran };
	bool on = false, over;
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	/* Not begun, there would be no end to wait for. */
	over = !capability(vm, "background-snapshot", &on) || !on || ask(vm, "closefd", "{\"fdname\":\"fermata\"}", e) == 0;
	while (!over) {
		if (!l.runs)
			let_go(&l);
		over = !is_under_way(vm);
		if (!over)
			nanosleep(&(struct timespec){ .tv_nsec = l.runs ? 50000000 : 1000000 }, NULL);
	}
	return memory_go_on(vm, ran, e) < 0 ? e->code : capabilities(vm, false, false, e);
}
