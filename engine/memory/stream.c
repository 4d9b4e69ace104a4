/* stream.c */
#include <string.h>

#include "engine/memory/memory.h"
#include "lib/buf.h"
#include "lib/dev.h"
#include "lib/endian.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

#define MAGIC   0x5145564du
#define VERSION 3
#define PAGE    4096u
#define PAGE_BITS 12

#define NAME_MAX_ 255
#define RUN_MAX   (256u << 10) /* bytes written at once */
#define BLOCKS    128          /* one for each device with a ROM */
#define DEVICES   (64u << 20)  /* bytes of their state and its description; a PC has 0.2 MiB */

#define HEAD   8 /* bytes before the first section */
#define FOOTER 0x7e
enum { END_OF_ALL, START, PART, END, FULL, SUBSECTION, DESCRIPTION, CONFIGURATION, COMMAND };

/* Low bits of a page's offset */
enum { RAM_ZERO = 2, RAM_SIZES = 4, RAM_PAGE = 8, RAM_EOS = 16, RAM_SAME_BLOCK = 32, RAM_FLUSH = 0x200 };
#define RAM_VERSION 4

#define SWITCHOVER_START 11 /* a command of 10.0's: the other side may get ready */

struct block {
	uint64_t size;
	char name[NAME_MAX_ + 1];
};

struct stream {
	const struct stream_in *in;
	struct dev *out;
	struct buf *devices;
	size_t n_head; /* of its bytes, in front of the first device */
	struct err *e;
	int rc;           /* the first failure; what is read after it is zero */
	const uint8_t *p; /* the piece at hand */
	size_t left;
	uint64_t at, mark; /* bytes read so far; where the item began that is looked at */
	uint64_t ram;
	const struct block *main, *block; /* guest memory; the last block named */
	size_t n_blocks;
	uint32_t ram_id;
	bool started, ended, mapped;
	bool hole;             /* run is one, and has no bytes */
	uint64_t run_at, high; /* the end of the last page ever written: what is behind is a hole still */
	size_t run_n;
	/* What follows is written before it is read. */
	uint8_t cut[PAGE]; /* what two pieces have a part of */
	uint8_t run[RUN_MAX];
	struct block blocks[BLOCKS];
};

#define FAIL(s, code, fmt, ...)                                                                                            \
	((s)->rc = err_set((s)->e, code, fmt " at byte %llu of QEMU's stream", ##__VA_ARGS__,              \
		 (unsigned long long)(s)->mark))

/* ---- reading ------------------------------------------------------------------------------------------------ */

/* The next piece; s->left is 0 at the end. */
static int piece(struct stream *s)
{
	if (s->in->next(s->in->ctx, &s->p, &s->left, s->e) < 0) {
		s->left = 0;
		s->rc = s->e->code;
	}
	return s->rc;
}

/* @n bytes, at most PAGE; borrowed until the next call. NULL: s->rc. */
static const uint8_t *take(struct stream *s, size_t n)
{
	const uint8_t *p = s->p;

	if (s->rc)
		return NULL;
	s->at += n;
	if (n > s->left) {
		size_t k, have = 0;

		for (p = s->cut; have < n; have += k) {
			if (!s->left && piece(s) < 0)
				return NULL;
			if (!s->left) {
				FAIL(s, -ENODATA, "the end comes in the middle of what begins");
				return NULL;
			}
			k = n - have < s->left ? n - have : s->left;
			memcpy(s->cut + have, s->p, k);
			s->p += k;
			s->left -= k;
		}
	} else {
		s->p += n;
		s->left -= n;
	}
	return p;
}

static int skip(struct stream *s, uint64_t n)
{
	for (; n && !s->rc; n -= n < PAGE ? n : PAGE)
		take(s, n < PAGE ? (size_t)n : PAGE);
	return s->rc;
}

/* A number of @n bytes; 0 after a failure. */
static uint64_t num(struct stream *s, size_t n)
{
	const uint8_t *p = take(s, n);
	uint64_t v = 0;

	for (; p && n; n--)
		v = v << 8 | *p++;
	return v;
}

/* A name behind its length: printable, so that a message can have it. */
static int name(struct stream *s, char out[NAME_MAX_ + 1])
{
	size_t n = num(s, 1);
	const uint8_t *p = take(s, n);

	for (size_t i = 0; p && i <= n; i++)
		if (!n || (i < n && (p[i] < ' ' || p[i] > '~')))
			return FAIL(s, -EUCLEAN, "something that is no name");
	if (p) {
		memcpy(out, p, n);
		out[n] = '\0';
	}
	return s->rc;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

static int flush(struct stream *s)
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
	if ((off != s->run_at + s->run_n || s->hole != !p || (p && s->run_n == RUN_MAX)) && flush(s) < 0)
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

/* A block whose content comes from files that QEMU reads when it starts; not flash1, where the guest keeps variables. */
static bool is_firmware(const char *n)
{
	return str_eq(n, "pc.bios") || str_eq(n, "isa-bios") || str_eq(n, "system.flash0") || str_eq(n, "virt.flash0") ||
		str_starts(n, "/rom@") || str_ends(n, ".rom");
}

static const struct block *find(const struct stream *s, const char *n)
{
	for (size_t i = 0; i < s->n_blocks; i++)
		if (str_eq(s->blocks[i].name, n))
			return s->blocks + i;
	return NULL;
}

/* The pages of a mapped-ram file: a header, a bit for each page that has content, and all of them, at offsets in the file. */
static int take_mapped(struct stream *s, const struct block *b)
{
	uint64_t n = b->size / PAGE, version = num(s, 4), page = num(s, 8), bits_at = num(s, 8), pages_at = num(s, 8), end;
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
	if (b != s->main)
		return skip(s, end - s->at);
	bits = malloc(n_bits);
	if (!bits)
		return s->rc = err_nomem(s->e, "bake");
	skip(s, bits_at - s->at);
	for (size_t i = 0; i < n_bits && !s->rc; i += 8) {
		const uint8_t *p = take(s, 8);

		if (p)
			memcpy(bits + i, p, 8);
	}
	skip(s, pages_at - s->at);
	for (uint64_t i = 0; i < n && !s->rc; i++) {
		const uint8_t *p = take(s, PAGE);

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
		if (name(s, b->name) < 0)
			return s->rc;
		b->size = num(s, 8);
		if (s->rc)
			return s->rc;
		if (!b->size || b->size > left || b->size % PAGE || find(s, b->name))
			return FAIL(s, -EUCLEAN, "memory block '%s' is there twice, or %llu bytes are not its size", b->name,
				(unsigned long long)b->size);
		left -= b->size;
		if (!is_firmware(b->name)) {
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

/* What a part of "ram" holds, to its end */
static int take_ram(struct stream *s)
{
	for (;;) {
		uint64_t v, off;
		unsigned flags;
		char n[NAME_MAX_ + 1];

		s->mark = s->at;
		v = num(s, 8);
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
			if (name(s, n) < 0)
				return s->rc;
			s->block = find(s, n);
		}
		if (!s->block || off >= s->block->size)
			return FAIL(s, -EUCLEAN, "page 0x%llx is in no memory block", (unsigned long long)off);
		if (flags & RAM_PAGE) {
			const uint8_t *p = take(s, PAGE);

			if (p && s->block == s->main)
				put_page(s, off, p);
		} else if (num(s, 1))
			return FAIL(s, -EOPNOTSUPP, "a page filled with something else than zeros");
		else if (s->block == s->main)
			put_page(s, off, NULL);
		if (s->rc)
			return s->rc;
	}
}

/* ---- sections ----------------------------------------------------------------------------------------------- */

/* A name behind its length of @n bytes */
static void put_name(struct buf *b, size_t n, const void *p, size_t len)
{
	uint8_t be[4];

	put_be32(be, (uint32_t)len);
	buf_add(b, be + 4 - n, n);
	buf_add(b, p, len);
}

/* The machine's name: QEMU compares it with its own. */
static int take_machine(struct stream *s)
{
	uint64_t n = num(s, 4);
	const uint8_t *p;

	if (n > NAME_MAX_)
		return FAIL(s, -EUCLEAN, "the machine's name has %llu bytes", (unsigned long long)n);
	p = take(s, n);
	if (p) {
		buf_addc(s->devices, CONFIGURATION);
		put_name(s->devices, 4, p, n);
	}
	return s->rc;
}

/* What the machine's name may have behind it */
static int take_subsection(struct stream *s)
{
	char n[NAME_MAX_ + 1];
	uint64_t v;

	if (name(s, n) < 0 || (v = num(s, 4), s->rc))
		return s->rc;
	if (v != 1)
		return FAIL(s, -EOPNOTSUPP, "'%s' has version %llu", n, (unsigned long long)v);
	if (str_eq(n, "configuration/uuid"))
		return skip(s, 16);
	if (str_eq(n, "configuration/target-page-bits")) {
		v = num(s, 4);
		if (s->rc || v != PAGE_BITS)
			return s->rc ? s->rc : FAIL(s, -EOPNOTSUPP, "pages have 2^%llu bytes", (unsigned long long)v);
		/* An Arm machine takes its absence for another size. */
		buf_addc(s->devices, SUBSECTION);
		put_name(s->devices, 1, n, strlen(n));
		buf_add(s->devices, "\0\0\0\1\0\0\0\f", 8);
		return 0;
	}
	if (!str_eq(n, "configuration/capabilities"))
		return FAIL(s, -EOPNOTSUPP, "'%s' is not known", n);
	for (v = num(s, 4); v && !s->rc; v--) {
		if (name(s, n) < 0)
			break;
		if (!str_eq(n, "mapped-ram"))
			return FAIL(s, -EOPNOTSUPP, "capability '%s' is on", n);
		s->mapped = true;
	}
	return s->rc;
}

/* A section with parts; "ram" is the only one that we know. */
static int take_section(struct stream *s, unsigned type)
{
	uint32_t id = num(s, 4);
	char n[NAME_MAX_ + 1];
	uint64_t v;

	if (type == START) {
		if (name(s, n) < 0)
			return s->rc;
		if (!str_eq(n, "ram")) {
			FAIL(s, -EOPNOTSUPP, "'%s' has state in parts", n);
			return err_hint(s->e, "save it again without that device");
		}
		if (s->started || num(s, 4) || (v = num(s, 4)) != RAM_VERSION)
			return s->rc ? s->rc : FAIL(s, -EOPNOTSUPP, "a second 'ram', or of another version");
		s->started = true;
		s->ram_id = id;
	}
	if (s->rc)
		return s->rc;
	if (!s->started || s->ended || id != s->ram_id)
		return FAIL(s, -EUCLEAN, "section %u, which is not under way", id);
	s->ended = type == END;
	if (take_ram(s) < 0)
		return s->rc;
	s->mark = s->at;
	v = num(s, 5);
	if (!s->rc && v != ((uint64_t)FOOTER << 32 | id))
		return FAIL(s, -EUCLEAN, "section %u has no end", id);
	return s->rc;
}

/* All up to the first device, whose first byte has been read when this returns. */
static int take_memory(struct stream *s)
{
	unsigned last = END_OF_ALL, type;

	for (;; last = type) {
		s->mark = s->at;
		type = num(s, 1);
		if (s->rc)
			return s->rc;
		if (type == CONFIGURATION && s->mark == HEAD) {
			take_machine(s);
		} else if (type == SUBSECTION && (last == CONFIGURATION || last == SUBSECTION)) {
			take_subsection(s);
		} else if (last && type == COMMAND) {
			uint64_t v = num(s, 4);

			if (!s->rc && v != SWITCHOVER_START << 16)
				return FAIL(s, -EOPNOTSUPP, "command %llu", (unsigned long long)v >> 16);
		} else if (last && (type == START || type == PART || type == END)) {
			take_section(s, type);
		} else if (type == FULL && s->started) {
			return s->main ? flush(s) : FAIL(s, -EUCLEAN, "no memory comes before the devices");
		} else {
			return FAIL(s, -EUCLEAN, "a section of type %u has no place here", type);
		}
		if (s->rc)
			return s->rc;
	}
}

/* ---- devices ------------------------------------------------------------------------------------------------ */

static int take_devices(struct stream *s)
{
	struct buf *b = s->devices;

	s->n_head = b->n;
	buf_addc(b, FULL);
	do {
		if (b->n + s->left > DEVICES)
			return FAIL(s, -EFBIG, "the devices have more than %u MiB", DEVICES >> 20);
		buf_add(b, s->p, s->left);
		s->at += s->left;
		s->left = 0;
	} while (piece(s) == 0 && s->left);
	return s->rc ? s->rc : (s->rc = buf_check(b, "bake", s->e));
}

/* What a device's section begins with, but for what the description does not tell: u8 FULL, u32 id, and this */
struct head {
	uint8_t p[1 + NAME_MAX_ + 4];
	size_t n;
};

/* One device of the description: {"name": "timer", "instance_id": 0, ...} */
static bool want_head(struct json_span device, struct head *h, struct err *e)
{
	struct json_iter it = json_iter(device.p, device.len);
	uint64_t v = UINT64_MAX;
	size_t n = 0;

	while (json_iter_next(&it, e) > 0)
		if (json_span_is(it.key, "name") && it.val.len - 2 <= NAME_MAX_) {
			n = it.val.len - 2; /* the quotes */
			memcpy(h->p + 1, it.val.p + 1, n);
		} else if (json_span_is(it.key, "instance_id")) {
			text_take_num(&it.val.p, ' ', &v);
		}
	h->p[0] = (uint8_t)n;
	put_be32(h->p + 1 + n, (uint32_t)v);
	h->n = 1 + n + 4;
	return n && v <= UINT32_MAX;
}

static bool is_footer(const uint8_t *p, uint32_t id)
{
	return *p == FOOTER && get_be32(p + 1) == id;
}

/*
 * A section does not tell its length. But behind it comes the next, whose head is known: find that from @at on (0: right
 * there). @id: of the section that ends in front of it, then of the one found. Returns where its head ends, or 0.
 */
static size_t next_head(const uint8_t *p, size_t at, size_t end, const struct head *h, uint32_t *id)
{
	const uint8_t *f = p + at;

	for (; (f = memmem(f, (size_t)(p + end - f), h->p, h->n)); f++) {
		size_t head = (size_t)(f - p) - 5;

		if (f >= p + at + 5 && p[head] == FULL && (at ? head >= at + 5 && is_footer(p + head - 5, *id) : !head)) {
			*id = get_be32(p + head + 1);
			return head + 5 + h->n;
		}
	}
	return 0;
}

/* The devices are those of the description, each with its end; they are what is kept. @start: where they began */
static int check_devices(struct stream *s, uint64_t start)
{
	const uint8_t *p = (const uint8_t *)s->devices->p + s->n_head;
	size_t n = s->devices->n - s->n_head, eof = 0, at = 0, i;
	struct json_iter all, it = json_iter("", 0);
	uint32_t id = 0;
	struct head h;
	int rc;

	/* The description is the rest of all; it is a text, so that no byte of it is a zero. */
	while (eof + 6 <= n && (p[eof] || p[eof + 1] != DESCRIPTION || get_be32(p + eof + 2) != n - eof - 6))
		eof++;
	s->mark = start;
	if (eof + 6 > n)
		return FAIL(s, -EUCLEAN, "no description comes with the devices that begin");
	all = json_iter((const char *)p + eof + 6, n - eof - 6);
	while ((rc = json_iter_next(&all, s->e)) > 0)
		if (json_span_is(all.key, "devices"))
			it = json_iter(all.val.p, all.val.len);
	for (i = 0; rc == 0 && (rc = json_iter_next(&it, s->e)) > 0; i++, rc = 0) {
		size_t behind = want_head(it.val, &h, s->e) ? next_head(p, at, eof, &h, &id) : 0;

		s->mark = start + at;
		if (!behind || behind + 4 + 5 > eof)
			return FAIL(s, -EUCLEAN, "device %zu of the description does not come", i);
		at = behind + 4; /* its version */
	}
	if (rc < 0)
		return err_at(s->e, "what QEMU's stream says about devices");
	if (!at || !is_footer(p + eof - 5, id))
		return FAIL(s, -EUCLEAN, "the last device does not end that begins");
	/* Without any description QEMU complains; nobody reads it. */
	s->devices->n = s->n_head + eof + 1;
	buf_addc(s->devices, DESCRIPTION);
	put_name(s->devices, 4, "{}", 2);
	return buf_check(s->devices, "bake", s->e);
}

int stream_bake(const struct stream_in *in, uint64_t ram, struct dev *out, struct buf *devices, struct err *e)
{
	auto_free struct stream *s = malloc(sizeof *s);
	uint8_t head[HEAD];

	if (!s)
		return err_nomem(e, "bake");
	if (!ram || ram % PAGE)
		return err_set(e, -EINVAL, "%llu bytes are no memory", (unsigned long long)ram);
	memset(s, 0, offsetof(struct stream, cut));
	s->in = in;
	s->out = out;
	s->devices = devices;
	s->e = e;
	s->ram = ram;
	put_be64(head, (uint64_t)MAGIC << 32 | VERSION);
	buf_add(devices, head, HEAD);
	if (dev_truncate(out, 0, e) < 0 || dev_truncate(out, ram, e) < 0)
		return e->code;
	if (num(s, 8) != get_be64(head))
		return s->rc ? s->rc : FAIL(s, -EUCLEAN, "no version 3 begins");
	if (take_memory(s) < 0 || take_devices(s) < 0)
		return s->rc;
	return check_devices(s, s->at - (devices->n - s->n_head));
}
