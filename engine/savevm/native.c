/* Internal snapshots in the images of a VM that is off: created, applied, deleted and judged by our own hands. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/savevm/savevm.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "qcow2/qcow2.h"

#define TICK_NS  20000000u
#define LATER_NS 60000000000u /* a load that was cut off touches no disk any more after this long */

/* What QEMU gives its snapshot a time of: this long after the command has gone on record. */
#define ABOUT_S 300

/* Whether snapshot @s of an image is the one that @m tells of. @m: NULL or without an id: any. */
static bool is_marked(const struct qcow2_snap *s, const struct pending_mark *m)
{
	if (!m || !m->id[0])
		return true;
	if (strcmp(s->id, m->id))
		return false;
	if (m->date_ns == PENDING_ABOUT)
		return s->date_s + 1ull >= m->date_s && s->date_s <= (uint64_t)m->date_s + ABOUT_S;
	return s->date_s == m->date_s && s->date_ns == m->date_ns;
}

/* The number of the tag of @d in @q, or -1. */
static int find_tag(const struct qcow2 *q, const struct fermata_snap_disk *d, const struct pending_mark *m)
{
	const struct qcow2_snap *all;
	unsigned n;

	if (!m || !m->id[0])
		return qcow2_snap_find(q, d->tag, QCOW2_BY_NAME);
	all = qcow2_snaps(q, &n);
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(all[i].name, d->tag) && is_marked(&all[i], m))
			return (int)i;
	return -1;
}

static const struct pending_mark *mark_of(const struct pending_mark *marks, size_t i)
{
	return marks && i < DEF_MAX_DISKS ? &marks[i] : NULL;
}

/*
 * Open the image of @d; @index: out, where its tag stands, or -1. A QEMU that died within savevm, loadvm or delvm
 * leaves leaks and, now and then, stale COPIED flags, even where the snapshot is gone already: mended before a change.
 */
static int open_disk(struct fermata_vm *vm, const struct fermata_snap_disk *d, const struct pending_mark *m, unsigned flags,
	struct qcow2 **q, int *index, struct err *e)
{
	bool mend = flags & QCOW2_RW && vm->rec->pending.live;
	struct qcow2_check found;

	if (qcow2_open(d->file, mend ? flags | QCOW2_CHECK : flags, q, e) < 0 ||
		(mend && qcow2_check(*q, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, NULL, NULL, &found, e) < 0))
		return err_at(e, "%s", d->disk);
	*index = find_tag(*q, d, m);
	return 0;
}

/* ---- all disks together ---------------------------------------------------------------------------------- */

static int begin_create(struct native_disk *to, const struct fermata_snap_disk *d, int at, struct pending_mark *m, struct err *e)
{
	struct timespec now;

	if (at >= 0)
		return err_set(e, -EEXIST, "%s has a snapshot '%s' already", d->file, d->tag);
	clock_gettime(CLOCK_REALTIME, &now);
	m->date_s = (uint32_t)now.tv_sec;
	m->date_ns = (uint32_t)now.tv_nsec;
	if (qcow2_snap_create_begin(to->q,
		    &(struct qcow2_snap_new){ .name = d->tag, .date_s = m->date_s, .date_ns = m->date_ns, .icount = QCOW2_NO_ICOUNT },
		    &to->change, e) < 0)
		return e->code;
	snprintf(m->id, sizeof m->id, "%s", qcow2_change_id(to->change));
	return 0;
}

/* One that was applied before stays as it is: what was written to it since is not ours to take back. */
static int begin_apply(struct native_disk *to, const struct fermata_snap_disk *d, int at, struct pending_mark *m, struct err *e)
{
	if (m->l1 && m->l1 == qcow2_l1_at(to->q))
		return 0;
	if (at < 0)
		return err_set(e, -ENOENT, "%s has no snapshot '%s'", d->file, d->tag);
	if (qcow2_snap_apply_begin(to->q, (unsigned)at, &to->change, e) < 0)
		return e->code;
	m->l1 = qcow2_change_l1(to->change);
	return 0;
}

/* What can be said without writing: most that is refused is refused here, with no byte of any image changed. */
static int look_at(struct fermata_vm *vm, enum native_op op, const struct fermata_snap_disk *d, const struct pending_mark *m,
	struct native_disk *to, struct err *e)
{
	to->op = op;
	to->of = d;
	if (open_disk(vm, d, op == NATIVE_DELETE || op == NATIVE_APPLY_MARKED ? m : NULL, QCOW2_RW, &to->q, &to->at, e) < 0)
		return e->code;
	return qcow2_snap_check(to->q, op == NATIVE_CREATE ? -1 : to->at, e) < 0 ? err_at(e, "%s", d->disk) : 0;
}

static int begin_disk(struct native_disk *to, struct pending_mark *m, struct err *e)
{
	int rc;

	if (to->op == NATIVE_CREATE)
		rc = begin_create(to, to->of, to->at, m, e);
	else if (to->op == NATIVE_DELETE)
		rc = to->at < 0 ? 0 : qcow2_snap_delete_begin(to->q, (unsigned)to->at, &to->change, e);
	else
		rc = begin_apply(to, to->of, to->at, to->op == NATIVE_APPLY ? m : &(struct pending_mark){ 0 }, e);
	return rc < 0 ? err_at(e, "%s", to->of->disk) : 0;
}

int native_begin(struct fermata_vm *vm, enum native_op op, const struct fermata_snap *s, struct pending_mark *marks,
	struct native *n, struct err *e)
{
	struct pending_mark none[DEF_MAX_DISKS] = { 0 };
	int rc = 0;

	*n = (struct native){ 0 };
	marks = marks ? marks : none;
	if (s->n_disks > DEF_MAX_DISKS)
		return err_set(e, -EFBIG, "it is of %zu disks, more than a VM can have", s->n_disks);
	for (size_t i = 0; rc == 0 && i < s->n_disks; i++)
		if (!s->disks[i].external)
			rc = look_at(vm, op, &s->disks[i], &marks[i], &n->d[n->n++], e);
	if (rc == 0 && op != NATIVE_CREATE && op != NATIVE_DELETE)
		rc = nvram_open(vm, s, &n->nvram, e);
	for (size_t k = 0; rc == 0 && k < n->n; k++)
		rc = begin_disk(&n->d[k], &marks[n->d[k].of - s->disks], e);
	if (rc < 0)
		native_done(n);
	return rc;
}

/* QEMU's loadvm leaves the checkpoint's memory mapped behind the disk's end: it would outlive the checkpoint. */
static int commit_disk(struct native_disk *d, struct err *e)
{
	struct qcow2_change *c = d->change;

	d->change = NULL;
	if (qcow2_change_commit(c, e) < 0)
		return e->code;
	return d->op == NATIVE_DELETE ? qcow2_vm_state_drop(d->q, e) : 0;
}

int native_commit(struct native *n, struct err *e)
{
	for (size_t i = 0; i < n->n; i++) {
		struct native_disk *d = &n->d[i];
		uint64_t was = qcow2_l1_at(d->q);

		if (!d->change)
			continue;
		if (commit_disk(d, e) < 0) {
			n->touched |= qcow2_is_lost(d->q) || qcow2_l1_at(d->q) != was;
			return e->code;
		}
		n->touched = true;
	}
	if (n->nvram.path) {
		n->touched = true;
		return nvram_write(&n->nvram, e);
	}
	return 0;
}

void native_done(struct native *n)
{
	for (size_t i = 0; i < n->n; i++) {
		qcow2_change_drop(n->d[i].change);
		qcow2_close(n->d[i].q);
	}
	nvram_close(&n->nvram);
	*n = (struct native){ .touched = n->touched };
}

static int at_once(struct fermata_vm *vm, enum native_op op, const struct fermata_snap *s, struct pending_mark *marks, struct err *e)
{
	auto_native struct native n = { 0 };

	return native_begin(vm, op, s, marks, &n, e) < 0 || native_commit(&n, e) < 0 ? e->code : 0;
}

int native_apply(struct fermata_vm *vm, const struct fermata_snap *s, struct pending_mark *marks, struct err *e)
{
	return at_once(vm, NATIVE_APPLY, s, marks, e);
}

int native_apply_marked(struct fermata_vm *vm, const struct fermata_snap *s, struct pending_mark *marks, struct err *e)
{
	return at_once(vm, NATIVE_APPLY_MARKED, s, marks, e);
}

int native_check(const struct fermata_snap *s, struct err *e)
{
	for (size_t i = 0; i < s->n_disks; i++) {
		const struct fermata_snap_disk *d = &s->disks[i];
		auto_qcow2 struct qcow2 *q = NULL;
		struct qcow2_info info;

		if (d->external)
			continue;
		if (qcow2_open(d->file, QCOW2_SHARE, &q, e) < 0)
			return err_at(e, "%s", d->disk);
		qcow2_get_info(q, &info);
		if (info.incompat & QCOW2_INCOMPAT_CORRUPT)
			return err_set(e, -EUCLEAN, "%s: %s is marked corrupt", d->disk, d->file);
		if (access(d->file, W_OK) < 0)
			return err_sys(e, errno, "%s: cannot write to %s", d->disk, d->file);
		if (find_tag(q, d, NULL) < 0)
			return err_set(e, -ENOENT, "%s: %s has no snapshot '%s'", d->disk, d->file, d->tag);
	}
	return 0;
}

/* ---- what was cut off -------------------------------------------------------------------------------------- */

static int delete_one(struct fermata_vm *vm, const struct fermata_snap_disk *d, const struct pending_mark *m, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	int at;

	if (open_disk(vm, d, m, QCOW2_RW, &q, &at, e) < 0)
		return e->code;
	if (at >= 0 && (qcow2_snap_delete(q, (unsigned)at, e) < 0 || qcow2_vm_state_drop(q, e) < 0))
		return err_at(e, "%s", d->disk);
	return 0;
}

int native_delete(struct fermata_vm *vm, const struct fermata_snap *s, const struct pending_mark *marks, struct err *e)
{
	struct err first = { 0 };

	for (size_t i = 0; i < s->n_disks; i++)
		if (!s->disks[i].external && delete_one(vm, &s->disks[i], mark_of(marks, i), e) < 0 && !first.code)
			first = *e;
	if (first.code)
		*e = first;
	return first.code;
}

int native_complete(struct fermata_vm *vm, const struct fermata_snap *s, const struct pending_mark *marks, bool *complete,
	struct err *e)
{
	bool vmstate = s->kind != FERMATA_CHECKPOINT_INTERNAL;

	*complete = false;
	for (size_t i = 0; i < s->n_disks; i++) {
		auto_qcow2 struct qcow2 *q = NULL;
		bool whole;
		int at;

		if (s->disks[i].external)
			continue;
		if (open_disk(vm, &s->disks[i], mark_of(marks, i), QCOW2_SHARE, &q, &at, e) < 0)
			return e->code;
		if (at < 0)
			return 0;
		if (qcow2_snaps(q, &(unsigned){ 0 })[at].vm_state_size == 0)
			continue;
		if (qcow2_vm_state_whole(q, (unsigned)at, &whole, e) < 0)
			return err_at(e, "%s", s->disks[i].disk);
		if (!whole)
			return 0;
		vmstate = true;
	}
	*complete = vmstate;
	return 0;
}

static bool changed_since(const char *file, uint64_t ns)
{
	struct stat st;

	return stat(file, &st) == 0 && (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec >= ns;
}

int native_untouched(struct fermata_vm *vm, const struct pending *p, bool *untouched, struct err *e)
{
	*untouched = false;
	/* A record of before there were marks. */
	if (!p->since_ns)
		return 0;
	for (size_t i = 0; i < p->snap->n_disks; i++) {
		auto_qcow2 struct qcow2 *q = NULL;
		const struct pending_mark *m = mark_of(p->marks, i);
		int at;

		if (p->snap->disks[i].external)
			continue;
		/* Not so far that it was known. */
		if (!m || !m->l1)
			continue;
		if (open_disk(vm, &p->snap->disks[i], NULL, QCOW2_SHARE, &q, &at, e) < 0)
			return e->code;
		if (qcow2_l1_at(q) == m->l1)
			return 0;
	}
	/* The file system's clock goes by its ticks. */
	*untouched = !p->snap->nvram || !vm->def->nvram || vm->def->nvram_format != FORMAT_RAW ||
		!changed_since(vm->def->nvram, p->since_ns - TICK_NS);
	return 0;
}

bool native_written_since(const struct pending *p)
{
	for (size_t i = 0; i < p->snap->n_disks; i++)
		if (p->since_ns && !p->snap->disks[i].external && changed_since(p->snap->disks[i].file, p->since_ns + LATER_NS))
			return true;
	return false;
}

int native_reclaim(struct fermata_vm *vm, struct err *e)
{
	bool changed = false;

	for (size_t i = 0; i < vm->def->n_disks; i++) {
		struct record_disk *d = record_disk(vm->rec, vm->def->disks[i].name);
		auto_qcow2 struct qcow2 *q = NULL;

		if (!d || !d->reclaim)
			continue;
		if (qcow2_open(fermata_vm_disk_file(vm, i), QCOW2_RW, &q, e) < 0 || qcow2_vm_state_drop(q, e) < 0)
			return err_at(e, "%s: cannot give back an aborted checkpoint's space", d->name);
		d->reclaim = false;
		changed = true;
	}
	return changed ? record_save(vm->rec, e) : 0;
}
