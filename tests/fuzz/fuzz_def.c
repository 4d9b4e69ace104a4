/*
 * kvm/def.c, lib/ini.c, kvm/argv*.c: any bytes as a definition. What is taken keeps its promises, and its command line
 * can be taken apart again: no name in it becomes an option.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/vm/policy.h"
#include "kvm/kvm.h"
#include "lib/limits.h"
#include "lib/own.h"

static void want(bool ok)
{
	if (!ok)
		abort();
}

/* The value of @key in the option string @opt, with its doubled commas single; NULL if it is not there. */
static char *value_of(const char *opt, const char *key)
{
	auto_buf struct buf part = { 0 };
	char *value = NULL;

	for (const char *p = opt;; p++) {
		if (*p == ',' && p[1] == ',')
			p++;
		else if (!*p || *p == ',') {
			if (str_starts(buf_str(&part), key) && part.p[strlen(key)] == '=') {
				want(!value);
				value = strdup(part.p + strlen(key) + 1);
			}
			buf_clear(&part);
			if (!*p)
				return value;
			continue;
		}
		buf_addc(&part, *p);
	}
}

static void check_def(const struct def *d)
{
	want(d->memory >= MIB && d->memory % MIB == 0 && d->vcpus >= 1 && d->vcpus <= 255);
	want(d->n_disks <= DEF_MAX_DISKS && d->n_nets <= DEF_MAX_NETS);
	for (size_t i = 0; i < d->n_disks; i++) {
		want(d->disks[i].file && *d->disks[i].file == '/' && strlen(d->disks[i].name) <= DEF_DISK_MAX);
		want(def_disk_find(d, d->disks[i].name) == &d->disks[i]);
	}
	for (size_t i = 0; i < d->n_nets; i++)
		want(strlen(d->nets[i].mac) == 17 && str_eq(d->nets[i].type, "tap") == (d->nets[i].ifname != NULL));
}

static void check_argv(const struct def *d)
{
	static struct kvm_caps caps = { .path = (char *)"/q", .version = (char *)"7.2.0", .cpu_host = (char *)"host",
		.machines = (char *)"pc-i440fx-7.2\0pc=pc-i440fx-7.2\0pc-q35-7.2\0q35=pc-q35-7.2\0microvm\0virt-7.2\0virt=virt-7.2\0",
		.devices = (char *)"virtio-blk-pci\0virtio-net-pci\0virtio-scsi-pci\0virtio-serial-pci\0virtio-blk-device\0ide-hd\0"
				   "scsi-hd\0ide-cd\0scsi-cd\0ich9-ahci\0virtserialport\0vmgenid\0" };
	struct kvm_layer layers[DEF_MAX_DISKS];
	struct kvm_chain chains[DEF_MAX_DISKS];
	struct kvm_spec s = { .def = d, .caps = &caps, .chains = chains };
	struct argv a = { 0 };
	char notice[200];
	const char *accel;
	size_t disk = 0;
	struct err e;

	for (size_t i = 0; i < d->n_disks; i++) {
		layers[i] = (struct kvm_layer){ .file = d->disks[i].file, .format = d->disks[i].format };
		chains[i] = (struct kvm_chain){ d->disks[i].name, &layers[i], 1 };
	}
	if (kvm_argv(&s, &a, &accel, notice, sizeof notice, &e) < 0) {
		want(a.n == 0 && e.code < 0 && *e.msg);
		return;
	}
	want(a.v[a.n] == NULL);
	for (size_t i = 0; i + 1 < a.n - d->qemu_args.n && disk < d->n_disks; i++) {
		auto_free char *file = str_eq(a.v[i], "-blockdev") ? value_of(a.v[i + 1], "filename") : NULL;

		disk += file && str_eq(file, d->disks[disk].file);
	}
	want(disk == d->n_disks);
	argv_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_fd int fd = memfd_create("def", MFD_CLOEXEC);
	struct def *d = NULL;
	char path[40];
	struct err e;

	want(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (def_read(path, "koan", &policy_section, &d, &e) < 0) {
		want(e.code < 0 && str_starts(e.msg, path));
		return 0;
	}
	check_def(d);
	check_argv(d);
	def_free(d);
	return 0;
}
