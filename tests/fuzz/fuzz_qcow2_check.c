/*
 * Check an image from anywhere: nothing is written, every finding is said, and the independent judge agrees on what is
 * clean and what is not.
 */
#include "tests/fuzz/qcow2.h"

static uint64_t n_lines, n_bad;

static void line(void *ctx, const char *s)
{
	(void)ctx;
	n_lines += *s != 0;
	n_bad += !strncmp(s, "ERROR", 5) && !strstr(s, "snapshot table entry") && !strstr(s, "bitmap"); /* the judge takes more */
}

static void compare(const uint8_t *data, size_t size, const struct qcow2_check *c)
{
	static struct guest_state s;
	struct judge j;

	if (c->check_errors || (get_be32(data + 4) > 2 && get_be64(data + 72) & QCOW2_INCOMPAT_DATA_FILE))
		return;
	if ((c->corruptions || c->leaks) && !n_lines)
		fuzz_die("check", "does not say what is wrong");
	if (!c->corruptions) {
		fuzz_judge(data, size, &j);
		if (j.bad || j.flags)
			fuzz_die("check calls this clean", j.bad ? j.first_bad : j.first_flag);
		if (j.leaks != c->leaks)
			fuzz_die("check", "counts other leaks than the judge");
	} else if (n_bad && fuzz_sound(data, size, &s)) {
		fuzz_die("check", "finds corruption where there is none");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct logdev *d = logdev_new(data, size);
	struct qcow2 *q = NULL;
	struct qcow2_check c = { 0 };
	struct err e = { 0 };
	int r;

	n_lines = n_bad = 0;
	r = qcow2_open_dev(&d->dev, QCOW2_CHECK, &q, &e);
	if (!r)
		r = qcow2_check(q, 0, line, NULL, &c, &e);
	qcow2_close(q);
	if (r < 0 && !e.msg[0])
		fuzz_die("check", "fails without a message");
	if (d->dev.size != size || (size && memcmp(d->bytes, data, size)))
		fuzz_die("check", "changed the image");
	if (c.corruptions_fixed || c.leaks_fixed)
		fuzz_die("check", "repairs without being asked");
	if (!r)
		compare(data, size, &c);
	logdev_free(d);
	return 0;
}
