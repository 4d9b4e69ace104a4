/* The guest's memory in QEMU's stream: page by page, or as a mapped-ram file has it. */
#include <stdlib.h>
#include <string.h>

#include "engine/memory/internal.h"
#include "engine/memory/stream.h"
#include "lib/dev.h"
#include "lib/err.h"
#include "lib/own.h"
#include "lib/text.h"

/* Low bits of a page's offset */
enum { RAM_ZERO = 2, RAM_SIZES = 4, RAM_PAGE = 8, RAM_EOS = 16, RAM_SAME_BLOCK = 32, RAM_FLUSH = 0x200 };

int stream_flush(struct stream *s)
{
	if (s->run_n && !s->rc)
		s->rc = s->hole ? dev_zero(s->out, s->run_at, s->run_n, s->e) : dev_write(s->out, s->run_at, s->run, s->run_n, s->e);
	s->run_n = 0;
	return s->rc;
}

/* A page of guest memory; NULL: of zeros, which may come after what it was before. */
static int put_page(struct stream *s, uint64_t off, const uint8_t *p)
{
	if (!p && off >= s->high)
		return s->rc;
	if ((off != s->run_at + s->run_n || s->hole != !p || (p && s->run_n == RUN_MAX)) && stream_flush(s) < 0)
		return s->rc;
	if (!s->run_n) {
		s->run_at = off;
		s->hole = !p;
	}
	if (p) {
		memcpy(s->run + s->run_n, p, PAGE);
		if (off >= s->high)
			s->high = off + PAGE;
	}
	s->run_n += PAGE;
	return s->rc;
}

static const struct block *find(const struct stream *s, const char *n)
{
	for (size_t i = 0; i < s->n_blocks; i++)
		if (str_eq(s->blocks[i].name, n))
			return s->blocks + i;
	return NULL;
}

/* A board's flash for variables is there without a file, too, and empty then. */
static int fail_flash(struct stream *s)
{
	FAIL(s, -EOPNOTSUPP, "memory block '%s' is not empty", BOARD_FLASH);
	return err_hint(s->e, "variables of a firmware cannot be baked");
}

/* The pages of a mapped-ram file: a header, a bit for each page that has content, and all of them, at offsets in the file. */
static int take_mapped(struct stream *s, const struct block *b)
{
	uint64_t n = b->size / PAGE, version = stream_num(s, 4), page = stream_num(s, 8), bits_at = stream_num(s, 8), pages_at = stream_num(s, 8), end;
	auto_free uint8_t *bits = NULL;
	size_t n_bits = (n + 63) / 64 * 8;

	if (s->rc)
		return s->rc;
	if (version != 1 || page != PAGE)
		return FAIL(s, -EOPNOTSUPP, "block '%s' has version %llu and pages of %llu bytes", b->name,
			(unsigned long long)version, (unsigned long long)page);
	if (bits_at < s->at || __builtin_add_overflow(bits_at, n_bits, &end) || end > pages_at ||
		__builtin_add_overflow(pages_at, b->size, &end))
		return FAIL(s, -EUCLEAN, "block '%s' has its pages at %llu, their bits at %llu", b->name,
			(unsigned long long)pages_at, (unsigned long long)bits_at);
	if (b != s->main && b != s->flash)
		return stream_skip(s, end - s->at);
	bits = malloc(n_bits);
	if (!bits)
		return s->rc = err_nomem(s->e, "bake");
	stream_skip(s, bits_at - s->at);
	for (size_t i = 0; i < n_bits && !s->rc; i += 8) {
		const uint8_t *p = stream_take(s, 8);

		if (p)
			memcpy(bits + i, p, 8);
	}
	for (size_t i = 0; i < n_bits && b == s->flash; i++)
		if (bits[i])
			return fail_flash(s);
	if (b == s->flash)
		return stream_skip(s, end - s->at);
	stream_skip(s, pages_at - s->at);
	for (uint64_t i = 0; i < n && !s->rc; i++) {
		const uint8_t *p = stream_take(s, PAGE);

		if (p && bits[i / 8] >> (i % 8) & 1)
			put_page(s, i * PAGE, p);
	}
	return s->rc;
}

/* All blocks of memory with their sizes, of which @left is the sum. */
static int take_blocks(struct stream *s, uint64_t left)
{
	if (s->n_blocks)
		return FAIL(s, -EUCLEAN, "a second list of memory blocks");
	while (left) {
		struct block *b = s->blocks + s->n_blocks;

		s->mark = s->at;
		if (s->n_blocks == BLOCKS)
			return FAIL(s, -EFBIG, "there are more than %d memory blocks", BLOCKS);
		if (stream_name(s, b->name) < 0)
			return s->rc;
		b->size = stream_num(s, 8);
		if (s->rc)
			return s->rc;
		if (!b->size || b->size > left || b->size % PAGE || find(s, b->name))
			return FAIL(s, -EUCLEAN, "memory block '%s' is there twice, or %llu bytes are not its size", b->name,
				(unsigned long long)b->size);
		left -= b->size;
		if (str_eq(b->name, BOARD_FLASH)) {
			s->flash = b;
		} else if (!block_is_firmware(b->name)) {
			if (s->main || b->size != s->ram) {
				FAIL(s, -EOPNOTSUPP, "memory block '%s' of %llu bytes is neither firmware nor the guest's %llu bytes",
					b->name, (unsigned long long)b->size, (unsigned long long)s->ram);
				return err_hint(s->e, "memory of a device, as a display has, and variables of a firmware cannot be baked");
			}
			s->main = b;
		}
		s->n_blocks++;
		if (s->mapped && take_mapped(s, b) < 0)
			return s->rc;
	}
	return s->main ? 0 : FAIL(s, -EUCLEAN, "no memory block is the guest's");
}

/* What a capability that is never set here would bring */
static const char *alien(unsigned flags)
{
	return flags & 0x40 ? " (xbzrle)" : flags & 0x80 ? " (rdma)" : flags & 0x100 ? " (compress)" :
		flags & RAM_FLUSH ? " (multifd)" : "";
}

int stream_take_ram(struct stream *s)
{
	for (;;) {
		uint64_t v, off;
		unsigned flags;
		char n[NAME_MAX_ + 1];

		s->mark = s->at;
		v = stream_num(s, 8);
		if (s->rc || v == RAM_EOS)
			return s->rc;
		flags = v % PAGE;
		off = v - flags;
		if (flags == RAM_SIZES) {
			if (take_blocks(s, off) < 0)
				return s->rc;
			continue;
		}
		if (s->mapped && v == RAM_FLUSH)
			continue;
		if (s->mapped || ((flags & ~RAM_SAME_BLOCK) != RAM_ZERO && (flags & ~RAM_SAME_BLOCK) != RAM_PAGE)) {
			FAIL(s, -EOPNOTSUPP, "a page with flags 0x%x%s", flags, alien(flags));
			return err_hint(s->e, "save it again without that capability");
		}
		if (!(flags & RAM_SAME_BLOCK)) {
			if (stream_name(s, n) < 0)
				return s->rc;
			s->block = find(s, n);
		}
		if (!s->block || off >= s->block->size)
			return FAIL(s, -EUCLEAN, "page 0x%llx is in no memory block", (unsigned long long)off);
		if (flags & RAM_PAGE) {
			const uint8_t *p = stream_take(s, PAGE);

			if (p && s->block == s->flash)
				return fail_flash(s);
			if (p && s->block == s->main)
				put_page(s, off, p);
		} else if (stream_num(s, 1))
			return FAIL(s, -EOPNOTSUPP, "a page filled with something else than zeros");
		else if (s->block == s->main)
			put_page(s, off, NULL);
		if (s->rc)
			return s->rc;
	}
}
