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

int qcow2_fill_begin(struct qcow2 *q, struct qcow2_fill **out, struct err *e)
{
	struct qcow2_fill *f;

	if (q_may_write(q, "fill the image", e) < 0 || q_load_l1(q, e) < 0)
		return e->code;
	for (size_t i = 0; i < q->h.l1_size; i++)
		if (q->l1[i] || q->h.incompat & QCOW2_INCOMPAT_DATA_FILE)
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

int qcow2_fill_put(struct qcow2_fill *f, uint64_t index, const void *cluster, struct err *e)
{
	struct qcow2 *q = f->q;
	uint64_t i = (index >> q->l2_bits) + 1, hoff;
	uint8_t *p = f->l2 + (index & ((1ull << q->l2_bits) - 1)) * q->l2_step;

	if (i > q->h.l1_size || i < f->l2_at)
		return err_set(e, -EINVAL, "clusters to fill an image with are not in order");
	if (i != f->l2_at && put_l2(f, e) < 0)
		return e->code;
	f->l2_at = i;
	if (refs_alloc(q, 1, &hoff, e) < 0 || txn_write(q, hoff, cluster, q->cluster, e) < 0)
		return e->code;
	put_be64(p, hoff | OFLAG_COPIED);
	if (q->l2_step == 16)
		put_be64(p + 8, UINT32_MAX); /* every subcluster is there */
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
