/* QEMU's stream, section by section: the memory into a file as the guest sees it, the devices kept. */
#include <stdlib.h>
#include <string.h>

#include "engine/memory/memory.h"
#include "engine/memory/stream.h"
#include "lib/buf.h"
#include "lib/dev.h"
#include "lib/endian.h"
#include "lib/err.h"
#include "lib/own.h"
#include "lib/text.h"

#define MAGIC   0x5145564du
#define VERSION 3
#define PAGE_BITS 12
#define HEAD   8 /* bytes before the first section */
#define RAM_VERSION 4
#define SWITCHOVER_START 11 /* a command of 10.0's: the other side may get ready */

/* The machine's name: QEMU compares it with its own. */
static int take_machine(struct stream *s)
{
	uint64_t n = stream_num(s, 4);
	const uint8_t *p;

	if (n > NAME_MAX_)
		return FAIL(s, -EUCLEAN, "the machine's name has %llu bytes", (unsigned long long)n);
	p = stream_take(s, n);
	if (p) {
		buf_addc(s->devices, CONFIGURATION);
		stream_put_name(s->devices, 4, p, n);
	}
	return s->rc;
}

/* What the machine's name may have behind it */
static int take_subsection(struct stream *s)
{
	char n[NAME_MAX_ + 1];
	uint64_t v;

	if (stream_name(s, n) < 0 || (v = stream_num(s, 4), s->rc))
		return s->rc;
	if (v != 1)
		return FAIL(s, -EOPNOTSUPP, "'%s' has version %llu", n, (unsigned long long)v);
	if (str_eq(n, "configuration/uuid"))
		return stream_skip(s, 16);
	if (str_eq(n, "configuration/target-page-bits")) {
		v = stream_num(s, 4);
		if (s->rc || v != PAGE_BITS)
			return s->rc ? s->rc : FAIL(s, -EOPNOTSUPP, "pages have 2^%llu bytes", (unsigned long long)v);
		/* An Arm machine takes its absence for another size. */
		buf_addc(s->devices, SUBSECTION);
		stream_put_name(s->devices, 1, n, strlen(n));
		buf_add(s->devices, "\0\0\0\1\0\0\0\f", 8);
		return 0;
	}
	if (!str_eq(n, "configuration/capabilities"))
		return FAIL(s, -EOPNOTSUPP, "'%s' is not known", n);
	for (v = stream_num(s, 4); v && !s->rc; v--) {
		if (stream_name(s, n) < 0)
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
	uint32_t id = stream_num(s, 4);
	char n[NAME_MAX_ + 1];
	uint64_t v;

	if (type == START) {
		if (stream_name(s, n) < 0)
			return s->rc;
		if (!str_eq(n, "ram")) {
			FAIL(s, -EOPNOTSUPP, "'%s' has state in parts", n);
			return err_hint(s->e, "save it again without that device");
		}
		if (s->started || stream_num(s, 4) || (v = stream_num(s, 4)) != RAM_VERSION)
			return s->rc ? s->rc : FAIL(s, -EOPNOTSUPP, "a second 'ram', or of another version");
		s->started = true;
		s->ram_id = id;
	}
	if (s->rc)
		return s->rc;
	if (!s->started || s->ended || id != s->ram_id)
		return FAIL(s, -EUCLEAN, "section %u, which is not under way", id);
	s->ended = type == END;
	if (stream_take_ram(s) < 0)
		return s->rc;
	s->mark = s->at;
	v = stream_num(s, 5);
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
		type = stream_num(s, 1);
		if (s->rc)
			return s->rc;
		if (type == CONFIGURATION && s->mark == HEAD) {
			take_machine(s);
		} else if (type == SUBSECTION && (last == CONFIGURATION || last == SUBSECTION)) {
			take_subsection(s);
		} else if (last && type == COMMAND) {
			uint64_t v = stream_num(s, 4);

			if (!s->rc && v != SWITCHOVER_START << 16)
				return FAIL(s, -EOPNOTSUPP, "command %llu", (unsigned long long)v >> 16);
		} else if (last && (type == START || type == PART || type == END)) {
			take_section(s, type);
		} else if (type == FULL && s->started) {
			return s->main ? stream_flush(s) : FAIL(s, -EUCLEAN, "no memory comes before the devices");
		} else {
			return FAIL(s, -EUCLEAN, "a section of type %u has no place here", type);
		}
		if (s->rc)
			return s->rc;
	}
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
	if (stream_num(s, 8) != get_be64(head))
		return s->rc ? s->rc : FAIL(s, -EUCLEAN, "no version 3 begins");
	if (take_memory(s) < 0 || stream_take_devices(s) < 0)
		return s->rc;
	return stream_check_devices(s, s->at - (devices->n - s->n_head));
}
