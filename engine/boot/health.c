/* Whether the guest is well: it runs, its agent answers, its serial console says the word. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/boot/internal.h"
#include "engine/fermata.h"
#include "engine/vm/policy.h"
#include "engine/vm/vm.h"
#include "kvm/kvm.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/own.h"
#include "monitor/monitor.h"

#define ASK_MS    1000 /* for one question to the agent */
#define REST_MS   100  /* between two questions */
#define SERIAL    "serial \""

bool same_text(const char *a, const char *b)
{
	return !strcmp(a, b);
}

static int agent_answers(struct fermata_vm *vm, struct deadline d, struct err *e)
{
	auto_agent struct agent *a = NULL;
	int fd;

	if (!CONFIG_AGENT)
		return err_set(e, -EOPNOTSUPP, "this fermata was built without the guest agent");
	if (kvm_agent_connect(vm->run_dir, d, &fd, e) < 0 || agent_open(fd, d, &a, e) < 0)
		return e->code;
	return agent_ping(a, d, e);
}

static int wait_agent(struct fermata_vm *vm, struct deadline d, struct err *e)
{
	while (agent_answers(vm, deadline_left_ms(d) < ASK_MS ? d : deadline_in(ASK_MS), e) < 0) {
		if (!CONFIG_AGENT || !vm_alive(vm) || !deadline_left_ms(d))
			return e->code;
		poll(NULL, 0, REST_MS);
	}
	return 0;
}

/* Until @text comes over the console @fd. */
static int wait_serial(int fd, const char *text, size_t n, struct deadline d, struct err *e)
{
	char got[1024];
	size_t have = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t r;

		if (poll(&p, 1, deadline_left_ms(d)) == 0)
			return err_set(e, -ETIMEDOUT, "the guest did not say \"%.*s\" in time", (int)n, text);
		r = read(fd, got + have, sizeof got - have);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return err_set(e, -ECONNRESET, "QEMU ended before the guest said \"%.*s\"", (int)n, text);
		have += (size_t)r;
		if (memmem(got, have, text, n))
			return 0;
		/* Only what may be the text's beginning is of use later. */
		if (have >= n) {
			memmove(got, got + have - n + 1, n - 1);
			have = n - 1;
		}
	}
}

/* The text of healthy = serial "TEXT", or NULL. */
const char *health_serial_text(const struct fermata_vm *vm, size_t *n)
{
	const char *h = policy_of(vm->def)->healthy;

	if (strncmp(h, SERIAL, sizeof SERIAL - 1))
		return NULL;
	*n = strlen(h) - sizeof SERIAL;
	return h + sizeof SERIAL - 1;
}

int console_connect(struct fermata_vm *vm, int *fd, struct err *e)
{
	return kvm_console_connect(vm->run_dir, deadline_in(CALL_MS), fd, e);
}

/* @fd: the console, connected while the guest was paused. */
int wait_healthy(struct fermata_vm *vm, int fd, struct deadline d, struct err *e)
{
	struct fermata_status st;
	const char *text;
	size_t n;

	if (fermata_vm_status(vm, &st, e) < 0)
		return e->code;
	/* While we wait, others may ask QEMU how it is. */
	vm_hang_up(vm);
	if (st.state != FERMATA_RUNNING)
		return err_set(e, -EIO, "the VM is %s", fermata_state_name(st.state));
	if ((text = health_serial_text(vm, &n)))
		return wait_serial(fd, text, n, d, e);
	return same_text(policy_of(vm->def)->healthy, "agent") ? wait_agent(vm, d, e) : 0;
}

int fermata_boot_healthy(struct fermata_vm *vm, struct err *e)
{
	auto_fd int fd = -1;
	size_t n;

	if (health_serial_text(vm, &n) && console_connect(vm, &fd, e) < 0)
		return err_at(e, "%s", vm->name);
	return wait_healthy(vm, fd, deadline_in(policy_of(vm->def)->within_ms), e) < 0 ? err_at(e, "%s", vm->name) : 0;
}
