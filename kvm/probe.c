#include "kvm/probe.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm/last_words.h"
#include "kvm/spawn.h"
#include "lib/own.h"

#define ASK_MS   10000
#define START_MS 60000 /* a loaded host, or one that is emulated itself */

/* The devices that argv may ask for; others are QEMU's to refuse. */
static const char wanted[] = "virtio-blk-pci\0virtio-net-pci\0virtio-scsi-pci\0virtio-serial-pci\0"
	"virtio-blk-device\0virtio-net-device\0virtio-scsi-device\0virtio-serial-device\0"
	"ide-hd\0scsi-hd\0ide-cd\0scsi-cd\0ich9-ahci\0virtserialport\0vmgenid\0";

/* The packed list in @b, with the empty name that ends it. */
static int take_list(struct buf *b, char **out, struct err *e)
{
	buf_addc(b, '\0');
	*out = buf_take(b);
	return *out ? 0 : err_nomem(e, "ask QEMU");
}

/* One element of a reply that is too long to be held whole. */
typedef void each_fn(struct buf *b, const struct json *v);

static int ask_list(struct mon *m, const char *command, const char *args, each_fn *fn, struct deadline d, char **out,
	struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct json_span text;
	struct json_iter it;
	int r;

	if (mon_call_text(m, command, args, d, &text, e) < 0)
		return e->code;
	it = json_iter(text.p, text.len);
	while ((r = json_iter_next(&it, e)) > 0) {
		auto_json struct json_doc *doc = NULL;

		if (json_parse(it.val.p, it.val.len, 256, &doc, e) < 0)
			return e->code;
		fn(&b, json_root(doc));
	}
	if (r < 0)
		return err_at(e, "%s", command);
	return take_list(&b, out, e);
}

static void add_machine(struct buf *b, const struct json *v)
{
	const char *name = json_str(json_get(v, "name"), NULL), *alias = json_str(json_get(v, "alias"), NULL);

	if (!name || !*name)
		return;
	buf_add(b, name, strlen(name) + 1);
	if (alias)
		buf_addf(b, "%s=%s%c", alias, name, '\0');
}

static void add_command(struct buf *b, const struct json *v)
{
	const char *name = json_str(json_get(v, "name"), "");

	if (*name)
		buf_add(b, name, strlen(name) + 1);
}

/*
 * One question per device. "qom-list-types" would answer for all at once, but has QEMU load every module that is
 * installed, displays and all: slow, and where modules and binary do not match, its end.
 */
static int ask_devices(struct mon *m, struct deadline d, char **out, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct json_span ignored;

	for (const char *w = wanted; *w; w += strlen(w) + 1) {
		auto_free char *args = str_fmt("{\"typename\": \"%s\"}", w);
		int r = mon_call_text(m, "device-list-properties", args, d, &ignored, e);

		if (r < 0 && r != -EREMOTEIO)
			return r;
		if (r == 0)
			buf_add(&b, w, strlen(w) + 1);
	}
	return take_list(&b, out, e);
}

/* Member "name" of an element that says "rom". */
static void note_rom(struct buf *b, const struct json *v)
{
	if (!strcmp(json_str(json_get(v, "name"), ""), "rom"))
		buf_addc(b, '1');
}

/* With it, a file that is opened for reading becomes memory that can be written to. */
static int ask_rom(struct mon *m, struct deadline d, bool *has, struct err *e)
{
	auto_free char *found = NULL;
	int r = ask_list(m, "qom-list-properties", "{\"typename\": \"memory-backend-file\"}", note_rom, d, &found, e);

	*has = r == 0 && *found;
	return r == -EREMOTEIO ? 0 : r;
}

static int ask_all(struct mon *m, struct kvm_caps *c, struct err *e)
{
	const struct mon_version *v = mon_version(m);
	struct deadline d = deadline_in(ASK_MS);
	auto_json struct json_doc *kvm = NULL, *target = NULL;
	struct err refused;

	c->major = v->major;
	c->minor = v->minor;
	c->micro = v->micro;
	c->version = str_fmt("%d.%d.%d", v->major, v->minor, v->micro);
	c->package = strdup(v->package);
	if (!c->version || !c->package)
		return err_nomem(e, "ask QEMU");
	if (ask_list(m, "query-machines", NULL, add_machine, d, &c->machines, e) < 0 ||
		ask_list(m, "query-commands", NULL, add_command, d, &c->commands, e) < 0 ||
		ask_devices(m, d, &c->devices, e) < 0 || ask_rom(m, d, &c->maps_readonly, e) < 0)
		return e->code;
	if (mon_call(m, "query-kvm", NULL, d, &kvm, e) < 0)
		return e->code;
	c->kvm = json_bool(json_get(json_root(kvm), "present"), false);
	if (mon_call(m, "query-target", NULL, d, &target, e) < 0)
		return e->code;
	c->arch = strdup(json_str(json_get(json_root(target), "arch"), ""));
	if (!c->arch)
		return err_nomem(e, "ask QEMU");
	/* A QEMU without seccomp refuses the question. */
	c->sandbox = mon_call(m, "query-command-line-options", "{\"option\": \"sandbox\"}", d, NULL, &refused) == 0;
	return 0;
}

int probe_ask(struct kvm_caps *c, struct err *e)
{
	char *const argv[] = { c->path, (char *)"-machine", (char *)"none,accel=tcg:kvm", (char *)"-nodefaults",
		(char *)"-no-user-config", (char *)"-display", (char *)"none", (char *)"-chardev",
		(char *)"socket,id=qmp,fd=3", (char *)"-mon", (char *)"chardev=qmp,mode=control", NULL };
	auto_fd int log = memfd_create("log", MFD_CLOEXEC);
	struct mon *m = NULL;
	int pair[2], r;
	pid_t pid;

	if (log < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "cannot ask QEMU");
	struct spawn s = { .argv = argv, .fds = { pair[1], -1, -1, -1, -1 }, .log = log, .dies_with_us = true };
	r = spawn_start(&s, &pid, e);
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r;
	}
	r = mon_open(pair[0], deadline_in(START_MS), &m, e);
	if (r == 0)
		r = ask_all(m, c, e);
	mon_close(m);
	if (r == 0 || !last_words(pid, log, c->path, e)) {
		kill(pid, SIGKILL); /* it has nothing to lose */
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return r < 0 ? err_at(e, "cannot ask %s what it can do", c->path) : 0;
}
