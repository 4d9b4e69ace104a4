/* The bytes of QEMU's stream, read piece by piece. */
#include <string.h>

#include "engine/memory/stream.h"
#include "lib/buf.h"
#include "lib/endian.h"
#include "lib/err.h"

int stream_piece(struct stream *s)
{
	if (s->in->next(s->in->ctx, &s->p, &s->left, s->e) < 0) {
		s->left = 0;
		s->rc = s->e->code;
	}
	return s->rc;
}

const uint8_t *stream_take(struct stream *s, size_t n)
{
	const uint8_t *p = s->p;

	if (s->rc)
		return NULL;
	s->at += n;
	if (n > s->left) {
		size_t k, have = 0;

		for (p = s->cut; have < n; have += k) {
			if (!s->left && stream_piece(s) < 0)
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

int stream_skip(struct stream *s, uint64_t n)
{
	for (; n && !s->rc; n -= n < PAGE ? n : PAGE)
		stream_take(s, n < PAGE ? (size_t)n : PAGE);
	return s->rc;
}

uint64_t stream_num(struct stream *s, size_t n)
{
	const uint8_t *p = stream_take(s, n);
	uint64_t v = 0;

	for (; p && n; n--)
		v = v << 8 | *p++;
	return v;
}

int stream_name(struct stream *s, char out[NAME_MAX_ + 1])
{
	size_t n = stream_num(s, 1);
	const uint8_t *p = stream_take(s, n);

	for (size_t i = 0; p && i <= n; i++)
		if (!n || (i < n && (p[i] < ' ' || p[i] > '~')))
			return FAIL(s, -EUCLEAN, "something that is no name");
	if (p) {
		memcpy(out, p, n);
		out[n] = '\0';
	}
	return s->rc;
}

void stream_put_name(struct buf *b, size_t n, const void *p, size_t len)
{
	uint8_t be[4];

	put_be32(be, (uint32_t)len);
	buf_add(b, be + 4 - n, n);
	buf_add(b, p, len);
}
