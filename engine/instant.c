#include "engine/instant.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/diskshot.h"
#include "lib/endian.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

/* QEMU's stream: a head, then sections by their first byte. */
#define STREAM_HEAD   8
#define STREAM_CONFIG 0x07
#define STREAM_DESC   0x06

int instant_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e)
{
	size_t n = strlen(s->memory);
	auto_ram struct ram r = { .mem = -1, .own = -1 };
	auto_buf struct buf sums = { 0 };
	auto_free char *tmp = NULL;
	const struct kvm_caps *caps;

	if (vm_caps(vm, &caps, e) < 0)
		return e->code;
	if (!kvm_caps_has_command(caps, "xen-save-devices-state"))
		return err_set(e, -EOPNOTSUPP, "QEMU %s cannot save device state alone", caps->version);
	if (ram_check(vm, e) < 0 || ram_open(vm, &r, e) < 0)
		return e->code;
	s->ram = str_fmt("%.*s.ram", (int)(str_ends(s->memory, ".mem") ? n - 4 : n), s->memory);
	if (!s->ram)
		return err_nomem(e, "name a file");
	tmp = mem_tmp(s->ram);
	if (!tmp)
		return err_nomem(e, "name a file");
	if (file_exists(s->ram) || file_exists(tmp))
		return err_set(e, -EEXIST, "%s is there already", file_exists(s->ram) ? s->ram : tmp);
	if (r.base && ram_base_sums(vm, r.base, &sums, e) < 0)
		return e->code;
	if (vm->handover && r.own < 0) {
		vm->handover = false;
		vm_notice(vm, "its memory is %s: what %s is copied", r.base ? "that of a checkpoint" : "no file, as with memory-mode = instant",
			sums.n ? "differs" : "it has");
	}
	if (sums.n && !(s->ram_base = strdup(r.base)))
		return err_nomem(e, "name a file");
	return 0;
}

/* ---- device state --------------------------------------------------------------------------------------- */

/*
 * What QEMU wrote for Xen has no configuration section, without which a QEMU that is not told so refuses it, and no
 * description at its end, without which it complains: with both it is a stream like any other, of a VM without memory.
 */
int state_stream(int fd, const char *machine, struct buf *out, struct err *e)
{
	static const uint8_t end[] = { STREAM_DESC, 0, 0, 0, 2, '{', '}' };
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t config[5] = { STREAM_CONFIG };
	char *p;

	if (size < STREAM_HEAD || size > (off_t)INSTANT_STATE_MAX || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(e, -EPROTO, "QEMU's device state has %lld bytes", (long long)size);
	p = buf_room(out, (size_t)size);
	if (p && io_read_full(fd, p, STREAM_HEAD, "QEMU's device state", e) < 0)
		return e->code;
	buf_grew(out, STREAM_HEAD);
	put_be32(config + 1, (uint32_t)strlen(machine));
	buf_add(out, config, sizeof config);
	buf_adds(out, machine);
	p = buf_room(out, (size_t)size - STREAM_HEAD);
	if (p && io_read_full(fd, p, (size_t)size - STREAM_HEAD, "QEMU's device state", e) < 0)
		return e->code;
	buf_grew(out, (size_t)size - STREAM_HEAD);
	buf_add(out, end, sizeof end);
	return buf_check(out, "save device state", e);
}

/* QEMU wants a descriptor that is for writing alone. */
int state_open(struct fermata_vm *vm, struct state_file *f, struct err *e)
{
	auto_json struct json_doc *reply = NULL;
	auto_fd int w = -1;
	char path[32];

	f->fd = memfd_create("fermata", MFD_CLOEXEC);
	snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
	if (f->fd < 0 || (w = open(path, O_WRONLY | O_CLOEXEC)) < 0)
		return err_sys(e, errno, "cannot make a file for the device state");
	return mon_call_fd(kvm_mon(vm->kvm), "add-fd", NULL, w, deadline_in(CALL_MS), &reply, e) < 0 ||
		json_need_uint(json_root(reply), "fdset-id", &f->set, e) < 0 ? e->code : 0;
}

int state_save(struct fermata_vm *vm, const struct state_file *f, bool release, struct err *e)
{
	char args[80];

	snprintf(args, sizeof args, "{\"filename\":\"/dev/fdset/%llu\",\"live\":%s}", (unsigned long long)f->set, release ? "true" : "false");
	return mon_call(kvm_mon(vm->kvm), "xen-save-devices-state", args, deadline_in(CALL_MS), NULL, e);
}

void state_close(struct fermata_vm *vm, struct state_file *f)
{
	struct err ignored;
	char args[40];

	own_close(&f->fd);
	snprintf(args, sizeof args, "{\"fdset-id\":%llu}", (unsigned long long)f->set);
	if (f->set && vm_alive(vm) && mon_call(kvm_mon(vm->kvm), "remove-fd", args, deadline_in(CALL_MS), NULL, &ignored) < 0)
		vm_hang_up(vm); /* QEMU drops it with the connection */
}

/* ---- taking ---------------------------------------------------------------------------------------------- */

/* All that is written, the guest standing: of one instant. */
struct taking {
	const struct disks *ds;
	const struct fermata_snap *s;
	struct state_file state;
	struct ram from;
	struct mem_out mem;
	struct ram_out ram;
	bool differing, ran;
};

static int prepare(struct fermata_vm *vm, struct taking *t, struct err *e)
{
	const struct fermata_snap *s = t->s;

	return mem_out_open(s->memory, false, false, &t->mem, e) < 0 || ram_out_open(vm, s->ram, &t->ram, e) < 0 ||
		diskshot_prepare(vm, t->ds, s, e) < 0 || ram_open(vm, &t->from, e) < 0 || state_open(vm, &t->state, e) < 0 ?
		e->code : 0;
}

static int stand_and_copy(struct fermata_vm *vm, struct taking *t, const struct buf *base_sums, struct err *e)
{
	if (t->ran && kvm_stop(vm->kvm, deadline_in(CALL_MS), e) < 0)
		return e->code;
	return state_save(vm, &t->state, false, e) < 0 || ram_save(vm, &t->from, base_sums, &t->ram, &t->mem.more, e) < 0 ||
		diskshot_switch(vm, t->ds, t->s, e) < 0 ? e->code : 0;
}

int instant_place(struct fermata_vm *vm, const struct fermata_snap *s, bool ran, struct ram_out *ram, struct mem_out *mem,
	const struct buf *stream, struct err *e)
{
	struct saving m = { .vm = vm, .snap = s, .run = ran, .ram = ram };
	auto_buf struct buf manifest = { 0 };

	return ram_out_place(ram, e) < 0 || mem_out_add(mem, stream->p, stream->n, e) < 0 || memory_manifest(&m, &manifest, e) < 0 ||
		mem_out_seal(mem, &manifest, e) < 0 || mem_out_place(mem, e) < 0 ? e->code : 0;
}

void instant_drop(const struct fermata_snap *s)
{
	auto_free char *part = mem_tmp(s->ram);

	unlink(s->ram);
	if (part)
		unlink(part);
}

/* The guest runs again: no hurry. */
static int finish(struct fermata_vm *vm, struct taking *t, struct err *e)
{
	auto_buf struct buf stream = { 0 };

	return state_stream(t->state.fd, t->s->machine, &stream, e) < 0 ||
		instant_place(vm, t->s, t->ran, &t->ram, &t->mem, &stream, e) < 0 ? e->code : 0;
}

static int take(struct fermata_vm *vm, struct taking *t, struct err *e)
{
	auto_buf struct buf base_sums = { 0 };
	struct kvm_guard guard;
	struct err also;
	int rc;

	if ((t->differing && ram_base_sums(vm, t->s->ram_base, &base_sums, e) < 0) || prepare(vm, t, e) < 0 ||
		kvm_guard_call(recover_now, vm, &guard, e) < 0)
		return e->code;
	rc = stand_and_copy(vm, t, t->differing ? &base_sums : NULL, e);
	if (t->ran && vm_alive(vm) && kvm_cont(vm->kvm, deadline_in(CALL_MS), rc < 0 ? &also : e) < 0) {
		if (rc < 0)
			err_also(e, "and could not let the guest go on: %s", also.msg);
		else
			rc = e->code;
	}
	if (rc == 0)
		vm->pause_us = checkpoint_pause_us(kvm_mon(vm->kvm));
	if (rc == 0)
		rc = finish(vm, t, e);
	kvm_guard_end(&guard);
	return rc;
}

int instant_take(struct fermata_vm *vm, const struct disks *ds, const struct fermata_snap *s, struct err *e)
{
	struct taking t = { .ds = ds, .s = s, .state = { .fd = -1 }, .from = { .mem = -1, .own = -1 }, .mem = { .fd = -1 },
		.ram = { .fd = -1 }, .differing = s->ram_base && s->ram_base[0], .ran = vm->rec->pending.run };
	int rc = take(vm, &t, e);

	state_close(vm, &t.state);
	ram_done(&t.from);
	ram_out_done(&t.ram);
	mem_out_done(&t.mem);
	return rc;
}

/* ---- going back ------------------------------------------------------------------------------------------- */

const char *instant_map(const struct fermata_snap *s)
{
	return !fermata_snap_instant(s) ? NULL : s->ram_base && s->ram_base[0] ? s->ram_base : s->ram;
}

int instant_load(struct fermata_vm *vm, const struct fermata_snap *s, const struct mem_in *in, struct err *e)
{
	struct ram_in r;

	if (ram_look(in, s, &r, e) < 0 || (r.base && ram_patch(vm, &r, e) < 0))
		return e->code;
	return memory_load(vm, in, e);
}
