/* The devices in QEMU's stream: held against the description that comes behind them. */
#include <string.h>

#include "engine/memory/stream.h"
#include "lib/buf.h"
#include "lib/endian.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/text.h"

#define DEVICES (64u << 20) /* bytes of their state and its description; a PC has 0.2 MiB */

int stream_take_devices(struct stream *s)
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
	} while (stream_piece(s) == 0 && s->left);
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

int stream_check_devices(struct stream *s, uint64_t start)
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
	stream_put_name(s->devices, 4, "{}", 2);
	return buf_check(s->devices, "bake", s->e);
}
