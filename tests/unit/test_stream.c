/*
 * engine/stream.c, on streams made here: every form that QEMU writes, every field at its edges, every cut, every fault of the
 * input, the output and memory. That real ones do what they should is for tests/system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/blockjob/internal.h"
#include "engine/memory/memory.h"
#include "lib/endian.h"
#include "lib/own.h"
#include "tests/harness/allocfail.h"
#include "tests/harness/logdev.h"
#include "tests/harness/rand.h"

#define PAGE 4096u
#define RAM  (8 * PAGE)
#define BIOS (2 * PAGE)
enum { ZERO = 2, SIZES = 4, DATA = 8, EOS = 16, SAME = 32 };

/* ---- a writer, and a reader in pieces ---- */

/* Numbers that a test may change: where, how wide, and whether it still is a stream then */
static struct field {
	size_t at, n;
	bool loose;
} fields[200];
static size_t n_fields;

static void num(struct buf *b, size_t n, uint64_t v)
{
	uint8_t p[8];

	put_be64(p, v);
	buf_add(b, p + 8 - n, n);
}

static void field(struct buf *b, size_t n, uint64_t v, bool loose)
{
	assert_true(n_fields < ARRAY_SIZE(fields));
	fields[n_fields++] = (struct field){ b->n, n, loose };
	num(b, n, v);
}

static void named(struct buf *b, const char *s)
{
	field(b, 1, strlen(s), false);
	buf_adds(b, s);
}

static void fill(struct buf *b, uint8_t byte, size_t n)
{
	char *p = buf_room(b, n);

	assert_non_null(p);
	memset(p, byte, n);
	buf_grew(b, n);
}

static void head(struct buf *b)
{
	n_fields = 0;
	field(b, 4, 0x5145564d, false);
	field(b, 4, 3, false);
	field(b, 1, 7, false);
	field(b, 4, 4, false);
	buf_adds(b, "pc-1");
}

static void subsection(struct buf *b, const char *name)
{
	field(b, 1, 5, false);
	named(b, name);
	field(b, 4, 1, false);
}

static void start(struct buf *b, const char *name)
{
	field(b, 1, 1, false);
	field(b, 4, 2, true); /* any number will do, but it has to come again: see part() */
	named(b, name);
	field(b, 4, 0, false);
	field(b, 4, 4, false);
}

static void block(struct buf *b, const char *name, uint64_t size)
{
	named(b, name);
	field(b, 8, size, false);
}

static void blocks(struct buf *b)
{
	field(b, 8, RAM + BIOS + PAGE + SIZES, false);
	block(b, "ram0", RAM);
	block(b, "pc.bios", BIOS);
	block(b, "0000:00:02.0/virtio-net-pci.rom", PAGE);
}

static void end(struct buf *b)
{
	field(b, 8, EOS, false);
	field(b, 1, 0x7e, false);
	field(b, 4, 2, false);
}

static void part(struct buf *b, uint8_t type)
{
	field(b, 1, type, type == 3); /* without an end it was written while the guest ran on */
	field(b, 4, 2, false);
}

/* @of: the block's name; NULL: the last again. @byte: what is in it */
static void page(struct buf *b, const char *of, unsigned i, uint8_t byte)
{
	/* With another offset or kind it may be a page as well. */
	field(b, 8, i * PAGE + (byte ? DATA : ZERO) + (of ? 0 : SAME), true);
	if (of)
		named(b, of);
	if (byte)
		fill(b, byte, PAGE);
	else
		field(b, 1, 0, false);
}

static void device(struct buf *b, uint32_t id, const char *name, uint32_t instance, const char *state)
{
	num(b, 1, 4);
	num(b, 4, id);
	num(b, 1, strlen(name));
	buf_adds(b, name);
	num(b, 4, instance);
	num(b, 4, 1);
	buf_adds(b, state);
	num(b, 1, 0x7e);
	num(b, 4, id);
}

#define TIMER  "{\"name\":\"timer\",\"instance_id\":0,\"version\":2,\"fields\":[{\"name\":\"x\",\"size\":9}]}"
#define SERIAL "{\"name\":\"00:01.0/serial\", \"instance_id\": 1}"

static void describe(struct buf *b, const char *devices)
{
	auto_buf struct buf t = { 0 };

	buf_addf(&t, "{\"configuration\":{},\"page_size\":4096,\"devices\":[%s]}", devices);
	num(b, 1, 0);
	field(b, 1, 6, false);
	field(b, 4, t.n, false);
	buf_add(b, t.p, t.n);
}

static void devices(struct buf *b)
{
	device(b, 5, "timer", 0, "ticktock");
	device(b, 3, "00:01.0/serial", 1, "~ timer");
	describe(b, TIMER "," SERIAL);
}

static void whole(struct buf *b)
{
	head(b);
	subsection(b, "configuration/target-page-bits");
	field(b, 4, 12, false);
	subsection(b, "configuration/uuid");
	fill(b, 'u', 16);
	start(b, "ram");
	blocks(b);
	end(b);
	part(b, 2);
	page(b, "ram0", 0, 'a');
	page(b, NULL, 1, 0);
	page(b, NULL, 2, 'b');
	page(b, NULL, 3, 'c');
	page(b, "pc.bios", 0, 'B');
	page(b, NULL, 1, 0);
	end(b);
	part(b, 2);
	page(b, "ram0", 2, 0);
	page(b, NULL, 5, 'd');
	page(b, NULL, 0, 'e');
	end(b);
	field(b, 1, 8, false);
	field(b, 2, 11, false);
	field(b, 2, 0, false);
	part(b, 3);
	page(b, "ram0", 7, 'f');
	end(b);
	devices(b);
}

struct src {
	const uint8_t *p;
	size_t n, at, piece;
	size_t fail_at; /* this piece, from 0; SIZE_MAX: none */
	uint8_t *copy;  /* of the piece at hand: what is borrowed is gone with the next */
};

static int next(void *ctx, const uint8_t **p, size_t *n, struct err *e)
{
	struct src *s = ctx;

	alloc_pause();
	free(take_ptr(&s->copy));
	*n = s->n - s->at < s->piece ? s->n - s->at : s->piece;
	s->copy = malloc(*n ? *n : 1);
	memcpy(s->copy, s->p + s->at, *n);
	alloc_resume();
	*p = s->copy;
	s->at += *n;
	return s->fail_at-- ? 0 : err_set(e, -EIO, "cannot read it");
}

static int bake(const struct buf *b, uint64_t ram, size_t piece, struct dev *out, struct buf *devs, struct err *e)
{
	struct src s = { .p = (const uint8_t *)b->p, .n = b->n, .piece = piece ? piece : b->n, .fail_at = SIZE_MAX };
	int rc;

	*e = (struct err){ 0 };
	rc = stream_bake(&(struct stream_in){ next, &s }, ram, out, devs, e);
	free(s.copy);
	assert_true(rc == e->code && (rc == 0 || (e->msg[0] && !strchr(e->msg, '\n'))));
	return rc;
}

/* It is refused, for @code and with these words. */
static void refused(struct buf *b, int code, const char *words)
{
	auto_logdev struct logdev *out = logdev_new(NULL, 0);
	auto_buf struct buf devs = { 0 };
	struct err e;

	if (bake(b, RAM, 0, &out->dev, &devs, &e) != code || !strstr(e.msg, words))
		fail_msg("not %d '%s', but %d '%s'", code, words, e.code, e.msg);
	buf_done(b);
}

/* The state of the devices in @b, as it is to come out */
static void assert_devices(const struct buf *b, const struct buf *devs)
{
	const char *from = memmem(b->p, b->n, "\4\0\0\0\5\5timer", 11), *to;
	size_t n;

	assert_non_null(from);
	n = memmem(b->p, b->n, "target-page-bits", 16) ? 17 + 1 + 1 + 30 + 4 + 4 : 17;
	/* Head, machine, perhaps the size of pages; devices; no description */
	assert_true(devs->n > n + 7);
	assert_memory_equal(devs->p, b->p, n);
	to = from + devs->n - n - 7;
	assert_memory_equal(devs->p + n, from, (size_t)(to - from));
	assert_true(to[-1] == 0 && to[0] == 6 && !memcmp(to - 6, "\x7e\0\0\0\3", 5));
	assert_memory_equal(devs->p + devs->n - 7, "\6\0\0\0\2{}", 7);
}

static void assert_ram(const struct logdev *out, const char want[8])
{
	assert_int_equal(out->dev.size, RAM);
	for (size_t i = 0; i < RAM; i++)
		if (out->bytes[i] != (want[i / PAGE] == '.' ? 0 : want[i / PAGE]))
			fail_msg("byte %zu is %02x", i, out->bytes[i]);
}

static void assert_baked(struct buf *b, const char want[8])
{
	static const size_t pieces[] = { 0, 1, 2, 3, 7, 64, 4095, 4096, 4097, 5000 };

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		auto_logdev struct logdev *out = logdev_new("old", 3);
		auto_buf struct buf devs = { 0 };
		struct err e;

		if (bake(b, RAM, pieces[i], &out->dev, &devs, &e) < 0)
			fail_msg("in pieces of %zu: %s", pieces[i], e.msg);
		assert_ram(out, want);
		assert_devices(b, &devs);
	}
	buf_done(b);
}

/* ---- what QEMU writes ---- */

static void test_whole(void **state)
{
	struct buf b = { 0 };

	(void)state;
	whole(&b);
	assert_baked(&b, "e..c.d.f");
}

/* The guest ran on: no section ends the memory, and pages come in any order. */
static void test_background(void **state)
{
	struct buf b = { 0 };

	(void)state;
	head(&b);
	start(&b, "ram");
	blocks(&b);
	end(&b);
	part(&b, 2);
	page(&b, "ram0", 6, 'a');
	page(&b, NULL, 0, 'b');
	page(&b, NULL, 1, 'c');
	page(&b, NULL, 2, 0);
	page(&b, NULL, 5, 'd');
	end(&b);
	devices(&b);
	assert_baked(&b, "bc...da.");
}

static void mapped_block(struct buf *b, const char *name, unsigned n, size_t from, unsigned bits, const char *pages)
{
	block(b, name, n * PAGE);
	field(b, 4, 1, false);
	field(b, 8, PAGE, false);
	field(b, 8, from, true);
	field(b, 8, from + 100, true);
	fill(b, 0, from - b->n);
	num(b, 1, bits);
	fill(b, 0, from + 100 - b->n);
	for (unsigned i = 0; i < n; i++)
		fill(b, (uint8_t)pages[i], PAGE);
}

static void mapped(struct buf *b)
{
	head(b);
	subsection(b, "configuration/capabilities");
	field(b, 4, 1, false);
	named(b, "mapped-ram");
	start(b, "ram");
	field(b, 8, RAM + BIOS + SIZES, false);
	mapped_block(b, "ram0", RAM / PAGE, 1000, 0x8d, "abcdefgh");
	mapped_block(b, "pc.bios", 2, 50000, 3, "BB");
	num(b, 8, 0x200);
	end(b);
	part(b, 3);
	end(b);
	devices(b);
}

/* Pages whose bit is not set are what they were some time before. */
static void test_mapped(void **state)
{
	struct buf b = { 0 };

	(void)state;
	mapped(&b);
	assert_baked(&b, "a.cd...h");
}

/* Any order of pages, against memory that does as it is told */
static void test_random(void **state)
{
	uint64_t seed = rand_seed(5);

	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		struct buf b = { 0 };
		char want[8] = "........";

		head(&b);
		start(&b, "ram");
		blocks(&b);
		end(&b);
		part(&b, 2);
		for (unsigned n = 0; n < 40; n++) {
			unsigned i = (unsigned)rand_below(&seed, 8);
			uint8_t byte = rand_below(&seed, 3) ? (uint8_t)('a' + n % 26) : 0;

			n_fields = 0;
			page(&b, rand_below(&seed, 4) && n ? NULL : "ram0", i, byte);
			want[i] = byte ? (char)byte : '.';
		}
		end(&b);
		devices(&b);
		assert_baked(&b, want);
	}
}

/* Pages that follow each other go out together, and those of zeros not at all. */
static void test_runs(void **state)
{
	enum { N = 200 };
	auto_logdev struct logdev *out = logdev_new(NULL, 0);
	auto_buf struct buf b = { 0 }, devs = { 0 };
	unsigned n_writes = 0;
	struct err e;

	(void)state;
	head(&b);
	start(&b, "ram");
	field(&b, 8, 2 * N * PAGE + SIZES, false);
	block(&b, "ram0", 2 * N * PAGE);
	for (unsigned i = 0; i < 2 * N; i++) {
		n_fields = 0;
		page(&b, i ? NULL : "ram0", i, i < N ? 'r' : 0);
	}
	end(&b);
	devices(&b);
	logdev_record(out);
	assert_int_equal(bake(&b, 2 * N * PAGE, 100000, &out->dev, &devs, &e), 0);
	for (size_t i = 0; i < out->n_ops; i++) {
		assert_int_not_equal(out->ops[i].kind, LOG_ZERO);
		n_writes += out->ops[i].kind == LOG_WRITE;
	}
	assert_true(n_writes && n_writes <= N * PAGE / 65536);
	assert_true(out->dev.size == 2 * N * PAGE && out->bytes[N * PAGE - 1] == 'r' && !out->bytes[N * PAGE]);
}

/* ---- what it does not ---- */

typedef void make(struct buf *b);

/* Each number at its edges: where that makes it something else, it is refused. */
static void edges(make *m)
{
	static struct field all[ARRAY_SIZE(fields)];
	size_t n_all, n_refused = 0, n_taken = 0;
	auto_buf struct buf b = { 0 };

	m(&b);
	n_all = n_fields;
	memcpy(all, fields, sizeof all);
	for (size_t i = 0; i < n_all; i++) {
		size_t n = all[i].n;
		uint64_t is = 0, most = UINT64_MAX >> (64 - 8 * n);
		uint8_t was[8];

		memcpy(was, b.p + all[i].at, n);
		for (size_t k = 0; k < n; k++)
			is = is << 8 | was[k];
		const uint64_t to[] = { 0, 1, is - 1, is + 1, is ^ 1ull << (8 * n - 1), is ^ 1ull << (4 * n), is + PAGE, most, most / 2,
			most - 7, is | 1, is ^ 0x40, is ^ 0x100 };

		for (size_t k = 0; k < ARRAY_SIZE(to); k++) {
			auto_logdev struct logdev *out = logdev_new(NULL, 0);
			auto_buf struct buf devs = { 0 };
			uint8_t p[8];
			struct err e;
			int rc;

			if ((to[k] & most) == is)
				continue;
			put_be64(p, to[k]);
			memcpy(b.p + all[i].at, p + 8 - n, n);
			rc = bake(&b, RAM, 0, &out->dev, &devs, &e);
			if (rc == 0 && !all[i].loose)
				fail_msg("%llu instead of %llu at %zu is taken", (unsigned long long)(to[k] & most),
					(unsigned long long)is, all[i].at);
			if (rc == 0)
				assert_devices(&b, &devs);
			else
				assert_true(rc == -EUCLEAN || rc == -EOPNOTSUPP || rc == -ENODATA);
			*(rc ? &n_refused : &n_taken) += 1;
		}
		memcpy(b.p + all[i].at, was, n);
	}
	print_message("# %zu numbers: %zu refused, %zu taken\n", n_all, n_refused, n_taken);
	assert_true(n_refused > n_taken * 10);
}

static void test_edges(void **state)
{
	(void)state;
	edges(whole);
	edges(mapped);
}

static void cuts(make *m)
{
	auto_buf struct buf b = { 0 };
	size_t all;

	m(&b);
	all = b.n;
	for (size_t n = all; n--;) {
		auto_logdev struct logdev *out = logdev_new(NULL, 0);
		auto_buf struct buf devs = { 0 };
		struct err e;
		int rc;

		/* Within a page or what fills a gap all cuts are alike. */
		if (n > 32 && n + 32 < all && n % 61 && !memcmp(b.p + n - 32, b.p + n - 31, 62))
			continue;
		b.n = n;
		rc = bake(&b, RAM, 0, &out->dev, &devs, &e);
		assert_true(rc == -ENODATA || rc == -EUCLEAN);
	}
}

static void test_cut(void **state)
{
	struct buf b = { 0 };

	(void)state;
	cuts(whole);
	cuts(mapped);
	whole(&b);
	buf_addc(&b, '\0');
	refused(&b, -EUCLEAN, "no description");
}

static void begin(struct buf *b)
{
	*b = (struct buf){ 0 };
	head(b);
	start(b, "ram");
	blocks(b);
}

/* A board's flash, with @content, in the middle of the guest's memory; mapped: by the bits of its pages */
static void flashed(struct buf *b, bool as_map, bool content)
{
	*b = (struct buf){ 0 };
	head(b);
	if (as_map) {
		subsection(b, "configuration/capabilities");
		field(b, 4, 1, false);
		named(b, "mapped-ram");
	}
	start(b, "ram");
	field(b, 8, RAM + 2 * PAGE + SIZES, false);
	if (as_map) {
		mapped_block(b, "virt.flash1", 2, 1000, content ? 2 : 0, "xy");
		mapped_block(b, "ram0", RAM / PAGE, 50000, 0x8d, "abcdefgh");
	} else {
		block(b, "ram0", RAM);
		block(b, "virt.flash1", 2 * PAGE);
		page(b, "ram0", 0, 'a');
		page(b, "virt.flash1", 0, 0);
		page(b, NULL, 1, content ? 'x' : 0);
		page(b, "ram0", 7, 'h');
	}
	end(b);
	part(b, 3);
	end(b);
	devices(b);
}

/* Every QEMU of a VM that gives it no file makes it anew, empty. */
static void test_flash(void **state)
{
	struct buf b = { 0 };

	(void)state;
	flashed(&b, false, false);
	assert_baked(&b, "a......h");
	flashed(&b, true, false);
	assert_baked(&b, "a.cd...h");
	flashed(&b, false, true);
	refused(&b, -EOPNOTSUPP, "'virt.flash1' is not empty");
	flashed(&b, true, true);
	refused(&b, -EOPNOTSUPP, "'virt.flash1' is not empty");
}

/* By name, with what is known of it */
static void test_refused(void **state)
{
	static const struct {
		unsigned flags;
		const char *words;
	} flags[] = { { 0x40, "0x40 (xbzrle)" }, { 0x80, "0x80 (rdma)" }, { 0x100, "0x100 (compress)" }, { 0x200, "0x200 (multifd)" },
		{ 0x60, "0x60 (xbzrle)" }, { 1, "flags 0x1 " }, { 10, "flags 0xa " }, { 24, "flags 0x18 " }, { 0x400, "flags 0x400" },
		{ 0, "flags 0x0" }, { 0x20, "flags 0x20" } };
	static const char *const parts[] = { "block", "dirty-bitmap", "0000:00:03.0/vfio", "spapr/htab", "ram2" };
	static const char *const alien[] = { "vga.vram", "system.flash1", "mem1", "/objects/shm" };
	struct buf b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		begin(&b);
		num(&b, 8, 2 * PAGE + flags[i].flags);
		refused(&b, -EOPNOTSUPP, flags[i].words);
	}
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		b = (struct buf){ 0 };
		head(&b);
		start(&b, parts[i]);
		refused(&b, -EOPNOTSUPP, parts[i]);
		begin(&b);
		end(&b);
		start(&b, parts[i]);
		refused(&b, -EOPNOTSUPP, parts[i]);
	}
	for (size_t i = 0; i < 2 * ARRAY_SIZE(alien); i++) {
		uint64_t size = i % 2 ? RAM : 3 * PAGE;

		b = (struct buf){ 0 };
		head(&b);
		start(&b, "ram");
		num(&b, 8, RAM + size + SIZES);
		block(&b, "ram0", RAM);
		block(&b, alien[i / 2], size);
		refused(&b, -EOPNOTSUPP, alien[i / 2]);
	}
	/* A second list, a block named twice, none that is the guest's, more than there may be */
	begin(&b);
	blocks(&b);
	refused(&b, -EUCLEAN, "second list");
	b = (struct buf){ 0 };
	head(&b);
	start(&b, "ram");
	num(&b, 8, RAM + BIOS + BIOS + SIZES);
	block(&b, "ram0", RAM);
	block(&b, "pc.bios", BIOS);
	block(&b, "pc.bios", BIOS);
	refused(&b, -EUCLEAN, "'pc.bios' is there twice");
	b = (struct buf){ 0 };
	head(&b);
	start(&b, "ram");
	num(&b, 8, BIOS + SIZES);
	block(&b, "pc.bios", BIOS);
	refused(&b, -EUCLEAN, "no memory block is the guest's");
	b = (struct buf){ 0 };
	head(&b);
	start(&b, "ram");
	end(&b);
	part(&b, 3);
	end(&b);
	devices(&b);
	refused(&b, -EUCLEAN, "no memory comes");
	b = (struct buf){ 0 };
	head(&b);
	start(&b, "ram");
	num(&b, 8, 129 * PAGE + SIZES);
	for (unsigned i = 0; i < 129; i++) {
		char name[20];

		snprintf(name, sizeof name, "%u.rom", i);
		n_fields = 0;
		block(&b, name, PAGE);
	}
	refused(&b, -EFBIG, "more than 128");
	/* Pages of no block, behind a block's end, of the last block when there was none; a name that is none */
	begin(&b);
	page(&b, NULL, 0, 'a');
	refused(&b, -EUCLEAN, "no memory block");
	begin(&b);
	page(&b, "pc.ram", 0, 'a');
	refused(&b, -EUCLEAN, "no memory block");
	begin(&b);
	page(&b, "ram0", RAM / PAGE, 'a');
	refused(&b, -EUCLEAN, "page 0x8000 is in no memory block");
	begin(&b);
	page(&b, "pc.bios", 2, 0);
	refused(&b, -EUCLEAN, "page 0x2000 is in no memory block");
	begin(&b);
	page(&b, "ra\nm", 0, 'a');
	refused(&b, -EUCLEAN, "no name");
	begin(&b);
	num(&b, 8, ZERO);
	named(&b, "ram0");
	num(&b, 1, 7);
	refused(&b, -EOPNOTSUPP, "something else than zeros");
}

static void test_sections(void **state)
{
	struct buf b = { 0 };

	(void)state;
	whole(&b);
	b.n = 4;
	num(&b, 4, 2);
	refused(&b, -EUCLEAN, "no version 3");
	head(&b);
	num(&b, 1, 9);
	refused(&b, -EUCLEAN, "type 9 has no place here at byte 17");
	head(&b);
	devices(&b);
	refused(&b, -EUCLEAN, "type 4");
	head(&b);
	part(&b, 2);
	refused(&b, -EUCLEAN, "section 2, which is not under way");
	head(&b);
	b.n = 8;
	subsection(&b, "configuration/uuid");
	refused(&b, -EUCLEAN, "type 5");
	head(&b);
	b.n = 8;
	start(&b, "ram");
	refused(&b, -EUCLEAN, "type 1 has no place here at byte 8");
	head(&b);
	subsection(&b, "configuration/moon");
	refused(&b, -EOPNOTSUPP, "'configuration/moon'");
	head(&b);
	subsection(&b, "configuration/capabilities");
	num(&b, 4, 2);
	named(&b, "mapped-ram");
	named(&b, "x-ignore-shared");
	refused(&b, -EOPNOTSUPP, "capability 'x-ignore-shared' is on");
	head(&b);
	num(&b, 1, 8);
	num(&b, 4, 3 << 16 | 1);
	refused(&b, -EOPNOTSUPP, "command 3");
	head(&b);
	num(&b, 1, 7);
	refused(&b, -EUCLEAN, "type 7");
	/* After its end, memory goes on; it begins again; its pages come in the stream though they are mapped */
	begin(&b);
	end(&b);
	part(&b, 3);
	end(&b);
	part(&b, 2);
	refused(&b, -EUCLEAN, "not under way");
	begin(&b);
	end(&b);
	start(&b, "ram");
	refused(&b, -EOPNOTSUPP, "second 'ram'");
	mapped(&b);
	b.n = (size_t)((char *)memmem(b.p, b.n, "\4\0\0\0\5\5timer", 11) - b.p) - 4 - 1 - 8;
	page(&b, "ram0", 0, 'x');
	refused(&b, -EOPNOTSUPP, "flags 0x8");
}

static void test_devices(void **state)
{
	static const struct {
		const char *devices, *words;
	} bad[] = {
		{ "", "does not end" },
		{ TIMER, "last device does not end" },
		{ SERIAL "," TIMER, "device 0 " },
		{ TIMER "," SERIAL "," TIMER, "device 2 " },
		{ TIMER ",{\"name\":\"serial\",\"instance_id\":1}", "device 1 " },
		{ TIMER ",{\"name\":\"00:01.0/serial\",\"instance_id\":2}", "device 1 " },
		{ TIMER ",{\"name\":\"00:01.0/serial\"}", "device 1 " },
		{ TIMER ",{\"instance_id\":1}", "device 1 " },
		{ TIMER ",{\"name\":\"\",\"instance_id\":1}", "device 1 " },
		{ TIMER ",{\"name\":7,\"instance_id\":1}", "device 1 " },
		{ TIMER ",{\"name\":\"00:01.0/serial\",\"instance_id\":4294967297}", "device 1 " },
		{ TIMER ",5", "device 1 " },
		{ TIMER ",", "says about devices" },
		{ TIMER "]],[", "says about devices" },
	};
	struct buf b;
	char *p;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		begin(&b);
		end(&b);
		device(&b, 5, "timer", 0, "ticktock");
		device(&b, 3, "00:01.0/serial", 1, "~ timer");
		describe(&b, bad[i].devices);
		refused(&b, i < ARRAY_SIZE(bad) - 2 ? -EUCLEAN : -EPROTO, bad[i].words);
	}
	/* Without a description; with one that has no list; a footer of another section; a section that is none */
	begin(&b);
	end(&b);
	device(&b, 5, "timer", 0, "");
	num(&b, 1, 0);
	refused(&b, -EUCLEAN, "no description");
	begin(&b);
	end(&b);
	device(&b, 5, "timer", 0, "");
	num(&b, 1, 0);
	num(&b, 1, 6);
	num(&b, 4, 2);
	buf_adds(&b, "{}");
	refused(&b, -EPROTO, "says about devices");
	for (unsigned i = 0; i < 3; i++) {
		begin(&b);
		end(&b);
		devices(&b);
		p = memmem(b.p, b.n, i == 2 ? "\4\0\0\0\3" : "\x7e\0\0\0\5", 5);
		p[i ? 0 : 4]++;
		refused(&b, -EUCLEAN, "device 1 ");
	}
	/* Their state has no end. */
	begin(&b);
	end(&b);
	device(&b, 5, "timer", 0, "");
	fill(&b, 0, 64u << 20);
	refused(&b, -EFBIG, "more than 64 MiB");
}

/* ---- faults ---- */

static void test_faults(void **state)
{
	auto_buf struct buf b = { 0 };
	struct err e;
	bool hit = true;

	(void)state;
	whole(&b);
	for (uint64_t i = 0; hit; i++)
		for (int stays = 0; stays < 2; stays++) {
			auto_logdev struct logdev *out = logdev_new(NULL, 0);
			auto_buf struct buf devs = { 0 };
			int rc;

			logdev_fail(out, LOG_ANY, i, ENOSPC, stays);
			rc = bake(&b, RAM, 5000, &out->dev, &devs, &e);
			hit = out->hit;
			assert_int_equal(rc, hit ? -ENOSPC : 0);
			assert_true(hit || i > 6);
		}
	hit = true;
	for (size_t i = 0; hit; i++) {
		auto_logdev struct logdev *out = logdev_new(NULL, 0);
		auto_buf struct buf devs = { 0 };
		struct src s = { .p = (const uint8_t *)b.p, .n = b.n, .piece = 1000, .fail_at = i };
		int rc = stream_bake(&(struct stream_in){ next, &s }, RAM, &out->dev, &devs, &e);

		free(s.copy);
		hit = rc != 0;
		assert_int_equal(rc, hit ? -EIO : 0);
		assert_true(!hit || !strcmp(e.msg, "cannot read it"));
		assert_true(hit || i == b.n / 1000 + 2);
	}
}

static void test_no_memory(void **state)
{
	static make *const makes[] = { whole, mapped };
	struct err e;

	(void)state;
	for (size_t m = 0; m < ARRAY_SIZE(makes); m++) {
		auto_buf struct buf b = { 0 };
		bool hit = true;

		makes[m](&b);
		for (uint64_t i = 0; hit; i++) {
			auto_buf struct buf devs = { 0 };
			struct logdev *out = logdev_new(NULL, RAM + 1);
			int rc;

			logdev_set(out, NULL, 0);
			alloc_fail(i, false);
			rc = bake(&b, RAM, 0, &out->dev, &devs, &e);
			hit = alloc_normal();
			assert_int_equal(rc, hit ? -ENOMEM : 0);
			assert_true(hit || i > m);
			logdev_free(out);
		}
	}
}

/* What the caller asks for may be wrong, too. */
static void test_size(void **state)
{
	static const uint64_t sizes[] = { 0, 1, RAM - 1, RAM + 1, UINT64_MAX };
	auto_buf struct buf b = { 0 };
	struct err e;

	(void)state;
	whole(&b);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		auto_logdev struct logdev *out = logdev_new("old", 3);
		auto_buf struct buf devs = { 0 };

		assert_int_equal(bake(&b, sizes[i], 0, &out->dev, &devs, &e), -EINVAL);
		assert_int_equal(out->dev.size, 3);
	}
	for (uint64_t ram = PAGE; ram < 2 * RAM; ram += PAGE) {
		auto_logdev struct logdev *out = logdev_new(NULL, 0);
		auto_buf struct buf devs = { 0 };

		assert_int_equal(bake(&b, ram, 0, &out->dev, &devs, &e), ram == RAM ? 0 : -EOPNOTSUPP);
		assert_true(ram == RAM || strstr(e.msg, "'ram0' of 32768 bytes"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_background),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_flash),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
