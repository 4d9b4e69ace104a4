#include "kvm/argv.h"

#include <stdio.h>
#include <string.h>

#include "kvm/ram_file.h"
#include "kvm/sockets.h"
#include "lib/file.h"
#include "lib/limits.h"
#include "lib/own.h"

/* ---- pieces ---------------------------------------------------------------------------------------------- */

/* kvm or tcg; @notice when the choice is not the first one asked for. */
static int choose_accel(struct build *b, char *notice, size_t notice_size, struct err *e)
{
	const struct kvm_spec *s = b->spec;
	struct err why = { 0 };

	b->kvm = false;
	if (s->def->accel == ACCEL_TCG)
		return 0;
	if (!s->caps->kvm)
		err_set(&why, -EOPNOTSUPP, "cannot use KVM: %s was built without it", s->caps->path);
	else if (kvm_usable(&why) == 0) {
		b->kvm = true;
		return 0;
	}
	if (s->def->accel == ACCEL_KVM_TCG) {
		snprintf(notice, notice_size, "%s; running without it (tcg), which is slow", why.msg);
		return 0;
	}
	*e = why;
	return e->code;
}

static int choose_machine(struct build *b, struct err *e)
{
	const char *want = b->spec->machine ? b->spec->machine : b->spec->def->machine;

	b->machine = kvm_caps_machine(b->spec->caps, want);
	if (b->machine) {
		b->has = machine_of(b->machine);
		return 0;
	}
	err_set(e, -EINVAL, "QEMU %s has no machine type '%s'", b->spec->caps->version, want);
	return err_hint(e, "'%s -machine help' lists them", b->spec->caps->path);
}

static void add_memory(const struct build *b)
{
	auto_buf struct buf o = { 0 };
	unsigned long long mib = b->spec->def->memory / MIB;
	enum ram_file kind = ram_file_of(b->spec);

	buf_addf(&o, "memory-backend-%s,id=ram0,size=%lluM", kind == RAM_NONE ? "ram" : "file", mib);
	if (kind == RAM_MAPPED || kind == RAM_READONLY) {
		buf_addf(&o, ",share=off%s", kind == RAM_READONLY ? ",readonly=on,rom=off" : "");
		opt_add(&o, "mem-path", b->spec->memory_map);
	} else if (kind != RAM_NONE) {
		buf_addf(&o, ",share=on,mem-path=/proc/self/fd/%d", KVM_FD_MEMORY);
	}
	argv_take(b->out, "-object", &o);
	argv_add(b->out, "-m");
	argv_addf(b->out, "size=%lluM", mib);
}

static void add_machine(const struct build *b)
{
	const struct def *d = b->spec->def;
	bool pflash = d->firmware && b->has->flash;
	const char *cpu = d->cpu ? d->cpu : b->kvm ? b->spec->caps->cpu_host : machine_cpu(b->spec->caps);
	struct argv *a = b->out;

	argv_add(a, b->spec->caps->path);
	argv_add(a, "-name");
	argv_addf(a, "guest=%s", d->name);
	argv_add(a, "-nodefaults");
	argv_add(a, "-no-user-config");
	argv_add(a, "-S");
	argv_add(a, "-machine");
	argv_addf(a, "%s,accel=%s,memory-backend=ram0%s%s%s", b->machine, b->kvm ? "kvm" : "tcg",
		machine_props(b->has, b->spec->caps, b->kvm, d->vcpus), pflash ? ",pflash0=code" : "",
		pflash && d->nvram ? ",pflash1=" KVM_NODE_NVRAM : "");
	add_memory(b);
	argv_add(a, "-smp");
	argv_addf(a, "%u", d->vcpus);
	if (d->uuid) {
		argv_add(a, "-uuid");
		argv_add(a, d->uuid);
	}
	if (cpu) {
		argv_add(a, "-cpu");
		argv_add(a, cpu);
	}
	argv_add(a, "-display");
	argv_add(a, "none");
	argv_add(a, "-rtc");
	argv_add(a, "base=utc");
	if (b->spec->caps->sandbox) {
		argv_add(a, "-sandbox");
		argv_add(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	}
}

static void add_socket(struct argv *a, const char *id, int fd)
{
	argv_add(a, "-chardev");
	argv_addf(a, "socket,id=%s,fd=%d,server=on,wait=off", id, fd);
}

static int add_channels(const struct build *b, struct err *e)
{
	auto_buf struct buf dev = { 0 };
	struct argv *a = b->out;

	add_socket(a, "qmp", KVM_FD_QMP);
	argv_add(a, "-mon");
	argv_add(a, "chardev=qmp,mode=control");
	add_socket(a, "events", KVM_FD_EVENTS);
	argv_add(a, "-mon");
	argv_add(a, "chardev=events,mode=control");
	add_socket(a, "console", KVM_FD_CONSOLE);
	argv_add(a, "-serial");
	argv_add(a, "chardev:console");
	if (!b->spec->def->agent)
		return 0;
	add_socket(a, "agent", KVM_FD_AGENT);
	if (virtio_name(b, "serial", &dev, e) < 0)
		return e->code;
	buf_adds(&dev, ",id=sys.serial");
	argv_take(a, "-device", &dev);
	if (device_name(b, "virtserialport", &dev, e) < 0)
		return e->code;
	buf_adds(&dev, ",id=sys.agent,bus=sys.serial.0,chardev=agent,name=org.qemu.guest_agent.0");
	argv_take(a, "-device", &dev);
	return 0;
}

static void add_netdev(const struct build *b, const struct def_net *n)
{
	auto_buf struct buf o = { 0 };

	buf_addf(&o, "%s,id=%s.host", n->type, n->name);
	if (str_eq(n->type, "tap")) {
		opt_add(&o, "ifname", n->ifname);
		buf_adds(&o, ",script=no,downscript=no");
		if (n->queues > 1)
			buf_addf(&o, ",queues=%u", n->queues);
		if (b->kvm && str_eq(n->model, "virtio") && access("/dev/vhost-net", R_OK | W_OK) == 0)
			buf_adds(&o, ",vhost=on");
	}
	argv_take(b->out, "-netdev", &o);
}

static int add_net(const struct build *b, const struct def_net *n, struct err *e)
{
	bool virtio = str_eq(n->model, "virtio");
	auto_buf struct buf o = { 0 };

	if (str_eq(n->type, "none"))
		return 0;
	if (!virtio)
		buf_adds(&o, n->model); /* too many to ask for: QEMU will say if it has none */
	else if (virtio_name(b, "net", &o, e) < 0)
		return err_at(e, "%s", n->name);
	add_netdev(b, n);
	buf_addf(&o, ",id=%s,netdev=%s.host,mac=%s", n->name, n->name, n->mac);
	if (n->address && argv_address(b, n->address, &o, e) < 0)
		return err_at(e, "%s", n->name);
	if (n->queues > 1) /* an interrupt for each direction of each, one for changes, one for control */
		buf_addf(&o, ",mq=on,vectors=%u", 2 * n->queues + 2);
	/* No option ROM: nothing boots from here, and its file need not be installed. */
	if (b->has->pci && (virtio || str_starts(n->model, "e1000") || str_eq(n->model, "rtl8139")))
		buf_adds(&o, ",romfile=");
	argv_take(b->out, "-device", &o);
	return 0;
}

static void add_kernel(const struct build *b)
{
	const struct def *d = b->spec->def;
	const struct {
		const char *name, *val;
	} opts[] = { { "-kernel", d->kernel }, { "-initrd", d->initrd }, { "-append", d->append } };

	for (size_t i = 0; i < ARRAY_SIZE(opts); i++)
		if (opts[i].val) {
			argv_add(b->out, opts[i].name);
			argv_add(b->out, opts[i].val);
		}
}

/* The definition's own. */
static int add_args(const struct build *b, struct err *e)
{
	const struct def *d = b->spec->def;

	for (size_t i = 0; i < d->qemu_args.n; i++) {
		char *word;

		if (!b->spec->aside) {
			argv_add(b->out, d->qemu_args.v[i]);
			continue;
		}
		if (sockets_word(i ? d->qemu_args.v[i - 1] : "", d->qemu_args.v[i], b->spec->aside, &word, e) < 0)
			return e->code;
		argv_own(b->out, word);
	}
	return 0;
}

int kvm_argv(const struct kvm_spec *spec, struct argv *out, const char **accel, char *notice, size_t notice_size,
	struct err *e)
{
	struct build b = { .spec = spec, .out = out };
	const struct def *d = spec->def;

	*out = (struct argv){ 0 };
	if (notice_size)
		notice[0] = '\0';
	if (choose_machine(&b, e) < 0 || choose_accel(&b, notice, notice_size, e) < 0)
		return e->code;
	*accel = b.kvm ? "kvm" : "tcg";
	if (d->nvram && !b.has->flash)
		return err_set(e, -EINVAL, "machine %s has no place for an nvram", b.machine);
	add_machine(&b);
	argv_firmware(&b);
	if (add_channels(&b, e) < 0 || argv_disks(&b, e) < 0)
		goto fail;
	for (size_t i = 0; i < d->n_nets; i++)
		if (add_net(&b, &d->nets[i], e) < 0)
			goto fail;
	/* Tells the guest that it was brought back. */
	if (b.has->vmgenid && kvm_caps_has_device(spec->caps, "vmgenid")) {
		argv_add(out, "-device");
		argv_add(out, "vmgenid,guid=auto,id=sys.vmgenid");
	}
	add_kernel(&b);
	if (spec->incoming) {
		argv_add(out, "-incoming");
		argv_add(out, "defer");
	}
	if (add_args(&b, e) < 0)
		goto fail;
	if (!out->oom)
		return 0;
	err_nomem(e, "build QEMU's command line");
fail:
	argv_done(out);
	return e->code;
}
