#include "init/cli/vm.h"

#include <signal.h>
#include <stdio.h>

#include "init/cli/cmd.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/say.h"
#include "lib/text.h"

/* One host serves the whole run of a command. */
static struct fermata *the_host;
static unsigned users;

static void notice(void *ctx, const char *vm, const char *text)
{
	auto_buf struct buf b = { 0 };

	(void)ctx;
	buf_addf(&b, "fermata: %s: %s\n", vm, cmd_shown(text));
	if (!b.oom)
		say(b.p, b.n);
}

static void show_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
	(void)ctx;
	progress(what, done, total);
}

int host_get(struct fermata **out, struct err *e)
{
	if (!the_host) {
		if (fermata_open(cli.root, &the_host, e) < 0)
			return e->code;
		fermata_on_notice(the_host, notice, NULL);
		fermata_on_progress(the_host, show_progress, NULL);
	}
	users++;
	*out = the_host;
	return 0;
}

void host_put(struct fermata **host)
{
	if (*host && --users == 0) {
		say_rest();
		fermata_close(the_host);
		the_host = NULL;
	}
	*host = NULL;
}

/* Silent while another command holds the lock: the operation is then running, not interrupted. */
void vm_tell_pending(const struct fermata_vm *vm)
{
	auto_free char *lock = str_fmt("%s/lock", fermata_vm_run_dir(vm));
	const char *what, *of;
	char who[80];

	if (fermata_vm_pending(vm, &what, &of) && lock && !lock_holder(lock, who, sizeof who))
		fprintf(stderr, "fermata: %s: %s '%s' was cut off and is pending; the next command that changes the VM sees to it\n",
			fermata_vm_name(vm), what, of);
}

int vm_get(const char *name, enum fermata_access access, const char *what, struct fermata_vm **out, struct err *e)
{
	struct fermata *host;

	if (host_get(&host, e) < 0)
		return e->code;
	/* A closed pipe behind stdout must not kill an operation that has begun. */
	if (access == FERMATA_WRITE)
		signal(SIGPIPE, SIG_IGN);
	if (fermata_vm_open(host, name, access, what, out, e) == 0) {
		if (access == FERMATA_READ || access == FERMATA_LOOK)
			vm_tell_pending(*out);
		return 0;
	}
	host_put(&host);
	return e->code;
}

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

void call_off_on_signal(void)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction a = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND }, was;

	fermata_on_cancel(the_host, &interrupted);
	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
		/* nohup has asked to be spared a hang-up; that a shell ignores SIGINT behind an "&" is no wish of the user's. */
		if (ends[i] != SIGHUP || (sigaction(ends[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN))
			sigaction(ends[i], &a, NULL);
}

int vm_get_long(const char *name, const char *what, struct fermata_vm **out, struct err *e)
{
	struct fermata *host;

	if (host_get(&host, e) < 0)
		return e->code;
	call_off_on_signal();
	if (vm_get(name, FERMATA_WRITE, what, out, e) == 0)
		e->code = 0;
	host_put(&host);
	return e->code;
}

void vm_put(struct fermata_vm **vm)
{
	struct fermata *host = the_host;

	if (!*vm)
		return;
	fermata_vm_close(*vm);
	*vm = NULL;
	host_put(&host);
}

int vm_steer(const char *name, const char *what, int (*fn)(struct fermata_vm *vm, struct err *e), struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;

	if (vm_get(name, FERMATA_STEER, what, &vm, e) < 0)
		return e->code;
	return fn(vm, e);
}

int vm_do(const char *name, const char *what, int (*fn)(struct fermata_vm *vm, struct err *e), struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;

	if (vm_get(name, FERMATA_WRITE, what, &vm, e) < 0)
		return e->code;
	return fn(vm, e);
}
