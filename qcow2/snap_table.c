/* The snapshot table: read whole, kept whole, unknown extra data too. "Snapshots", "Snapshot table entry". */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <string.h>

#define SN_L1_OFF    0
#define SN_L1_SIZE   8
#define SN_ID_LEN    12
#define SN_NAME_LEN  14
#define SN_DATE_S    16
#define SN_DATE_NS   20
#define SN_CLOCK     24
#define SN_VM_SIZE   32
#define SN_EXTRA_LEN 36
#define SN_FIXED     40
/* inside the extra data */
#define SX_VM_SIZE   0
#define SX_DISK_SIZE 8
#define SX_ICOUNT    16

/* A window over the table, which is read in pieces: its length is known only at its end. */
struct win {
	struct qcow2 *q;
	uint8_t buf[4096];
	uint64_t off; /* of buf[0] in the file */
	size_t n;
	uint64_t at;  /* next byte to take, offset in the file */
};

static int win_take(struct win *w, void *out, size_t n, struct err *e)
{
	uint8_t *p = out;

	if (w->at - w->q->h.snap_off + n > MAX_SNAP_TABLE)
		return err_set(e, -EFBIG, "the snapshot table is larger than the limit of %llu bytes", MAX_SNAP_TABLE);
	while (n) {
		size_t in, step;

		if (w->at < w->off || w->at - w->off >= w->n) {
			uint64_t left = w->at < w->q->dev->size ? w->q->dev->size - w->at : 0;

			if (!left)
				return err_set(e, -EUCLEAN, "the snapshot table reaches past the file's end");
			w->off = w->at;
			w->n = left < sizeof w->buf ? (size_t)left : sizeof w->buf;
			if (dev_read(w->q->dev, w->off, w->buf, w->n, e) < 0)
				return err_at(e, "cannot read the snapshot table");
		}
		in = (size_t)(w->at - w->off);
		step = w->n - in < n ? w->n - in : n;
		memcpy(p, w->buf + in, step);
		p += step;
		w->at += step;
		n -= step;
	}
	return 0;
}

static int take_string(struct win *w, size_t n, char **out, struct err *e)
{
	*out = calloc(1, n + 1);
	return *out ? win_take(w, *out, n, e) : q_nomem(e);
}

/* Version 3 promises the first 16 bytes of extra data; version 2 may have none. */
static void decode_extra(struct qcow2 *q, struct qcow2_snap *s)
{
	s->disk_size = s->extra_len >= 16 ? get_be64(s->extra + SX_DISK_SIZE) : q->h.size;
	s->icount = s->extra_len >= 24 ? get_be64(s->extra + SX_ICOUNT) : QCOW2_NO_ICOUNT;
	if (s->extra_len >= 8)
		s->vm_state_size = get_be64(s->extra + SX_VM_SIZE);
}

static int load_one(struct qcow2 *q, struct win *w, struct qcow2_snap *s, unsigned i, struct err *e)
{
	uint8_t f[SN_FIXED];

	w->at = (w->at + 7) & ~7ull;
	if (win_take(w, f, sizeof f, e) < 0)
		return e->code;
	*s = (struct qcow2_snap){
		.l1_off = get_be64(f + SN_L1_OFF),
		.l1_size = get_be32(f + SN_L1_SIZE),
		.date_s = get_be32(f + SN_DATE_S),
		.date_ns = get_be32(f + SN_DATE_NS),
		.vm_clock_ns = get_be64(f + SN_CLOCK),
		.vm_state_size = get_be32(f + SN_VM_SIZE),
		.extra_len = get_be32(f + SN_EXTRA_LEN),
		.id_len = get_be16(f + SN_ID_LEN),
		.name_len = get_be16(f + SN_NAME_LEN),
	};
	if (s->extra_len > MAX_SNAP_TABLE)
		return err_set(e, -EFBIG, "cannot read the snapshot table: entry %u claims %u bytes of extra data", i, s->extra_len);
	/* Not one allocation by an unchecked length: the file must hold what it claims. */
	if (s->extra_len > q->dev->size)
		return err_set(e, -EUCLEAN, "the snapshot table reaches past the file's end");
	s->extra = malloc(s->extra_len ? s->extra_len : 1);
	if (!s->extra)
		return q_nomem(e);
	if (win_take(w, s->extra, s->extra_len, e) < 0 || take_string(w, s->id_len, &s->id, e) < 0 ||
		take_string(w, s->name_len, &s->name, e) < 0)
		return e->code;
	decode_extra(q, s);
	return 0;
}

int snaps_load(struct qcow2 *q, struct err *e)
{
	struct win *w;
	int r = 0;

	if (!q->h.n_snaps)
		return 0;
	if (region_check(q, "snapshot table", q->h.snap_off, q->h.n_snaps, SN_FIXED, MAX_SNAP_TABLE, e) < 0)
		return e->code;
	w = calloc(1, sizeof *w);
	q->snaps = calloc(q->h.n_snaps, sizeof *q->snaps);
	if (!w || !q->snaps)
		r = q_nomem(e);
	else
		w->q = q, w->at = q->h.snap_off;
	for (unsigned i = 0; i < q->h.n_snaps && r >= 0; i++)
		r = load_one(q, w, &q->snaps[i], i, e);
	if (r >= 0)
		q->snap_bytes = w->at - q->h.snap_off;
	free(w);
	return r;
}

static size_t entry_bytes(const struct qcow2_snap *s)
{
	return (SN_FIXED + s->extra_len + s->id_len + s->name_len + 7u) & ~(size_t)7;
}

size_t snaps_bytes(const struct qcow2_snap *s, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += entry_bytes(&s[i]);
	return sum;
}

static void encode_one(const struct qcow2_snap *s, uint8_t *p)
{
	put_be64(p + SN_L1_OFF, s->l1_off);
	put_be32(p + SN_L1_SIZE, s->l1_size);
	put_be16(p + SN_ID_LEN, s->id_len);
	put_be16(p + SN_NAME_LEN, s->name_len);
	put_be32(p + SN_DATE_S, s->date_s);
	put_be32(p + SN_DATE_NS, s->date_ns);
	put_be64(p + SN_CLOCK, s->vm_clock_ns);
	put_be32(p + SN_VM_SIZE, s->vm_state_size > UINT32_MAX ? 0 : (uint32_t)s->vm_state_size);
	put_be32(p + SN_EXTRA_LEN, s->extra_len);
	memcpy(p + SN_FIXED, s->extra, s->extra_len);
	memcpy(p + SN_FIXED + s->extra_len, s->id, s->id_len);
	memcpy(p + SN_FIXED + s->extra_len + s->id_len, s->name, s->name_len);
}

void snaps_encode(const struct qcow2_snap *s, unsigned n, uint8_t *p)
{
	for (unsigned i = 0; i < n; i++) {
		encode_one(&s[i], p);
		p += entry_bytes(&s[i]);
	}
}

int snaps_put(struct qcow2 *q, const struct qcow2_snap *s, unsigned n, uint64_t *off, struct err *e)
{
	size_t bytes = snaps_bytes(s, n), room = q_clusters(q, bytes) << q->h.cluster_bits;
	auto_free uint8_t *buf = calloc(1, room ? room : 1);

	*off = 0;
	if (!buf)
		return q_nomem(e);
	if (bytes > MAX_SNAP_TABLE)
		return err_set(e, -EFBIG, "the snapshot table would be larger than the limit of %llu bytes", MAX_SNAP_TABLE);
	snaps_encode(s, n, buf);
	if (bytes && (refs_alloc(q, room >> q->h.cluster_bits, off, e) < 0 || txn_write(q, *off, buf, room, e) < 0))
		return e->code;
	return refs_free(q, q->h.snap_off, q->snap_bytes, e);
}

int snap_set_extra(struct qcow2_snap *s, struct err *e)
{
	if (s->extra_len < 24) {
		uint8_t *p = realloc(s->extra, 24);

		if (!p)
			return q_nomem(e);
		s->extra = p;
		s->extra_len = 24;
	}
	put_be64(s->extra + SX_VM_SIZE, s->vm_state_size);
	put_be64(s->extra + SX_DISK_SIZE, s->disk_size);
	put_be64(s->extra + SX_ICOUNT, s->icount);
	return 0;
}

int snap_load_l1(struct qcow2 *q, const struct qcow2_snap *s, uint64_t **l1, struct err *e)
{
	return q_read_l1(q, s->l1_off, s->l1_size, l1, e) < 0 ? err_at(e, "snapshot '%s'", s->name) : 0;
}

const struct qcow2_snap *qcow2_snaps(const struct qcow2 *q, unsigned *n)
{
	*n = q->h.n_snaps;
	return q->snaps;
}

int qcow2_snap_find(const struct qcow2 *q, const char *key, enum qcow2_by by)
{
	if (by & QCOW2_BY_ID)
		for (unsigned i = 0; i < q->h.n_snaps; i++)
			if (!strcmp(q->snaps[i].id, key))
				return (int)i;
	if (by & QCOW2_BY_NAME)
		for (unsigned i = 0; i < q->h.n_snaps; i++)
			if (!strcmp(q->snaps[i].name, key))
				return (int)i;
	return -1;
}
