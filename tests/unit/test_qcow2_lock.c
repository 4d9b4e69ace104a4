/* QEMU's image locks, both ways: between our handles, and with qemu-img and qemu-io where they are installed. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "qcow2/qcow2.h"
#include "tests/harness/logdev.h"
#include "tests/harness/mkimg.h"
#include "tests/harness/qemu_img.h"

static char path[160];

static int setup(void **state)
{
	size_t n;
	uint8_t *img = mkimg_finish(mkimg_new(&(struct mkimg_opts){ .size = 1 << 20, .cluster_bits = 16 }), &n);

	(void)state;
	snprintf(path, sizeof path, "%s", qemu_img_path("locked.qcow2"));
	bytes_export(img, n, path);
	free(img);
	return 0;
}

static struct qcow2 *opened(unsigned flags)
{
	struct qcow2 *q = NULL;
	struct err e = { 0 };

	if (qcow2_open(path, flags, &q, &e) < 0)
		fail_msg("%s", e.msg);
	return q;
}

static void refused(unsigned flags, const char *word)
{
	struct qcow2 *q = NULL;
	struct err e = { 0 };

	assert_int_equal(qcow2_open(path, flags, &q, &e), -EBUSY);
	if (!strstr(e.msg, word))
		fail_msg("'%s' is not in: %s", word, e.msg);
}

static void t_ours(void **state)
{
	struct qcow2 *a, *b;
	char pid[32];

	(void)state;
	snprintf(pid, sizeof pid, "process %d (", (int)getpid());
	a = opened(QCOW2_RW);
	refused(QCOW2_RW, pid);
	refused(0, pid);
	b = opened(QCOW2_SHARE);
	qcow2_close(b);
	refused(0, pid);
	qcow2_close(a);
	a = opened(0);
	b = opened(0);
	refused(QCOW2_RW, pid);
	qcow2_close(a);
	qcow2_close(b);
	a = opened(QCOW2_RW);
	qcow2_close(a);
}

static void t_theirs_refuse(void **state)
{
	struct qcow2 *q;

	(void)state;
	if (!qemu_img_there())
		skip();
	q = opened(QCOW2_RW);
	assert_int_not_equal(qemu_img_run((const char *[]){ "qemu-img", "check", path, NULL }), 0);
	assert_int_not_equal(qemu_img_run((const char *[]){ "qemu-img", "snapshot", "-c", "x", path, NULL }), 0);
	assert_int_equal(qemu_img_run((const char *[]){ "qemu-img", "info", "-U", path, NULL }), 0);
	qcow2_close(q);
	q = opened(0);
	assert_int_not_equal(qemu_img_run((const char *[]){ "qemu-img", "snapshot", "-c", "x", path, NULL }), 0);
	assert_int_equal(qemu_img_run((const char *[]){ "qemu-img", "check", path, NULL }), 0);
	qcow2_close(q);
	assert_int_equal(qemu_img_run((const char *[]){ "qemu-img", "snapshot", "-c", "x", path, NULL }), 0);
}

/* A qemu-io that has the image open until its standard input ends. */
static pid_t hold(const char *how, int *in)
{
	int to[2], from[2];
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	pid = fork();
	if (!pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[1]);
		close(from[0]);
		execlp("qemu-io", "qemu-io", how, "-f", "qcow2", path, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	/* Its prompt says that it is open. */
	while (read(from[0], &c, 1) == 1 && c != '>')
		;
	close(from[0]);
	*in = to[1];
	return pid;
}

static void t_theirs_hold(void **state)
{
	char who[64];
	int in;
	pid_t pid;
	struct qcow2 *q;

	(void)state;
	if (!qemu_img_there())
		skip();
	signal(SIGPIPE, SIG_IGN);
	pid = hold("-n", &in);
	snprintf(who, sizeof who, "process %d (qemu-io)", (int)pid);
	refused(QCOW2_RW, who);
	refused(0, who);
	q = opened(QCOW2_SHARE);
	qcow2_close(q);
	close(in);
	waitpid(pid, NULL, 0);
	q = opened(QCOW2_RW);
	qcow2_close(q);
	pid = hold("-r", &in);
	snprintf(who, sizeof who, "process %d (qemu-io)", (int)pid);
	refused(QCOW2_RW, who);
	q = opened(0);
	qcow2_close(q);
	close(in);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(t_ours, setup),
		cmocka_unit_test_setup(t_theirs_refuse, setup),
		cmocka_unit_test_setup(t_theirs_hold, setup),
	};

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
