/* Data and L2 tables go to free clusters in the order they come; nothing points at them before the one commit. */
#include "qcow2/fill.h"

#include "qcow2/internal.h"

struct qcow2_fill {
	struct qcow2 *q;
	uint64_t *l1;
	uint8_t *l2;     /* the table being filled */
	uint64_t l2_at;  /* its L1 entry's index + 1; 0: none yet */
};

static void fill_free(struct qcow2_fill *f)
{
	free(f->l1);
	free(f->l2);
	free(f);
}

int qcow2_is_empty(struct qcow2 *q, bool *empty, struct err *e)
{
	*empty = !(q->h.incompat & QCOW2_INCOMPAT_DATA_FILE);
	if (q_load_l1(q, e) < 0)
		return e->code;
	for (size_t i = 0; i < q->h.l1_size && *empty; i++)
		*empty = !q->l1[i];
	return 0;
}

int qcow2_fill_begin(struct qcow2 *q, struct qcow2_fill **out, struct err *e)
{
	struct qcow2_fill *f;
	bool empty;

	if (q_may_write(q, "fill the image", e) < 0 || qcow2_is_empty(q, &empty, e) < 0)
		return e->code;
	if (!empty)
		return err_set(e, -EOPNOTSUPP, "cannot fill an image that is preallocated or has a data file");
	f = calloc(1, sizeof *f);
	if (f) {
		f->q = q;
		f->l1 = calloc(q->h.l1_size ? q->h.l1_size : 1, 8);
		f->l2 = calloc(1, q->cluster);
	}
	if (!f || !f->l1 || !f->l2) {
		if (f)
			fill_free(f);
		return q_nomem(e);
	}
	*out = f;
	return 0;
}

static int put_l2(struct qcow2_fill *f, struct err *e)
{
	uint64_t hoff;

	if (!f->l2_at)
		return 0;
	if (refs_alloc(f->q, 1, &hoff, e) < 0 || txn_write(f->q, hoff, f->l2, f->q->cluster, e) < 0)
		return e->code;
	f->l1[f->l2_at - 1] = hoff | OFLAG_COPIED;
	memset(f->l2, 0, f->q->cluster);
	return 0;
}

/* The entry of cluster @index, in the table that is being filled. */
static int entry_for(struct qcow2_fill *f, uint64_t index, uint8_t **p, struct err *e)
{
	struct qcow2 *q = f->q;
	uint64_t i = (index >> q->l2_bits) + 1;

	if (i > q->h.l1_size || i < f->l2_at)
		return err_set(e, -EINVAL, "clusters to fill an image with are not in order");
	if (i != f->l2_at && put_l2(f, e) < 0)
		return e->code;
	f->l2_at = i;
	*p = f->l2 + (index & ((1ull << q->l2_bits) - 1)) * q->l2_step;
	return 0;
}

int qcow2_fill_put(struct qcow2_fill *f, uint64_t index, const void *cluster, struct err *e)
{
	struct qcow2 *q = f->q;
	uint64_t hoff;
	uint8_t *p;

	if (entry_for(f, index, &p, e) < 0 || refs_alloc(q, 1, &hoff, e) < 0 || txn_write(q, hoff, cluster, q->cluster, e) < 0)
		return e->code;
	put_be64(p, hoff | OFLAG_COPIED);
	if (q->l2_step == 16)
		put_be64(p + 8, UINT32_MAX); /* every subcluster is there */
	return 0;
}

int qcow2_fill_packed(struct qcow2_fill *f, uint64_t index, const void *p, size_t n, struct err *e)
{
	struct qcow2 *q = f->q;
	uint64_t hoff, v;
	uint8_t *entry;

	if (entry_for(f, index, &entry, e) < 0 || refs_alloc_packed(q, n, &hoff, e) < 0 || l2_packed(q, hoff, n, &v, e) < 0 ||
		txn_write(q, hoff, p, n, e) < 0)
		return e->code;
	put_be64(entry, v);
	return 0;
}

int qcow2_fill_zero(struct qcow2_fill *f, uint64_t index, struct err *e)
{
	struct qcow2 *q = f->q;
	uint8_t *p;

	/* Version 2 has no entry that says so. */
	if (q->h.version < 3) {
		auto_free uint8_t *zeros = calloc(1, q->cluster);

		return zeros ? qcow2_fill_put(f, index, zeros, e) : q_nomem(e);
	}
	if (entry_for(f, index, &p, e) < 0)
		return e->code;
	if (q->l2_step == 16)
		put_be64(p + 8, (uint64_t)UINT32_MAX << 32);
	else
		put_be64(p, OFLAG_ZERO);
	return 0;
}

/* An image whose refcount table is too short for what it holds now: beside the old tables, as any change. */
static int commit_moved(struct qcow2_fill *f, struct err *e)
{
	struct qcow2 *q = f->q;
	struct qhdr nh = q->h;

	if (tree_put_l1(q, f->l1, nh.l1_size, &nh.l1_off, e) < 0 || refs_free(q, q->h.l1_off, q->h.l1_size * 8ull, e) < 0)
		return e->code;
	return txn_commit(q, &nh, e);
}

int qcow2_fill_end(struct qcow2_fill *f, struct err *e)
{
	struct qcow2 *q = f->q;

	if (put_l2(f, e) < 0 || (txn_fits_fresh(q) ? txn_commit_fresh(q, f->l1, e) : commit_moved(f, e)) < 0)
		return qcow2_fill_abort(f, e);
	free(q->l1);
	q->l1 = take_ptr(&f->l1);
	map_forget(q);
	fill_free(f);
	return 0;
}

int qcow2_fill_abort(struct qcow2_fill *f, struct err *e)
{
	txn_abort(f->q, e);
	fill_free(f);
	return e->code;
}
