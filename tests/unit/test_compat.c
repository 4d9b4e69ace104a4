/* kvm/def_guest.c, engine/vm/compat_lines.c: what a guest sees of its definition, and what has changed of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/vm/vm.h"
#include "engine/vm/policy.h"
#include "kvm/def_guest.h"
#include "kvm/made.h"
#include "lib/own.h"

#define BASE "memory = 64M\nvcpus = 2\ncpu = qemu64\n[disk vda]\nfile = a.qcow2\nformat = qcow2\n[net eth0]\ntype = user\n"

static void guest_of(const char *text, struct buf *out)
{
	struct buf b = { 0 };
	struct def *d = NULL;
	struct err e = { 0 };

	buf_adds(&b, text);
	if (def_parse(&b, "/etc/fermata/koan.conf", "koan", &policy_section, &d, &e) < 0)
		fail_msg("%s", e.msg);
	def_guest(d, out);
	assert_int_equal(buf_check(out, "test", &e), 0);
	def_free(d);
	buf_done(&b);
}

/* What compat_lines() says of @text in the place of BASE. */
static void compared(const char *text, struct err *e)
{
	auto_buf struct buf was = { 0 }, is = { 0 };
	int rc;

	*e = (struct err){ 0 };
	guest_of(BASE, &was);
	guest_of(text, &is);
	rc = compat_lines(buf_str(&was), buf_str(&is), "then", "now", e);
	assert_int_equal(rc, e->code);
}

static void compat_host_part_is_no_change(void **state)
{
	static const char *const same[] = {
		BASE,
		"# release 2\ncpu=qemu64\n\n vcpus  =  2 # two\nmemory = 65536K\n[disk vda]\nformat = qcow2\nfile = a.qcow2\n[net eth0]\n",
		"user = nobody\nsnapshot-dir = /snap\nmemory-dir = /huge\n" BASE "[boot]\nautostart = yes\nfallback = cold\n",
		"memory = 64M\nvcpus = 2\ncpu = qemu64\nmachine = q35\naccel = kvm\nagent = no\n[net eth0]\ntype = tap\nifname = tap0\n"
		"[disk vda]\nfile = /other/b.qcow2\nformat = qcow2\nbus = virtio\ncache = writeback\nsnapshot = external\n"
		"[net none]\ntype = none\n",
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		compared(same[i], &e);
		if (e.code)
			fail_msg("%zu: %s", i, e.msg);
	}
}

static void compat_guest_part_is_named(void **state)
{
#define DISK "[disk vda]\nfile = a.qcow2\nformat = qcow2\n"
#define NET  "[net eth0]\ntype = user\n"
	static const char *const others[][2] = {
		{ "memory = 64M\nvcpus = 2\ncpu = Nehalem\n" DISK NET, "cpu was 'qemu64' then, and is 'Nehalem' now" },
		{ "memory = 64M\nvcpus = 2\n" DISK NET, "it had 'cpu = qemu64' then, and has it not now" },
		{ "memory = 65M\nvcpus = 2\ncpu = qemu64\n" DISK NET, "memory was '64 MiB' then, and is '65 MiB' now" },
		{ "memory = 64M\nvcpus = 3\ncpu = qemu64\n" DISK NET, "vcpus was '2' then, and is '3' now" },
		{ "machine = pc\n" BASE, "machine was 'q35' then, and is 'pc' now" },
		{ "accel = tcg\n" BASE, "accel was 'kvm' then, and is 'tcg' now" },
		{ "agent = yes\n" BASE, "agent was 'no' then, and is 'yes' now" },
		{ "kernel = /k\n" BASE, "it has 'kernel = /k' now, and had it not then" },
		{ "memory = 64M\nvcpus = 2\ncpu = qemu64\n" DISK, "it had 'net eth0 = virtio, " },
		{ "memory = 64M\nvcpus = 2\ncpu = qemu64\n" DISK "bus = ide\n" NET, "disk vda was 'virtio, qcow2' then, and is 'ide, qcow2' now" },
		{ "memory = 64M\nvcpus = 2\ncpu = qemu64\n" DISK "serial = x\n" NET, "is 'virtio, qcow2, serial x' now" },
		{ "memory = 64M\nvcpus = 2\ncpu = qemu64\n" DISK "readonly = yes\n" NET, "is 'virtio, qcow2, readonly' now" },
		{ BASE "mac = 52:54:00:00:00:01\n", "net eth0 was 'virtio, " },
		{ BASE "model = e1000\n", "net eth0 was 'virtio, " },
		{ BASE "[disk cd]\ndevice = cdrom\nbus = sata\n", "it has 'cdrom cd = sata' now" },
		{ BASE "address = 5\n", "net eth0 was 'virtio, " },
		{ "memory = 64M\nvcpus = 2\ncpu = qemu64\n" DISK "address = 5\nqueues = 2\n" NET, "is 'virtio, qcow2, address 5, 2 queues' now" },
		{ "uuid = 0f1e2d3c-0000-4000-8000-00000000000a\n" BASE, "it has 'uuid = 0f1e2d3c-0000-4000-8000-00000000000a' now" },
		{ BASE "[qemu]\narg = -device virtio-rng-pci\n", "it has '[qemu] arg = -device' now, and had it not then" },
		{ BASE "[disk vdb]\nfile = b.raw\nformat = raw\n", "it has 'disk vdb = virtio, raw' now, and had it not then" },
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		compared(others[i][0], &e);
		assert_int_equal(e.code, -ESTALE);
		if (!strstr(e.msg, others[i][1]))
			fail_msg("%zu: %s", i, e.msg);
	}
}

static void compat_order_counts(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(compat_lines("a = 1\nb = 2\n", "b = 2\na = 1\n", "then", "now", &e), -ESTALE);
	assert_string_equal(e.msg, "its devices have another order now");
	/* The same line twice is not the same as once. */
	assert_int_equal(compat_lines("a = 1\n", "a = 1\na = 1\n", "then", "now", &e), -ESTALE);
	assert_int_equal(compat_lines("a = 1\n", "a = 12\n", "then", "now", &e), -ESTALE);
	assert_int_equal(compat_lines("", "a = 1\n", "then", "now", &e), -ESTALE);
	assert_int_equal(compat_lines("", "", "then", "now", &e), 0);
}

/* Command lines, and what a guest sees of them. */
static void made_is_what_a_guest_sees(void **state)
{
	static const struct {
		const char *words[16], *want;
	} t[] = {
		{ { "-machine", "pc-q35-7.2,accel=tcg,memory-backend=ram0", "-object", "memory-backend-ram,id=ram0,size=64M", "-m", "size=64M",
			  "-smp", "2", "-cpu", "EPYC,-svm" },
			"cpu = EPYC,-svm\nmemory = 64M\nvcpus = 2\naccel = tcg\n" },
		/* What stands behind a device is left out, where it sits is not. */
		{ { "-device", "virtio-blk-pci,addr=10.0,multifunction=on,id=vda,drive=vda.3,bootindex=1,serial=a,,b", "-device", "virtio-rng-pci",
			  "-blockdev", "driver=file,filename=/x,,y", "-device", "driver=scsi-hd,bus=sys.scsi.0,scsi-id=1,id=vdb,drive=vdb.0" },
			"device vda = virtio-blk-pci, addr 10.0\ndevice[0] = virtio-rng-pci\ndevice vdb = scsi-hd, bus sys.scsi.0, scsi-id 1\n" },
		/* A comma in a value begins nothing. */
		{ { "-device", "e1000,netdev=a,,id=no,id=yes" }, "device yes = e1000\n" },
		/* The last one counts, as with QEMU. */
		{ { "-cpu", "max", "-m", "size=64M", "--cpu", "qemu64", "-m", "1G,slots=2", "-usb", "-vga", "std", "-global", "a.b=c" },
			"cpu = qemu64\nmemory = 1G\nvga = std\nusb = on\nglobal = a.b=c\n" },
		{ { "-machine", "pc,accel=kvm,pflash0=code,hpet=off,usb", "-cpu", "host,-arch-capabilities" },
			"cpu = host\naccel = kvm\nmachine pflash0 = code\nmachine hpet = off\nmachine usb = on\n" },
		{ { "-device", "{\"driver\":\"e1000\"}" }, "device[0] = {\"driver\":\"e1000\"}\n" },
		{ { "-serial", "chardev:console", "-drive", "file=x,if=none,id=y", "-serial", "none", "-drive", "if=virtio,file=/x" },
			"serial[0] = on\nserial[1] = none\ndrive[1] = virtio\n" },
		{ { "-device" }, "device[0] = \n" },
		{ { "-cpu" }, "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct argv a = { 0 };
		auto_buf struct buf out = { 0 };

		for (size_t k = 0; k < 16 && t[i].words[k]; k++)
			argv_add(&a, t[i].words[k]);
		made_words(&a, &out);
		assert_string_equal(buf_str(&out), t[i].want);
		argv_done(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compat_host_part_is_no_change),
		cmocka_unit_test(compat_guest_part_is_named),
		cmocka_unit_test(compat_order_counts),
		cmocka_unit_test(made_is_what_a_guest_sees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
