/* lib/file.c: read whole, written whole, replaced whole; lib/lock.c: held by the living. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/own.h"

static char dir[] = "/tmp/test_file.XXXXXX";

static char *in_dir(const char *name)
{
	return str_fmt("%s/%s", dir, name);
}

static void reads(void **state)
{
	auto_free char *path = in_dir("f");
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	char big[10000];

	(void)state;
	memset(big, 'x', sizeof big);
	assert_int_equal(file_replace(path, big, sizeof big, 0640, &e), 0);
	buf_adds(&b, "before");
	assert_int_equal(file_read(path, sizeof big, &b, &e), 0);
	assert_int_equal(b.n, 6 + sizeof big);
	assert_memory_equal(b.p, "beforexxx", 9);
	assert_int_equal(file_read(path, sizeof big - 1, &b, &e), -EFBIG);
	buf_clear(&b);
	assert_int_equal(file_read("/proc/self/stat", 4096, &b, &e), 0); /* a file without a size */
	assert_true(b.n > 10);
	assert_int_equal(file_read(dir, 100, &b, &e), -EISDIR);
	unlink(path);
	assert_int_equal(file_read(path, 100, &b, &e), -ENOENT);
	assert_true(str_starts(e.msg, "cannot open /tmp/test_file."));
}

static void full_io(void **state)
{
	struct err e = { 0 };
	char text[8];
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(io_write_full(p[1], "abcdef", 6, "x", &e), 0);
	close(p[1]);
	assert_int_equal(io_read_full(p[0], text, 4, "x", &e), 0);
	assert_memory_equal(text, "abcd", 4);
	assert_int_equal(io_read_full(p[0], text, 4, "the pipe", &e), -ENODATA);
	assert_string_equal(e.msg, "cannot read the pipe: it ends after 2 of 4 bytes");
	close(p[0]);
	p[0] = open("/dev/full", O_WRONLY);
	assert_int_equal(io_write_full(p[0], "x", 1, "it", &e), -ENOSPC);
	close(p[0]);
	assert_int_equal(io_write_full(-1, "x", 1, "it", &e), -EBADF);
}

/* The old file stands until the new one is whole, and nothing else is left. */
static void replaces(void **state)
{
	auto_free char *path = in_dir("r"), *tmp = in_dir("r.new"), *deep = in_dir("no/r");
	struct rlimit old, small = { 100, RLIM_INFINITY };
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };
	struct stat st;
	char big[1000] = { 0 };

	(void)state;
	assert_int_equal(file_replace(path, "one", 3, 0600, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(file_replace(path, "two!", 4, 0600, &e), 0);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_FSIZE, &small);
	assert_int_equal(file_replace(path, big, sizeof big, 0600, &e), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(file_replace(deep, "x", 1, 0600, &e), -ENOENT);
	assert_false(file_exists(tmp));
	assert_int_equal(file_read(path, 100, &b, &e), 0);
	assert_string_equal(buf_str(&b), "two!");
	unlink(path);

	/* Over a folder the rename fails; the temporary file goes all the same. */
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(file_replace(path, "x", 1, 0600, &e), -EISDIR);
	assert_false(file_exists(tmp));
	rmdir(path);

	/* A link in the temporary file's place is not followed. */
	assert_int_equal(symlink("/dev/null", tmp), 0);
	assert_int_equal(file_replace(path, "x", 1, 0600, &e), -ELOOP);
	unlink(tmp);
}

static void flushes(void **state)
{
	auto_free char *path = in_dir("f"), *tmp = in_dir("f.part"), *deep = in_dir("no/f"), *fifo = in_dir("fifo");
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	(void)state;
	assert_int_equal(file_flush(path, &e), -ENOENT);
	assert_int_equal(file_flush_name(deep, &e), -ENOENT);
	assert_int_equal(file_place(tmp, path, &e), -ENOENT);
	assert_int_equal(file_replace(path, "old", 3, 0600, &e), 0);
	assert_int_equal(file_replace(tmp, "new", 3, 0400, &e), 0);
	assert_int_equal(file_flush(tmp, &e), 0);
	assert_int_equal(file_place(tmp, path, &e), 0);
	assert_false(file_exists(tmp));
	assert_int_equal(file_read(path, 100, &b, &e), 0);
	assert_string_equal(buf_str(&b), "new");
	assert_int_equal(file_place(path, deep, &e), -ENOENT);
	assert_true(file_exists(path));
	unlink(path);
	/* What has nothing to flush, nobody waits for. */
	assert_int_equal(file_flush("/dev/null", &e), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(file_flush(fifo, &e), 0);
	unlink(fifo);
}

static void places_new(void **state)
{
	auto_free char *path = in_dir("f"), *tmp = in_dir("f.part");
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	(void)state;
	assert_int_equal(file_place_new(tmp, path, &e), -ENOENT);
	assert_int_equal(file_replace(tmp, "new", 3, 0600, &e), 0);
	assert_int_equal(file_replace(path, "theirs", 6, 0600, &e), 0);
	assert_int_equal(file_place_new(tmp, path, &e), -EEXIST);
	assert_int_equal(file_read(path, 100, &b, &e), 0);
	assert_string_equal(buf_str(&b), "theirs");
	unlink(path);
	/* A link counts, too, wherever it leads. */
	assert_int_equal(symlink("nowhere", path), 0);
	assert_int_equal(file_place_new(tmp, path, &e), -EEXIST);
	unlink(path);
	assert_int_equal(file_place_new(tmp, path, &e), 0);
	assert_true(file_exists(path));
	assert_false(file_exists(tmp));
	unlink(path);
}

static void folders(void **state)
{
	auto_free char *deep = in_dir("a//b/c/"), *file = in_dir("f"), *under = in_dir("f/x");
	auto_free char *c = in_dir("a/b/c"), *b = in_dir("a/b"), *a = in_dir("a");
	struct err e = { 0 };
	uint64_t bytes = 0;

	(void)state;
	assert_int_equal(dir_make(deep, 0700, &e), 0);
	assert_int_equal(dir_make(deep, 0700, &e), 0);
	assert_true(file_exists(c));
	assert_int_equal(dir_flush(c, &e), 0);
	assert_int_equal(file_replace(file, "", 0, 0600, &e), 0);
	assert_int_equal(dir_make(under, 0700, &e), -ENOTDIR);
	assert_int_equal(dir_flush(file, &e), -ENOTDIR);
	assert_int_equal(file_free_space(a, &bytes, &e), 0);
	assert_true(bytes > 0);
	assert_int_equal(file_free_space("/no/such", &bytes, &e), -ENOENT);
	unlink(file);
	rmdir(c);
	rmdir(b);
	rmdir(a);
}

static void beside(void **state)
{
	static const struct {
		const char *file, *path, *want; /* want without a slash first: under the working folder */
	} t[] = {
		{ "/e/k.conf", "/i/a", "/i/a" },
		{ "/e/k.conf", "a", "/e/a" },
		{ "/e/k.conf", "../a b", "/e/../a b" },
		{ "/k.conf", "a", "/a" },
		{ "e/k.conf", "a", "e/a" },
		{ "e/k.conf", "/a", "/a" },
		{ "k.conf", "a", "a" },
		{ "", "a/b", "a/b" },
	};

	(void)state;
	assert_int_equal(chdir(dir), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_free char *got = path_beside(t[i].file, t[i].path);
		auto_free char *want = *t[i].want == '/' ? strdup(t[i].want) : in_dir(t[i].want);

		assert_string_equal(got, want);
	}
	assert_int_equal(chdir("/"), 0);
	auto_free char *root = path_beside("", "a");
	assert_string_equal(root, "/a");
}

static void locks(void **state)
{
	auto_free char *path = in_dir("lock"), *want = str_fmt("busy with create x (process %d)", (int)getpid());
	struct err e = { 0 };
	char who[100];
	int fd = -1, second = -1;
	uint64_t a;

	(void)state;
	assert_false(lock_holder(path, who, sizeof who));
	assert_int_equal(lock_take(path, "create x", 0, &fd, &e), 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(lock_holder(path, who, sizeof who));
	assert_string_equal(who, want + strlen("busy with "));
	a = clock_mono_ms();
	assert_int_equal(lock_take(path, "delete", 50, &second, &e), -EBUSY);
	assert_string_equal(e.msg, want);
	assert_true(clock_mono_ms() - a >= 49);
	close(fd);
	assert_false(lock_holder(path, who, sizeof who)); /* what it wrote is still there, and means nothing */
	assert_int_equal(lock_take(path, "x", 0, &second, &e), 0);
	close(second);
	unlink(path);
}

/* A lock goes with its holder, and one who waits gets it then. */
static void lock_dies(void **state)
{
	auto_free char *path = in_dir("lock");
	struct err e = { 0 };
	int p[2], go[2], fd = -1;
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(pipe(go), 0);
	pid = fork();
	if (pid == 0) {
		if (lock_take(path, "hang", 0, &fd, &e) < 0 || write(p[1], "x", 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		usleep(50000); /* so that the other one waits, if it gets the time to */
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(lock_take(path, "now", 0, &fd, &e), -EBUSY);
	assert_int_equal(write(go[1], "x", 1), 1);
	assert_int_equal(lock_take(path, "now", 60000, &fd, &e), 0);
	close(fd);
	waitpid(pid, NULL, 0);
	close(p[0]);
	close(p[1]);
	close(go[0]);
	close(go[1]);
	unlink(path);
}

static void lock_refused(void **state)
{
	auto_free char *path = in_dir("lock");
	struct err e = { 0 };
	int fd = -1;

	(void)state;
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_int_equal(lock_take(path, "x", 0, &fd, &e), -ELOOP);
	unlink(path);
	assert_int_equal(lock_take("/no/such/lock", "x", 0, &fd, &e), -ENOENT);
}

static int setup(void **state)
{
	(void)state;
	signal(SIGXFSZ, SIG_IGN); /* the limit in replaces() is to be an error */
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(dir); /* fails if a test left anything */
}

/* How large a device is can only be tried with one: tests/system/mix.bats. */
static void measures(void **state)
{
	char path[] = "/tmp/fermata-file.XXXXXX";
	int fd = mkstemp(path);
	uint64_t size, has;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_true(file_measure(path, &size, &has));
	assert_int_equal(size, 1 << 20);
	assert_int_equal(has, 0);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(fsync(fd), 0);
	assert_true(file_measure(path, NULL, &has));
	assert_in_range(has, 1, 1 << 16);
	close(fd);
	unlink(path);
	assert_false(file_measure(path, &size, &has));
	assert_int_equal(size + has, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),
		cmocka_unit_test(full_io),
		cmocka_unit_test(replaces),
		cmocka_unit_test(flushes),
		cmocka_unit_test(places_new),
		cmocka_unit_test(folders),
		cmocka_unit_test(beside),
		cmocka_unit_test(measures),
		cmocka_unit_test(locks),
		cmocka_unit_test(lock_dies),
		cmocka_unit_test(lock_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
