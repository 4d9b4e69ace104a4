/* What QEMU a snapshot was made with, and whether this one can load it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/vm/internal.h"
#include "engine/vm/program.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"
#include "monitor/monitor.h"

/* QMP query-migrate: what in this VM cannot be saved. */
int vm_blockers(struct fermata_vm *vm, struct err *e)
{
	auto_json struct json_doc *reply = NULL;
	const struct json *reasons;

	if (mon_call(kvm_mon(vm->kvm), "query-migrate", NULL, deadline_in(CALL_MS), &reply, e) < 0)
		return e->code;
	reasons = json_get(json_root(reply), "blocked-reasons");
	json_each(r, reasons)
		return err_set(e, -EOPNOTSUPP, "QEMU cannot save its memory: %s", json_str(r, "it does not say why"));
	return 0;
}

/* What the running QEMU is, for the check before a revert. */
int note_qemu(struct fermata_vm *vm, struct fermata_snap *s, bool memory, struct err *e)
{
	const struct mon_version *v = mon_version(kvm_mon(vm->kvm));
	auto_buf struct buf made = { 0 };

	free(s->machine);
	s->machine = NULL;
	if (live_machine(vm, &s->machine, e) < 0)
		return e->code;
	free(s->qemu);
	s->qemu = str_fmt("%d.%d.%d", v->major, v->minor, v->micro);
	if (!s->qemu)
		return err_nomem(e, "describe a snapshot");
	return memory ? (kvm_made(vm->run_dir, &made, e) < 0 ? e->code : record_string(&s->made, buf_str(&made), e)) : 0;
}

int live_machine(struct fermata_vm *vm, char **machine, struct err *e)
{
	auto_json struct json_doc *reply = NULL;
	const char *type;
	size_t n;

	if (mon_call(kvm_mon(vm->kvm), "qom-get", MACHINE_TYPE, deadline_in(CALL_MS),
		    &reply, e) < 0)
		return e->code;
	type = json_str(json_root(reply), "");
	n = strlen(type) - (str_ends(type, "-machine") ? strlen("-machine") : 0);
	*machine = strndup(type, n);
	return *machine ? 0 : err_nomem(e, "ask for the machine");
}

/* QEMU promises to load a checkpoint of the same version and machine; anything else is for --force. */
static int check_qemu(const struct fermata_snap *s, int major, int minor, const char *machine, struct err *e)
{
	const char *p = s->qemu;
	uint64_t was_major, was_minor;

	if (text_take_num(&p, 0, &was_major) && text_take_num(&p, '.', &was_minor) &&
		(was_major != (unsigned)major || was_minor != (unsigned)minor)) {
		err_set(e, -EINVAL, "it was made with QEMU %s, this is %d.%d", s->qemu, major, minor);
		return err_hint(e, "--force tries it all the same");
	}
	if (s->machine[0] && machine && strcmp(s->machine, machine)) {
		err_set(e, -EINVAL, "it was made on machine %s, this is %s", s->machine, machine);
		return err_hint(e, "--force tries it all the same");
	}
	return 0;
}

/* @is: what the guest would see now; @now: where, for the message. */
static int check_made(const struct fermata_snap *s, const char *is, const char *now, struct err *e)
{
	if (compat_lines(s->made, is, "when it was made", now, e) == 0)
		return 0;
	return err_hint(e, "--force tries it all the same");
}

int check_running_qemu(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	const struct mon_version *v;
	auto_free char *machine = NULL;
	auto_buf struct buf made = { 0 };
	struct kvm *k;

	if (fermata_vm_kvm(vm, &k, e) < 0 || live_machine(vm, &machine, e) < 0)
		return e->code;
	v = mon_version(kvm_mon(k));
	if (check_qemu(s, v->major, v->minor, machine, e) < 0 || kvm_made(vm->run_dir, &made, e) < 0)
		return e->code;
	if (!s->made[0]) {
		err_set(e, -EINVAL, "what it was made with (cpu, devices) is not known, and a load that fails would cost the present");
		return err_hint(e, "'fermata destroy %s' first: the disks of a VM that is off are kept until it has loaded; --force tries it as it is",
			vm->name);
	}
	return made.n ? check_made(s, buf_str(&made), "in the VM that runs", e) : 0;
}

int check_installed_qemu(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e)
{
	auto_buf struct buf made = { 0 };
	const struct kvm_caps *caps;

	if (vm_caps(vm, &caps, e) < 0)
		return e->code;
	if (s->machine[0] && !kvm_caps_machine(caps, s->machine)) {
		err_set(e, -EINVAL, "it was made on machine %s, which this QEMU (%s) does not have", s->machine, caps->version);
		return err_hint(e, "--force tries it with the definition's machine");
	}
	if (check_qemu(s, caps->major, caps->minor, NULL, e) < 0)
		return e->code;
	if (!s->made[0])
		return 0;
	if (kvm_made_by(vm->def, caps, s->machine[0] ? s->machine : NULL, vm->run_dir, &made, e) < 0)
		return e->code;
	return check_made(s, buf_str(&made), "by the definition", e);
}
