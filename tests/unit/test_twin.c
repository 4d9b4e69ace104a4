/*
 * Twins: two copies of an image live the same life, one changed by us and one by qemu-img, written to by qemu-io in
 * between. After every step qemu-img finds ours clean, and disk and snapshots of both hold the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "qcow2/qcow2.h"
#include "tests/harness/campaign.h"
#include "tests/harness/qemu_img.h"
#include "tests/harness/rand.h"

#define MAX_SNAP 6
#define STEP     65536ull /* sizes are multiples of it: of every cluster size here */

struct twins {
	char ours[160], theirs[160];
	unsigned cluster_bits, version, refcount_bits;
	bool ext_l2, backing;
	uint64_t size, rnd;
	unsigned n_snaps, next;
	char snaps[MAX_SNAP][12];
	char log[400]; /* the last steps, for the message */
};

static int run(const char *const argv[])
{
	return qemu_img_run(argv);
}
#define RUN(...) run((const char *[]){ __VA_ARGS__, NULL })

static void must(int code, const struct twins *t, const char *what)
{
	char *said;

	if (!code)
		return;
	said = qemu_img_said();
	fail_msg("%s: %d: %.300s; steps:%s", what, code, said, t->log);
}

static void note(struct twins *t, const char *fmt, ...)
{
	char one[60];
	size_t n = strlen(t->log), k;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(one, sizeof one, fmt, ap);
	va_end(ap);
	k = strlen(one) + 2;
	if (n + k >= sizeof t->log) {
		memmove(t->log, t->log + 100, n - 99);
		n -= 100;
	}
	snprintf(t->log + n, sizeof t->log - n, " %s", one);
}

static void both_io(struct twins *t, const char *cmd)
{
	char plain[100];

	note(t, "io:%s", cmd);
	/*
	 * Compressed writes are refused where there is a cluster already: on both, but for zeros that QEMU's way to version 2
	 * gives clusters and ours does not. Then the same is written as it is.
	 */
	if (RUN("qemu-io", "-f", "qcow2", "-c", cmd, t->ours) == 0) {
		if (RUN("qemu-io", "-f", "qcow2", "-c", cmd, t->theirs) == 0)
			return;
		must(strncmp(cmd, "write -c ", 9), t, cmd);
		snprintf(plain, sizeof plain, "write %s", cmd + 9);
		must(RUN("qemu-io", "-f", "qcow2", "-c", plain, t->theirs), t, plain);
	} else if (RUN("qemu-io", "-f", "qcow2", "-c", cmd, t->theirs) == 0) {
		fail_msg("%s fails on ours only; steps:%s", cmd, t->log);
	}
}

static void step_write(struct twins *t)
{
	uint64_t off = rand_below(&t->rnd, t->size / 512) * 512, n = (1 + rand_below(&t->rnd, 400)) * 512, c = 1ull << t->cluster_bits;
	char cmd[100];

	if (off + n > t->size)
		n = t->size - off;
	switch (rand_below(&t->rnd, 6)) {
	case 0:
		snprintf(cmd, sizeof cmd, "write -z %llu %llu", (unsigned long long)off, (unsigned long long)n);
		break;
	case 1:
		snprintf(cmd, sizeof cmd, "discard %llu %llu", (unsigned long long)off, (unsigned long long)n);
		break;
	case 2:
		off &= ~(c - 1);
		snprintf(cmd, sizeof cmd, "write -c -P %u %llu %llu", (unsigned)rand_below(&t->rnd, 255) + 1,
			(unsigned long long)off, (unsigned long long)c);
		break;
	default:
		snprintf(cmd, sizeof cmd, "write -P %u %llu %llu", (unsigned)rand_below(&t->rnd, 255) + 1,
			(unsigned long long)off, (unsigned long long)n);
	}
	both_io(t, cmd);
}

static struct qcow2 *ours(struct twins *t)
{
	struct qcow2 *q = NULL;
	struct err e = { 0 };

	if (qcow2_open(t->ours, QCOW2_RW, &q, &e) < 0)
		fail_msg("%s; steps:%s", e.msg, t->log);
	return q;
}

static int done(struct twins *t, struct qcow2 *q, int r, struct err *e, int allowed)
{
	qcow2_close(q);
	if (r < 0 && r != allowed)
		fail_msg("%s; steps:%s", e->msg, t->log);
	return r;
}

static void step_create(struct twins *t)
{
	struct qcow2_snap_new s = { .date_s = 1, .icount = QCOW2_NO_ICOUNT };
	unsigned max = t->refcount_bits > 3 ? MAX_SNAP : (1u << t->refcount_bits) - 3;
	struct err e = { 0 };
	struct qcow2 *q;

	if (t->refcount_bits == 1 || t->n_snaps >= max)
		return;
	snprintf(t->snaps[t->n_snaps], sizeof t->snaps[0], "s%u", t->next++);
	s.name = t->snaps[t->n_snaps];
	note(t, "create:%s", s.name);
	q = ours(t);
	done(t, q, qcow2_snap_create(q, &s, &e), &e, 0);
	must(RUN("qemu-img", "snapshot", "-c", s.name, t->theirs), t, "snapshot -c");
	t->n_snaps++;
}

static void step_apply(struct twins *t)
{
	struct qcow2_info info;
	struct err e = { 0 };
	struct qcow2 *q;
	unsigned i;

	if (!t->n_snaps)
		return;
	i = (unsigned)rand_below(&t->rnd, t->n_snaps);
	note(t, "apply:%s", t->snaps[i]);
	q = ours(t);
	must(qcow2_snap_apply(q, i, &e), t, e.msg);
	qcow2_get_info(q, &info);
	t->size = info.size;
	qcow2_close(q);
	must(RUN("qemu-img", "snapshot", "-a", t->snaps[i], t->theirs), t, "snapshot -a");
}

static void step_delete(struct twins *t)
{
	struct err e = { 0 };
	struct qcow2 *q;
	unsigned i;

	if (!t->n_snaps)
		return;
	i = (unsigned)rand_below(&t->rnd, t->n_snaps);
	note(t, "delete:%s", t->snaps[i]);
	q = ours(t);
	done(t, q, qcow2_snap_delete(q, i, &e), &e, 0);
	must(RUN("qemu-img", "snapshot", "-d", t->snaps[i], t->theirs), t, "snapshot -d");
	memmove(t->snaps[i], t->snaps[i + 1], (--t->n_snaps - i) * sizeof t->snaps[0]);
}

static void step_resize(struct twins *t)
{
	uint64_t size = (1 + rand_below(&t->rnd, 40)) * STEP;
	const char *how = rand_below(&t->rnd, 3) || t->backing ? "off" : "metadata";
	struct err e = { 0 };
	struct qcow2 *q;
	char to[24];

	if (t->version == 2 && t->n_snaps)
		return;
	if (size <= t->size)
		how = "off"; /* preallocation is for what grows */
	note(t, "resize:%llu:%s", (unsigned long long)size, how);
	q = ours(t);
	if (done(t, q, qcow2_resize(q, size, true, t->backing ? 64 * STEP : 0,
		    *how == 'm' ? QCOW2_PREALLOC_METADATA : QCOW2_PREALLOC_OFF, &e), &e,
		t->version == 2 && t->backing ? -EOPNOTSUPP : 0) < 0)
		return;
	snprintf(to, sizeof to, "%llu", (unsigned long long)size);
	if (size < t->size)
		must(RUN("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", t->theirs, to), t, "resize");
	else
		must(RUN("qemu-img", "resize", "-q", "-f", "qcow2", "--preallocation", how, t->theirs, to), t, "resize");
	t->size = size;
}

static void step_amend(struct twins *t)
{
	static const int widths[] = { 8, 16, 32, 64 };
	struct qcow2_amend a = QCOW2_AMEND_NOTHING;
	struct err e = { 0 };
	struct qcow2 *q;
	char o[40];

	if (rand_below(&t->rnd, 2) && t->version == 3)
		a.refcount_bits = widths[rand_below(&t->rnd, 4)];
	else
		a.version = rand_below(&t->rnd, 2) ? 2 : 3;
	note(t, "amend:%d:%d", a.version, a.refcount_bits);
	q = ours(t);
	if (done(t, q, qcow2_amend(q, &a, &e), &e, -EOPNOTSUPP) < 0)
		return;
	if (a.version > 0)
		snprintf(o, sizeof o, "compat=%s", a.version == 2 ? "0.10" : "1.1");
	else
		snprintf(o, sizeof o, "refcount_bits=%d", a.refcount_bits);
	must(RUN("qemu-img", "amend", "-f", "qcow2", "-o", o, t->theirs), t, o);
	/*
	 * QEMU's way to version 2 writes zeros into clusters that snapshots share with what reads as zeros, and leaves wrong
	 * COPIED flags on them. Its own check says so; it goes on with a copy of ours.
	 */
	if (a.version == 2 && RUN("qemu-img", "check", "-f", "qcow2", t->theirs))
		must(RUN("cp", t->ours, t->theirs), t, "cp");
	if (a.refcount_bits > 0)
		t->refcount_bits = (unsigned)a.refcount_bits;
	if (a.version > 0)
		t->version = (unsigned)a.version;
}

static void compare(struct twins *t)
{
	char snap[40], a[160], b[160];

	must(RUN("qemu-img", "check", "-f", "qcow2", t->ours), t, "check");
	must(RUN("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", t->ours, t->theirs), t, "compare");
	for (unsigned i = 0; i < t->n_snaps; i++) {
		snprintf(snap, sizeof snap, "snapshot.name=%s", t->snaps[i]);
		snprintf(a, sizeof a, "%s", qemu_img_path("a.raw"));
		snprintf(b, sizeof b, "%s", qemu_img_path("b.raw"));
		must(RUN("qemu-img", "convert", "-l", snap, "-O", "raw", t->ours, a), t, "convert ours");
		must(RUN("qemu-img", "convert", "-l", snap, "-O", "raw", t->theirs, b), t, "convert theirs");
		must(RUN("cmp", a, b), t, t->snaps[i]);
	}
}

static void make(struct twins *t, uint64_t seed)
{
	char o[200];
	static const unsigned bits[] = { 9, 12, 16, 14 };

	t->rnd = seed;
	t->cluster_bits = bits[rand_below(&t->rnd, 4)];
	t->version = rand_below(&t->rnd, 4) ? 3 : 2;
	t->refcount_bits = t->version == 2 ? 16 : 1u << rand_below(&t->rnd, 7);
	t->ext_l2 = t->version == 3 && t->cluster_bits >= 14 && rand_below(&t->rnd, 2);
	t->backing = t->cluster_bits > 9 && rand_below(&t->rnd, 2);
	t->size = 20 * STEP;
	snprintf(t->ours, sizeof t->ours, "%s", qemu_img_path("ours.qcow2"));
	snprintf(t->theirs, sizeof t->theirs, "%s", qemu_img_path("theirs.qcow2"));
	snprintf(o, sizeof o, "cluster_size=%u,compat=%s,refcount_bits=%u,extended_l2=%s%s%s", 1u << t->cluster_bits,
		t->version == 2 ? "0.10" : "1.1", t->refcount_bits, t->ext_l2 ? "on" : "off",
		t->backing ? ",backing_fmt=raw,backing_file=" : "", t->backing ? qemu_img_path("base.raw") : "");
	note(t, "seed %llu %s", (unsigned long long)seed, o);
	must(RUN("qemu-img", "create", "-q", "-f", "qcow2", "-o", o, t->ours, "1310720"), t, "create");
	must(RUN("cp", t->ours, t->theirs), t, "cp");
}

static void live(uint64_t seed, unsigned steps)
{
	struct twins t = { 0 };

	make(&t, seed);
	for (unsigned i = 0; i < steps; i++) {
		switch (rand_below(&t.rnd, 12)) {
		case 0:
		case 1:
			step_create(&t);
			break;
		case 2:
			step_apply(&t);
			break;
		case 3:
			step_delete(&t);
			break;
		case 4:
			step_resize(&t);
			break;
		case 5:
			step_amend(&t);
			break;
		default:
			step_write(&t);
			continue;
		}
		compare(&t);
	}
	compare(&t);
}

static void t_twins(void **state)
{
	uint64_t seed = rand_seed(1);

	(void)state;
	if (!qemu_img_there())
		skip();
	must(RUN("sh", "-c", "head -c 4194304 /dev/zero | tr '\\0' '\\225' > \"$1\"", "sh", qemu_img_path("base.raw")),
		&(struct twins){ 0 }, "base.raw");
	for (unsigned i = 0; i < (campaign_soaking() ? 300 : 3); i++)
		live(seed + i, campaign_soaking() ? 40 : 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(t_twins) };

	return cmocka_run_group_tests(tests, NULL, qemu_img_cleanup);
}
