/* kvm/def.c: what a definition may say, its defaults, and the file and line of what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "engine/vm/policy.h"
#include "kvm/def.h"
#include "kvm/machine.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/limits.h"
#include "lib/own.h"

static char dir[] = "/tmp/test_def.XXXXXX";

static int read_def(const char *text, struct def **d, struct err *e)
{
	auto_free char *path = str_fmt("%s/t.conf", dir);
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
	return def_read(path, "koan", &policy_section, d, e);
}

static struct def *must(const char *text)
{
	struct err e = { 0 };
	struct def *d = NULL;

	if (read_def(text, &d, &e) < 0)
		fail_msg("%s", e.msg);
	return d;
}

static void least(void **state)
{
	struct def *d = must("memory = 1M\n");

	(void)state;
	assert_string_equal(d->name, "koan");
	assert_int_equal(d->memory, MIB);
	assert_int_equal(d->vcpus, 1);
	assert_string_equal(d->machine, "q35");
	assert_int_equal(d->accel, ACCEL_KVM);
	assert_null(d->cpu);
	assert_false(d->agent);
	assert_string_equal(d->memory_mode, "normal");
	assert_string_equal(d->qemu, machine_host_qemu());
	assert_int_equal(d->n_disks + d->n_nets + d->qemu_args.n, 0);
	assert_string_equal(policy_of(d)->from, "cold");
	assert_string_equal(policy_of(d)->healthy, "running");
	assert_string_equal(policy_of(d)->on_crash, "restart");
	assert_string_equal(policy_of(d)->on_stop, "shutdown");
	assert_int_equal(policy_of(d)->within_ms, 60000);
	assert_int_equal(policy_of(d)->attempts, 3);
	assert_false(policy_of(d)->autostart);
	def_free(d);
}

static void whole(void **state)
{
	struct def *d = must("memory  = 1.5G\nvcpus = 255\nmachine = pc   # old\naccel = kvm:tcg\ncpu = EPYC,-svm\nagent = yes\n"
			     "kernel = vmlinuz\ninitrd = /boot/initrd\nappend = console=ttyS0 root=/dev/vda1\nfirmware = fw/code.fd\n"
			     "nvram = vars.fd\nnvram-format = qcow2\nmemory-mode = instant\nsnapshot-dir = snaps\n"
			     "backing-dir = /gold\nbacking-dir = more\n"
			     "qemu = bin/qemu\nuser = nobody\n"
			     "[disk vda]\nfile = a b,c.qcow2\nformat = qcow2\n"
			     "[disk d-1_X]\nfile = /x/y.raw\nformat = raw\nbus = scsi\ncache = unsafe\ndiscard = ignore\n"
			     "readonly = yes\nserial = S1\nsnapshot = external\n"
			     "[net eth0]\nhostfwd = tcp:127.0.0.1:65535-10.0.2.15:1\nhostfwd = udp::53-:53\n[net eth1]\ntype = tap\nifname = tap0\nmac = 52:54:00:AA:bb:01\nmodel = e1000\n"
			     "[boot]\nautostart = yes\norder = 7\nfrom = golden\nfallback = factory, cold\nhealthy = agent\n"
			     "within = 90\nattempts = 5\ndiscard-changes = yes\non-crash = revert\non-stop = kill\nback-off = 250ms\nstop-within = 2m\n"
			     "[qemu]\narg = -device virtio-rng-pci\narg = -name 'x y' \"q \\\" \\z\" a\\ b ''\n");
	static const char *const words[] = { "-device", "virtio-rng-pci", "-name", "x y", "q \" \\z", "a b", "" };
	char path[200];

	(void)state;
	assert_int_equal(d->memory, 1536 * MIB);
	assert_int_equal(d->vcpus, 255);
	assert_string_equal(d->machine, "pc");
	assert_int_equal(d->accel, ACCEL_KVM_TCG);
	assert_string_equal(d->cpu, "EPYC,-svm");
	assert_true(d->agent);
	snprintf(path, sizeof path, "%s/vmlinuz", dir);
	assert_string_equal(d->kernel, path);
	assert_string_equal(d->initrd, "/boot/initrd");
	assert_string_equal(d->append, "console=ttyS0 root=/dev/vda1");
	snprintf(path, sizeof path, "%s/fw/code.fd", dir);
	assert_string_equal(d->firmware, path);
	assert_int_equal(d->nvram_format, FORMAT_QCOW2);
	assert_string_equal(d->memory_mode, "instant");
	assert_int_equal(d->backing_dirs.n, 2);
	assert_string_equal(d->backing_dirs.v[0], "/gold");
	snprintf(path, sizeof path, "%s/more", dir);
	assert_string_equal(d->backing_dirs.v[1], path);
	snprintf(path, sizeof path, "%s/bin/qemu", dir);
	assert_string_equal(d->qemu, path);
	assert_string_equal(d->user, "nobody");

	assert_int_equal(d->n_disks, 2);
	snprintf(path, sizeof path, "%s/a b,c.qcow2", dir);
	assert_string_equal(d->disks[0].file, path);
	assert_int_equal(d->disks[0].bus, BUS_VIRTIO);
	assert_int_equal(d->disks[0].snapshot, DISK_SNAP_DEFAULT);
	assert_null(d->disks[0].cache);
	assert_string_equal(d->disks[0].discard, "unmap");
	assert_false(d->disks[0].readonly);
	assert_ptr_equal(def_disk_find(d, "d-1_X"), &d->disks[1]);
	assert_null(def_disk_find(d, "vdb"));
	assert_int_equal(d->disks[1].format, FORMAT_RAW);
	assert_int_equal(d->disks[1].bus, BUS_SCSI);
	assert_int_equal(d->disks[1].snapshot, DISK_SNAP_EXTERNAL);
	assert_string_equal(d->disks[1].cache, "unsafe");
	assert_string_equal(d->disks[1].discard, "ignore");
	assert_string_equal(d->disks[1].serial, "S1");
	assert_true(d->disks[1].readonly);

	assert_int_equal(d->n_nets, 2);
	assert_string_equal(d->nets[0].type, "user");
	assert_string_equal(d->nets[0].model, "virtio");
	assert_true(str_starts(d->nets[0].mac, "52:54:00:") && strlen(d->nets[0].mac) == 17);
	assert_int_equal(d->nets[0].hostfwd.n, 2);
	assert_string_equal(d->nets[0].hostfwd.v[1], "udp::53-:53");
	assert_string_equal(d->nets[1].ifname, "tap0");
	assert_string_equal(d->nets[1].mac, "52:54:00:AA:bb:01");
	assert_string_equal(d->nets[1].model, "e1000");

	assert_true(policy_of(d)->autostart && policy_of(d)->discard_changes);
	assert_int_equal(policy_of(d)->order, 7);
	assert_string_equal(policy_of(d)->fallback, "factory, cold");
	assert_int_equal(policy_of(d)->within_ms, 90000);
	assert_string_equal(policy_of(d)->on_crash, "revert");
	assert_string_equal(policy_of(d)->on_stop, "kill");
	assert_int_equal(policy_of(d)->back_off_ms, 250);
	assert_int_equal(policy_of(d)->stop_within_ms, 120000);

	assert_int_equal(d->qemu_args.n, ARRAY_SIZE(words));
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		assert_string_equal(d->qemu_args.v[i], words[i]);
	def_free(d);
}

/* Drives are no disks: they are in a list of their own, and each keeps what was said of it. */
static void def_cdroms(void **state)
{
	struct def *d = must("memory=1M\n[disk c]\ndevice=cdrom\nbus=sata\nfile=x.iso\n[disk vda]\nfile=/a\nformat=raw\n[disk e]\ndevice=cdrom\n"
			     "bus=ide\nformat=raw\nreadonly=yes\nsnapshot=no\n[disk vdb]\nfile=/b\nformat=raw\nserial=s\n");

	(void)state;
	assert_int_equal(d->n_disks, 2);
	assert_string_equal(d->disks[0].name, "vda");
	assert_string_equal(d->disks[1].serial, "s");
	assert_int_equal(d->n_cdroms, 2);
	assert_string_equal(d->cdroms[0].name, "c");
	assert_true(str_ends(d->cdroms[0].file, "/x.iso"));
	assert_int_equal(d->cdroms[1].bus, BUS_IDE);
	assert_null(d->cdroms[1].file);
	def_free(d);
}

/* The address follows from the names and from nothing else. */
static void mac_stays(void **state)
{
	struct def *a = must("memory=1M\n[net eth0]\n[net eth1]\n"), *b = must("memory=2M\n[net eth1]\n");

	(void)state;
	assert_string_equal(a->nets[1].mac, b->nets[0].mac);
	assert_string_not_equal(a->nets[0].mac, a->nets[1].mac);
	def_free(a);
	def_free(b);
}

#define M "memory=1M\n"
static const struct {
	const char *text, *want, *hint;
} wrong[] = {
	{ "", ": memory is not given", "e.g. memory = 512M, before the first section" },
	{ "memory = 512\n", ":1: memory '512' is not a whole number of MiB, 1M to 16T", "give a unit, as in 512M" },
	{ "memory = 0M\n", ":1: memory '0M' is not a whole number of MiB, 1M to 16T", "give a unit, as in 512M" },
	{ "memory = 1048577\n", ":1: memory '1048577' is not a whole number of MiB, 1M to 16T", "give a unit, as in 512M" },
	{ "memory = 17T\n", ":1: memory '17T' is not a whole number of MiB, 1M to 16T", "give a unit, as in 512M" },
	{ "memory = lots\n", ":1: memory 'lots' is not a size (a number with K, M, G, T, P or E)", "" },
	{ "memory =\n", ":1: memory has no value", "" },
	{ M "\nmemory = 2M\n", ":3: memory was given in line 1 already", "" },
	{ M "memroy = 2M\n", ":2: unknown key 'memroy'", "did you mean 'memory'?" },
	{ M "file = x\n", ":2: unknown key 'file'", "" },
	{ M "vcpus = 0\n", ":2: vcpus '0' is out of range (1 to 255)", "" },
	{ M "vcpus = 256\n", ":2: vcpus '256' is out of range (1 to 255)", "" },
	{ M "vcpus = 2x\n", ":2: vcpus '2x' is not a whole number", "" },
	{ M "accel = xen\n", ":2: accel 'xen' is none of: kvm, tcg, kvm:tcg", "" },
	{ M "accel = kv\n", ":2: accel 'kv' is none of: kvm, tcg, kvm:tcg", "" },
	{ M "agent = true\n", ":2: agent 'true' is neither yes nor no", "" },
	{ M "memory-mode = fast\n", ":2: memory-mode 'fast' is none of: normal, instant", "" },
	{ M "user = aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", ":2: user is longer than 64 bytes", "" },
	{ M "initrd = x\n", ":2: initrd needs a kernel", "" },
	{ M "append = x\n", ":2: append needs a kernel", "" },
	{ M "nvram = x\n", ":2: nvram needs a firmware", "" },
	{ M "firmware = y\nnvram-format = raw\n", ":3: nvram-format needs an nvram", "" },
	{ M "nonsense\n", ":2: 'nonsense' is neither 'key = value' nor a [section]", "" },
	{ M "[dsk vda]\n", ":2: unknown section [dsk]", "did you mean 'disk'?" },
	{ M "[boot x]\n", ":2: section [boot] takes no name", "" },
	{ M "[boot]\n[qemu]\n[boot]\n", ":4: section [boot] was opened in line 2 already", "" },
	{ M "[disk]\n", ":2: [disk NAME]: '' is not a name: a letter, then letters, digits, '-', '_', 16 at most", "" },
	{ M "[disk 0a]\n", ":2: [disk NAME]: '0a' is not a name: a letter, then letters, digits, '-', '_', 16 at most", "" },
	{ M "[disk a.b]\n", ":2: [disk NAME]: 'a.b' is not a name: a letter, then letters, digits, '-', '_', 16 at most", "" },
	{ M "[disk a1234567890123456]\n",
		":2: [disk NAME]: 'a1234567890123456' is not a name: a letter, then letters, digits, '-', '_', 16 at most", "" },
	{ M "[disk vda]\nfile=x\nformat=raw\n[disk vda]\n", ":5: there is a [disk vda] already", "" },
	{ M "[disk vda]\nfile=x\nformat=raw\n[net vda]\n", ":5: there is a [disk vda] already", "" },
	{ M "[net vda]\n[net vda]\n", ":3: there is a [net vda] already", "" },
	{ M "[disk vda]\nformat=raw\n[boot]\n", ":2: [disk vda] has no file", "" },
	{ M "[disk vda]\nfile=x\n", ":2: [disk vda] has no format", "say 'format = qcow2' or 'format = raw': it is never guessed" },
	{ M "[disk vda]\nfile=x\nfile=y\n", ":4: file was given in line 3 already", "" },
	{ M "[disk vda]\nformat = vmdk\n", ":3: format 'vmdk' is none of: qcow2, raw", "" },
	{ M "[disk vda]\nbus = usb\n", ":3: bus 'usb' is none of: virtio, ide, sata, scsi", "" },
	{ M "[disk vda]\nsnapshot = yes\n", ":3: snapshot 'yes' is none of: internal, external, no", "" },
	{ M "[disk vda]\nserial = 123456789012345678901\n", ":3: serial is longer than 20 bytes", "" },
	{ M "[disk vda]\nfomat = raw\n", ":3: unknown key 'fomat' in [disk]", "did you mean 'format'?" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=0\n", ":2: [disk a]: address '0' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=20\n", ":2: [disk a]: address '20' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=5.8\n", ":2: [disk a]: address '5.8' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=5.\n", ":2: [disk a]: address '5.' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=.1\n", ":2: [disk a]: address '.1' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=x\n", ":2: [disk a]: address 'x' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=-1\n", ":2: [disk a]: address '-1' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=5.1.1\n", ":2: [disk a]: address '5.1.1' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[disk a]\nfile=x\nformat=raw\nbus=ide\naddress=1\n", ":2: [disk a]: address '1' is none", "it is a channel and a unit, 0.0 to 1.1" },
	{ M "[disk a]\nfile=x\nformat=raw\nbus=ide\naddress=2.0\n", ":2: [disk a]: address '2.0' is none", "it is a channel and a unit, 0.0 to 1.1" },
	{ M "[disk a]\nfile=x\nformat=raw\nbus=sata\naddress=6\n", ":2: [disk a]: address '6' is none", "it is a port from 0 to 5" },
	{ M "[disk a]\nfile=x\nformat=raw\nbus=scsi\naddress=256\n", ":2: [disk a]: address '256' is none", "it is a target from 0 to 255" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=5\n[disk b]\nfile=y\nformat=raw\naddress=5.0\n", ":6: [disk b]: address = 5.0 is that of [disk a]", "" },
	{ M "[disk a]\nfile=x\nformat=raw\nboot=1\n[disk b]\nfile=y\nformat=raw\nboot=1\n", ":6: [disk b]: boot = 1 is that of [disk a]", "" },
	{ M "[disk a]\nfile=x\nformat=raw\nboot=0\n", ":5: boot '0' is out of range (1 to 999)", "" },
	{ M "[disk a]\nfile=x\nformat=raw\nqueues=0\n", ":5: queues '0' is out of range (1 to 256)", "" },
	{ M "[disk a]\nfile=x\nformat=raw\nqueues=2\nbus=sata\n", ":2: [disk a]: only bus = virtio has queues", "" },
	{ M "[disk a]\nfile=x\nformat=raw\niothread=maybe\n", ":5: iothread 'maybe' is neither yes nor no", "" },
	{ M "[disk a]\nfile=x\nformat=raw\niothread=yes\nbus=scsi\n", ":2: [disk a]: only bus = virtio has an iothread", "" },
	{ M "[disk a]\nfile=x\nformat=raw\ndetect-zeroes=yes\n", ":5: detect-zeroes 'yes' is none of: off, on, unmap", "" },
	{ M "[disk a]\nfile=x\nformat=raw\ndetect-zeroes=unmap\ndiscard=ignore\n", ":2: [disk a]: detect-zeroes = unmap needs discard = unmap", "" },
	{ M "[disk a]\nfile=x\nformat=raw\niops=0\n", ":5: iops '0' is out of range (1 to 1000000000)", "" },
	{ M "[disk a]\nfile=x\nformat=raw\nbps=1023\n", ":5: bps '1023' is less than 1024", "" },
	{ M "[disk a]\nfile=x\nformat=raw\nbps=fast\n", ":5: bps 'fast' is not a size (a number with K, M, G, T, P or E)", "" },
	{ M "[net a]\naddress=0\n", ":2: [net a]: address '0' is none", "it is a PCI slot from 1 to 1f, with .0 to .7 behind it where it has several functions" },
	{ M "[net a]\naddress=5\n[net b]\naddress=5.0\n", ":4: [net b]: address = 5.0 is that of [net a]", "" },
	{ M "[disk a]\nfile=x\nformat=raw\naddress=5\n[net b]\naddress=5\n", ":6: [net b]: address = 5 is that of [disk a]", "" },
	{ M "[net a]\nqueues=2\n", ":2: [net a]: only a virtio device on a tap has queues", "" },
	{ M "uuid=0f1e2d3c\n", ":2: uuid '0f1e2d3c' is not 8-4-4-4-12 hex digits", "" },
	{ M "uuid=0f1e2d3c-0000-4000-8000-00000000000g\n", ":2: uuid '0f1e2d3c-0000-4000-8000-00000000000g' is not 8-4-4-4-12 hex digits", "" },
	{ M "uuid=0f1e2d3c-0000-4000-8000-0000000000001\n", ":2: uuid '0f1e2d3c-0000-4000-8000-0000000000001' is not 8-4-4-4-12 hex digits", "" },
	{ M "uuid=0f1e2d3c00000-4000-8000-000000000000\n", ":2: uuid '0f1e2d3c00000-4000-8000-000000000000' is not 8-4-4-4-12 hex digits", "" },
	{ M "[disk c]\ndevice=floppy\n", ":3: device 'floppy' is none of: disk, cdrom", "" },
	{ M "[disk c]\ndevice=cdrom\n", ":2: [disk c]: there is no cdrom on bus = virtio", "say bus = sata, ide or scsi" },
	{ M "[disk c]\ndevice=cdrom\nbus=ide\nformat=qcow2\n", ":2: [disk c]: a cdrom's format is raw", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=scsi\niothread=yes\n", ":2: [disk c]: a cdrom has no iothread", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=scsi\nqueues=2\n", ":2: [disk c]: a cdrom has no queues", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=scsi\ndetect-zeroes=on\n", ":2: [disk c]: a cdrom has no detect-zeroes", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=scsi\niops=5\n", ":2: [disk c]: a cdrom has no iops", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=scsi\nbps=1M\n", ":2: [disk c]: a cdrom has no bps", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=scsi\ncache=none\n", ":2: [disk c]: a cdrom has no cache", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=scsi\nsnapshot=internal\n", ":2: [disk c]: a cdrom has no snapshot", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=sata\naddress=0\n[disk d]\nfile=/d\nformat=raw\nbus=sata\naddress=0\n", ":6: [disk d]: address = 0 is that of [disk c]", "" },
	{ M "[disk c]\ndevice=cdrom\nbus=sata\naddress=7\n", ":2: [disk c]: address '7' is none", "it is a port from 0 to 5" },
	{ M "[disk c]\ndevice=cdrom\nbus=sata\n[net c]\n", ":5: there is a [disk c] already", "" },
	{ M "[net a]\nhostfwd=2222-:22\n", ":3: hostfwd '2222-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp:2222-:22\n", ":3: hostfwd 'tcp:2222-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::0-:22\n", ":3: hostfwd 'tcp::0-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::65536-:22\n", ":3: hostfwd 'tcp::65536-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::22\n", ":3: hostfwd 'tcp::22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::22-22\n", ":3: hostfwd 'tcp::22-22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=icmp::22-:22\n", ":3: hostfwd 'icmp::22-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp:::22-:22\n", ":3: hostfwd 'tcp:::22-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::22-:22x\n", ":3: hostfwd 'tcp::22-:22x' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp:localhost:22-:22\n", ":3: hostfwd 'tcp:localhost:22-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::22,a-:22\n", ":3: hostfwd 'tcp::22,a-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::2 2-:22\n", ":3: hostfwd 'tcp::2 2-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::000022-:22\n", ":3: hostfwd 'tcp::000022-:22' is not PROTOCOL:ADDRESS:PORT-ADDRESS:PORT, of the host and of the guest", "e.g. tcp:127.0.0.1:2222-:22" },
	{ M "[net a]\nhostfwd=tcp::22-:22\nhostfwd=tcp::22-:23\n", ":2: [net a]: hostfwd = tcp::22-:23: [net a] has that port of the host already", "" },
	{ M "[net a]\nhostfwd=udp::5-:5\nhostfwd=tcp::22-:22\n[net b]\nhostfwd=tcp::22-:23\n", ":5: [net b]: hostfwd = tcp::22-:23: [net a] has that port of the host already", "" },
	{ M "[net a]\ntype=tap\nifname=t\nhostfwd=tcp::22-:22\n", ":2: [net a]: only type user has a hostfwd", "" },
	{ M "[net a]\nmac = 52:54:00:11:22\n", ":3: mac '52:54:00:11:22' is not six pairs of hex digits with colons", "" },
	{ M "[net a]\nmac = 52:54:00:11:22:333\n", ":3: mac '52:54:00:11:22:333' is not six pairs of hex digits with colons", "" },
	{ M "[net a]\nmac = 53:54:00:11:22:33\n", ":3: mac '53:54:00:11:22:33' is a group's address", "" },
	{ M "[net a]\nmodel = a,b\n", ":3: model 'a,b' is not a device's name", "" },
	{ M "[net a]\ntype = tap\n", ":2: [net a] of type tap has no ifname", "" },
	{ M "[net a]\nifname = tap0\n", ":2: [net a]: only type tap has an ifname", "" },
	{ M "[net a]\nifname = 1234567890123456\n", ":3: ifname is longer than 15 bytes", "" },
	{ M "[boot]\nhealthy = agent\n", ":3: healthy = agent needs agent = yes", "" },
	{ M "[boot]\nhealthy = serial \"\n", ":3: healthy 'serial \"' is none of: running, agent, serial \"TEXT\"", "" },
	{ M "[boot]\nhealthy = serial \"\"\n", ":3: healthy 'serial \"\"' is none of: running, agent, serial \"TEXT\"", "" },
	{ M "[boot]\nfallback = a,,b\n", ":3: fallback has an empty place in its list", "" },
	{ M "[boot]\nfallback = a,\n", ":3: fallback has an empty place in its list", "" },
	{ M "[boot]\nwithin = 5x\n", ":3: within '5x' is not a time (a number with ms, s, m or h)", "" },
	{ M "[boot]\nattempts = 0\n", ":3: attempts '0' is out of range (1 to 1000)", "" },
	{ M "[boot]\non-crash = panic\n", ":3: on-crash 'panic' is none of: restart, revert, stop", "" },
	{ M "[qemu]\nargs = x\n", ":3: unknown key 'args' in [qemu]", "did you mean 'arg'?" },
	{ M "[qemu]\narg = -x 'y\n", ":3: arg: a ' is not closed", "" },
	{ M "[qemu]\narg = -device a\narg = -snapshot\n", ":4: arg: -snapshot cannot be given: it has no effect on [disk] images, which the "
		"guest would write to", "take a snapshot before, and 'discard-changes = yes' in [boot] goes back to it" },
	{ M "[qemu]\narg = --S\n", ":3: arg: --S cannot be given: fermata itself lets the guest run", "'fermata start --paused' leaves it paused" },
	{ M "[qemu]\narg = -monitor mon:stdio\n", ":3: arg: -monitor mon:stdio cannot be given: QEMU has no terminal",
		"use a socket, as in '-monitor unix:PATH,server=on,wait=off', or 'fermata qemu-monitor-command --hmp'" },
	{ M "[qemu]\narg = -run-with user=x\n", ":3: arg: -run-with user=x cannot be given: fermata starts QEMU as another user",
		"say 'user = NAME'" },
};

/* What only looks like it. */
static void harmless_args(void **state)
{
	(void)state;
	def_free(must(M "[qemu]\narg = -append -snapshot -m slots=2,maxmem=1G -qmp unix:/x,server=on -run-with async-teardown=on\n"
		"arg = -drive file=x,snapshot=on -device snapshot -monitor unix:/m -name -S\n"));
}

static void wrong_ones(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		auto_free char *want = str_fmt("%s/t.conf%s", dir, wrong[i].want);
		struct err e = { 0 };
		struct def *d = NULL;

		assert_int_not_equal(read_def(wrong[i].text, &d, &e), 0);
		assert_string_equal(e.msg, want);
		assert_string_equal(e.hint, wrong[i].hint);
		assert_null(d);
	}
}

static void many(void **state)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	struct def *d = NULL;

	(void)state;
	buf_adds(&b, M);
	for (int i = 0; i < DEF_MAX_DISKS; i++)
		buf_addf(&b, "[disk d%d]\nfile=%d\nformat=raw\n", i, i);
	d = must(buf_str(&b));
	assert_int_equal(d->n_disks, DEF_MAX_DISKS);
	def_free(d);
	buf_adds(&b, "[disk x]\n");
	assert_int_equal(read_def(buf_str(&b), &d, &e), -EINVAL);
	assert_non_null(strstr(e.msg, ":98: more than 32 disks"));
}

static void not_there(void **state)
{
	struct err e = { 0 };
	struct def *d = NULL;

	(void)state;
	assert_int_equal(def_read("/nonexistent/x.conf", "x", NULL, &d, &e), -ENOENT);
	assert_int_equal(def_read("/nonexistent/x.conf", "../x", NULL, &d, &e), -EINVAL);
}

static void names(void **state)
{
	static const char *const ok[] = { "a", "7", "koan", "A-b_c.d", "_x" };
	static const char *const no[] = { "", ".", "..", ".a", "-a", "a/b", "a b", "\xc3\xa9", "a\n",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ok); i++)
		assert_int_equal(def_check_name(ok[i], &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		assert_int_equal(def_check_name(no[i], &e), -EINVAL);
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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(least),
		cmocka_unit_test(whole),
		cmocka_unit_test(mac_stays),
		cmocka_unit_test(def_cdroms),
		cmocka_unit_test(wrong_ones),
		cmocka_unit_test(harmless_args),
		cmocka_unit_test(many),
		cmocka_unit_test(not_there),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
