/* qemu-monitor-command, qemu-agent-command, console */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "kvm/kvm.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

static struct {
	bool hmp, pretty;
	uint64_t timeout_ms;
} mon_args = { .timeout_ms = 60000 };
static const struct opt mon_opts[] = {
	{ 0, "hmp", NULL, "the command is one of the human monitor's", OPT_FLAG(&mon_args.hmp) },
	{ 0, "pretty", NULL, "indent the answer", OPT_FLAG(&mon_args.pretty) },
	{ 't', "timeout", "TIME", "give QEMU this long (default 60s)", OPT_SPAN(&mon_args.timeout_ms) },
	{ 0 },
};

/* virsh takes the command in several words and joins them. */
static int join(int argc, char **argv, struct buf *b, struct err *e)
{
	for (int i = 1; i < argc; i++)
		buf_addf(b, "%s%s", i > 1 ? " " : "", argv[i]);
	if (!b->n)
		return err_set(e, ERR_USAGE, "a command is missing");
	return buf_check(b, "send a command", e);
}

static int print_answer(struct json_span text, bool pretty, struct err *e)
{
	auto_json struct json_doc *doc = NULL;
	auto_buf struct buf b = { 0 };
	struct json_out w;

	if (!pretty) {
		printf("%.*s\n", (int)text.len, text.p);
		return 0;
	}
	if (json_parse(text.p, text.len, 1000000, &doc, e) < 0)
		return e->code;
	json_out_init(&w, &b, true);
	json_put(&w, NULL, json_root(doc));
	return cmd_put_json(&b, e);
}

/* The answer goes to standard output as QEMU gave it, also when it is an error: scripts read it there. */
static int ask_monitor(struct mon *m, const char *command, struct err *e)
{
	struct deadline d = deadline_in(mon_args.timeout_ms);
	struct err refused = { 0 };
	struct json_span answer;

	if (mon_call_raw(m, command, d, &answer, &refused) == 0 || refused.code == -EREMOTEIO) {
		if (print_answer(answer, mon_args.pretty, e) < 0)
			return e->code;
	}
	*e = refused;
	return e->code;
}

static int ask_hmp(struct mon *m, const char *line, struct err *e)
{
	auto_buf struct buf out = { 0 };

	if (mon_hmp_text(m, line, deadline_in(mon_args.timeout_ms), &out, e) < 0)
		return e->code;
	fputs(buf_str(&out), stdout);
	return mon_hmp_refused(line, buf_str(&out), e);
}

static int run_monitor(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	auto_buf struct buf command = { 0 };
	struct kvm *k;

	if (mon_args.hmp && mon_args.pretty)
		return err_set(e, ERR_USAGE, "--hmp and --pretty exclude each other");
	if (join(argc, argv, &command, e) < 0 || vm_get(argv[0], FERMATA_STEER, "qemu-monitor-command", &vm, e) < 0 ||
		fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	if ((mon_args.hmp ? ask_hmp(kvm_mon(k), command.p, e) : ask_monitor(kvm_mon(k), command.p, e)) < 0)
		return err_at(e, "%s", argv[0]);
	fermata_monitor_used(vm, command.p);
	return 0;
}

const struct cmd cmd_qemu_monitor_command = { "qemu-monitor-command", "VM COMMAND...", NULL, "send a command to QEMU's monitor",
	"COMMAND is JSON as in QMP, or with --hmp a line of the human monitor. Options come before it.\n"
	"An error is printed as QEMU gives it, and is exit status 1.\n", mon_opts, 2, -1, run_monitor };

static struct {
	bool pretty;
	uint64_t timeout_ms;
} agent_args = { .timeout_ms = 10000 };
static const struct opt agent_opts[] = {
	{ 0, "pretty", NULL, "indent the answer", OPT_FLAG(&agent_args.pretty) },
	{ 't', "timeout", "TIME", "give the agent this long (default 10s)", OPT_SPAN(&agent_args.timeout_ms) },
	{ 0 },
};

static int run_agent(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	auto_agent struct agent *a = NULL;
	auto_buf struct buf command = { 0 };
	struct json_span answer;
	struct deadline d;
	struct kvm *k;
	int fd;

	if (join(argc, argv, &command, e) < 0 || vm_get(argv[0], FERMATA_STEER, "qemu-agent-command", &vm, e) < 0 ||
		fermata_vm_kvm(vm, &k, e) < 0)
		return e->code;
	d = deadline_in(agent_args.timeout_ms);
	if (kvm_agent_connect(fermata_vm_run_dir(vm), d, &fd, e) < 0 || agent_open(fd, d, &a, e) < 0 ||
		agent_call_raw(a, command.p, d, &answer, e) < 0)
		return err_at(e, "%s", argv[0]);
	return print_answer(answer, agent_args.pretty, e);
}

const struct cmd cmd_qemu_agent_command = { "qemu-agent-command", "VM COMMAND...", NULL, "send a command to the guest agent",
	"COMMAND is JSON: '{\"execute\":\"guest-ping\"}'. Options come before it.\n"
	"What the agent refuses is exit status 1, its words on standard error.\n", agent_opts, 2, -1, run_agent };

/* ---- console --------------------------------------------------------------------------------------------------- */

#define ESCAPE 0x1d /* ^] */

static struct termios tty_before;
static bool tty_changed;

static void tty_restore(void)
{
	if (tty_changed)
		tcsetattr(STDIN_FILENO, TCSANOW, &tty_before);
	tty_changed = false;
}

static void tty_restore_and_die(int sig)
{
	tty_restore();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void tty_raw(void)
{
	struct termios t;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &tty_before) < 0)
		return;
	t = tty_before;
	cfmakeraw(&t);
	tty_changed = true;
	signal(SIGTERM, tty_restore_and_die);
	signal(SIGHUP, tty_restore_and_die);
	tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

/* Copy what has arrived on @from. 1: more may come; 0: the end, or the escape key. */
static int pump(int from, int to, bool escape, struct err *e)
{
	char b[4096], *stop;
	ssize_t n = read(from, b, sizeof b);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n <= 0)
		return 0;
	stop = escape ? memchr(b, ESCAPE, (size_t)n) : NULL;
	if (stop)
		n = stop - b;
	if (io_write_full(to, b, (size_t)n, "the console", e) < 0)
		return e->code;
	return !stop;
}

static int converse(int fd, struct err *e)
{
	struct pollfd p[2] = { { fd, POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };
	int rc = 1;

	while (rc > 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot wait for the console");
		if (p[0].revents)
			rc = pump(fd, STDOUT_FILENO, false, e);
		/* The end of a file on standard input ends only the sending. */
		if (rc > 0 && p[1].revents && (rc = pump(STDIN_FILENO, fd, tty_changed, e)) == 0 && !tty_changed) {
			p[1].fd = -1;
			rc = 1;
		}
		p[1].revents = p[0].revents = 0;
	}
	return rc;
}

static int run_console(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	auto_fd int fd = -1;
	struct fermata_status st;
	int rc;

	(void)argc;
	if (vm_get(argv[0], FERMATA_LOOK, "console", &vm, e) < 0 || fermata_vm_status(vm, &st, e) < 0)
		return e->code;
	if (!st.pid) {
		err_set(e, -ESRCH, "%s: the VM is not running", argv[0]);
		return err_hint(e, "'fermata start %s' starts it", argv[0]);
	}
	if (kvm_console_connect(fermata_vm_run_dir(vm), deadline_in(5000), &fd, e) < 0)
		return err_at(e, "%s", argv[0]);
	/* The monitor serves one client: do not keep it from others while somebody sits at the console. */
	vm_put(&vm);
	if (isatty(STDIN_FILENO))
		fprintf(stderr, "Connected to domain '%s'\nEscape character is ^] (Ctrl + ])\n", argv[0]);
	tty_raw();
	rc = converse(fd, e);
	tty_restore();
	if (isatty(STDIN_FILENO))
		putchar('\n');
	return rc;
}

const struct cmd cmd_console = { "console", "VM", "domain", "the guest's first serial port, until ^]", NULL, NULL, 1, 1, run_console };
