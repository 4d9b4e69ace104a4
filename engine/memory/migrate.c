/* Guest memory through QMP migrate: out to a file, in from a file, with progress and cancel. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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
#include "lib/json.h"
#include "lib/own.h"
#include "monitor/mon.h"
#include "monitor/monitor.h"

#define LOOK_MS   500
#define SETTLE_MS 30000 /* for a migration that is over to be put away */
#define EXTRA_BYTES (16u << 20) /* device state, checksums */

static int ask(struct kvm *k, const char *command, const char *args, struct err *e)
{
	return mon_call(kvm_mon(k), command, args, deadline_in(CALL_MS), NULL, e);
}

int memory_check(struct fermata_vm *vm, const char *path, struct err *e)
{
	auto_free char *dir = strndup(path, (size_t)(strrchr(path, '/') - path) + 1);
	uint64_t used, has;
	struct kvm *k;

	if (!dir)
		return err_nomem(e, "save memory");
	if (fermata_vm_kvm(vm, &k, e) < 0 || vm_blockers(vm, e) < 0 || kvm_memory_used(kvm_process(k), &used, e) < 0 ||
		file_free_space(dir, &has, e) < 0)
		return e->code;
	used = (used < vm->def->memory ? used : vm->def->memory) + EXTRA_BYTES;
	if (has >= used)
		return 0;
	return err_set(e, -ENOSPC, "the memory in use may take %llu MiB, %s has %llu MiB free", (unsigned long long)(used >> 20),
		dir, (unsigned long long)(has >> 20));
}

/* ---- QEMU's side ------------------------------------------------------------------------------------------ */

/* QMP query-migrate, or query-dump: where it stands. @why: out, of a failure. */
static int look(struct kvm *k, const char *command, char status[KVM_STATUS_MAX], char why[200], struct err *e)
{
	auto_json struct json_doc *reply = NULL;

	if (mon_call(kvm_mon(k), command, NULL, deadline_in(CALL_MS), &reply, e) < 0)
		return e->code;
	snprintf(status, KVM_STATUS_MAX, "%s", json_str(json_get(json_root(reply), "status"), "none"));
	snprintf(why, 200, "%s", json_str(json_get(json_root(reply), "error-desc"), status));
	return 0;
}

/* Wait until it is over. -EREMOTEIO: it did not succeed. @load: "none" is one that has not begun yet. */
static int settle_as(struct kvm *k, const char *command, bool load, struct err *e)
{
	struct deadline d = deadline_in(SETTLE_MS);
	char status[KVM_STATUS_MAX], why[200];

	for (;;) {
		if (look(k, command, status, why, e) < 0)
			return e->code;
		if (!strcmp(status, "completed"))
			return 0;
		if (!strcmp(status, "failed") || !strcmp(status, "cancelled") || (!load && !strcmp(status, "none")))
			return err_set(e, -EREMOTEIO, "QEMU could not do it: %s", why);
		if (deadline_left_ms(d) == 0)
			return err_set(e, -ETIMEDOUT, "QEMU does not end it: %s", why);
		nanosleep(&(struct timespec){ .tv_nsec = 500000 }, NULL);
	}
}

int memory_settle(struct fermata_vm *vm, const char *command, struct err *e)
{
	return settle_as(vm->kvm, command, false, e);
}

int memory_go_on(struct fermata_vm *vm, bool ran, struct err *e)
{
	char status[KVM_STATUS_MAX];
	struct err ignored;
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	if (ask(k, "migrate_cancel", NULL, &ignored) == 0 && memory_settle(vm, "query-migrate", &ignored) == -ETIMEDOUT) {
		*e = ignored;
		return e->code;
	}
	if (kvm_status(k, status, e) < 0)
		return e->code;
	/* Out of "postmigrate", where its disks are inactive, a guest comes only by running. */
	if (strcmp(status, "running") && (ran || !strcmp(status, "postmigrate")) && kvm_cont(k, deadline_in(CALL_MS), e) < 0)
		return e->code;
	return ran ? 0 : kvm_stop(k, deadline_in(CALL_MS), e);
}

int memory_give(struct kvm *k, int *fd, struct err *e)
{
	int rc = mon_call_fd(kvm_mon(k), "getfd", "{\"fdname\":\"fermata\"}", *fd, deadline_in(CALL_MS), NULL, e);

	close(take_fd(fd));
	return rc;
}

static int set_up(struct kvm *k, struct err *e)
{
	/* No limit on the pause: QEMU stops the guest after its first look at the memory, 0.1 s. */
	return ask(k, "migrate-set-capabilities",
		       "{\"capabilities\":[{\"capability\":\"events\",\"state\":true},"
		       "{\"capability\":\"background-snapshot\",\"state\":false},"
		       "{\"capability\":\"pause-before-switchover\",\"state\":false}]}", e) < 0 ? e->code :
		ask(k, "migrate-set-parameters", "{\"max-bandwidth\":1125899906842624,\"downtime-limit\":2000000}", e);
}

/* ---- saving ------------------------------------------------------------------------------------------------- */

/*
 * The pipe into the file, to the stream's end. Nothing is asked of QEMU meanwhile: while it waits for us to read, it may
 * not be able to answer.
 */
static int copy(struct fermata_vm *vm, const char *what, int in, struct mem_out *o, struct err *e)
{
	uint64_t from = clock_mono_ms(), shown = 0, total;
	size_t n = 1;

	if (kvm_memory_used(kvm_process(vm->kvm), &total, e) < 0)
		return e->code;
	while (n) {
		struct pollfd p = { .fd = in, .events = POLLIN };

		if (memory_cancelled(vm, e) < 0)
			return e->code;
		if (clock_mono_ms() - shown >= LOOK_MS) {
			shown = clock_mono_ms();
			memory_show(vm, what, from, o->bytes, total);
		}
		if (poll(&p, 1, LOOK_MS) < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot wait for QEMU");
		if (p.revents && mem_out_take(o, in, &n, e) < 0)
			return e->code;
	}
	memory_show(vm, what, from, total, total);
	return 0;
}

/* A command of QEMU's that writes to "fd:fermata", and what comes out of it. */
static int run(struct fermata_vm *vm, const char *what, const char *command, const char *args, const char *query,
	struct mem_out *o, struct err *e)
{
	auto_fd int in = -1, out = -1;
	int p[2], rc;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, errno, "cannot make a pipe");
	in = p[0];
	out = p[1];
	fcntl(out, F_SETPIPE_SZ, MEM_CHUNK); /* only faster */
	if (memory_give(vm->kvm, &out, e) < 0 || ask(vm->kvm, command, args, e) < 0)
		return e->code;
	rc = copy(vm, what, in, o, e);
	if (rc < 0) {
		struct err also;

		close(take_fd(&in)); /* which ends it */
		if (memory_settle(vm, query, &also) == -ETIMEDOUT)
			err_also(e, "%s", also.msg);
		return rc;
	}
	return memory_settle(vm, query, e);
}

int memory_save(struct fermata_vm *vm, struct mem_out *o, int (*manifest)(void *ctx, struct buf *b, struct err *e), void *ctx,
	struct err *e)
{
	auto_buf struct buf text = { 0 };

	if (set_up(vm->kvm, e) < 0 || run(vm, "Save", "migrate", "{\"uri\":\"fd:fermata\"}", "query-migrate", o, e) < 0 ||
		manifest(ctx, &text, e) < 0)
		return e->code;
	return mem_out_seal(o, &text, e);
}

/* QEMU stops the guest for it. When the pipe breaks it gives up and lets the guest go on, so nothing is to be recovered. */
int memory_dump(struct fermata_vm *vm, struct mem_out *o, struct err *e)
{
	struct kvm_guard guard;
	int rc;

	if (kvm_guard_call(vm_rescue, vm, &guard, e) < 0)
		return e->code;
	rc = run(vm, "Dump", "dump-guest-memory", "{\"paging\":false,\"protocol\":\"fd:fermata\",\"detach\":true}", "query-dump", o,
		e);
	kvm_guard_end(&guard);
	return rc < 0 ? rc : mem_out_seal(o, NULL, e);
}

/* ---- loading ------------------------------------------------------------------------------------------------ */

static int feed(struct fermata_vm *vm, const uint8_t *p, size_t n, int fd, struct err *e)
{
	while (n) {
		struct pollfd w = { .fd = fd, .events = POLLOUT };
		ssize_t done;

		if (memory_cancelled(vm, e) < 0)
			return e->code;
		if (poll(&w, 1, LOOK_MS) < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot wait for QEMU");
		done = w.revents ? send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
		if (done < 0 && errno != EAGAIN && errno != EINTR)
			return err_set(e, -ECONNRESET, "QEMU did not take it all");
		if (done > 0) {
			p += done;
			n -= (size_t)done;
		}
	}
	return 0;
}

static int feed_all(struct fermata_vm *vm, const struct mem_in *in, int fd, struct err *e)
{
	auto_free uint8_t *chunk = malloc(MEM_CHUNK);
	uint64_t from = clock_mono_ms();
	size_t n;

	if (!chunk)
		return err_nomem(e, "load memory");
	for (uint64_t i = 0; i * MEM_CHUNK < in->stream; i++) {
		if (mem_in_chunk(in, i, chunk, &n, e) < 0 || feed(vm, chunk, n, fd, e) < 0)
			return e->code;
		if (i % 64 == 0)
			memory_show(vm, "Restore", from, i * MEM_CHUNK, in->stream);
	}
	memory_show(vm, "Restore", from, in->stream, in->stream);
	return 0;
}

int memory_load_ready(struct kvm *k, int *fd, struct err *e)
{
	auto_fd int ours = -1, its = -1;
	int p[2];

	/* Not a pipe, since writing to one whose reader is gone raises a signal. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
		return err_sys(e, errno, "cannot make a socket pair");
	ours = p[0];
	its = p[1];
	if (set_up(k, e) < 0 || memory_give(k, &its, e) < 0)
		return e->code;
	*fd = take_fd(&ours);
	return 0;
}

static int incoming(struct kvm *k, struct err *e)
{
	return ask(k, "migrate-incoming", "{\"uri\":\"fd:fermata\"}", e);
}

int memory_load_bytes(struct fermata_vm *vm, struct kvm *k, int fd, const struct buf *b, struct err *e)
{
	return incoming(k, e) < 0 || feed(vm, (const uint8_t *)b->p, b->n, fd, e) < 0 || settle_as(k, "query-migrate", true, e) < 0 ?
		e->code : 0;
}

int memory_load(struct fermata_vm *vm, struct instance *q, const struct mem_in *in, struct err *e)
{
	auto_fd int fd = -1;

	if (memory_load_ready(q->kvm, &fd, e) < 0 || incoming(q->kvm, e) < 0 || feed_all(vm, in, fd, e) < 0 ||
		settle_as(q->kvm, "query-migrate", true, e) < 0) {
		kvm_last_words(q->kvm, q->dir, e);
		return e->code;
	}
	return 0;
}

uint64_t checkpoint_pause_us(struct mon *m)
{
	int64_t from = 0, took = 0;

	for (struct mon_event *ev; (ev = mon_next_event(m)); mon_event_free(ev)) {
		if (!strcmp(ev->name, "STOP"))
			from = ev->usec;
		if (!strcmp(ev->name, "RESUME") && from)
			took += ev->usec - from;
	}
	return took > 0 ? (uint64_t)took : 0;
}
