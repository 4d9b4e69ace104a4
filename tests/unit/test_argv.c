/* kvm/argv.c, kvm/argv_disk.c: the exact command line of a range of definitions. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "kvm/kvm.h"
#include "kvm/machine.h"
#include "lib/own.h"
#include "lib/text.h"

#define NUL "\0"
static char dir[] = "/tmp/test_argv.XXXXXX";
static struct kvm_caps caps = {
	.path = (char *)"/usr/bin/qemu",
	.version = (char *)"7.2.22",
	.machines = (char *)"pc-i440fx-7.2" NUL "pc=pc-i440fx-7.2" NUL "pc-q35-7.2" NUL "q35=pc-q35-7.2" NUL "microvm" NUL
		"virt-7.2" NUL "virt=virt-7.2" NUL,
	.commands = (char *)"query-status" NUL,
	.devices = (char *)"virtio-blk-pci" NUL "virtio-net-pci" NUL "virtio-scsi-pci" NUL "virtio-serial-pci" NUL
		"virtio-blk-device" NUL "virtio-net-device" NUL "virtio-serial-device" NUL "ide-hd" NUL "scsi-hd" NUL "ide-cd" NUL "scsi-cd" NUL
		"ich9-ahci" NUL "virtserialport" NUL "vmgenid" NUL,
	.cpu_host = (char *)"host,-x",
	.arch = (char *)"x86_64",
};

static struct def *read_def(const char *text)
{
	auto_free char *path = str_fmt("%s/t.conf", dir);
	FILE *f = fopen(path, "w");
	struct def *d = NULL;
	struct err e = { 0 };

	fputs(text, f);
	fclose(f);
	if (def_read(path, "koan", NULL, &d, &e) < 0)
		fail_msg("%s", e.msg);
	return d;
}

/* The command line of @text, quoted for a shell; every disk has its own file as its only layer. */
static char *line_of(const char *text, const struct kvm_spec *base, char *notice, struct err *e)
{
	struct def *d = read_def(text);
	struct kvm_layer layers[DEF_MAX_DISKS];
	struct kvm_chain chains[DEF_MAX_DISKS];
	struct kvm_spec s = base ? *base : (struct kvm_spec){ 0 };
	struct argv a = { 0 };
	struct buf b = { 0 };
	const char *accel;
	char ignored[256];

	for (size_t i = 0; i < d->n_disks; i++) {
		layers[i] = (struct kvm_layer){ .file = d->disks[i].file, .format = d->disks[i].format };
		chains[i] = (struct kvm_chain){ d->disks[i].name, &layers[i], 1 };
	}
	s.def = d;
	if (!s.caps)
		s.caps = &caps;
	if (!s.chains)
		s.chains = chains;
	if (kvm_argv(&s, &a, &accel, notice ? notice : ignored, 256, e) == 0) {
		for (size_t i = 0; i < a.n; i++) {
			if (i)
				buf_addc(&b, ' ');
			text_shell_quote(&b, a.v[i]);
		}
		assert_null(a.v[a.n]);
		argv_done(&a);
	}
	def_free(d);
	return b.n ? buf_take(&b) : NULL;
}

#define TCG "memory = 64M\naccel = tcg\n"
#define HEAD(machine) "/usr/bin/qemu -name guest=koan -nodefaults -no-user-config -S -machine " machine ",accel=tcg,memory-backend=ram0"
#define CPU                                                                                                            \
	" -object memory-backend-ram,id=ram0,size=64M -m size=64M -smp 1 -cpu max -display none -rtc base=utc"
#define MONS                                                                                                           \
	" -chardev socket,id=qmp,fd=3,server=on,wait=off -mon chardev=qmp,mode=control"                               \
	" -chardev socket,id=events,fd=4,server=on,wait=off -mon chardev=events,mode=control"                         \
	" -chardev socket,id=console,fd=6,server=on,wait=off -serial chardev:console"
#define PRE(machine) HEAD(machine) CPU MONS
#define GENID " -device vmgenid,guid=auto,id=sys.vmgenid"

/* File and format node of a disk with one layer on a file that is not there. */
#define NODES(id, file, format)                                                                                        \
	" -blockdev driver=file,node-name=" id ".0.file,filename=" file ",cache.direct=on,discard=unmap"               \
	" -blockdev driver=" format ",node-name=" id ".0,file=" id ".0.file,cache.direct=on,discard=unmap"

/* The lowest qcow2 image, as shell words. */
#define LOWEST(id, direct)                                                                                             \
	" -blockdev '{\"driver\": \"qcow2\", \"node-name\": \"" id ".0\", \"file\": \"" id ".0.file\", \"cache\": {\"direct\": " \
	direct ", \"no-flush\": false}, \"discard\": \"unmap\", \"read-only\": false, \"backing\": null}'"

static void lines(void **state)
{
	static const struct {
		const char *text, *want;
	} t[] = {
		{ TCG, PRE("pc-q35-7.2") GENID },
		{ TCG "machine = pc-i440fx-7.2\n", PRE("pc-i440fx-7.2") GENID },
		{ TCG "machine = microvm\nkernel = /k\ninitrd = /i,i\nappend = a=1,2 b\n",
			PRE("microvm") " -kernel /k -initrd /i,i -append 'a=1,2 b'" },
		{ TCG "machine = virt\n", PRE("virt-7.2") },
		{ TCG "vcpus = 4\ncpu = EPYC,-svm\n",
			HEAD("pc-q35-7.2") " -object memory-backend-ram,id=ram0,size=64M -m size=64M -smp 4 -cpu EPYC,-svm"
					   " -display none -rtc base=utc" MONS GENID },
		{ TCG "[disk vda]\nfile = /i/a.qcow2\nformat = qcow2\n[disk vdb]\nfile = /i/b.raw\nformat = raw\nreadonly = yes\nserial = a,b\n",
			PRE("pc-q35-7.2") " -blockdev driver=file,node-name=vda.0.file,filename=/i/a.qcow2,cache.direct=on,discard=unmap"
				LOWEST("vda", "true") " -device virtio-blk-pci,addr=10.0,multifunction=on,id=vda,drive=vda.0,bootindex=1"
					 " -blockdev driver=file,node-name=vdb.0.file,filename=/i/b.raw,cache.direct=on,discard=unmap,read-only=on"
					 " -blockdev driver=raw,node-name=vdb.0,file=vdb.0.file,cache.direct=on,discard=unmap,read-only=on"
					 " -device virtio-blk-pci,addr=10.1,id=vdb,drive=vdb.0,bootindex=2,serial=a,,b" GENID },
		/* commas are doubled, blanks and quotes are nothing special to QEMU */
		{ TCG "machine = microvm\n[disk d]\nfile = /i/a,b 'c'.qcow2\nformat = qcow2\ncache = writeback\n",
			PRE("microvm") " -blockdev 'driver=file,node-name=d.0.file,filename=/i/a,,b '\\''c'\\''.qcow2,discard=unmap'"
				       LOWEST("d", "false")
				       " -device virtio-blk-device,id=d,drive=d.0,bootindex=1" },
		{ TCG "machine = pc\n[disk a]\nfile=/a\nformat=raw\nbus=ide\n[disk b]\nfile=/b\nformat=raw\nbus=ide\n[disk c]\nfile=/c\nformat=raw\nbus=ide\n",
			PRE("pc-i440fx-7.2")
				NODES("a", "/a", "raw") " -device ide-hd,bus=ide.0,unit=0,id=a,drive=a.0,bootindex=1" NODES("b", "/b",
					"raw") " -device ide-hd,bus=ide.0,unit=1,id=b,drive=b.0,bootindex=2" NODES("c", "/c",
					"raw") " -device ide-hd,bus=ide.1,unit=0,id=c,drive=c.0,bootindex=3" GENID },
		{ TCG "[disk a]\nfile=/a\nformat=raw\nbus=sata\n[disk b]\nfile=/b\nformat=raw\nbus=sata\n",
			PRE("pc-q35-7.2")
				NODES("a", "/a", "raw") " -device ide-hd,bus=ide.0,id=a,drive=a.0,bootindex=1" NODES("b", "/b",
					"raw") " -device ide-hd,bus=ide.1,id=b,drive=b.0,bootindex=2" GENID },
		{ TCG "machine = pc\n[disk a]\nfile=/a\nformat=raw\nbus=sata\n[disk b]\nfile=/b\nformat=raw\nbus=sata\n",
			PRE("pc-i440fx-7.2") NODES("a", "/a", "raw") " -device ich9-ahci,id=sys.ahci"
								     " -device ide-hd,bus=sys.ahci.0,id=a,drive=a.0,bootindex=1" NODES("b",
									     "/b", "raw") " -device ide-hd,bus=sys.ahci.1,id=b,drive=b.0,bootindex=2" GENID },
		{ TCG "[disk a]\nfile=/a\nformat=raw\nbus=scsi\n[disk b]\nfile=/b\nformat=raw\nbus=scsi\n",
			PRE("pc-q35-7.2") NODES("a", "/a", "raw") " -device virtio-scsi-pci,id=sys.scsi"
								  " -device scsi-hd,bus=sys.scsi.0,scsi-id=0,id=a,drive=a.0,bootindex=1" NODES("b",
									  "/b", "raw") " -device scsi-hd,bus=sys.scsi.0,scsi-id=1,id=b,drive=b.0,bootindex=2" GENID },
		{ TCG "agent = yes\n",
			PRE("pc-q35-7.2") " -chardev socket,id=agent,fd=5,server=on,wait=off -device virtio-serial-pci,id=sys.serial"
					  " -device virtserialport,id=sys.agent,bus=sys.serial.0,chardev=agent,name=org.qemu.guest_agent.0" GENID },
		{ TCG "machine=microvm\nagent = yes\n",
			PRE("microvm") " -chardev socket,id=agent,fd=5,server=on,wait=off -device virtio-serial-device,id=sys.serial"
				       " -device virtserialport,id=sys.agent,bus=sys.serial.0,chardev=agent,name=org.qemu.guest_agent.0" },
		{ TCG "[net n0]\nmac=52:54:00:00:00:01\n[net n1]\ntype=tap\nifname=t,0\nmodel=e1000\nmac=52:54:00:00:00:02\n[net n2]\ntype=none\n",
			PRE("pc-q35-7.2") " -netdev user,id=n0.host -device virtio-net-pci,id=n0,netdev=n0.host,mac=52:54:00:00:00:01,romfile="
					  " -netdev tap,id=n1.host,ifname=t,,0,script=no,downscript=no"
					  " -device e1000,id=n1,netdev=n1.host,mac=52:54:00:00:00:02,romfile=" GENID },
		{ TCG "machine=microvm\n[net n0]\nmac=52:54:00:00:00:01\n",
			PRE("microvm") " -netdev user,id=n0.host -device virtio-net-device,id=n0,netdev=n0.host,mac=52:54:00:00:00:01" },
		{ TCG "firmware = /f/code.fd\nnvram = /f/v,1.fd\n",
			HEAD("pc-q35-7.2") ",pflash0=code,pflash1=nvram" CPU
					   " -blockdev driver=file,node-name=code.file,filename=/f/code.fd,read-only=on"
					   " -blockdev driver=raw,node-name=code,file=code.file,read-only=on"
					   " -blockdev driver=file,node-name=nvram.file,filename=/f/v,,1.fd"
					   " -blockdev driver=raw,node-name=nvram,file=nvram.file" MONS GENID },
		{ TCG "firmware = /f/code.fd\nnvram = /f/v.qcow2\nnvram-format = qcow2\n",
			HEAD("pc-q35-7.2") ",pflash0=code,pflash1=nvram" CPU
					   " -blockdev driver=file,node-name=code.file,filename=/f/code.fd,read-only=on"
					   " -blockdev driver=raw,node-name=code,file=code.file,read-only=on"
					   " -blockdev driver=file,node-name=nvram.file,filename=/f/v.qcow2"
					   " -blockdev '{\"driver\":\"qcow2\",\"node-name\":\"nvram\",\"file\":\"nvram.file\",\"backing\":null}'" MONS GENID },
		{ TCG "machine = microvm\nfirmware = /f/bios.bin\n", HEAD("microvm") CPU " -bios /f/bios.bin" MONS },
		{ TCG "machine = virt\n[disk a]\nfile=/a\nformat=raw\n[disk b]\nfile=/b\nformat=raw\nbus=sata\n",
			PRE("virt-7.2") NODES("a", "/a", "raw") " -device virtio-blk-pci,addr=10.0,multifunction=on,id=a,drive=a.0,bootindex=1"
				NODES("b", "/b", "raw") " -device ich9-ahci,id=sys.ahci -device ide-hd,bus=sys.ahci.0,id=b,drive=b.0,bootindex=2" },
		{ TCG "[qemu]\narg = -device virtio-rng-pci\narg = -foo 'a b'\n",
			PRE("pc-q35-7.2") GENID " -device virtio-rng-pci -foo 'a b'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err e = { 0 };
		auto_free char *got = line_of(t[i].text, NULL, NULL, &e);

		if (!got)
			fail_msg("%s: %s", t[i].text, e.msg);
		assert_string_equal(got, t[i].want);
	}
}

/* What a disk and a network may say beyond what they are: each where QEMU has it, and nothing of it where it is not said. */
static void argv_tuned_devices(void **state)
{
	static const struct {
		const char *text, *want;
	} t[] = {
		{ "[disk a]\nfile=/a\nformat=raw\niothread=yes\nqueues=4\n",
			" -object iothread,id=a.io -device virtio-blk-pci,addr=10.0,multifunction=on,id=a,drive=a.0,bootindex=1,num-queues=4,iothread=a.io" },
		{ "[disk a]\nfile=/a\nformat=raw\ndetect-zeroes=unmap\n", ",file=a.0.file,cache.direct=on,discard=unmap,detect-zeroes=unmap -device" },
		{ "[disk a]\nfile=/a\nformat=qcow2\ndetect-zeroes=on\n", "\"discard\": \"unmap\", \"detect-zeroes\": \"on\", \"read-only\"" },
		/* the order of those that say one, then that of the file */
		{ "[disk a]\nfile=/a\nformat=raw\n[disk b]\nfile=/b\nformat=raw\nboot=2\n", "id=a,drive=a.0,bootindex=3" },
		{ "[disk a]\nfile=/a\nformat=raw\n[disk b]\nfile=/b\nformat=raw\nboot=2\n", "id=b,drive=b.0,bootindex=2" },
		/* who has none goes around those that have one, and past them not at all */
		{ "[disk a]\nfile=/a\nformat=raw\n[disk b]\nfile=/b\nformat=raw\naddress=10.0\n", "blk-pci,addr=10.1,id=a," },
		{ "[disk a]\nfile=/a\nformat=raw\n[disk b]\nfile=/b\nformat=raw\naddress=10.0\n", "blk-pci,addr=10.0,multifunction=on,id=b," },
		{ "[disk a]\nfile=/a\nformat=raw\naddress=1f\n[disk b]\nfile=/b\nformat=raw\n", "blk-pci,addr=1f,id=a," },
		{ "[disk a]\nfile=/a\nformat=raw\naddress=1f\n[disk b]\nfile=/b\nformat=raw\n", "blk-pci,addr=10.0,multifunction=on,id=b," },
		{ "[disk a]\nfile=/a\nformat=raw\nbus=sata\n[disk b]\nfile=/b\nformat=raw\nbus=sata\naddress=0\n", "ide-hd,bus=ide.1,id=a," },
		{ "[disk a]\nfile=/a\nformat=raw\nbus=scsi\naddress=255\n", "scsi-hd,bus=sys.scsi.0,scsi-id=255,id=a," },
		{ "machine=pc\n[disk a]\nfile=/a\nformat=raw\nbus=ide\naddress=1.0\n", "ide-hd,bus=ide.1,unit=0,id=a," },
		{ "machine=virt\n[disk a]\nfile=/a\nformat=raw\naddress=5\n", "blk-pci,addr=5,id=a," },
		{ "[disk c]\ndevice=cdrom\nbus=sata\n[disk a]\nfile=/a\nformat=raw\n", " -device ide-cd,bus=ide.0,id=c,bootindex=2" },
		{ "[disk c]\ndevice=cdrom\nbus=sata\n[disk a]\nfile=/a\nformat=raw\nbus=sata\n", " -device ide-cd,bus=ide.1,id=c,bootindex=2" },
		{ "machine=pc\n[disk c]\ndevice=cdrom\nbus=ide\naddress=1.0\nboot=1\nserial=S\nfile=/dev/null\n",
			" -blockdev driver=file,node-name=c.0.file,filename=/dev/null,read-only=on"
			" -blockdev driver=raw,node-name=c.0,file=c.0.file,read-only=on"
			" -device ide-cd,bus=ide.1,unit=0,id=c,drive=c.0,bootindex=1,serial=S" },
		{ "[disk c]\ndevice=cdrom\nbus=scsi\n", " -device virtio-scsi-pci,id=sys.scsi -device scsi-cd,bus=sys.scsi.0,scsi-id=0,id=c,bootindex=1" },
		{ "uuid=0f1e2d3c-0000-4000-8000-00000000000A\n", " -smp 1 -uuid 0f1e2d3c-0000-4000-8000-00000000000A -cpu" },
		{ "[net n]\nmac=52:54:00:00:00:01\naddress=5.0\n", "net-pci,id=n,netdev=n.host,mac=52:54:00:00:00:01,addr=5.0,multifunction=on,romfile=" },
		{ "[net n]\ntype=tap\nifname=t\nmac=52:54:00:00:00:01\nqueues=2\n", "mac=52:54:00:00:00:01,mq=on,vectors=6,romfile=" },
		{ "[net n]\ntype=tap\nifname=t\nqueues=2\n", "ifname=t,script=no,downscript=no,queues=2" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_free char *text = str_fmt("%s%s", TCG, t[i].text);
		struct err e = { 0 };
		auto_free char *got = line_of(text, NULL, NULL, &e);

		if (!got || !strstr(got, t[i].want))
			fail_msg("%s: %s: no '%s'", t[i].text, got ? got : e.msg, t[i].want);
	}
}

static void cache_modes(void **state)
{
	static const struct {
		const char *mode, *node, *dev;
	} t[] = {
		{ "none", ",cache.direct=on", "" },
		{ "writeback", "", "" },
		{ "writethrough", "", ",write-cache=off" },
		{ "directsync", ",cache.direct=on", ",write-cache=off" },
		{ "unsafe", ",cache.no-flush=on", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_free char *text = str_fmt(TCG "[disk a]\nfile=/a\nformat=raw\ncache=%s\ndiscard=ignore\n", t[i].mode);
		auto_free char *want = str_fmt(PRE("pc-q35-7.2") " -blockdev driver=file,node-name=a.0.file,filename=/a%s,discard=ignore"
						" -blockdev driver=raw,node-name=a.0,file=a.0.file%s,discard=ignore"
						" -device virtio-blk-pci,addr=10.0,multifunction=on,id=a,drive=a.0,bootindex=1%s" GENID,
			t[i].node, t[i].node, t[i].dev);
		struct err e = { 0 };
		auto_free char *got = line_of(text, NULL, NULL, &e);

		assert_string_equal(got, want);
	}
}

static void chain(void **state)
{
	static const struct kvm_layer layers[] = { { .file = "/i/base,0.raw", .format = FORMAT_RAW },
		{ .file = "/i/mid.qcow2", .format = FORMAT_QCOW2, .data = "/i/mid,data" },
		{ .file = "/i/top.qcow2", .format = FORMAT_QCOW2 } };
	static const struct kvm_chain chains[] = { { "vda", layers, 3 } };
	struct kvm_spec s = { .chains = chains, .machine = "pc", .incoming = true, .memory_map = "/m,1" };
	struct err e = { 0 };
	auto_free char *got = line_of(TCG "[disk vda]\nfile=/i/base.raw\nformat=raw\n", &s, NULL, &e);

	(void)state;
	assert_string_equal(got,
		HEAD("pc-i440fx-7.2") " -object memory-backend-file,id=ram0,size=64M,share=off,mem-path=/m,,1 -m size=64M -smp 1 -cpu max"
				      " -display none -rtc base=utc" MONS
				      " -blockdev driver=file,node-name=vda.0.file,filename=/i/base,,0.raw,cache.direct=on,discard=unmap,auto-read-only=on"
				      " -blockdev driver=raw,node-name=vda.0,file=vda.0.file,cache.direct=on,discard=unmap,read-only=on"
				      " -blockdev driver=file,node-name=vda.1.file,filename=/i/mid.qcow2,cache.direct=on,discard=unmap,auto-read-only=on"
				      " -blockdev driver=file,node-name=vda.1.data,filename=/i/mid,,data,cache.direct=on,discard=unmap,auto-read-only=on"
				      " -blockdev driver=qcow2,node-name=vda.1,file=vda.1.file,data-file=vda.1.data,cache.direct=on,discard=unmap,read-only=on,backing=vda.0"
				      " -blockdev driver=file,node-name=vda.2.file,filename=/i/top.qcow2,cache.direct=on,discard=unmap"
				      " -blockdev driver=qcow2,node-name=vda.2,file=vda.2.file,cache.direct=on,discard=unmap,backing=vda.1"
				      " -device virtio-blk-pci,addr=10.0,multifunction=on,id=vda,drive=vda.2,bootindex=1" GENID " -incoming defer");
}

/* All that the lowest image's header could name is said. */
static void lowest_has_no_backing(void **state)
{
	static const struct kvm_layer layers[] = { { .file = "/i/a.qcow2", .format = FORMAT_QCOW2, .data = "/i/data" },
		{ .file = "/i/b.qcow2", .format = FORMAT_QCOW2 } };
	static const struct kvm_chain chains[] = { { "vda", layers, 2 } };
	struct kvm_spec s = { .chains = chains, .machine = "pc" };
	struct err e = { 0 };
	auto_free char *got = line_of(TCG "[disk vda]\nfile=/i/b.qcow2\nformat=qcow2\n", &s, NULL, &e);

	(void)state;
	assert_non_null(strstr(got, " -blockdev driver=file,node-name=vda.0.data,filename=/i/data,cache.direct=on,discard=unmap,auto-read-only=on"));
	assert_non_null(strstr(got, "\"file\": \"vda.0.file\", \"data-file\": \"vda.0.data\","));
	assert_non_null(strstr(got, "\"read-only\": true, \"backing\": null}'"));
	assert_non_null(strstr(got, "node-name=vda.1,file=vda.1.file,cache.direct=on,discard=unmap,backing=vda.0"));
}

/* A memory that can be handed over is a file that QEMU inherits; one that maps a checkpoint has no use for it. */
static void memory_file(void **state)
{
	struct kvm_spec s = { .machine = "pc", .memory_dir = "/dev/shm" };
	struct err e = { 0 };
	auto_free char *own = line_of(TCG, &s, NULL, &e);

	(void)state;
	assert_non_null(strstr(own, " -object memory-backend-file,id=ram0,size=64M,share=on,mem-path=/proc/self/fd/7 "));
	s.memory_map = "/c.ram";
	auto_free char *mapped = line_of(TCG, &s, NULL, &e);

	assert_non_null(strstr(mapped, " -object memory-backend-file,id=ram0,size=64M,share=off,mem-path=/c.ram "));
}

#define DISK(n, bus) "[disk d" #n "]\nfile=/" #n "\nformat=raw\nbus=" bus "\n"
static void refused(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *want, *hint;
	} t[] = {
		{ TCG "machine = pc-9\n", -EINVAL, "QEMU 7.2.22 has no machine type 'pc-9'", "'/usr/bin/qemu -machine help' lists them" },
		{ TCG DISK(0, "ide"), -EINVAL, "d0: machine pc-q35-7.2 has no IDE controller", "use bus = sata" },
		{ TCG "machine=virt\n" DISK(0, "ide"), -EINVAL, "d0: machine virt-7.2 has no IDE controller", "use bus = virtio" },
		{ TCG "machine=pc\n" DISK(0, "ide") DISK(1, "ide") DISK(2, "ide") DISK(3, "ide") DISK(4, "ide"), -EINVAL,
			"d4: more than 4 IDE disks", "" },
		{ TCG DISK(0, "sata") DISK(1, "sata") DISK(2, "sata") DISK(3, "sata") DISK(4, "sata") DISK(5, "sata") DISK(6, "sata"),
			-EINVAL, "d6: more than 6 SATA disks", "" },
		{ TCG "machine=microvm\n" DISK(0, "sata"), -EINVAL, "d0: machine microvm has no SATA controller", "use bus = virtio" },
		{ TCG "machine=microvm\n" DISK(0, "scsi"), -EOPNOTSUPP, "d0: QEMU 7.2.22 has no device virtio-scsi-device", "" },
		{ TCG DISK(0, "sata") "readonly=yes\n", -EINVAL, "d0: an IDE or SATA disk cannot be readonly", "" },
		{ TCG "machine=microvm\nfirmware=/f\nnvram=/n\n", -EINVAL, "machine microvm has no place for an nvram", "" },
		{ TCG DISK(0, "virtio") "address=5.1\n", -EINVAL, "d0: the guest would not find it at 5.1: there is nothing at 5.0", "" },
		{ TCG "machine=microvm\n" DISK(0, "virtio") "address=5\n", -EINVAL, "d0: machine microvm has no PCI addresses",
			"leave out address = 5" },
		{ TCG "[disk c]\ndevice=cdrom\nbus=sata\nfile=/nowhere/x.iso\n", -ENOENT,
			"c: cannot open the medium /nowhere/x.iso: No such file or directory", "a drive without 'file' is empty" },
		{ TCG "machine=microvm\n[disk c]\ndevice=cdrom\nbus=sata\n", -EINVAL, "c: machine microvm has no SATA controller", "use bus = virtio" },
		{ TCG "machine=microvm\n[net n]\naddress=5\n", -EINVAL, "n: machine microvm has no PCI addresses", "leave out address = 5" },
		{ "memory=1M\n", -EOPNOTSUPP, "cannot use KVM: /usr/bin/qemu was built without it", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err e = { 0 };

		assert_null(line_of(t[i].text, NULL, NULL, &e));
		assert_int_equal(e.code, t[i].code);
		assert_string_equal(e.msg, t[i].want);
		assert_string_equal(e.hint, t[i].hint);
	}
}

/* kvm:tcg falls back and says so; kvm where it is usable takes the host's CPU. */
static void accel(void **state)
{
	struct kvm_caps with = caps;
	struct kvm_spec s = { .caps = &with };
	struct err e = { 0 }, why = { 0 };
	char notice[256];
	auto_free char *fell = line_of("memory=1M\naccel=kvm:tcg\n", NULL, notice, &e);
	auto_free char *kvm = NULL;

	(void)state;
	assert_non_null(strstr(fell, ",accel=tcg,"));
	assert_non_null(strstr(fell, " -cpu max "));
	assert_string_equal(notice, "cannot use KVM: /usr/bin/qemu was built without it; running without it (tcg), which is slow");

	with.kvm = with.sandbox = true;
	kvm = line_of("memory=1M\naccel=kvm\n", &s, notice, &e);
	if (kvm_usable(&why) < 0) {
		assert_null(kvm);
		assert_string_equal(e.msg, why.msg);
		free(take_ptr(&fell)); /* skip() does not return: nothing is cleaned up behind it */
		skip();
	}
	assert_non_null(strstr(kvm, ",accel=kvm,"));
	assert_non_null(strstr(kvm, " -cpu host,-x "));
	assert_non_null(strstr(kvm, " -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny "));
	assert_string_equal(notice, "");
}

/* What a board of another processor is told: its interrupt controller, and no CPU model that its QEMU does not know. */
static void boards(void **state)
{
	static const struct {
		const char *arch, *text, *has, *has_not;
	} t[] = {
		{ "aarch64", TCG "machine=virt\nvcpus=8\n", " -cpu max ", "gic" },
		{ "aarch64", TCG "machine=virt\nvcpus=9\n", ",accel=tcg,memory-backend=ram0,gic-version=3 ", "vmgenid" },
		{ "arm", TCG "machine=virt\nvcpus=9\nfirmware=/f\nnvram=/n\n", ",gic-version=3,pflash0=code,pflash1=nvram ", "vmgenid" },
		{ "riscv64", TCG "machine=virt\nvcpus=9\n", " -smp 9 -display ", "gic" },
		{ "riscv64", TCG "machine=virt\ncpu=sifive-u54\n", " -cpu sifive-u54 ", "max" },
		{ "x86_64", TCG "machine=q35\nvcpus=9\n", " -cpu max ", "gic" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct kvm_caps board = caps;
		struct kvm_spec s = { .caps = &board };
		struct err e = { 0 };
		auto_free char *got = NULL;

		board.arch = (char *)t[i].arch;
		got = line_of(t[i].text, &s, NULL, &e);
		if (!got || !strstr(got, t[i].has) || strstr(got, t[i].has_not))
			fail_msg("%s %s: %s", t[i].arch, t[i].text, got ? got : e.msg);
	}
}

/* Where nothing is said, O_DIRECT decides, for each file. */
static void probes_direct(void **state)
{
	auto_free char *file = str_fmt("%s/disk", dir), *text = str_fmt(TCG "[disk a]\nfile=disk\nformat=raw\n");
	FILE *f = fopen(file, "w");
	auto_fd int fd = open(file, O_RDONLY | O_DIRECT);
	struct err e = { 0 };
	auto_free char *got = line_of(text, NULL, NULL, &e);

	(void)state;
	fclose(f);
	unlink(file);
	assert_non_null(strstr(got, file));
	assert_int_equal(strstr(got, "cache.direct=on") != NULL, fd >= 0);
}

/* As many as a definition may have, each with a place of its own. */
static void all_disks(void **state)
{
	auto_buf struct buf text = { 0 };
	struct err e = { 0 };
	auto_free char *got = NULL;

	(void)state;
	buf_adds(&text, TCG);
	for (int i = 0; i < DEF_MAX_DISKS; i++)
		buf_addf(&text, "[disk d%d]\nfile=/%d\nformat=raw\n", i, i);
	got = line_of(buf_str(&text), NULL, NULL, &e);
	for (int i = 0; i < DEF_MAX_DISKS; i++) {
		auto_free char *want = str_fmt(" -device virtio-blk-pci,addr=%x.%d%s,id=d%d,drive=d%d.0,bootindex=%d ", 16 + i / 8, i % 8,
			i % 8 ? "" : ",multifunction=on", i, i, i + 1);

		assert_non_null(strstr(got, want));
	}
}

/* A block device is opened as one. */
static void block_device(void **state)
{
	auto_free char *file = str_fmt("%s/blk", dir);
	struct err e = { 0 };
	auto_free char *got = NULL;

	(void)state;
	if (mknod(file, S_IFBLK | 0600, 0) < 0)
		skip();
	got = line_of(TCG "[disk a]\nfile=blk\nformat=raw\n", NULL, NULL, &e);
	unlink(file);
	assert_non_null(strstr(got, "driver=host_device,node-name=a.0.file"));
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	auto_free char *path = str_fmt("%s/t.conf", dir);

	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	if (!str_eq(machine_host_type(), "q35")) {
		printf("1..0 # SKIP the lines are those of a definition whose machine is q35\n");
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(argv_tuned_devices),
		cmocka_unit_test(cache_modes),
		cmocka_unit_test(chain),
		cmocka_unit_test(lowest_has_no_backing), cmocka_unit_test(memory_file),
		cmocka_unit_test(refused),
		cmocka_unit_test(accel),
		cmocka_unit_test(boards),
		cmocka_unit_test(probes_direct),
		cmocka_unit_test(all_disks),
		cmocka_unit_test(block_device),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
