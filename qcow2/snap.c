/* Internal snapshots: create, apply, delete, each one shadow commit. "Snapshots". */
#include "qcow2/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What an operation builds beside the image as it stands: nothing there refers to it until the commit. */
struct qcow2_change {
	struct qcow2 *q;
	struct qhdr nh;
	bool content;              /* the active layer's content changes, and there are bitmaps */
	struct head head;          /* ... then the whole header's first cluster is replaced */
	struct qext ext[MAX_EXT];
	uint8_t bitmaps[24];
	uint64_t *l1;              /* new active L1, nh.l1_size entries; owned */
	struct qcow2_snap *snaps;  /* new table, nh.n_snaps entries; the array is owned, strings stay the handle's */
	struct qcow2_snap new;     /* create: its strings are owned until the commit */
	struct qcow2_snap gone;    /* delete: its strings are the change's from the commit on */
};

static void snap_strings_free(struct qcow2_snap *s)
{
	free(s->id);
	free(s->name);
	free(s->extra);
	*s = (struct qcow2_snap){ 0 };
}

static void change_free(struct qcow2_change *c)
{
	if (!c)
		return;
	free(c->l1);
	free(c->snaps);
	snap_strings_free(&c->new);
	free(c);
}

static int begin(struct qcow2 *q, const char *what, struct err *e)
{
	if (q_may_write(q, what, e) < 0)
		return e->code;
	if (q->h.incompat & QCOW2_INCOMPAT_DATA_FILE)
		return err_set(e, -EOPNOTSUPP, "cannot %s: images with an external data file have no internal snapshots", what);
	return q_load_l1(q, e);
}

static int put_active(struct qcow2 *q, struct qcow2_change *p, struct err *e)
{
	if (tree_put_l1(q, p->l1, p->nh.l1_size, &p->nh.l1_off, e) < 0)
		return e->code;
	return refs_free(q, q->h.l1_off, q->h.l1_size * 8ull, e);
}

/* The disk's content changes: what enabled bitmaps say of it has to as well. */
static int refit_bitmaps(struct qcow2 *q, struct qcow2_change *c, struct err *e)
{
	txn_head(q, &c->head, c->ext);
	c->head.h = c->nh;
	return bitmaps_refit(q, &c->head, c->ext, c->bitmaps, c->nh.size, true, e);
}

/* All but the header's first sector is written and flushed. */
static int change_ready(struct qcow2 *q, struct qcow2_change *c, struct err *e)
{
	if (c->content)
		return refit_bitmaps(q, c, e) < 0 || txn_prepare(q, &c->head.h, e) < 0 ? e->code : 0;
	return txn_prepare(q, &c->nh, e);
}

/* Commit; then the handle's own tables are the change's. */
static int change_publish(struct qcow2 *q, struct qcow2_change *c, struct err *e)
{
	if ((c->content ? txn_publish_head(q, &c->head, e) : txn_publish(q, &c->nh, e)) < 0)
		return e->code;
	if (c->content)
		bitmaps_free(&q->bitmaps);
	free(q->l1);
	q->l1 = take_ptr(&c->l1);
	if (c->snaps) {
		free(q->snaps);
		q->snaps = take_ptr(&c->snaps);
		q->snap_bytes = snaps_bytes(q->snaps, q->h.n_snaps);
	}
	c->new = (struct qcow2_snap){ 0 };
	snap_strings_free(&c->gone);
	return 0;
}

static struct qcow2_change *change_new(struct qcow2 *q, struct err *e)
{
	struct qcow2_change *c = calloc(1, sizeof *c);

	if (!c)
		q_nomem(e);
	else
		*c = (struct qcow2_change){ .q = q, .nh = q->h };
	return c;
}

/* @rc: of what built it. */
static int change_built(struct qcow2_change *c, int rc, struct qcow2_change **out, struct err *e)
{
	if (rc < 0 || change_ready(c->q, c, e) < 0) {
		txn_abort(c->q, e);
		change_free(c);
		return e->code;
	}
	*out = c;
	return 0;
}

int qcow2_snap_check(struct qcow2 *q, int index, struct err *e)
{
	auto_free uint64_t *l1 = NULL;

	if (begin(q, "change its snapshots", e) < 0)
		return e->code;
	return index < 0 ? 0 : snap_load_l1(q, &q->snaps[index], &l1, e);
}

uint64_t qcow2_l1_at(const struct qcow2 *q)
{
	return q->h.l1_off;
}

bool qcow2_is_lost(const struct qcow2 *q)
{
	return q->lost;
}

uint64_t qcow2_change_l1(const struct qcow2_change *c)
{
	return c->nh.l1_off;
}

int qcow2_change_commit(struct qcow2_change *c, struct err *e)
{
	int rc = change_publish(c->q, c, e);

	if (rc < 0)
		rc = txn_abort(c->q, e);
	change_free(c);
	return rc;
}

void qcow2_change_drop(struct qcow2_change *c)
{
	struct err ignored = { 0 };

	if (c)
		txn_abort(c->q, &ignored);
	change_free(c);
}

/* ---- create ---- */

static uint64_t next_id(const struct qcow2 *q)
{
	uint64_t max = 0;

	for (unsigned i = 0; i < q->h.n_snaps; i++) {
		uint64_t id = strtoul(q->snaps[i].id, NULL, 10);

		if (id > max)
			max = id;
	}
	return max + 1;
}

static int snap_fill(struct qcow2 *q, const struct qcow2_snap_new *s, struct qcow2_snap *out, struct err *e)
{
	char id[24];

	*out = (struct qcow2_snap){
		.vm_state_size = s->vm_state_size, .disk_size = q->h.size, .vm_clock_ns = s->vm_clock_ns,
		.icount = s->icount, .date_s = s->date_s, .date_ns = s->date_ns, .l1_size = q->h.l1_size,
	};
	snprintf(id, sizeof id, "%" PRIu64, next_id(q));
	out->id = strdup(s->id ? s->id : id);
	out->name = strdup(s->name);
	if (!out->id || !out->name)
		return q_nomem(e);
	out->id_len = (uint16_t)strlen(out->id);
	out->name_len = (uint16_t)strlen(out->name);
	return snap_set_extra(out, e);
}

static int create_allowed(struct qcow2 *q, const struct qcow2_snap_new *s, struct err *e)
{
	if (begin(q, "create a snapshot", e) < 0)
		return e->code;
	if (q->h.n_snaps >= MAX_SNAPSHOTS)
		return err_set(e, -EFBIG, "cannot create a snapshot: the image has %u, the limit", q->h.n_snaps);
	if (strlen(s->name) > MAX_SNAP_STRING || (s->id && strlen(s->id) > MAX_SNAP_STRING))
		return err_set(e, -ENAMETOOLONG, "cannot create a snapshot: its name is too long");
	if (s->id && qcow2_snap_find(q, s->id, QCOW2_BY_ID) >= 0)
		return err_set(e, -EEXIST, "cannot create a snapshot: id %s is used", s->id);
	return 0;
}

/*
 * Count one L2 table of the active layer a second time, for the snapshot. The table says in its COPIED flags that it
 * may be written in place; it moves to a new place without them, so that the old image keeps its own.
 */
static int share_l2(struct qcow2 *q, uint64_t *entry, uint8_t *buf, struct err *e)
{
	bool copied = false;

	if (tree_read_l2(q, *entry, buf, e) < 0 || tree_count_l2(q, buf, 1, e) < 0)
		return e->code;
	for (uint64_t at = 0; at < q->cluster; at += q->l2_step) {
		copied |= buf[at] >> 7;
		buf[at] &= 0x7f;
	}
	if (copied && tree_move_l2(q, entry, buf, e) < 0)
		return e->code;
	*entry &= ~OFLAG_COPIED;
	return refs_add(q, *entry >> q->h.cluster_bits, 1, 1, e);
}

/* The two L1 tables of the new image. VM state behind the disk's end is shared only if the snapshot has one. */
static int create_share(struct qcow2 *q, struct qcow2_change *p, uint64_t *snap_l1, bool vm_state, struct err *e)
{
	uint64_t disk = q_l1_needed(q, q->h.size);
	auto_free uint8_t *buf = malloc(q->cluster);

	if (!buf)
		return q_nomem(e);
	for (size_t i = 0; i < p->nh.l1_size; i++) {
		p->l1[i] = q->l1[i];
		snap_l1[i] = 0;
		if (!(q->l1[i] & OFFSET_MASK) || (i >= disk && !vm_state))
			continue;
		if (share_l2(q, &p->l1[i], buf, e) < 0)
			return e->code;
		snap_l1[i] = p->l1[i];
	}
	return 0;
}

static int create_plan(struct qcow2 *q, struct qcow2_change *p, struct qcow2_snap *s, struct err *e)
{
	size_t n = q->h.l1_size, had = q->h.n_snaps;
	auto_free uint64_t *snap_l1 = calloc(n ? n : 1, 8);

	p->nh.n_snaps++;
	p->l1 = calloc(n ? n : 1, 8);
	p->snaps = calloc(had + 1, sizeof *p->snaps);
	if (!snap_l1 || !p->l1 || !p->snaps)
		return q_nomem(e);
	if (had)
		memcpy(p->snaps, q->snaps, had * sizeof *p->snaps);
	if (create_share(q, p, snap_l1, s->vm_state_size != 0, e) < 0 || tree_put_l1(q, snap_l1, n, &s->l1_off, e) < 0)
		return e->code;
	p->snaps[had] = *s;
	if (put_active(q, p, e) < 0)
		return e->code;
	return snaps_put(q, p->snaps, p->nh.n_snaps, &p->nh.snap_off, e);
}

int qcow2_snap_create_begin(struct qcow2 *q, const struct qcow2_snap_new *s, struct qcow2_change **out, struct err *e)
{
	struct qcow2_change *c;

	if (create_allowed(q, s, e) < 0 || !(c = change_new(q, e)))
		return e->code;
	return change_built(c, snap_fill(q, s, &c->new, e) < 0 || create_plan(q, c, &c->new, e) < 0 ? e->code : 0, out, e);
}

const char *qcow2_change_id(const struct qcow2_change *c)
{
	return c->new.id ? c->new.id : "";
}

int qcow2_snap_create(struct qcow2 *q, const struct qcow2_snap_new *s, struct err *e)
{
	struct qcow2_change *c = NULL;
	int rc = qcow2_snap_create_begin(q, s, &c, e);

	return rc < 0 ? rc : qcow2_change_commit(c, e);
}

/* ---- apply ---- */

/*
 * Every cluster of the new active layer is now used by the snapshot too: no COPIED flag may stand. They are stale
 * where somebody left them in an inactive table; such a table stays the snapshot's, and the active layer gets a copy.
 */
static int clear_flags(struct qcow2 *q, uint64_t *l1, size_t n, const uint64_t *old, size_t n_old, struct err *e)
{
	auto_free uint8_t *buf = malloc(q->cluster);

	if (!buf)
		return q_nomem(e);
	for (size_t i = 0; i < n; i++) {
		bool changed = false;

		if (!l1[i] || (i < n_old && (old[i] & OFFSET_MASK) == l1[i]))
			continue;
		if (tree_read_l2(q, l1[i], buf, e) < 0)
			return e->code;
		for (uint64_t at = 0; at < q->cluster; at += q->l2_step) {
			changed |= buf[at] >> 7;
			buf[at] &= 0x7f;
		}
		if (changed && tree_move_l2(q, &l1[i], buf, e) < 0)
			return e->code;
	}
	return 0;
}

static int apply_plan(struct qcow2 *q, struct qcow2_change *p, const struct qcow2_snap *s, struct err *e)
{
	uint64_t disk = q_l1_needed(q, s->disk_size);
	auto_free uint64_t *from = NULL;
	size_t n, used = s->l1_size < disk ? s->l1_size : (size_t)disk;

	p->nh.size = s->disk_size;
	p->content = q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS;
	if (s->disk_size > INT64_MAX || disk > MAX_L1_BYTES / 8)
		return err_set(e, -EFBIG, "snapshot '%s' is of a disk of %" PRIu64 " bytes, too large", s->name, s->disk_size);
	if (snap_load_l1(q, s, &from, e) < 0)
		return e->code;
	n = s->l1_size > disk ? s->l1_size : (size_t)disk;
	p->l1 = calloc(n ? n : 1, 8);
	if (!p->l1)
		return q_nomem(e);
	p->nh.l1_size = (uint32_t)n;
	for (size_t i = 0; i < used; i++)
		p->l1[i] = from[i] & OFFSET_MASK;
	if (tree_count(q, p->l1, used, q->l1, q->h.l1_size, 1, e) < 0 ||
		tree_count(q, q->l1, q->h.l1_size, p->l1, used, -1, e) < 0 ||
		clear_flags(q, p->l1, used, q->l1, q->h.l1_size, e) < 0)
		return e->code;
	return put_active(q, p, e);
}

int qcow2_snap_apply_begin(struct qcow2 *q, unsigned index, struct qcow2_change **out, struct err *e)
{
	struct qcow2_change *c;

	if (begin(q, "apply a snapshot", e) < 0)
		return e->code;
	if (index >= q->h.n_snaps)
		return err_set(e, -ENOENT, "cannot apply a snapshot: there is no entry %u", index);
	c = change_new(q, e);
	return c ? change_built(c, apply_plan(q, c, &q->snaps[index], e), out, e) : e->code;
}

int qcow2_snap_apply(struct qcow2 *q, unsigned index, struct err *e)
{
	struct qcow2_change *c = NULL;
	int rc = qcow2_snap_apply_begin(q, index, &c, e);

	return rc < 0 ? rc : qcow2_change_commit(c, e);
}

/* ---- delete ---- */

static int delete_plan(struct qcow2 *q, struct qcow2_change *p, unsigned index, struct err *e)
{
	const struct qcow2_snap *s = &q->snaps[index];
	auto_free uint64_t *gone = NULL;
	size_t left = q->h.n_snaps - 1;

	p->nh.n_snaps--;
	p->l1 = malloc(q->h.l1_size ? q->h.l1_size * 8ull : 1);
	p->snaps = malloc((left ? left : 1) * sizeof *p->snaps);
	if (!p->l1 || !p->snaps)
		return q_nomem(e);
	memcpy(p->l1, q->l1, q->h.l1_size * 8ull);
	memcpy(p->snaps, q->snaps, index * sizeof *p->snaps);
	memcpy(p->snaps + index, s + 1, (left - index) * sizeof *p->snaps);
	if (snap_load_l1(q, s, &gone, e) < 0 || tree_count(q, gone, s->l1_size, NULL, 0, -1, e) < 0 ||
		refs_free(q, s->l1_off, s->l1_size * 8ull, e) < 0 || tree_fix_flags(q, p->l1, p->nh.l1_size, e) < 0)
		return e->code;
	if (put_active(q, p, e) < 0)
		return e->code;
	return snaps_put(q, p->snaps, p->nh.n_snaps, &p->nh.snap_off, e);
}

int qcow2_snap_delete_begin(struct qcow2 *q, unsigned index, struct qcow2_change **out, struct err *e)
{
	struct qcow2_change *c;

	if (begin(q, "delete a snapshot", e) < 0)
		return e->code;
	if (index >= q->h.n_snaps)
		return err_set(e, -ENOENT, "cannot delete a snapshot: there is no entry %u", index);
	c = change_new(q, e);
	if (!c)
		return e->code;
	c->gone = q->snaps[index];
	return change_built(c, delete_plan(q, c, index, e), out, e);
}

int qcow2_snap_delete(struct qcow2 *q, unsigned index, struct err *e)
{
	struct qcow2_change *c = NULL;
	int rc = qcow2_snap_delete_begin(q, index, &c, e);

	return rc < 0 ? rc : qcow2_change_commit(c, e);
}
