/* What was plugged into a running QEMU, or taken out, since it was started: memory that is saved then loads into no QEMU that starts. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "kvm/run_dir.h"
#include "lib/file.h"
#include "lib/own.h"

#define ASK_MS	    10000
#define DEVICES_MAX (1u << 20) /* bytes of the list */

/* Where QEMU keeps what -device and device_add have made: with an id, and without. Memory and CPUs that are plugged in, too. */
static const char *const places[] = { "/machine/peripheral", "/machine/peripheral-anon" };

/* One line each: "NAME child<TYPE>". */
static int list_devices(struct mon *m, struct buf *out, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		auto_json struct json_doc *reply = NULL;
		char args[64];

		snprintf(args, sizeof args, "{\"path\":\"%s\"}", places[i]);
		if (mon_call(m, "qom-list", args, deadline_in(ASK_MS), &reply, e) < 0)
			return e->code;
		json_each(d, json_root(reply)) {
			const char *type = json_str(json_get(d, "type"), "");

			if (!strncmp(type, "child<", 6))
				buf_addf(out, "%s %s\n", json_str(json_get(d, "name"), ""), type);
		}
	}
	return buf_check(out, "list the devices", e);
}

int kvm_devices_note(struct kvm *k, const char *run_dir, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_DEVICES, run_dir);
	auto_buf struct buf list = { 0 };
	auto_fd int fd = -1;

	if (!path)
		return err_nomem(e, "list the devices");
	unlink(path); /* what cannot be noted is not known, rather than wrong */
	if (list_devices(kvm_mon(k), &list, e) < 0)
		return e->code;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? err_sys(e, errno, "cannot create %s", path) : io_write_full(fd, buf_str(&list), list.n, path, e);
}

/* Whether @list has the line of @n bytes at @line. */
static bool has_line(const char *list, const char *line, size_t n)
{
	for (; *list; list += strcspn(list, "\n") + 1)
		if (!strncmp(list, line, n))
			return true;
	return false;
}

/* The first line of @a that @b has not; NULL: it has all. */
static const char *first_not_in(const char *a, const char *b)
{
	for (size_t n; *a; a += n) {
		n = strcspn(a, "\n") + 1;
		if (!has_line(b, a, n))
			return a;
	}
	return NULL;
}

int kvm_devices_check(struct kvm *k, const char *run_dir, struct err *e)
{
	auto_free char *path = str_fmt("%s/" RUN_DEVICES, run_dir);
	auto_buf struct buf then = { 0 }, now = { 0 };
	const char *in, *out, *line, *type;
	struct err unknown;

	if (!path)
		return err_nomem(e, "list the devices");
	if (file_read(path, DEVICES_MAX, &then, &unknown) < 0)
		return 0; /* started by a fermata that did not note them */
	if (list_devices(kvm_mon(k), &now, e) < 0)
		return e->code;
	in = first_not_in(buf_str(&now), buf_str(&then));
	out = first_not_in(buf_str(&then), buf_str(&now));
	line = in ? in : out;
	if (!line)
		return 0;
	type = strchr(line, '<') + 1;
	err_set(e, -EBUSY, "the device '%.*s' (%.*s) was %s since the VM was started", (int)strcspn(line, " "), line, (int)strcspn(type, ">"),
		type, in ? "plugged in" : "unplugged");
	return err_hint(e, in ? "memory that is saved with it cannot be loaded again: unplug it first, or put it into [qemu] and start the VM anew" :
			       "memory that is saved without it cannot be loaded again: take it out of the definition and start the VM anew");
}
