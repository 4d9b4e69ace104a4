/* host-check: what this host has, and what to do about what it has not. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "kvm/host.h"
#include "kvm/machine.h"
#include "lib/file.h"
#include "lib/limits.h"
#include "lib/own.h"
#include "lib/text.h"

#define NEED_MAJOR 7
#define NEED_MINOR 2
#define NEED_SPACE (256 * MIB) /* room for a small guest's first checkpoint */

struct check {
	const char *qemu, *state_dir;
	struct kvm_caps *caps; /* NULL: there is no QEMU to ask */
	struct err no_caps;
	char what[96];
	char hint[sizeof(struct err)];
};

static enum kvm_verdict say(struct check *c, enum kvm_verdict v, const char *hint)
{
	snprintf(c->hint, sizeof c->hint, "%s", hint);
	return v;
}

/* An error's words, which say what is wrong and what to do. */
static enum kvm_verdict say_err(struct check *c, enum kvm_verdict v, const struct err *e)
{
	snprintf(c->hint, sizeof c->hint, "%s%s%s", e->msg, *e->hint ? "; " : "", e->hint);
	return v;
}

static enum kvm_verdict cpu(struct check *c)
{
	char text[8192]; /* the first processor's lines */
	auto_fd int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	struct err e;

	text[n > 0 ? n : 0] = '\0';
	/* Other architectures have no such flag, and some nested KVMs need none: that KVM works is proof enough. */
	if (strstr(text, " vmx") || strstr(text, " svm") || kvm_usable(&e) == 0)
		return HOST_PASS;
	return say(c, HOST_FAIL, "enable VT-x or AMD-V in the firmware; without it only 'accel = tcg' works, slowly");
}

static enum kvm_verdict kvm_there(struct check *c)
{
	return file_exists("/dev/kvm") ? HOST_PASS : say(c, HOST_FAIL, "load the module kvm_intel or kvm_amd");
}

static enum kvm_verdict kvm_works(struct check *c)
{
	struct err e;

	return kvm_usable(&e) == 0 ? HOST_PASS : say_err(c, HOST_FAIL, &e);
}

static enum kvm_verdict qemu_there(struct check *c)
{
	if (!c->caps)
		return say_err(c, HOST_FAIL, &c->no_caps);
	if (c->caps->major > NEED_MAJOR || (c->caps->major == NEED_MAJOR && c->caps->minor >= NEED_MINOR))
		return HOST_PASS;
	snprintf(c->hint, sizeof c->hint, "%s is version %s: install a newer one", c->caps->path, c->caps->version);
	return HOST_FAIL;
}

static enum kvm_verdict machines(struct check *c)
{
	static const char *const known[] = { "q35", "pc", "microvm", "virt" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (kvm_caps_machine(c->caps, known[i]))
			return HOST_PASS;
	return say(c, HOST_FAIL, "this QEMU has none of the machine types q35, pc, microvm and virt");
}

static enum kvm_verdict save_job(struct check *c)
{
	if (kvm_caps_has_command(c->caps, "snapshot-save"))
		return HOST_PASS;
	return say(c, HOST_WARN, "checkpoints go through savevm, which chooses the disk for the memory itself");
}

static enum kvm_verdict sandbox(struct check *c)
{
	return c->caps->sandbox ? HOST_PASS : say(c, HOST_WARN, "QEMU runs without it: use one that was built with seccomp");
}

/* QEMU's background-snapshot protects the guest's pages with it while they are written out. */
static enum kvm_verdict write_protect(struct check *c)
{
	auto_fd int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API };

	if (fd < 0 && errno == EPERM)
		return say(c, HOST_WARN, "live checkpoints pause longer: run as root or set vm.unprivileged_userfaultfd = 1");
	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP)
		return HOST_PASS;
	return say(c, HOST_WARN, "live checkpoints pause longer: use a kernel from 5.7 on with CONFIG_USERFAULTFD");
}

static enum kvm_verdict vhost(struct check *c)
{
	return file_exists("/dev/vhost-net") ? HOST_PASS : say(c, HOST_WARN, "tap networks are slower: load the module vhost_net");
}

static enum kvm_verdict tun(struct check *c)
{
	return file_exists("/dev/net/tun") ? HOST_PASS : say(c, HOST_WARN, "networks of type tap need it: load the module tun");
}

static enum kvm_verdict huge_pages(struct check *c)
{
	auto_buf struct buf n = { 0 };
	struct err e;

	if (file_read("/proc/sys/vm/nr_hugepages", 64, &n, &e) == 0 && atoi(buf_str(&n)) > 0)
		return HOST_PASS;
	return say(c, HOST_WARN, "none are set aside (vm.nr_hugepages); guests do without");
}

static enum kvm_verdict direct_io(struct check *c)
{
	auto_free char *file = str_fmt("%s/.host-check.%d", c->state_dir, (int)getpid());
	auto_fd int fd = file ? open(file, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600) : -1;
	int errnum = errno;

	if (file)
		unlink(file); /* where O_DIRECT is refused, it was made all the same */
	if (fd >= 0)
		return HOST_PASS;
	if (errnum == EINVAL)
		return say(c, HOST_WARN, "disks there use the host's page cache (cache = writeback)");
	return say(c, HOST_FAIL, strerror(errnum));
}

static enum kvm_verdict space(struct check *c)
{
	char size[TEXT_SIZE_MAX];
	uint64_t bytes;
	struct err e;

	if (file_free_space(c->state_dir, &bytes, &e) < 0)
		return say_err(c, HOST_FAIL, &e);
	if (bytes >= NEED_SPACE)
		return HOST_PASS;
	text_fmt_size(bytes, size);
	snprintf(c->hint, sizeof c->hint, "only %s are free", size);
	return HOST_WARN;
}

static const struct {
	char what[40]; /* %s: the state folder */
	enum kvm_verdict (*run)(struct check *c);
	bool asks_qemu;
} checks[] = {
	{ "for hardware virtualization", cpu, false },
	{ "if device /dev/kvm exists", kvm_there, false },
	{ "if device /dev/kvm can be used", kvm_works, false },
	{ "for QEMU 7.2 or newer", qemu_there, false },
	{ "for a machine type that is known here", machines, true },
	{ "for QEMU's snapshot-save", save_job, true },
	{ "for QEMU's seccomp sandbox", sandbox, true },
	{ "for write-protection by userfaultfd", write_protect, false },
	{ "if device /dev/vhost-net exists", vhost, false },
	{ "if device /dev/net/tun exists", tun, false },
	{ "for huge pages", huge_pages, false },
	{ "for O_DIRECT in %s", direct_io, false },
	{ "for free space in %s", space, false },
};

/* The folder itself, or what it will be made in. */
static char *existing(const char *dir)
{
	char *p = path_beside("", dir);

	for (char *slash; p && !file_exists(p) && (slash = strrchr(p, '/')) && slash > p;)
		*slash = '\0';
	return p;
}

int kvm_host_check(const char *qemu, const char *cache_dir, kvm_host_fn *fn, void *ctx, struct err *e)
{
	auto_free char *dir = existing(cache_dir ? cache_dir : ".");
	struct check c = { .qemu = qemu ? qemu : machine_host_qemu(), .state_dir = dir };

	if (!dir)
		return err_nomem(e, "check the host");
	if (kvm_probe(c.qemu, cache_dir, &c.caps, &c.no_caps) < 0)
		c.caps = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		enum kvm_verdict v;

		if (checks[i].asks_qemu && !c.caps)
			continue;
		c.hint[0] = '\0';
		v = checks[i].run(&c);
		snprintf(c.what, sizeof c.what, checks[i].what, dir);
		fn(ctx, c.what, v, c.hint);
	}
	kvm_caps_free(c.caps);
	return 0;
}
