/* The shadow commit: new tables beside the old ones, then one sector of the header. See qcow2.h. */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <string.h>

/* Entries of the refcount table up to the last that is used. */
static size_t table_used(const struct qcow2 *q)
{
	size_t n = q->refs.n;

	while (n && !q->refs.table[n - 1] && !q->refs.blk[n - 1].dirty)
		n--;
	return n;
}

/* Give every changed block a new place; each move changes counts, maybe in further blocks, until nothing is left. */
static int place_blocks(struct qcow2 *q, struct err *e)
{
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < q->refs.n; i++) {
			uint64_t old = q->refs.table[i], new;

			if (!q->refs.blk[i].dirty || q->refs.blk[i].moved)
				continue;
			again = true;
			q->refs.blk[i].moved = true;
			if (refs_alloc(q, 1, &new, e) < 0 || (old && refs_retire(q, old, e) < 0))
				return e->code;
			q->refs.table[i] = new;
		}
	}
	return 0;
}

/* Places for blocks and table. The table's own place may change blocks, and these may make the table longer. */
static int place_all(struct qcow2 *q, struct qhdr *nh, struct err *e)
{
	uint64_t off, n = 0, need;

	if (refs_free(q, q->h.rt_off, q->h.rt_clusters * q->cluster, e) < 0)
		return e->code;
	do {
		if (n && refs_free(q, off, n * q->cluster, e) < 0)
			return e->code;
		if (place_blocks(q, e) < 0)
			return e->code;
		/* One spare entry: taking the place may add a block. */
		n = q_clusters(q, (table_used(q) + 1) * 8);
		if (refs_alloc(q, n, &off, e) < 0 || place_blocks(q, e) < 0)
			return e->code;
		need = q_clusters(q, table_used(q) * 8);
	} while (need > n);
	nh->rt_off = off;
	nh->rt_clusters = (uint32_t)n;
	return 0;
}

static int write_refs(struct qcow2 *q, struct qhdr *nh, struct err *e)
{
	static const uint64_t none = 0; /* the clusters of the table that no entry needs are zeros all the same */
	size_t used = table_used(q);

	for (size_t i = 0; i < q->refs.n; i++)
		if (q->refs.blk[i].moved && txn_write(q, q->refs.table[i], q->refs.blk[i].data, q->cluster, e) < 0)
			return e->code;
	if (txn_write_table(q, nh->rt_off, q->refs.table, used, e) < 0)
		return e->code;
	for (uint64_t at = q_clusters(q, used * 8); at < nh->rt_clusters; at++)
		if (txn_write_table(q, nh->rt_off + (at << q->h.cluster_bits), &none, 1, e) < 0)
			return e->code;
	return 0;
}

/* What the old image used and the new one does not goes back to the file system, in runs as long as they come. */
static void discard_block(struct qcow2 *q, const struct rblk *b, uint64_t first)
{
	uint64_t per = refs_per_block(q), from = 0, n = 0;

	for (uint64_t i = 0; i <= per; i++) {
		bool gone = i < per && (b->pin[i / 8] & ~b->pin[(per + i) / 8]) >> i % 8 & 1 &&
			!refblock_get(b->data, q->h.refcount_order, i);

		if (gone && !n)
			from = i;
		n += gone;
		if (gone || !n)
			continue;
		dev_discard(q->dev, (first + from) << q->h.cluster_bits, n << q->h.cluster_bits);
		n = 0;
	}
}

/* The clusters that the old image used are free now. The new one is on the disk, so they may lose their content. */
static void unpin(struct qcow2 *q)
{
	for (size_t i = 0; i < q->refs.n; i++) {
		if (q->refs.blk[i].pin)
			discard_block(q, &q->refs.blk[i], i * refs_per_block(q));
		free(q->refs.blk[i].pin);
		q->refs.blk[i].pin = NULL;
		q->refs.blk[i].dirty = q->refs.blk[i].moved = false;
	}
	q->refs.hint = q->refs.packed = 0;
	q->old_size = 0;
	map_forget(q);
}

static bool refs_changed(const struct qcow2 *q)
{
	for (size_t i = 0; i < q->refs.n; i++)
		if (q->refs.blk[i].dirty)
			return true;
	return false;
}

/* All but the header. */
static int commit_tables(struct qcow2 *q, struct qhdr *nh, struct err *e)
{
	nh->autoclear &= KNOWN_AUTOCLEAR;
	if (refs_changed(q) && (place_all(q, nh, e) < 0 || write_refs(q, nh, e) < 0))
		return e->code;
	return txn_write_done(q, e);
}

int txn_prepare(struct qcow2 *q, struct qhdr *nh, struct err *e)
{
	return commit_tables(q, nh, e) < 0 || txn_barrier(q, e) < 0 ? e->code : 0;
}

int txn_publish(struct qcow2 *q, const struct qhdr *nh, struct err *e)
{
	size_t head = q->first_len < SECTOR ? q->first_len : SECTOR;
	uint8_t sector[SECTOR] = { 0 };

	memcpy(sector, q->first, head);
	hdr_encode(nh, sector);
	if (txn_put_sector(q, sector, head, e) < 0)
		return e->code;
	memcpy(q->first, sector, head);
	q->h = *nh;
	unpin(q);
	return 0;
}

int txn_commit(struct qcow2 *q, struct qhdr *nh, struct err *e)
{
	return txn_prepare(q, nh, e) < 0 ? e->code : txn_publish(q, nh, e);
}

int txn_publish_head(struct qcow2 *q, struct head *hd, struct err *e)
{
	if (head_switch(q, hd, e) < 0)
		return e->code;
	unpin(q);
	return 0;
}

int txn_commit_head(struct qcow2 *q, struct head *hd, struct err *e)
{
	return commit_tables(q, &hd->h, e) < 0 ? e->code : txn_publish_head(q, hd, e);
}

/* ---- a fresh image: nothing is shared, nothing moves ---- */

/* Places for the blocks that have none; each takes a cluster, maybe out of another new block. */
static int place_new_blocks(struct qcow2 *q, bool *any, struct err *e)
{
	bool again = true;

	*any = false;
	while (again) {
		again = false;
		for (size_t i = 0; i < q->refs.n; i++) {
			uint64_t new;

			if (!q->refs.blk[i].dirty || q->refs.table[i])
				continue;
			if (refs_alloc(q, 1, &new, e) < 0)
				return e->code;
			q->refs.table[i] = new;
			again = *any = true;
		}
	}
	return 0;
}

bool txn_fits_fresh(const struct qcow2 *q)
{
	uint64_t per = refs_per_block(q), end = q_clusters(q, q->dev->size), n = q->refs.n;

	/* Nothing is put behind that but what is still to come. */
	if (end <= q->refs.hint)
		end = q->refs.hint + 1;
	/* Blocks of blocks: what a block counts takes at most one block more for each block's worth of blocks. */
	end += end / per + 2;
	return n == q->h.rt_clusters * (q->cluster / 8) && end / per < n;
}

static int write_fresh(struct qcow2 *q, const uint64_t *l1, bool table, struct err *e)
{
	for (size_t i = 0; i < q->refs.n; i++)
		if (q->refs.blk[i].dirty && txn_write(q, q->refs.table[i], q->refs.blk[i].data, q->cluster, e) < 0)
			return e->code;
	if (txn_write_done(q, e) < 0 || txn_barrier(q, e) < 0)
		return e->code;
	if (table && (txn_write_table(q, q->h.rt_off, q->refs.table, q->refs.n, e) < 0 || txn_write_done(q, e) < 0 ||
		txn_barrier(q, e) < 0))
		return e->code;
	if (q->h.l1_size && txn_write_table(q, q->h.l1_off, l1, q->h.l1_size, e) < 0)
		return e->code;
	return txn_write_done(q, e) < 0 ? e->code : txn_barrier(q, e);
}

int txn_commit_fresh(struct qcow2 *q, const uint64_t *l1, struct err *e)
{
	bool table;

	if (place_new_blocks(q, &table, e) < 0)
		return e->code;
	q->lost = true; /* in place from here on: the file may not be cut back any more */
	if (write_fresh(q, l1, table, e) < 0)
		return err_also(e, "the image may be filled, in part, or empty");
	q->lost = false;
	unpin(q);
	return 0;
}

void txn_head(const struct qcow2 *q, struct head *hd, struct qext *ext)
{
	memcpy(ext, q->ext, q->n_ext * sizeof *ext);
	*hd = (struct head){
		.h = q->h, .ext = ext, .n_ext = q->n_ext, .backing = q->backing, .features = ext_find(q, EXT_FEATURES),
	};
}

int txn_head_ext(struct head *hd, struct qext *ext, uint32_t type, const void *data, size_t len, struct err *e)
{
	unsigned i = 0;

	while (i < hd->n_ext && ext[i].type != type)
		i++;
	if (!data) {
		if (i < hd->n_ext)
			memmove(&ext[i], &ext[i + 1], (--hd->n_ext - i) * sizeof *ext);
		return 0;
	}
	if (i == MAX_EXT)
		return err_set(e, -EFBIG, "no room for another header extension");
	ext[i] = (struct qext){ type, (uint32_t)len, data };
	hd->n_ext += i == hd->n_ext;
	return 0;
}

int txn_abort(struct qcow2 *q, struct err *e)
{
	struct err second;

	q->wbuf.n = 0;
	refs_done(&q->refs);
	if (q->old_size && !q->lost && q->dev->size > q->old_size && dev_truncate(q->dev, q->old_size, &second) < 0)
		err_also(e, "and the file's new tail stays: %s", second.msg);
	q->old_size = 0;
	q->unflushed = false;
	return e->code;
}
