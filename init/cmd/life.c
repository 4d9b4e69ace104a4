/* list, start, shutdown, destroy, reboot, reset, suspend, resume, domstate, domfsfreeze, domfsthaw, recover */
#include <stdio.h>
#include <string.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

/* ---- list ------------------------------------------------------------------------------------------------ */

static struct {
	bool all, inactive, name, uuid;
	const char *output;
} list_args;
static const struct opt list_opts[] = {
	{ 'a', "all", NULL, "also the VMs that are off", OPT_FLAG(&list_args.all) },
	{ 0, "inactive", NULL, "only the VMs that are off", OPT_FLAG(&list_args.inactive) },
	{ 0, "name", NULL, "names only, one a line", OPT_FLAG(&list_args.name) },
	OPT_OUTPUT(list_args.output),
	{ 0 },
};

/* What is known of one VM. One that is broken is shown, not hidden, and never in the way of others. */
struct listed {
	struct fermata_status st;
	const char *state; /* in words */
	bool guard_cut;    /* a guarded command's guard is gone: the user is to decide */
	struct err trouble;
};

static void look_at(struct fermata *host, const char *name, struct listed *l)
{
	const struct err *trouble;
	struct fermata_vm *vm;

	*l = (struct listed){ .st = { .state = FERMATA_SHUTOFF } };
	if (fermata_vm_open(host, name, FERMATA_LOOK, "list", &vm, &l->trouble) < 0) {
		l->state = "invalid definition";
		return;
	}
	trouble = fermata_vm_trouble(vm);
	if (trouble)
		l->trouble = *trouble;
	if (fermata_vm_status(vm, &l->st, &l->trouble) < 0)
		l->state = "unknown";
	else
		l->state = trouble && !l->st.pid ? "damaged record" : fermata_state_name(l->st.state);
	vm_tell_pending(vm);
	if (CONFIG_BOOT) {
		struct fermata_boot_info b;

		fermata_boot_look(vm, &b);
		l->guard_cut = b.guard_cut;
	}
	fermata_vm_close(vm);
}

/* A row of the table, a line, or an object. */
static void list_one(struct fermata *host, const char *name, struct table *t, struct json_out *w)
{
	struct listed l;

	look_at(host, name, &l);
	if (l.st.pid ? list_args.inactive : !list_args.all && !list_args.inactive)
		return;
	if (w) {
		json_obj(w, NULL);
		json_put_str(w, "name", name);
		json_put_str(w, "state", l.trouble.msg[0] && !l.st.pid ? "invalid" : l.state);
		if (l.st.pid)
			json_put_int(w, "pid", l.st.pid);
		if (l.guard_cut)
			json_put_bool(w, "guard-cut-off", true);
		if (l.trouble.msg[0])
			json_put_str(w, "error", l.trouble.msg);
		json_obj_end(w);
	} else if (list_args.name) {
		puts(name);
	} else {
		if (l.st.pid)
			table_cellf(t, "%d", (int)l.st.pid);
		else
			table_cell(t, "-");
		table_cell(t, name);
		table_cellf(t, "%s%s", l.state, l.guard_cut ? " (guard cut off)" : "");
	}
}

static int run_list(int argc, char **argv, struct err *e)
{
	static const char *const head[] = { "Id", "Name", "State" };
	auto_host struct fermata *host = NULL;
	auto_free char *names = NULL;
	auto_buf struct buf b = { 0 };
	struct json_out w;
	struct table t;
	bool json;
	int rc = 0;

	(void)argc;
	(void)argv;
	if (cmd_output_json(list_args.output, &json, e) < 0 || host_get(&host, e) < 0 || fermata_names(host, &names, e) < 0)
		return e->code;
	table_init(&t, 3, head);
	json_out_init(&w, &b, true);
	json_arr(&w, NULL);
	for (const char *n = names; *n; n += strlen(n) + 1)
		list_one(host, n, &t, json ? &w : NULL);
	json_arr_end(&w);
	if (json) {
		rc = cmd_put_json(&b, e);
	} else if (!list_args.name) {
		rc = table_print(&t, stdout, e);
		putchar('\n');
	}
	table_done(&t);
	return rc;
}

const struct cmd cmd_list = { "list", "", NULL, "list the VMs",
	"Without --all: those that run. The Id is the process id of the VM's QEMU.\n", list_opts, 0, 0, run_list };

/* ---- start ------------------------------------------------------------------------------------------------ */

static struct {
	bool paused, force_boot;
} start_args;
static const struct opt start_opts[] = {
	{ 'p', "paused", NULL, "leave the guest paused", OPT_FLAG(&start_args.paused) },
#if CONFIG_MEMORY
	{ 0, "force-boot", NULL, "start without what managedsave kept, and drop it", OPT_FLAG(&start_args.force_boot) },
#endif
	{ 0 },
};

static int do_start(struct fermata_vm *vm, struct err *e)
{
	if ((start_args.force_boot ? fermata_start_afresh(vm, start_args.paused, false, e) : fermata_start(vm, start_args.paused, e)) < 0)
		return e->code;
	printf("Domain '%s' started\n", fermata_vm_name(vm));
	return 0;
}

static int run_start(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_do(argv[0], "start", do_start, e);
}

const struct cmd cmd_start = { "start", "VM", "domain", "start a VM that is off",
	"Returns when the guest runs, or says why QEMU did not start.\n", start_opts, 1, 1, run_start };

/* ---- shutdown, reboot ---------------------------------------------------------------------------------------- */

static struct {
	const char *mode;
	bool wait;
	uint64_t timeout_ms;
} stop_args = { .timeout_ms = 60000 };
static const struct opt shutdown_opts[] = {
	{ 0, "mode", "acpi|agent", "how to ask (default: the agent if it answers, else ACPI)", OPT_STR(&stop_args.mode) },
	{ 'w', "wait", NULL, "wait until the VM is off", OPT_FLAG(&stop_args.wait) },
	{ 't', "timeout", "TIME", "with --wait: how long (default 60s)", OPT_SPAN(&stop_args.timeout_ms) },
	{ 0 },
};
static const struct opt reboot_opts[] = {
	{ 0, "mode", "acpi|agent", "how to ask (default: the agent if it answers, else a reset)", OPT_STR(&stop_args.mode) },
	{ 0 },
};

static int stop_mode(enum fermata_shutdown *how, struct err *e)
{
	*how = FERMATA_BY_DEFAULT;
	if (!stop_args.mode)
		return 0;
	*how = !strcmp(stop_args.mode, "acpi") ? FERMATA_BY_ACPI : FERMATA_BY_AGENT;
	if (*how == FERMATA_BY_AGENT && strcmp(stop_args.mode, "agent"))
		return err_set(e, ERR_USAGE, "--mode '%s' is neither acpi nor agent", stop_args.mode);
	return 0;
}

static int do_shutdown(struct fermata_vm *vm, struct err *e)
{
	enum fermata_shutdown how;

	if (stop_mode(&how, e) < 0 || fermata_shutdown(vm, how, false, e) < 0)
		return e->code;
	if (stop_args.wait && fermata_wait_off(vm, stop_args.timeout_ms, e) < 0)
		return e->code;
	printf(stop_args.wait ? "Domain '%s' is shut off\n" : "Domain '%s' is being shutdown\n", fermata_vm_name(vm));
	return 0;
}

static int run_shutdown(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_steer(argv[0], "shutdown", do_shutdown, e);
}

const struct cmd cmd_shutdown = { "shutdown", "VM", "domain", "ask the guest to power off", NULL, shutdown_opts, 1, 1,
	run_shutdown };

static int do_reboot(struct fermata_vm *vm, struct err *e)
{
	enum fermata_shutdown how;

	if (stop_mode(&how, e) < 0 || fermata_shutdown(vm, how, true, e) < 0)
		return e->code;
	printf("Domain '%s' is being rebooted\n", fermata_vm_name(vm));
	return 0;
}

static int run_reboot(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_steer(argv[0], "reboot", do_reboot, e);
}

const struct cmd cmd_reboot = { "reboot", "VM", "domain", "ask the guest to reboot", NULL, reboot_opts, 1, 1, run_reboot };

/* ---- destroy, reset, suspend, resume --------------------------------------------------------------------------- */

static struct {
	bool graceful;
} destroy_args;
static const struct opt destroy_opts[] = {
	{ 0, "graceful", NULL, "never by SIGKILL: fail if QEMU does not end by itself", OPT_FLAG(&destroy_args.graceful) },
	{ 0 },
};

static int do_destroy(struct fermata_vm *vm, struct err *e)
{
	if (fermata_destroy(vm, destroy_args.graceful, e) < 0)
		return e->code;
	printf("Domain '%s' destroyed\n", fermata_vm_name(vm));
	return 0;
}

static int run_destroy(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_steer(argv[0], "destroy", do_destroy, e);
}

const struct cmd cmd_destroy = { "destroy", "VM", "domain", "pull the plug", NULL, destroy_opts, 1, 1, run_destroy };

static int do_reset(struct fermata_vm *vm, struct err *e)
{
	if (fermata_reset(vm, e) < 0)
		return e->code;
	printf("Domain '%s' was reset\n", fermata_vm_name(vm));
	return 0;
}

static int run_reset(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_steer(argv[0], "reset", do_reset, e);
}

const struct cmd cmd_reset = { "reset", "VM", "domain", "reset the machine, as its button does", NULL, NULL, 1, 1, run_reset };

static int do_suspend(struct fermata_vm *vm, struct err *e)
{
	if (fermata_suspend(vm, e) < 0)
		return e->code;
	printf("Domain '%s' suspended\n", fermata_vm_name(vm));
	return 0;
}

static int run_suspend(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_steer(argv[0], "suspend", do_suspend, e);
}

const struct cmd cmd_suspend = { "suspend", "VM", "domain", "stop the guest where it is", NULL, NULL, 1, 1, run_suspend };

static int do_resume(struct fermata_vm *vm, struct err *e)
{
	if (fermata_resume(vm, e) < 0)
		return e->code;
	printf("Domain '%s' resumed\n", fermata_vm_name(vm));
	return 0;
}

static int run_resume(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_steer(argv[0], "resume", do_resume, e);
}

const struct cmd cmd_resume = { "resume", "VM", "domain", "let a suspended guest go on", NULL, NULL, 1, 1, run_resume };

/* ---- domstate ---------------------------------------------------------------------------------------------------- */

static struct {
	bool reason;
} state_args;
static const struct opt state_opts[] = {
	{ 0, "reason", NULL, "and why", OPT_FLAG(&state_args.reason) },
	{ 0 },
};

static int run_domstate(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	struct fermata_status st;

	(void)argc;
	if (vm_get(argv[0], FERMATA_LOOK, "domstate", &vm, e) < 0 || fermata_vm_status(vm, &st, e) < 0)
		return e->code;
	if (state_args.reason)
		printf("%s (%s)\n\n", fermata_state_name(st.state), st.reason);
	else
		printf("%s\n\n", fermata_state_name(st.state));
	return 0;
}

const struct cmd cmd_domstate = { "domstate", "VM", "domain", "the VM's state", NULL, state_opts, 1, 1, run_domstate };

/* ---- file systems in the guest ------------------------------------------------------------------------------------ */

static struct {
	uint64_t timeout_ms;
} freeze_args = { .timeout_ms = 10000 };
static const struct opt freeze_opts[] = {
	{ 't', "timeout", "TIME", "give the guest this long (default 10s)", OPT_SPAN(&freeze_args.timeout_ms) },
	{ 0 },
};

static int do_freeze(struct fermata_vm *vm, struct err *e)
{
	int n;

	if (fermata_freeze(vm, freeze_args.timeout_ms, &n, e) < 0)
		return e->code;
	printf("Froze %d filesystem(s)\n", n);
	return 0;
}

static int run_freeze(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_steer(argv[0], "domfsfreeze", do_freeze, e);
}

const struct cmd cmd_domfsfreeze = { "domfsfreeze", "VM", "domain", "freeze the guest's file systems",
	"They stay frozen until 'fermata domfsthaw'. Needs the guest agent.\n", freeze_opts, 1, 1, run_freeze };

static int do_thaw(struct fermata_vm *vm, struct err *e)
{
	int n;

	if (fermata_thaw(vm, &n, e) < 0)
		return e->code;
	printf("Thawed %d filesystem(s)\n", n);
	return 0;
}

static int run_thaw(int argc, char **argv, struct err *e)
{
	(void)argc;
	return vm_steer(argv[0], "domfsthaw", do_thaw, e);
}

const struct cmd cmd_domfsthaw = { "domfsthaw", "VM", "domain", "thaw the guest's file systems", NULL, NULL, 1, 1, run_thaw };

/* ---- recover ------------------------------------------------------------------------------------------------------- */

static struct {
	bool abandon, accept, yes;
	const char *guard;
} recover_args;
static const struct opt recover_opts[] = {
	{ 0, "abandon", NULL, "give up what is pending and cannot go on, once --yes is said", OPT_FLAG(&recover_args.abandon) },
	{ 0, "yes", NULL, "with --abandon: do it; without, what it costs is said", OPT_FLAG(&recover_args.yes) },
	{ 0, "accept-images", NULL, "take the images below the disks as they are now", OPT_FLAG(&recover_args.accept) },
#if CONFIG_BOOT
	{ 0, "guard", "keep|back", "what becomes of a guarded command whose guard was cut off", OPT_STR(&recover_args.guard) },
#endif
	{ 0 },
};

/* What is in the way of a recovery goes first. */
static int make_way(const char *name, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;

	if (!name)
		return err_set(e, ERR_USAGE, "%s needs the name of the VM", recover_args.abandon ? "--abandon" : "--accept-images");
	if (recover_args.abandon && recover_args.accept)
		return err_set(e, ERR_USAGE, "--abandon and --accept-images exclude each other");
	if (vm_get(name, FERMATA_STEER, "recover", &vm, e) < 0)
		return e->code;
	return recover_args.abandon ? fermata_abandon(vm, recover_args.yes, e) : fermata_accept_images(vm, e);
}

static int recover_one(const char *name, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	bool keep = recover_args.guard && !strcmp(recover_args.guard, "keep");

	if (recover_args.guard && !keep && strcmp(recover_args.guard, "back"))
		return err_set(e, ERR_USAGE, "recover: --guard '%s' is neither keep nor back", recover_args.guard);
	if (vm_get(name, FERMATA_WRITE, "recover", &vm, e) < 0)
		return e->code;
	if (CONFIG_BOOT && recover_args.guard)
		return fermata_guard_decide(vm, keep, e);
	if (CONFIG_BOOT)
		fermata_guard_tell(vm);
	return 0;
}

static int run_recover(int argc, char **argv, struct err *e)
{
	auto_host struct fermata *host = NULL;
	auto_free char *names = NULL;
	struct err last = { 0 };

	if (recover_args.yes && !recover_args.abandon)
		return err_set(e, ERR_USAGE, "--yes goes with --abandon");
	if (recover_args.abandon || recover_args.accept)
		return make_way(argc ? argv[0] : NULL, e);
	if (argc)
		return recover_one(argv[0], e);
	if (recover_args.guard)
		return err_set(e, ERR_USAGE, "recover: --guard is for one VM");
	if (host_get(&host, e) < 0 || fermata_names(host, &names, e) < 0)
		return e->code;
	for (const char *n = names; *n; n += strlen(n) + 1) {
		if (recover_one(n, e) == 0)
			continue;
		/* The last one is main()'s to tell. What is pending counts more than what was refused. */
		if (last.code)
			fprintf(stderr, "fermata: %s\n", last.msg);
		if (last.code == FERMATA_PENDING)
			e->code = FERMATA_PENDING;
		last = *e;
	}
	if (last.code)
		*e = last;
	return last.code;
}

const struct cmd cmd_recover = { "recover", "[VM]", "domain", "finish or undo what a command that was cut off left",
	"Every command that changes a VM does this first; without VM: for all of them.\n", recover_opts, 0, 1, run_recover };
