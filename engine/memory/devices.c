/* Device state of a running QEMU: the file it is saved to, and its conversion into a migration stream. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/memory/internal.h"
#include "engine/memory/memory.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/endian.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "monitor/monitor.h"

/* QEMU's stream: a head, then sections by their first byte. */
#define STREAM_HEAD   8
#define STREAM_CONFIG 0x07
#define STREAM_DESC   0x06

/*
 * What QEMU wrote for Xen has no configuration section, without which a QEMU that is not told so refuses it, and no
 * description at its end, without which it complains: with both it is a stream like any other, of a VM without memory.
 */
int state_stream(struct fermata_vm *vm, int fd, const char *machine, struct buf *out, struct err *e)
{
	/* A subsection: its name behind the name's length, version 1, 2^12 bytes a page. */
	static const char pages[] = "\5\x1e" "configuration/target-page-bits\0\0\0\1\0\0\0\f";
	static const uint8_t end[] = { STREAM_DESC, 0, 0, 0, 2, '{', '}' };
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t config[5] = { STREAM_CONFIG };
	const struct kvm_caps *caps;
	char *p;

	if (vm_caps(vm, &caps, e) < 0)
		return e->code;
	if (size < STREAM_HEAD || size > (off_t)INSTANT_STATE_MAX || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(e, -EPROTO, "QEMU's device state has %lld bytes", (long long)size);
	p = buf_room(out, (size_t)size);
	if (p && io_read_full(fd, p, STREAM_HEAD, "QEMU's device state", e) < 0)
		return e->code;
	buf_grew(out, STREAM_HEAD);
	put_be32(config + 1, (uint32_t)strlen(machine));
	buf_add(out, config, sizeof config);
	buf_adds(out, machine);
	/* What has pages of more than one size takes the absence of this for the smallest, which no board has. */
	if (str_eq(caps->arch, "aarch64") || str_eq(caps->arch, "arm"))
		buf_add(out, pages, sizeof pages - 1);
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
	char path[32], other[128];

	f->fd = memfd_create("fermata", MFD_CLOEXEC);
	snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
	if (f->fd < 0 || (w = open(path, O_WRONLY | O_CLOEXEC)) < 0)
		return err_sys(e, errno, "cannot make a file for the device state");
	return flash_find(vm, &f->flash, other, e) < 0 || mon_call_fd(kvm_mon(vm->kvm), "add-fd", NULL, w, deadline_in(CALL_MS), &reply, e) < 0 ||
		json_need_uint(json_root(reply), "fdset-id", &f->set, e) < 0 ? e->code : 0;
}

int state_save(struct fermata_vm *vm, const struct state_file *f, bool release, struct err *e)
{
	char args[80];

	snprintf(args, sizeof args, "{\"filename\":\"/dev/fdset/%llu\",\"live\":%s}", (unsigned long long)f->set, release ? "true" : "false");
	return flash_check(&f->flash, e) < 0 ||
		mon_call(kvm_mon(vm->kvm), "xen-save-devices-state", args, deadline_in(CALL_MS), NULL, e) < 0 ? e->code : 0;
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
