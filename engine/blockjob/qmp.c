/* Block jobs in a running QEMU: blockdev-add, block-stream, block-commit, blockdev-mirror. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/blockjob/blockjob.h"
#include "engine/blockjob/internal.h"
#include "engine/chain/chain.h"
#include "engine/disks/disks.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/own.h"
#include "monitor/monitor.h"

static int put_node(struct start *s, const char *key, size_t layer, struct err *e)
{
	const char *file = s->p->chain.layers[layer].file, *node = disk_node(s->ds, s->d, file);

	if (!node)
		return err_set(e, -EPROTO, "QEMU has no node for %s", file);
	json_put_str(&s->w, key, node);
	return 0;
}

/* What the header of @above, a layer, names from then on. */
static int put_backing(struct start *s, size_t above, size_t base, struct err *e)
{
	const struct kvm_layer *l = s->p->chain.layers;
	auto_free char *name = NULL;

	if (backing_name_for(l[above].file, l[base].file, s->p->relative, &name, e) < 0)
		return e->code;
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
	return put_node(s, "base-node", p->base, e) < 0 ? e->code : put_backing(s, p->top, p->base, e);
}

/* QMP block-commit */
static int put_commit(struct start *s, struct err *e)
{
	const struct block_plan *p = s->p;

	json_put_str(&s->w, "device", s->d->node);
	if (put_node(s, "top-node", p->top, e) < 0 || put_node(s, "base-node", p->base, e) < 0)
		return e->code;
	return p->op == FERMATA_COMMIT ? put_backing(s, p->top + 1, p->base, e) : 0;
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
	if (!p->reuse && (image_make(vm, file, top->file, top->format == FORMAT_RAW, below ? below->file : NULL,
				 below && below->format == FORMAT_RAW, p->dest_raw, s->j->mark, e) < 0 || copy_note(vm, s->j, e) < 0))
		return e->code;
	return node_add(vm, s->d, s->node, file, p->dest_raw, below ? disk_node(s->ds, s->d, below->file) : NULL, e);
}

int start_job_live(struct fermata_vm *vm, struct start *s, struct err *e)
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
