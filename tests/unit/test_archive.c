/* engine/archive.c: written through pipes, read back; and every byte of one wrong, every length of one short. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/archive/internal.h"
#include "engine/memory/memory.h"
#include "lib/endian.h"
#include "lib/json.h"
#include "lib/own.h"
#include "tests/harness/allocfail.h"

#define HEAD 32

static const char manifest[] = "{\"parts\":["
	"{\"role\":\"memory\",\"name\":\"\",\"size\":300,\"data\":300},"
	"{\"role\":\"disk\",\"name\":\"vda\",\"size\":131584,\"data\":512},"
	"{\"role\":\"disk\",\"name\":\"vdb\",\"size\":1073741824,\"data\":0}]}";

/* Byte @i of part @part. */
static uint8_t byte(size_t part, uint64_t i)
{
	return (uint8_t)(i * 7 + i / 251 + part + 1);
}

static void put_piece(struct archive *a, size_t part, uint64_t at, size_t n)
{
	static uint8_t p[ARCHIVE_CHUNK];
	struct err e;

	for (size_t i = 0; i < n; i++)
		p[i] = byte(part, at + i);
	assert_int_equal(archive_put(a, at, p, n, &e), 0);
}

static int new_file(void)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void write_small(int fd)
{
	auto_archive struct archive a = { 0 };
	auto_buf struct buf text = { 0 };
	struct err e;

	buf_adds(&text, manifest);
	assert_int_equal(archive_create(&a, fd, "it", &text, &e), 0);
	put_piece(&a, 0, 0, 200);
	put_piece(&a, 0, 200, 100);
	assert_int_equal(archive_put_end(&a, &e), 0);
	/* The disk's end is in the middle of a chunk. */
	put_piece(&a, 1, 2 * ARCHIVE_CHUNK, 512);
	assert_int_equal(archive_put_end(&a, &e), 0);
	assert_int_equal(archive_put_end(&a, &e), 0);
	assert_int_equal(archive_finish(&a, &e), 0);
}

/* Read all of it; what comes out is what went in, as far as it came. @bytes: out, of data. */
static int read_all(int fd, uint64_t *bytes, struct err *e)
{
	auto_archive struct archive a = { 0 };
	auto_json struct json_doc *doc = NULL;
	struct archive_part parts[ARCHIVE_PARTS_MAX];
	const uint8_t *p;
	uint64_t at;
	size_t count, n;

	*bytes = 0;
	if (archive_open(&a, fd, "it", &doc, e) < 0 || archive_parts(&a, json_root(doc), parts, &count, e) < 0)
		return e->code;
	for (size_t i = 0; i < count; i++) {
		archive_part(&a, &parts[i]);
		do {
			if (archive_get(&a, &at, &p, &n, e) < 0)
				return e->code;
			for (size_t k = 0; k < n; k++)
				assert_int_equal(p[k], byte(i, at + k));
			*bytes += n;
		} while (n);
	}
	return archive_end(&a, e);
}

static int read_bytes(const uint8_t *p, size_t n, struct err *e)
{
	auto_fd int fd = new_file();
	uint64_t bytes;

	assert_int_equal(write(fd, p, n), n);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return read_all(fd, &bytes, e);
}

static uint8_t *small(size_t *n)
{
	auto_fd int fd = new_file();
	uint8_t *p;

	write_small(fd);
	*n = (size_t)lseek(fd, 0, SEEK_END);
	p = malloc(*n + 1);
	assert_int_equal(pread(fd, p, *n, 0), *n);
	return p;
}

static void round_trip(void **state)
{
	auto_free uint8_t *p = NULL;
	struct err e;
	uint64_t bytes;
	size_t n;
	int pipes[2];

	(void)state;
	p = small(&n);
	assert_int_equal(read_bytes(p, n, &e), 0);
	/* Both sides of a pipe, where reads come in pieces of any size; it holds all of this one. */
	assert_int_equal(pipe(pipes), 0);
	write_small(pipes[1]);
	close(pipes[1]);
	assert_int_equal(read_all(pipes[0], &bytes, &e), 0);
	assert_int_equal(bytes, 300 + 512);
	close(pipes[0]);
	/* The same bytes each time: what is put into firmware can be made again. */
	{
		auto_free uint8_t *again = small(&n);

		assert_memory_equal(p, again, n);
	}
}

static bool has_place(const struct err *e)
{
	return strstr(e->msg, " at byte ") || strstr(e->msg, "it ends after ") || strstr(e->msg, "is no archive") ||
	       strstr(e->msg, "has version ");
}

static void every_bit(void **state)
{
	auto_fd int fd = new_file();
	auto_free uint8_t *p = NULL;
	struct err e;
	uint64_t bytes;
	size_t n;

	(void)state;
	p = small(&n);
	write_small(fd);
	for (size_t i = 0; i < n; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			uint8_t wrong = p[i] ^ (uint8_t)(1u << bit);

			assert_int_equal(pwrite(fd, &wrong, 1, (off_t)i), 1);
			assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
			e.msg[0] = '\0';
			if (read_all(fd, &bytes, &e) == 0 || !has_place(&e))
				fail_msg("bit %u of byte %zu: '%s'", bit, i, e.msg);
			assert_int_equal(pwrite(fd, p + i, 1, (off_t)i), 1);
		}
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(read_all(fd, &bytes, &e), 0);
}

static void every_length(void **state)
{
	auto_free uint8_t *p = NULL;
	char want[100];
	struct err e;
	size_t n;

	(void)state;
	p = small(&n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(read_bytes(p, i, &e), -EUCLEAN);
		snprintf(want, sizeof want, i < 16 ? "it is no archive of a snapshot" : "it is not complete: it ends after %zu bytes", i);
		assert_string_equal(e.msg, want);
	}
	p[n] = 0;
	assert_int_equal(read_bytes(p, n + 1, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "something behind the end"));
}

/* Records that are each whole, but gone, twice there, or in another order. */
static void every_record(void **state)
{
	auto_free uint8_t *p = NULL, *q = NULL;
	size_t at[20], n, n_records = 0;
	struct err e;

	(void)state;
	p = small(&n);
	q = malloc(2 * n);
	for (size_t i = 16; i < n; i += HEAD + ((get_be32(p + i + 4) + 7) & ~7u))
		at[n_records++] = i;
	at[n_records] = n;
	assert_int_equal(n_records, 8);
	for (size_t i = 0; i < n_records; i++) {
		memcpy(q, p, at[i]);
		memcpy(q + at[i], p + at[i + 1], n - at[i + 1]);
		assert_int_equal(read_bytes(q, n - (at[i + 1] - at[i]), &e), -EUCLEAN);
		memcpy(q, p, at[i + 1]);
		memcpy(q + at[i + 1], p + at[i], n - at[i]);
		assert_int_equal(read_bytes(q, n + at[i + 1] - at[i], &e), -EUCLEAN);
	}
	for (size_t i = 1; i + 1 < n_records; i++) {
		size_t a = at[i + 1] - at[i], b = at[i + 2] - at[i + 1];

		memcpy(q, p, n);
		memcpy(q + at[i], p + at[i + 1], b);
		memcpy(q + at[i] + b, p + at[i], a);
		assert_int_equal(read_bytes(q, n, &e), -EUCLEAN);
	}
}

/* What comes of a part @size bytes large, of @data bytes of data, in pieces @at, @n. */
static int one_part(const char *role, uint64_t size, uint64_t data, const uint64_t (*pieces)[2], size_t n_pieces, struct err *e)
{
	auto_archive struct archive a = { 0 };
	auto_buf struct buf text = { 0 };
	auto_fd int fd = new_file();
	uint64_t bytes;

	buf_addf(&text, "{\"parts\":[{\"role\":\"%s\",\"name\":\"%s\",\"size\":%llu,\"data\":%llu}]}", role,
		strcmp(role, "disk") ? "" : "x", (unsigned long long)size,
		(unsigned long long)data);
	assert_int_equal(archive_create(&a, fd, "it", &text, e), 0);
	for (size_t i = 0; i < n_pieces; i++)
		put_piece(&a, 0, pieces[i][0], pieces[i][1]);
	assert_int_equal(archive_put_end(&a, e), 0);
	assert_int_equal(archive_finish(&a, e), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return read_all(fd, &bytes, e);
}

#define PIECES(...) (const uint64_t[][2]){ __VA_ARGS__ }, sizeof((const uint64_t[][2]){ __VA_ARGS__ }) / 16

static void what_fits(void **state)
{
	const uint64_t c = ARCHIVE_CHUNK;
	struct err e;

	(void)state;
	assert_int_equal(one_part("disk", 3 * c, 2 * c, PIECES({ 0, c }, { 2 * c, c }), &e), 0);
	assert_int_equal(one_part("nvram", c + 5, c + 5, PIECES({ 0, c }, { c, 5 }), &e), 0);
	assert_int_equal(one_part("disk", (1ull << 56), c, PIECES({ (1ull << 56) / c * c - c, c }), &e), 0);
	assert_int_equal(one_part("disk", 0, 0, NULL, 0, &e), 0);
	assert_int_equal(one_part("memory", 10, 10, PIECES({ 0, 7 }, { 7, 3 }), &e), 0);
	/* twice, backwards, past the end, more than was said, not whole chunks */
	assert_int_equal(one_part("disk", 3 * c, 3 * c, PIECES({ c, c }, { c, c }), &e), -EUCLEAN);
	assert_int_equal(one_part("disk", 3 * c, 3 * c, PIECES({ 2 * c, c }, { c, c }), &e), -EUCLEAN);
	assert_int_equal(one_part("disk", 3 * c, 3 * c, PIECES({ 3 * c, c }), &e), -EUCLEAN);
	assert_int_equal(one_part("disk", 3 * c, 3 * c, PIECES({ UINT64_MAX - c + 1, c }), &e), -EUCLEAN);
	assert_int_equal(one_part("disk", 3 * c - 1, 3 * c - 1, PIECES({ 2 * c, c }), &e), -EUCLEAN);
	assert_int_equal(one_part("disk", 3 * c, c, PIECES({ 0, c }, { c, c }), &e), -EUCLEAN);
	assert_int_equal(one_part("disk", 3 * c, 2 * c, PIECES({ 0, c - 512 }), &e), -EUCLEAN);
	assert_int_equal(one_part("disk", 3 * c, 2 * c, PIECES({ 512, c }), &e), -EUCLEAN);
	/* memory has no holes, and all of it comes */
	assert_int_equal(one_part("memory", 10, 10, PIECES({ 0, 5 }, { 6, 4 }), &e), -EUCLEAN);
	assert_int_equal(one_part("memory", 10, 10, PIECES({ 0, 9 }), &e), -EUCLEAN);
	assert_true(strstr(e.msg, "a record that does not fit its part at byte ") != NULL);
	/* pages, in pieces of any number */
	assert_int_equal(one_part("ram", 1 << 20, 5 * 4096, PIECES({ 4096, 4096 }, { c - 4096, 8192 }, { 10 * c, 8192 }), &e), 0);
	assert_int_equal(one_part("ram", 1 << 20, 1 << 20, PIECES({ 512, 4096 }), &e), -EUCLEAN);
	assert_int_equal(one_part("ram", 1 << 20, 1 << 20, PIECES({ 4096, 4095 }), &e), -EUCLEAN);
	assert_int_equal(one_part("ram", 1 << 20, 1 << 20, PIECES({ 0, 8192 }, { 4096, 4096 }), &e), -EUCLEAN);
	assert_int_equal(one_part("ram", 1 << 20, 1 << 20, PIECES({ (1 << 20) - 4096, 8192 }), &e), -EUCLEAN);
	/* what cannot be said of a part */
	assert_int_equal(one_part("soul", 1, 1, NULL, 0, &e), -EOPNOTSUPP);
	assert_int_equal(one_part("disk", 10, 11, NULL, 0, &e), -EUCLEAN);
	assert_int_equal(one_part("disk", UINT64_MAX, 0, NULL, 0, &e), -EUCLEAN);
	assert_int_equal(one_part("disk", (1ull << 56) + 1, 0, NULL, 0, &e), -EUCLEAN);
}

static int with_manifest(const char *text, struct err *e)
{
	auto_archive struct archive a = { 0 };
	auto_buf struct buf b = { 0 };
	auto_fd int fd = new_file();
	uint64_t bytes;

	buf_adds(&b, text);
	assert_int_equal(archive_create(&a, fd, "it", &b, e), 0);
	assert_int_equal(archive_finish(&a, e), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return read_all(fd, &bytes, e);
}

static void manifests(void **state)
{
	auto_archive struct archive a = { 0 };
	auto_buf struct buf b = { 0 };
	auto_fd int fd = new_file();
	struct err e;

	(void)state;
	assert_int_equal(with_manifest("", &e), -EPROTO);
	assert_int_equal(with_manifest("{", &e), -EPROTO);
	assert_int_equal(with_manifest("{}", &e), -EUCLEAN);
	assert_int_equal(with_manifest("[1]", &e), -EUCLEAN);
	assert_int_equal(with_manifest("{\"parts\":[{}]}", &e), -EPROTO);
	assert_int_equal(with_manifest("{\"parts\":[{\"role\":\"disk\",\"name\":\"a\",\"size\":-1,\"data\":0}]}", &e), -EPROTO);
	assert_int_equal(with_manifest("{\"parts\":[{\"role\":\"disk\",\"name\":\"a\",\"size\":0,\"data\":0},"
				       "{\"role\":\"disk\",\"name\":\"a\",\"size\":0,\"data\":0}]}", &e), -EUCLEAN);
	assert_int_equal(with_manifest("{\"parts\":[{\"role\":\"memory\",\"name\":\"a\",\"size\":0,\"data\":0}]}", &e), -EUCLEAN);
	assert_int_equal(with_manifest("{\"parts\":[{\"role\":\"disk\",\"name\":\"\",\"size\":0,\"data\":0}]}", &e), -EUCLEAN);
	assert_int_equal(with_manifest("{\"parts\":[{\"role\":\"disk\",\"name\":\"\\u001b[2J\",\"size\":0,\"data\":0}]}", &e), -EUCLEAN);
	assert_null(strchr(e.msg, 0x1b));
	buf_adds(&b, "{\"parts\":[");
	for (int i = 0; i <= ARCHIVE_PARTS_MAX; i++)
		buf_addf(&b, "%s{\"role\":\"disk\",\"name\":\"d%d\",\"size\":0,\"data\":0}", i ? "," : "", i);
	buf_adds(&b, "]}");
	assert_int_equal(with_manifest(buf_str(&b), &e), -EFBIG);
	/* longer than a record can be */
	while (b.n < 1u << 20)
		buf_addc(&b, ' ');
	assert_int_equal(archive_create(&a, fd, "it", &b, &e), -EFBIG);
}

/* The lengths in a head whose own checksum is right: whoever made it knew how. */
static void lengths(void **state)
{
	static const uint32_t wrong[] = { 0, 1, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff, 1u << 20, 1u << 21, ARCHIVE_CHUNK + 1 };
	auto_free uint8_t *p = NULL;
	struct err e;
	size_t n;

	(void)state;
	p = small(&n);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		uint8_t b[HEAD] = { 0 };

		put_be32(p + 16 + 4, wrong[i]);
		memcpy(b, p + 16, 24);
		put_be64(p + 16 + 24, mem_sum(b, HEAD));
		assert_int_equal(read_bytes(p, n, &e), -EUCLEAN);
	}
}

static void troubles(void **state)
{
	auto_archive struct archive a = { 0 }, b = { 0 };
	auto_buf struct buf text = { 0 };
	static volatile sig_atomic_t flag = 1;
	auto_free uint8_t *p = NULL;
	auto_json struct json_doc *doc = NULL;
	auto_fd int full = open("/dev/full", O_WRONLY), fd = new_file(), dir = open("/", O_RDONLY);
	struct err e;
	size_t n;

	(void)state;
	buf_adds(&text, manifest);
	assert_int_equal(archive_create(&a, full, "it", &text, &e), 0);
	assert_int_equal(archive_finish(&a, &e), -ENOSPC);
	archive_done(&a);
	a.cancel = &flag;
	assert_int_equal(archive_create(&a, fd, "it", &text, &e), 0);
	assert_int_equal(archive_finish(&a, &e), -ECANCELED);
	write_small(fd);
	lseek(fd, 0, SEEK_SET);
	b.cancel = &flag;
	assert_int_equal(archive_open(&b, fd, "it", &doc, &e), -ECANCELED);
	archive_done(&b);
	assert_int_equal(archive_open(&b, dir, "it", &doc, &e), -EISDIR);
	p = small(&n);
	for (uint64_t i = 0;; i++) {
		int rc;

		alloc_fail(i, false);
		rc = read_bytes(p, n, &e);
		if (!alloc_normal()) {
			assert_int_equal(rc, 0);
			assert_true(i > 2);
			break;
		}
		assert_int_equal(rc, -ENOMEM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(every_bit),
		cmocka_unit_test(every_length),
		cmocka_unit_test(every_record),
		cmocka_unit_test(what_fits),
		cmocka_unit_test(manifests),
		cmocka_unit_test(lengths),
		cmocka_unit_test(troubles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
