/* archive.c */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/archive/internal.h"
#include "engine/memory/memory.h"
#include "lib/buf.h"
#include "lib/endian.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/own.h"

#define MAGIC   "FERMATAA"
#define VERSION 1
#define START   16 /* bytes before the first record */

/* A record's head */
#define AT_TYPE  0  /* u32 */
#define AT_BYTES 4  /* u32: of the payload, which is padded with zeros to a multiple of 8 */
#define AT_PLACE 8  /* u64 */
#define AT_SUM   16 /* u64: of the padded payload */
#define AT_CHAIN 24 /* u64: of the head up to here and the last record's own */
#define HEAD     32u

enum { MANIFEST = 1, DATA, PART_END, END };

#define BUF_BYTES      (1u << 20)
#define MANIFEST_MAX   (BUF_BYTES - START - HEAD - 8)
#define MANIFEST_NODES 2000
#define SIZE_LIMIT     (1ull << 56) /* of a part: with as many as there can be, nothing overflows */

const char *const archive_roles[] = { "disk", "nvram", "ram", "memory" };
const char *const archive_states[] = { "running", "paused", "shutoff", "disk-snapshot" };

static size_t padded(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

/* The last 8 bytes of a head: the head's own checksum with that of the record before. */
static uint64_t chained(const struct archive *a, const uint8_t *head)
{
	uint8_t b[HEAD];

	memcpy(b, head, AT_CHAIN);
	put_be64(b + AT_CHAIN, a->chain);
	return mem_sum(b, HEAD);
}

static int begin(struct archive *a, int fd, const char *name, struct err *e)
{
	a->fd = fd;
	a->name = name;
	a->buf = malloc(BUF_BYTES);
	return a->buf ? 0 : err_nomem(e, "open an archive");
}

void archive_done(struct archive *a)
{
	free(a->buf);
	*a = (struct archive){ .fd = -1 };
}

static int cancelled(const struct archive *a, struct err *e)
{
	return a->cancel && *a->cancel ? err_set(e, -ECANCELED, "cancelled") : 0;
}

/* ---- writing -------------------------------------------------------------------------------------------- */

static int flush(struct archive *a, struct err *e)
{
	for (a->at = 0; a->at < a->n;) {
		ssize_t w;

		if (cancelled(a, e) < 0)
			return e->code;
		w = write(a->fd, a->buf + a->at, a->n - a->at);
		if (w < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot write %s", a->name);
		a->at += w > 0 ? (size_t)w : 0;
	}
	a->n = 0;
	return 0;
}

static int put(struct archive *a, uint32_t type, uint64_t place, const void *data, size_t n, struct err *e)
{
	size_t all = padded(n);
	uint8_t *head;

	if (a->n + HEAD + all > BUF_BYTES && flush(a, e) < 0)
		return e->code;
	head = a->buf + a->n;
	memset(head + HEAD + n, 0, all - n);
	if (n)
		memcpy(head + HEAD, data, n);
	put_be32(head + AT_TYPE, type);
	put_be32(head + AT_BYTES, (uint32_t)n);
	put_be64(head + AT_PLACE, place);
	put_be64(head + AT_SUM, mem_sum(head + HEAD, all));
	put_be64(head + AT_CHAIN, a->chain = chained(a, head));
	a->n += HEAD + all;
	a->off += HEAD + all;
	return 0;
}

int archive_create(struct archive *a, int fd, const char *name, const struct buf *manifest, struct err *e)
{
	if (begin(a, fd, name, e) < 0)
		return e->code;
	if (manifest->n > MANIFEST_MAX)
		return err_set(e, -EFBIG, "what is to be said of the snapshot takes %zu bytes, the limit is %u", manifest->n, MANIFEST_MAX);
	memset(a->buf, 0, START);
	memcpy(a->buf, MAGIC, 8);
	put_be32(a->buf + 8, VERSION);
	a->n = a->off = START;
	return put(a, MANIFEST, 0, manifest->p, manifest->n, e);
}

int archive_put(struct archive *a, uint64_t at, const void *data, size_t n, struct err *e)
{
	return put(a, DATA, at, data, n, e);
}

int archive_put_end(struct archive *a, struct err *e)
{
	return put(a, PART_END, 0, NULL, 0, e);
}

int archive_finish(struct archive *a, struct err *e)
{
	return put(a, END, a->off, NULL, 0, e) < 0 ? e->code : flush(a, e);
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static int damaged(const struct archive *a, const char *what, struct err *e)
{
	return err_set(e, -EUCLEAN, "%s is damaged: %s at byte %llu", a->name, what, (unsigned long long)a->off);
}

/* Have @n bytes at a->buf + a->at, or what there is up to the end. */
static int fill(struct archive *a, size_t n, struct err *e)
{
	if (a->n - a->at >= n)
		return 0;
	memmove(a->buf, a->buf + a->at, a->n -= a->at);
	for (a->at = 0; a->n < n;) {
		ssize_t r;

		if (cancelled(a, e) < 0)
			return e->code;
		r = read(a->fd, a->buf + a->n, BUF_BYTES - a->n);
		if (r < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot read %s", a->name);
		if (r == 0)
			return 0;
		a->n += r > 0 ? (size_t)r : 0;
	}
	return 0;
}

static int ends_early(const struct archive *a, struct err *e)
{
	return err_set(e, -EUCLEAN, "%s is not complete: it ends after %llu bytes", a->name,
		(unsigned long long)(a->off + (a->n - a->at)));
}

/* Take the record that comes next, checked; it has to be of type @type, or of type @or. */
static int take(struct archive *a, uint32_t type, uint32_t or, uint32_t max, const uint8_t **head, struct err *e)
{
	const uint8_t *h;
	uint32_t n;

	if (fill(a, HEAD, e) < 0)
		return e->code;
	if (a->n - a->at < HEAD)
		return ends_early(a, e);
	h = a->buf + a->at;
	if (chained(a, h) != get_be64(h + AT_CHAIN))
		return damaged(a, "the head of the record", e);
	n = get_be32(h + AT_BYTES);
	if ((get_be32(h + AT_TYPE) != type && get_be32(h + AT_TYPE) != or) || n > max)
		return damaged(a, "no record that belongs there", e);
	a->chain = get_be64(h + AT_CHAIN);
	if (fill(a, HEAD + padded(n), e) < 0)
		return e->code;
	if (a->n - a->at < HEAD + padded(n))
		return ends_early(a, e);
	h = a->buf + a->at;
	if (mem_sum(h + HEAD, padded(n)) != get_be64(h + AT_SUM))
		return damaged(a, "the data of the record", e);
	a->at += HEAD + padded(n);
	*head = h;
	return 0;
}

/* It is behind us. */
static void passed(struct archive *a, const uint8_t *head)
{
	a->off += HEAD + padded(get_be32(head + AT_BYTES));
}

int archive_open(struct archive *a, int fd, const char *name, struct json_doc **manifest, struct err *e)
{
	const uint8_t *h;

	if (begin(a, fd, name, e) < 0 || fill(a, START, e) < 0)
		return e->code;
	if (a->n < START || memcmp(a->buf, MAGIC, 8))
		return err_set(e, -EUCLEAN, "%s is no archive of a snapshot", name);
	if (get_be32(a->buf + 8) != VERSION || get_be32(a->buf + 12))
		return err_set(e, -EOPNOTSUPP, "%s has version %u, this program knows %d", name, get_be32(a->buf + 8), VERSION);
	a->at = a->off = START;
	if (take(a, MANIFEST, MANIFEST, MANIFEST_MAX, &h, e) < 0)
		return e->code;
	if (json_parse((const char *)h + HEAD, get_be32(h + AT_BYTES), MANIFEST_NODES, manifest, e) < 0)
		return err_at(e, "%s: its manifest", name);
	passed(a, h);
	return 0;
}

bool archive_plain(const char *s)
{
	while (((unsigned char)*s >= ' ' && *s != 0x7f) || *s == '\n' || *s == '\t')
		s++;
	return !*s;
}

bool archive_is(const char *path)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char magic[8];

	return fd >= 0 && read(fd, magic, 8) == 8 && !memcmp(magic, MAGIC, 8);
}

int archive_parts(const struct archive *a, const struct json *manifest, struct archive_part *parts, size_t *n, struct err *e)
{
	*n = 0;
	json_each(o, json_get(manifest, "parts")) {
		struct archive_part *p = &parts[*n];
		const char *role;
		size_t i = 0;

		if (*n == ARCHIVE_PARTS_MAX)
			return err_set(e, -EFBIG, "%s has more than %d parts", a->name, ARCHIVE_PARTS_MAX);
		if (json_need_str(o, "role", &role, e) < 0 || json_need_str(o, "name", &p->name, e) < 0 ||
			json_need_uint(o, "size", &p->size, e) < 0 || json_need_uint(o, "data", &p->data, e) < 0)
			return err_at(e, "%s: part %zu", a->name, *n + 1);
		if (!archive_plain(role) || !archive_plain(p->name))
			return err_set(e, -EUCLEAN, "%s: part %zu has control characters", a->name, *n + 1);
		while (i < ARRAY_SIZE(archive_roles) && strcmp(archive_roles[i], role))
			i++;
		if (i == ARRAY_SIZE(archive_roles))
			return err_set(e, -EOPNOTSUPP, "%s has a part of the kind '%s', which this version does not know", a->name, role);
		p->role = (enum archive_role)i;
		for (size_t k = 0; k < *n; k++)
			if (parts[k].role == p->role && !strcmp(parts[k].name, p->name))
				return err_set(e, -EUCLEAN, "%s has two parts '%s' of the kind '%s'", a->name, p->name, role);
		if (!p->name[0] != (p->role != ARCHIVE_DISK))
			return err_set(e, -EUCLEAN, "%s: a part of the kind '%s' called '%s'", a->name, role, p->name);
		if (p->size > SIZE_LIMIT || p->data > p->size)
			return err_set(e, -EUCLEAN, "%s: part '%s' cannot have %llu bytes of %llu", a->name, p->name,
				(unsigned long long)p->data, (unsigned long long)p->size);
		++*n;
	}
	return *n ? 0 : err_set(e, -EUCLEAN, "%s has no parts", a->name);
}

void archive_part(struct archive *a, const struct archive_part *p)
{
	a->part = p;
	a->next = 0;
	a->left = p->data;
}

/* Whether @n bytes for byte @at may come now; @n is 0 for the end. */
static bool fits(const struct archive *a, uint64_t at, size_t n)
{
	const struct archive_part *p = a->part;

	if (!n)
		return !at && (p->role != ARCHIVE_MEMORY || a->next == p->size);
	if (at < a->next || at > p->size || n > p->size - at || n > a->left)
		return false;
	if (p->role == ARCHIVE_RAM)
		return at % ARCHIVE_PAGE == 0 && n % ARCHIVE_PAGE == 0;
	return p->role == ARCHIVE_MEMORY ? at == a->next : at % ARCHIVE_CHUNK == 0 && (n == ARCHIVE_CHUNK || n == p->size - at);
}

int archive_get(struct archive *a, uint64_t *at, const uint8_t **data, size_t *n, struct err *e)
{
	const uint8_t *h;

	if (take(a, DATA, PART_END, ARCHIVE_CHUNK, &h, e) < 0)
		return e->code;
	*at = get_be64(h + AT_PLACE);
	*n = get_be32(h + AT_BYTES);
	*data = h + HEAD;
	if (!*n != (get_be32(h + AT_TYPE) == PART_END) || !fits(a, *at, *n))
		return damaged(a, "a record that does not fit its part", e);
	a->next = *at + *n;
	a->left -= *n;
	passed(a, h);
	return 0;
}

int archive_end(struct archive *a, struct err *e)
{
	const uint8_t *h;
	struct stat st;

	if (take(a, END, END, 0, &h, e) < 0)
		return e->code;
	if (get_be64(h + AT_PLACE) != a->off)
		return damaged(a, "the end", e);
	passed(a, h);
	if (fstat(a->fd, &st) == 0 && S_ISBLK(st.st_mode))
		return 0;
	if (fill(a, 1, e) < 0)
		return e->code;
	return a->n == a->at ? 0 : damaged(a, "something behind the end", e);
}
