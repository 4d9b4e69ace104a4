/* Block jobs, how they begin: what is asked for is checked, put on record, and handed to QEMU. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/diskshot.h"
#include "engine/internal.h"
#include "engine/output.h"
#include "engine/overlay.h"
#include "engine/standby.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"
#include "qcow2/qcow2.h"

int disk_pick(const struct fermata_vm *vm, const char *name, size_t *i, struct err *e)
{
	for (*i = 0; *i < vm->def->n_disks; ++*i)
		if (!strcmp(vm->def->disks[*i].name, name) || !strcmp(fermata_vm_disk_file(vm, *i), name))
			return 0;
	err_set(e, -ENOENT, "%s: there is no disk '%s'", vm->name, name);
	return err_hint(e, "'fermata domblklist %s' shows them", vm->name);
}

/* "vda[2]": so many images below the active one, which is vda[0]. */
static bool layer_number(const struct kvm_chain *c, const char *name, size_t *at)
{
	size_t n = strlen(c->disk);
	uint64_t below;

	if (strncmp(name, c->disk, n) || name[n] != '[')
		return false;
	name += n + 1;
	if (!text_take_num(&name, 0, &below) || strcmp(name, "]") || below >= c->n_layers)
		return false;
	*at = c->n_layers - 1 - below;
	return true;
}

/* The layer that a user calls @name: a file of the chain, its number there, or the snapshot that froze it. */
static int layer_pick(const struct fermata_vm *vm, const struct kvm_chain *c, const char *name, size_t *at, struct err *e)
{
	const struct fermata_snap *s = record_by_name(vm->rec, name);
	const char *file = name;

	if (layer_number(c, name, at))
		return 0;
	for (size_t j = 0; s && j < s->n_disks; j++)
		if (s->disks[j].external && !strcmp(s->disks[j].disk, c->disk))
			file = s->disks[j].file;
	for (*at = 0; *at < c->n_layers; ++*at)
		if (same_file(c->layers[*at].file, file))
			return 0;
	err_set(e, -ENOENT, "'%s' is neither an image of the disk's chain nor a snapshot that froze one", name);
	return err_hint(e, "'fermata domblkchain %s' shows the chain", vm->name);
}

/* ---- what must not be lost ---------------------------------------------------------------------------- */

static size_t first_committed(const struct record_job *j)
{
	return j->op == FERMATA_COMMIT;
}

static bool loses(const struct record_job *j, const struct fermata_snap_disk *d)
{
	size_t top = first_committed(j), end = j->n_images;

	if (strcmp(d->disk, j->disk))
		return false;
	/* What was frozen below the top is overwritten, or stands on what is; an inner one goes with its image. */
	for (size_t i = d->external ? top + 1 : top; i < (d->external ? end : end - 1); i++)
		if (same_file(j->images[i], d->file))
			return true;
	return false;
}

const struct fermata_snap *job_first_lost(const struct fermata_vm *vm, const struct record_job *j)
{
	bool commits = j->op == FERMATA_COMMIT || j->op == FERMATA_ACTIVE_COMMIT;

	for (size_t i = 0; commits && i < vm->rec->n_snaps; i++)
		for (size_t k = 0; k < vm->rec->snaps[i]->n_disks; k++)
			if (loses(j, &vm->rec->snaps[i]->disks[k]))
				return vm->rec->snaps[i];
	return NULL;
}

/* Whether a file has a name as overlay_name() gives them. */
static bool name_is_ours(const char *file)
{
	const char *p = strrchr(file, '-');
	uint64_t id;

	if (!p)
		return false;
	p++;
	return text_take_num(&p, 0, &id) && !strcmp(p, ".qcow2");
}

/* @file is frozen no more: it and the overlays below go, if nothing else needs them. */
static int trash_chain(struct fermata_vm *vm, const struct fermata_snap_disk *d, struct err *e)
{
	char at[PATH_MAX], next[PATH_MAX];
	bool raw = d->raw;
	struct err ignored;

	snprintf(at, sizeof at, "%s", d->file);
	while (name_is_ours(at)) {
		if (record_trash(vm->rec, at, e) < 0)
			return e->code;
		if (raw || chain_next(at, next, &raw, &ignored) < 0)
			break;
		memcpy(at, next, sizeof at);
	}
	return 0;
}

int job_forget_lost(struct fermata_vm *vm, const struct record_job *j, struct err *e)
{
	const struct fermata_snap *lost;

	while ((lost = job_first_lost(vm, j))) {
		struct fermata_snap *s = record_take(vm->rec, lost->id);
		int rc = trash_memory(vm, s, e);

		/* Whatever its other disks froze and nothing else needs. */
		for (size_t k = 0; rc == 0 && k < s->n_disks; k++)
			if (s->disks[k].external && strcmp(s->disks[k].disk, j->disk))
				rc = trash_chain(vm, &s->disks[k], e);
		snap_free(s);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int block_commit_alone(struct fermata_vm *vm, const struct block_plan *p, struct err *e)
{
	const char *base = p->chain.layers[p->base].file;
	const struct kvm_layer *top = &p->chain.layers[p->chain.n_layers - 1];
	auto_file_set struct file_set own = { 0 }, others = { 0 };

	file_set_add(&own, top->file, top->format == FORMAT_RAW);
	for (size_t i = 0; i < vm->rec->n_snaps; i++)
		for (size_t k = 0; k < vm->rec->snaps[i]->n_disks; k++) {
			const struct fermata_snap_disk *d = &vm->rec->snaps[i]->disks[k];

			if (file_set_has(&own, d->file))
				continue;
			file_set_add(&others, d->file, d->raw);
			if (file_set_has(&others, base)) {
				err_set(e, -EBUSY, "snapshot '%s' of another branch stands on %s", vm->rec->snaps[i]->name, base);
				return err_hint(e, "pull instead, or delete it first");
			}
		}
	if (needed_by_others(vm, base))
		return err_set(e, -EBUSY, "another VM needs %s", base);
	return 0;
}

static int check_lost(struct fermata_vm *vm, const struct record_job *j, const struct block_plan *p, struct err *e)
{
	const struct fermata_snap *s = job_first_lost(vm, j);

	if (block_commit_alone(vm, p, e) < 0)
		return e->code;
	if (!s || p->drop)
		return 0;
	err_set(e, -EBUSY, "snapshot '%s' would be lost: %s is overwritten", s->name, j->images[j->n_images - 1]);
	return err_hint(e, "--drop-snapshots gives up such snapshots; snapshot-delete and blockpull keep all others whole");
}

/* QEMU does not ask what snapshots inside an image read from below it. */
static int check_inner(const char *file, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	const struct qcow2_snap *s;
	unsigned n;

	if (qcow2_open(file, QCOW2_SHARE, &q, e) < 0)
		return e->code;
	s = qcow2_snaps(q, &n);
	if (!n)
		return 0;
	err_set(e, -EOPNOTSUPP, "the snapshot '%s' inside %s reads from the images below", s[0].name, file);
	return err_hint(e, "delete it, or do this while the VM is off");
}

uint64_t file_allocated(const char *file)
{
	struct stat st;

	return stat(file, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

/* Room in @file's file system for what layers [@from, @to) hold; a @file that is there grows to the disk's size at most. */
static int check_room(struct fermata_vm *vm, const struct block_plan *p, size_t from, size_t to, const char *file, struct err *e)
{
	uint64_t need = 0, has, used = file_allocated(file);
	struct fermata_disk_size size;
	auto_free char *dir = NULL;

	if (fermata_vm_disk_size(vm, p->disk, &size, e) < 0)
		return e->code;
	for (; from < to; from++)
		need += file_allocated(p->chain.layers[from].file);
	if (need + used > size.capacity)
		need = size.capacity > used ? size.capacity - used : 0;
	dir = file_exists(file) ? strdup(file) : path_beside(file, ".");
	if (!dir)
		return err_nomem(e, "look for room");
	if (file_free_space(dir, &has, e) < 0)
		return e->code;
	if (has >= need)
		return 0;
	err_set(e, -ENOSPC, "%s may take %llu MiB more, its file system has %llu MiB free", file, (unsigned long long)(need >> 20),
		(unsigned long long)(has >> 20));
	return err_hint(e, "free some space there");
}

/* ---- what QEMU is told ------------------------------------------------------------------------------------ */

/* A job under way: its plan, its entry on record, the nodes of the disk. */
struct start {
	const struct block_plan *p;
	struct record_job *j;
	const struct disks *ds;
	const struct disk_state *d;
	struct json_out w;
	char node[40]; /* copy: of the file made */
};

static int put_node(struct start *s, const char *key, size_t layer, struct err *e)
{
	const char *file = s->p->chain.layers[layer].file, *node = disk_node(s->ds, s->d, file);

	if (!node)
		return err_set(e, -EPROTO, "QEMU has no node for %s", file);
	json_put_str(&s->w, key, node);
	return 0;
}

/* What the header of the image above names from then on. */
static int put_backing(struct start *s, size_t base, struct err *e)
{
	auto_free char *name = backing_name(s->p->chain.layers[base].file);

	if (!name)
		return err_nomem(e, "name a backing file");
	json_put_str(&s->w, "backing-file", name);
	return 0;
}

/* QMP block-stream */
static int put_pull(struct start *s, struct err *e)
{
	const struct block_plan *p = s->p;

	if (put_node(s, "device", p->top, e) < 0)
		return e->code;
	if (p->base == NO_LAYER)
		return 0;
	return put_node(s, "base-node", p->base, e) < 0 ? e->code : put_backing(s, p->base, e);
}

/* QMP block-commit */
static int put_commit(struct start *s, struct err *e)
{
	const struct block_plan *p = s->p;

	json_put_str(&s->w, "device", s->d->node);
	if (put_node(s, "top-node", p->top, e) < 0 || put_node(s, "base-node", p->base, e) < 0)
		return e->code;
	return p->op == FERMATA_COMMIT ? put_backing(s, p->base, e) : 0;
}

/* QMP blockdev-mirror */
static int put_copy(struct start *s, struct err *e)
{
	(void)e;
	json_put_str(&s->w, "device", s->d->node);
	json_put_str(&s->w, "target", s->node);
	json_put_str(&s->w, "sync", s->p->shallow ? "top" : "full");
	return 0;
}

/* Make the file of a copy, unless it is there, and let QEMU open it. */
static int make_copy(struct fermata_vm *vm, struct start *s, struct err *e)
{
	const struct block_plan *p = s->p;
	const struct kvm_layer *top = &p->chain.layers[p->chain.n_layers - 1], *below = p->shallow ? top - 1 : NULL;
	const char *file = s->j->images[1];

	snprintf(s->node, sizeof s->node, "%s.%u", p->chain.disk, node_next(s->ds, p->chain.disk));
	if (!p->reuse && image_make(vm, file, top->file, top->format == FORMAT_RAW, below ? below->file : NULL,
				 below && below->format == FORMAT_RAW, p->dest_raw, e) < 0)
		return e->code;
	return node_add(vm, s->d, s->node, file, p->dest_raw, below ? disk_node(s->ds, s->d, below->file) : NULL, e);
}

static int start(struct fermata_vm *vm, struct start *s, struct err *e)
{
	static const struct {
		const char *command;
		int (*put)(struct start *s, struct err *e);
	} jobs[] = { { "block-stream", put_pull }, { "block-commit", put_commit }, { "block-commit", put_commit },
		{ "blockdev-mirror", put_copy } };
	const struct block_plan *p = s->p;
	auto_buf struct buf b = { 0 };
	struct mon_job job;
	char id[MON_JOB_ID];
	int rc;

	if (p->op == FERMATA_COPY && make_copy(vm, s, e) < 0)
		return e->code;
	block_id(s->j, id);
	json_out_init(&s->w, &b, false);
	json_obj(&s->w, NULL);
	json_put_str(&s->w, "job-id", id);
	if (jobs[p->op].put(s, e) < 0)
		return e->code;
	if (p->speed)
		json_put_uint(&s->w, "speed", p->speed);
	/* A mirror flushes before it is ready to end; the others wait for us to do so. */
	if (p->op == FERMATA_PULL || p->op == FERMATA_COMMIT)
		json_put_bool(&s->w, "auto-finalize", false);
	/* QEMU 7.2 crashes when it lists its nodes while a stream that has concluded is not dismissed. */
	json_put_bool(&s->w, "auto-dismiss", p->op == FERMATA_PULL);
	json_obj_end(&s->w);
	if (buf_check(&b, "start a job", e) < 0)
		return e->code;
	rc = mon_job_start(kvm_mon(vm->kvm), &job, jobs[p->op].command, b.p, id, deadline_in(CALL_MS), e);
	if (rc == 0)
		mon_job_forget(kvm_mon(vm->kvm), &job);
	return rc;
}

/* ---- putting it on record -------------------------------------------------------------------------------- */

/* The entry for the record, in its own order of images. */
static int describe(struct fermata_vm *vm, const struct block_plan *p, struct record_job *j, struct err *e)
{
	const struct kvm_layer *l = p->chain.layers;
	size_t stop = p->op == FERMATA_PULL ? p->top : p->op == FERMATA_COPY ? p->chain.n_layers - 1 : p->base;
	int rc = 0;

	*j = (struct record_job){ .id = vm->rec->next_id++, .op = p->op, .disk = strdup(p->chain.disk), .error = strdup(""),
		.remove = p->remove, .reused = p->reuse };
	if (!j->disk || !j->error)
		return err_nomem(e, "describe a job");
	j->raw = p->op == FERMATA_COPY ? p->dest_raw : p->base != NO_LAYER && l[p->base].format == FORMAT_RAW;
	for (size_t i = p->top + (p->op == FERMATA_COMMIT); rc == 0; i--) {
		rc = job_image(j, l[i].file, e);
		if (i == stop)
			break;
	}
	if (rc == 0 && (p->op == FERMATA_COPY || (p->op == FERMATA_PULL && p->base != NO_LAYER)))
		rc = job_image(j, p->op == FERMATA_COPY ? p->dest : l[p->base].file, e);
	return rc;
}

static int check(struct fermata_vm *vm, const struct block_plan *p, const struct record_job *j, struct err *e)
{
	const char *top = p->chain.layers[p->top].file;
	size_t n = p->chain.n_layers;

	switch (p->op) {
	case FERMATA_PULL:
		if (!vm_alive(vm))
			return off_pull(vm, top, p->base == NO_LAYER ? n : p->top - p->base, true, e);
		if (check_inner(top, e) < 0)
			return e->code;
		return check_room(vm, p, p->base == NO_LAYER ? 0 : p->base + 1, p->top, top, e);
	case FERMATA_COMMIT:
	case FERMATA_ACTIVE_COMMIT:
		if (check_lost(vm, j, p, e) < 0)
			return e->code;
		if (!vm_alive(vm))
			return off_commit(vm, top, p->top - p->base, true, e);
		return check_room(vm, p, p->base + 1, p->top + 1, p->chain.layers[p->base].file, e);
	case FERMATA_COPY:
		break;
	}
	if (file_exists(p->dest) != p->reuse)
		return err_set(e, p->reuse ? -ENOENT : -EEXIST, "%s %s", p->dest, p->reuse ? "is not there" : "is there already");
	if (p->reuse && output_spare(vm, p->dest, e) < 0)
		return e->code;
	return check_room(vm, p, p->shallow ? n - 1 : 0, n, p->dest, e);
}

int block_check(struct fermata_vm *vm, const struct block_plan *p, struct err *e)
{
	struct record_job *j = calloc(1, sizeof *j);
	int rc = !j ? err_nomem(e, "describe a job") : describe(vm, p, j, e) < 0 ? e->code : check(vm, p, j, e);

	job_free(j);
	return rc;
}

/* It did not start: nothing has happened, and nothing stays but the file of a copy, which goes. */
static int refuse(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	struct err also;

	if (j->op == FERMATA_COPY && !j->reused && record_trash(vm->rec, j->images[1], &also) < 0)
		err_also(e, "%s", also.msg);
	record_job_drop(vm->rec, j);
	if (record_save(vm->rec, &also) < 0 || (vm_alive(vm) && node_sweep(vm, NULL, &also) < 0) || trash_empty(vm, &also) < 0)
		err_also(e, "%s", also.msg);
	return e->code;
}

/* A commit destroys what others froze from its first write on. */
static int forget(struct fermata_vm *vm, struct record_job *j, struct err *e)
{
	if (j->op != FERMATA_COMMIT && j->op != FERMATA_ACTIVE_COMMIT)
		return 0;
	j->begun = true;
	return job_forget_lost(vm, j, e) < 0 || record_save(vm->rec, e) < 0 ? e->code : 0;
}

static int begin_live(struct fermata_vm *vm, struct start *s, struct err *e)
{
	if (start(vm, s, e) < 0)
		return vm_alive(vm) && e->code != -ETIMEDOUT ? refuse(vm, s->j, e) : e->code;
	if (forget(vm, s->j, e) < 0) {
		e->code = FERMATA_PENDING;
		return err_hint(e, "the job has begun; the next command sees to the record");
	}
	return trash_empty(vm, e);
}

static int begin_off(struct fermata_vm *vm, struct start *s, struct err *e)
{
	struct err also;

	if (forget(vm, s->j, e) < 0)
		return e->code;
	if (off_job(vm, s->p, s->j, e) == 0)
		return job_note(vm, s->j, true, "", e) < 0 ? e->code : trash_empty(vm, e);
	if (e->code == -ECANCELED)
		err_hint(e, "the disk reads as before; the same command again completes it");
	if (job_note(vm, s->j, false, e->msg, &also) < 0)
		err_also(e, "%s", also.msg);
	return e->code;
}

int block_begin(struct fermata_vm *vm, const struct block_plan *p, struct err *e)
{
	struct record_job *j = record_job(vm->rec, p->chain.disk);
	auto_disks struct disks ds = { 0 };
	struct start s = { .p = p, .ds = &ds };

	if (j && !j->ended)
		return jobs_none(vm, e);
	if (j)
		record_job_drop(vm->rec, j);
	j = calloc(1, sizeof *j);
	if (!j || describe(vm, p, j, e) < 0 || check(vm, p, j, e) < 0 || disks_look(vm, &ds, e) < 0 || record_job_add(vm->rec, j, e) < 0) {
		job_free(j);
		return e->code;
	}
	s.j = j;
	s.d = &ds.d[p->disk];
	vm->rec->saved = 0; /* the images are about to change */
	if (record_save(vm->rec, e) < 0) {
		record_job_drop(vm->rec, j);
		return e->code;
	}
	return vm_alive(vm) ? begin_live(vm, &s, e) : begin_off(vm, &s, e);
}

/* ---- what users ask for ------------------------------------------------------------------------------------ */

static int plan_commit(struct fermata_vm *vm, const struct fermata_block *b, struct block_plan *p, struct err *e)
{
	size_t active = p->chain.n_layers - 1;

	p->top = active;
	if (b->top && layer_pick(vm, &p->chain, b->top, &p->top, e) < 0)
		return e->code;
	p->base = b->shallow && p->top ? p->top - 1 : 0;
	if (b->base && layer_pick(vm, &p->chain, b->base, &p->base, e) < 0)
		return e->code;
	if (p->base >= p->top)
		return err_set(e, -EINVAL, "%s does not stand on %s", p->chain.layers[p->top].file, p->chain.layers[p->base].file);
	if (p->top < active)
		return b->active ? err_set(e, -EINVAL, "%s is not the active layer", p->chain.layers[p->top].file) : 0;
	if (!b->active) {
		err_set(e, -EINVAL, "commit of '%s' active layer requires active flag", p->chain.disk);
		return err_hint(e, "--active");
	}
	p->op = FERMATA_ACTIVE_COMMIT;
	return 0;
}

static int plan_rest(struct fermata_vm *vm, const struct fermata_block *b, struct block_plan *p, struct err *e)
{
	p->top = p->chain.n_layers - 1;
	p->base = NO_LAYER;
	if (p->op == FERMATA_COPY) {
		if (b->shallow && (!p->top || b->dest_raw))
			return err_set(e, -EINVAL, p->top ? "a raw file stands on nothing" : "the disk stands on no other image");
		return 0;
	}
	if (!p->top)
		return err_set(e, -EINVAL, "the disk stands on no other image");
	if (b->base && layer_pick(vm, &p->chain, b->base, &p->base, e) < 0)
		return e->code;
	return p->base == p->top ? err_set(e, -EINVAL, "the base is the active layer") : 0;
}

int fermata_block_start(struct fermata_vm *vm, const struct fermata_block *b, struct err *e)
{
	struct block_plan p = { .op = b->op, .dest_raw = b->dest_raw, .reuse = b->reuse, .shallow = b->shallow, .remove = b->remove,
		.drop = b->drop, .speed = b->speed };
	auto_free char *dest = b->dest ? path_beside("", b->dest) : NULL;
	struct kvm *k;
	int rc;

	if (disk_pick(vm, b->disk, &p.disk, e) < 0 || ((vm_alive(vm) || p.op == FERMATA_COPY) && fermata_vm_kvm(vm, &k, e) < 0))
		return e->code;
	if (b->dest && !dest)
		return err_nomem(e, "copy a disk");
	p.dest = dest;
	if (CONFIG_MEMORY && standby_give_up(vm, "the images change", e) < 0)
		return err_at(e, "%s", vm->name);
	rc = vm->def->disks[p.disk].readonly ? err_set(e, -EROFS, "the disk is readonly") : chain_find(vm, p.disk, &p.chain, e);
	if (rc == 0)
		rc = p.op == FERMATA_COMMIT ? plan_commit(vm, b, &p, e) : plan_rest(vm, b, &p, e);
	if (rc == 0)
		rc = block_begin(vm, &p, e);
	chain_done(&p.chain);
	return rc < 0 ? err_at(e, "%s: %s", vm->name, vm->def->disks[p.disk].name) : 0;
}
