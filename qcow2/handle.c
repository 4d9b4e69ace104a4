/* What a handle has loaded is forgotten, part by part, and in the end all of it. */
#include "qcow2/internal.h"

void snaps_free(struct qcow2_snap *s, unsigned n)
{
	for (unsigned i = 0; s && i < n; i++) {
		free(s[i].id);
		free(s[i].name);
		free(s[i].extra);
	}
	free(s);
}

void refs_done(struct refs *r)
{
	for (size_t i = 0; r->blk && i < r->n; i++) {
		free(r->blk[i].data);
		free(r->blk[i].pin);
	}
	free(r->blk);
	free(r->table);
	*r = (struct refs){ 0 };
}

void map_forget(struct qcow2 *q)
{
	if (q->view) {
		free(q->view->l1);
		free(q->view->l2);
		free(q->view);
		q->view = NULL;
	}
}

void bitmaps_free(struct bitmaps *b)
{
	for (unsigned i = 0; i < b->n; i++) {
		free(b->list[i].name);
		free(b->list[i].extra);
	}
	free(b->list);
	*b = (struct bitmaps){ 0 };
}

void qcow2_close(struct qcow2 *q)
{
	if (!q)
		return;
	snaps_free(q->snaps, q->h.n_snaps);
	refs_done(&q->refs);
	map_forget(q);
	bitmaps_free(&q->bitmaps);
	free(q->wbuf.p);
	free(q->l1);
	free(q->first);
	free(q->backing);
	free(q->backing_fmt);
	free(q->data_file);
	if (q->own_dev)
		dev_close(q->dev);
	free(q);
}
