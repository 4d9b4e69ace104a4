/* boot, boot-status, mark-good, guard: a VM's boot policy, by hand */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

/* ---- boot, mark-good ------------------------------------------------------------------------------------------- */

static int do_boot(struct fermata_vm *vm, struct err *e)
{
	int rc = fermata_boot(vm, false, e);

	return rc == 1 ? 4 : rc;
}

static int run_boot(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_do(argv[0], "boot", do_boot, e);
}

const struct cmd cmd_boot = { "boot", "VM", "domain", "bring a VM up as its [boot] policy says",
	"Exit status 4 when a fallback had to do.\n", NULL, 1, 1, run_boot };

static const char *good_name;

static int do_mark_good(struct fermata_vm *vm, struct err *e)
{
	struct fermata_boot_info b;

	if (fermata_boot_good(vm, good_name, e) < 0)
		return e->code;
	fermata_boot_look(vm, &b);
	printf("Domain '%s' is good, and boots from '%s'\n", fermata_vm_name(vm), cmd_shown(b.good));
	return 0;
}

static int run_mark_good(int argc, char **argv, struct err *e)
{
	(void)argc;
	good_name = argv[1];
	return vm_do(argv[0], "mark-good", do_mark_good, e);
}

const struct cmd cmd_mark_good = { "mark-good", "VM [NAME]", "domain name", "clear the count of failed boots",
	"With NAME (a snapshot, managedsave or cold) the VM boots from that from now on; the definition's own takes it back.\n",
	NULL, 1, 2, run_mark_good };

/* ---- boot-status ---------------------------------------------------------------------------------------------- */

static const char *status_output;
static const struct opt status_opts[] = { OPT_OUTPUT(status_output), { 0 } };

/* One that cannot be told of has its place all the same. */
static void status_unknown(const char *name, const struct err *why, struct table *t, struct json_out *w)
{
	table_cell(t, name);
	table_cell(t, "unknown");
	for (int i = 2; i < 5; i++)
		table_cell(t, "-");
	table_cell(t, why->msg);
	json_obj(w, NULL);
	json_put_str(w, "name", name);
	json_put_str(w, "state", "unknown");
	json_put_str(w, "error", why->msg);
	json_obj_end(w);
}

static int status_one(const char *name, struct table *t, struct json_out *w, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	struct fermata_boot_info b;
	struct fermata_status st;
	char since[CLOCK_DATE_MAX] = "-";

	if (vm_get(name, FERMATA_READ, "boot-status", &vm, e) < 0 || fermata_vm_status(vm, &st, e) < 0) {
		status_unknown(name, e, t, w);
		return e->code;
	}
	fermata_boot_look(vm, &b);
	if (b.since)
		clock_fmt_date(b.since, since);
	table_cell(t, name);
	table_cell(t, fermata_state_name(st.state));
	table_cell(t, b.from[0] ? b.from : "-");
	table_cellf(t, "%llu", (unsigned long long)b.tries);
	table_cell(t, since);
	if (b.pending[0])
		table_cellf(t, "%s '%s' is pending", b.pending, b.pending_of);
	else if (b.guard_cut)
		table_cellf(t, "the guard was cut off; '%s' waits", b.guard);
	else
		table_cell(t, b.result[0] ? b.result : "-");
	json_obj(w, NULL);
	json_put_str(w, "name", name);
	json_put_str(w, "state", fermata_state_name(st.state));
	json_put_str(w, "golden", b.good);
	json_put_str(w, "from", b.from);
	json_put_uint(w, "failed", b.tries);
	json_put_int(w, "since", b.since);
	json_put_str(w, "result", b.result);
	json_put_str(w, "guard", b.guard);
	json_put_bool(w, "guard-cut-off", b.guard_cut);
	json_put_str(w, "pending", b.pending);
	json_obj_end(w);
	return 0;
}

static int run_boot_status(int argc, char **argv, struct err *e)
{
	static const char *const head[] = { "Name", "State", "From", "Failed", "Since", "Result" };
	auto_host struct fermata *host = NULL;
	auto_free char *names = NULL;
	auto_buf struct buf b = { 0 };
	struct json_out w;
	struct err also, print;
	struct table t;
	bool json;
	int rc = 0;

	if (cmd_output_json(status_output, &json, e) < 0 || host_get(&host, e) < 0 || fermata_names(host, &names, e) < 0)
		return e->code;
	table_init(&t, ARRAY_SIZE(head), head);
	json_out_init(&w, &b, true);
	json_arr(&w, NULL);
	if (argc && status_one(argv[0], &t, &w, e) < 0)
		rc = e->code;
	/* One bad VM hides no other: the first is the exit status. */
	for (const char *n = names; !argc && *n; n += strlen(n) + 1)
		if (status_one(n, &t, &w, rc < 0 ? &also : e) < 0 && rc == 0)
			rc = e->code;
	json_arr_end(&w);
	if (!(argc && rc < 0) && (json ? cmd_put_json(&b, &print) : table_print(&t, stdout, &print)) < 0) {
		*e = print;
		rc = e->code;
	}
	table_done(&t);
	return rc;
}

const struct cmd cmd_boot_status = { "boot-status", "[VM]", "domain", "what was booted from, and what became of it", NULL,
	status_opts, 0, 1, run_boot_status };

/* ---- guard ------------------------------------------------------------------------------------------------------- */

static struct fermata_guard *guard;

static int do_guard(struct fermata_vm *vm, struct err *e)
{
	return fermata_guard_begin(vm, &guard, e);
}

/* The command has ended, or was called off. */
static int end_guard(const char *name, int status, int sig, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	struct err sick;

	if (vm_get(name, FERMATA_WRITE, "guard", &vm, e) < 0)
		return err_hint(e, "'fermata recover %s --guard=back' goes back to the checkpoint", name);
	if (status == 0 && !sig && fermata_boot_healthy(vm, &sick) == 0 && !(kvm_child_called_off() && (sig = SIGTERM)))
		return fermata_guard_end(vm, true, e);
	if (fermata_guard_end(vm, false, e) < 0)
		return err_hint(e, "'fermata recover %s --guard=back' tries it again", name);
	if (sig)
		return err_set(e, ERR_EXIT(4), "%s: went back: it was called off", name);
	if (status)
		return err_set(e, ERR_EXIT(4), "%s: went back: the command ended with status %d", name, status);
	return err_set(e, ERR_EXIT(4), "%s: went back: %s", name, sick.msg);
}

static int run_guard(int argc, char **argv, struct err *e)
{
	int status, sig, rc;

	(void)argc;
	if (vm_do(argv[0], "guard", do_guard, e) < 0)
		return e->code;
	/* Unlocked: the command may well be one of ours. */
	status = kvm_child_run_heeding(argv + 1, &sig);
	rc = end_guard(argv[0], status, sig, e);
	fermata_guard_free(guard);
	return rc;
}

const struct cmd cmd_guard = { "guard", "VM -- COMMAND...", NULL, "run COMMAND, and go back if the guest does not stay healthy",
	"A checkpoint is taken first. Exit status 0: the command's work is kept; 4: the VM is back where it was.\n"
	"Hung up, interrupted or terminated, it goes back at once. After a power cut in between, the next boot goes back.\n"
	"If guard itself is killed and the guest goes on, 'recover VM --guard=back' or --guard=keep decides.\n", NULL, 2, -1, run_guard };
