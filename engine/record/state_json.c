/* state.json: the record read and written. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/record/internal.h"
#include "engine/record/record.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"

#define RECORD_VERSION 1
#define RECORD_MAX (16u << 20) /* bytes: some thousands of snapshots of many disks */
#define RECORD_NODES 400000
static const char *const kinds[] = { "internal-checkpoint", "internal-disk", "external-disk", "external-checkpoint" };
static const char *const states[] = { "running", "paused", "shutoff", "disk-snapshot" };
static const char *const jobs[] = { "pull", "commit", "active-commit", "copy" };
static const char *const ops[] = { "", "snapshot-create", "snapshot-delete", "snapshot-revert", "save", "restore",
	"snapshot-import" };

/* Which of @n words member @key of @o is. -EPROTO for any other. */
static int word(const struct json *o, const char *key, const char *const words[], size_t n, unsigned *out, struct err *e)
{
	const char *s;

	if (json_need_str(o, key, &s, e) < 0)
		return e->code;
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(words[i], s)) {
			*out = i;
			return 0;
		}
	return err_set(e, -EPROTO, "%s is '%s', which this version does not know", key, s);
}

static int read_snap_disks(const struct json *o, struct fermata_snap *s, struct err *e)
{
	json_each(d, json_get(o, "disks")) {
		struct fermata_snap_disk on = {
			.overlay = (char *)json_str(json_get(d, "overlay"), ""),
			.external = json_bool(json_get(d, "external"), false),
			.raw = json_bool(json_get(d, "raw"), false),
			.reused = json_bool(json_get(d, "reused"), false),
		};

		/* Borrowed from the text: snap_add_disk() copies them. */
		if (json_need_str(d, "disk", (const char **)&on.disk, e) < 0 ||
			json_need_str(d, "file", (const char **)&on.file, e) < 0 ||
			json_need_str(d, "tag", (const char **)&on.tag, e) < 0 ||
			json_need_uint(d, "vm-state-size", &on.vmstate, e) < 0 || snap_add_disk(s, &on, e) < 0)
			return e->code;
	}
	return 0;
}

static int read_snap(const struct json *o, struct fermata_snap **out, struct err *e)
{
	auto_snap struct fermata_snap *s = NULL;
	const char *name, *description, *qemu, *machine;
	unsigned kind, state;

	if (json_need_str(o, "name", &name, e) < 0 || json_need_str(o, "description", &description, e) < 0 ||
		json_need_str(o, "qemu", &qemu, e) < 0 || json_need_str(o, "machine", &machine, e) < 0)
		return e->code;
	s = snap_new(name, description);
	if (!s)
		return err_nomem(e, "read the record");
	free(s->qemu);
	free(s->machine);
	free(s->made);
	s->qemu = strdup(qemu);
	s->machine = strdup(machine);
	s->made = strdup(json_str(json_get(o, "made"), ""));
	if (!s->qemu || !s->machine || !s->made)
		return err_nomem(e, "read the record");
	if (json_need_uint(o, "id", &s->id, e) < 0 || json_need_uint(o, "parent", &s->parent, e) < 0 ||
		json_need_int(o, "created", &s->created, e) < 0 || json_need_uint(o, "vm-clock-ns", &s->clock_ns, e) < 0 ||
		word(o, "kind", kinds, ARRAY_SIZE(kinds), &kind, e) < 0 ||
		word(o, "state", states, ARRAY_SIZE(states), &state, e) < 0 || read_snap_disks(o, s, e) < 0)
		return e->code;
	s->kind = (enum fermata_kind)kind;
	s->state = (enum fermata_snap_state)state;
	s->adopted = json_bool(json_get(o, "adopted"), false);
	name = json_str(json_get(o, "nvram"), NULL);
	if (name && !(s->nvram = strdup(name)))
		return err_nomem(e, "read the record");
	s->memory = strdup(json_str(json_get(o, "memory"), ""));
	s->ram = strdup(json_str(json_get(o, "ram"), ""));
	s->ram_base = strdup(json_str(json_get(o, "ram-base"), ""));
	if (!s->memory || !s->ram || !s->ram_base)
		return err_nomem(e, "read the record");
	*out = take_ptr(&s);
	return 0;
}

static int read_pending(const struct json *o, struct record *r, struct err *e)
{
	unsigned op;
	size_t n = 0;

	if (!o)
		return 0;
	if (word(o, "operation", ops, ARRAY_SIZE(ops), &op, e) < 0 || json_need_bool(o, "live", &r->pending.live, e) < 0 ||
		json_need_bool(o, "run", &r->pending.run, e) < 0 ||
		json_need_uint(o, "replaces", &r->pending.replaces, e) < 0 ||
		read_snap(json_get(o, "snapshot"), &r->pending.snap, e) < 0)
		return err_at(e, "pending");
	r->pending.op = (enum pending_op)op;
	if (record_string(&r->pending.guard, json_str(json_get(o, "guard"), NULL), e) < 0)
		return e->code;
	r->pending.switched = json_bool(json_get(o, "switched"), false);
	r->pending.keep_time = json_bool(json_get(o, "keep-time"), false);
	r->pending.since_ns = json_uint(json_get(o, "since-ns"), 0);
	r->pending.mark = json_uint(json_get(o, "mark"), 0);
	json_each(m, json_get(o, "marks")) {
		struct pending_mark *to = &r->pending.marks[n++];

		if (n > DEF_MAX_DISKS)
			return err_set(e, -EPROTO, "pending: more marks than a VM can have disks");
		snprintf(to->id, sizeof to->id, "%s", json_str(json_get(m, "id"), ""));
		to->date_s = (uint32_t)json_uint(json_get(m, "date"), 0);
		to->date_ns = (uint32_t)json_uint(json_get(m, "date-ns"), 0);
		to->l1 = json_uint(json_get(m, "l1"), 0);
	}
	return 0;
}

static int read_disks(const struct json *list, struct record *r, struct err *e)
{
	json_each(o, list) {
		const char *name, *defined, *active = json_str(json_get(o, "active"), NULL);
		struct record_disk *d;

		if (json_need_str(o, "name", &name, e) < 0)
			return e->code;
		d = record_disk_need(r, name);
		defined = json_str(json_get(o, "defined"), NULL);
		if (!d || (active && !(d->active = strdup(active))) || (defined && !(d->defined = strdup(defined))))
			return err_nomem(e, "read the record");
		d->reclaim = json_bool(json_get(o, "reclaim"), false);
		d->raw = json_bool(json_get(o, "raw"), false);
	}
	return 0;
}
/* The switches of a job, in the record's words. */
static const struct {
	const char *key;
	size_t at;
} flags[] = {
	{ "raw", offsetof(struct record_job, raw) },
	{ "remove", offsetof(struct record_job, remove) },
	{ "reused", offsetof(struct record_job, reused) },
	{ "begun", offsetof(struct record_job, begun) },
	{ "pivot", offsetof(struct record_job, pivot) },
	{ "run", offsetof(struct record_job, run) },
	{ "ended", offsetof(struct record_job, ended) },
};

static bool *flag(struct record_job *j, size_t i)
{
	return (bool *)((char *)j + flags[i].at);
}

static int read_job(const struct json *o, struct record *r, struct err *e)
{
	struct record_job *j = calloc(1, sizeof *j);
	const char *disk, *error;
	unsigned op;

	if (!j || record_job_add(r, j, e) < 0) {
		free(j);
		return err_nomem(e, "read the record");
	}
	if (json_need_uint(o, "id", &j->id, e) < 0 || json_need_str(o, "disk", &disk, e) < 0 ||
		json_need_str(o, "error", &error, e) < 0 || word(o, "operation", jobs, ARRAY_SIZE(jobs), &op, e) < 0)
		return err_at(e, "job");
	j->op = (enum fermata_job)op;
	j->disk = strdup(disk);
	j->error = strdup(error);
	if (!j->disk || !j->error)
		return err_nomem(e, "read the record");
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		*flag(j, i) = json_bool(json_get(o, flags[i].key), false);
	j->mark = json_uint(json_get(o, "mark"), 0);
	j->inode = json_uint(json_get(o, "inode"), 0);
	json_each(f, json_get(o, "images"))
		if (job_image(j, json_str(f, ""), e) < 0)
			return e->code;
	return j->n_images ? 0 : err_set(e, -EPROTO, "job %llu has no images", (unsigned long long)j->id);
}

/* Ids rise, parents exist and come first: the tree has no cycle and next_id is new. */
static int check_ids(const struct record *r, struct err *e)
{
	uint64_t last = 0;

	for (size_t i = 0; i < r->n_snaps; i++) {
		const struct fermata_snap *s = r->snaps[i];

		if (s->id <= last || s->id >= r->next_id)
			return err_set(e, -EPROTO, "snapshot '%s' has id %llu out of order", s->name, (unsigned long long)s->id);
		if (s->parent && (s->parent >= s->id || !record_by_id(r, s->parent)))
			return err_set(e, -EPROTO, "snapshot '%s' has an unknown parent", s->name);
		last = s->id;
	}
	if (r->current && !record_by_id(r, r->current))
		return err_set(e, -EPROTO, "the current snapshot is unknown");
	return 0;
}

static int read_all(const struct json *o, struct record *r, struct err *e)
{
	uint64_t version;

	if (json_need_uint(o, "version", &version, e) < 0)
		return e->code;
	if (version != RECORD_VERSION)
		return err_set(e, -EPROTO, "it has version %llu, this program knows %d", (unsigned long long)version,
			RECORD_VERSION);
	if (json_need_uint(o, "next-id", &r->next_id, e) < 0 || json_need_uint(o, "current", &r->current, e) < 0)
		return e->code;
	json_each(s, json_get(o, "snapshots")) {
		auto_snap struct fermata_snap *snap = NULL;

		if (read_snap(s, &snap, e) < 0 || record_add(r, snap, e) < 0)
			return e->code;
		snap = NULL;
	}
	r->saved = json_uint(json_get(o, "saved"), 0);
	json_each(t, json_get(o, "trash"))
		if (record_trash(r, json_str(t, ""), e) < 0)
			return e->code;
	if (read_stays(json_get(o, "stays"), r, e) < 0 || read_bases(json_get(o, "bases"), r, e) < 0)
		return e->code;
	json_each(j, json_get(o, "jobs"))
		if (read_job(j, r, e) < 0)
			return e->code;
	if (read_disks(json_get(o, "disks"), r, e) < 0 || read_pending(json_get(o, "pending"), r, e) < 0 ||
		read_boot(json_get(o, "boot"), &r->boot, e) < 0 ||
		(json_get(o, "standby") && read_snap(json_get(o, "standby"), &r->standby, e) < 0))
		return e->code;
	r->standby_mark = json_uint(json_get(o, "standby-mark"), 0);
	return check_ids(r, e);
}

void record_freep(struct record **r)
{
	record_free(*r);
}

int record_load(const char *path, struct record **out, struct err *e)
{
	auto_record struct record *r = calloc(1, sizeof *r);
	auto_json struct json_doc *doc = NULL;
	auto_buf struct buf text = { 0 };
	struct err probe;

	if (!r || !(r->path = strdup(path)))
		return err_nomem(e, "read the record");
	r->next_id = 1;
	if (file_read(path, RECORD_MAX, &text, &probe) < 0) {
		if (probe.code != -ENOENT) {
			*e = probe;
			return e->code;
		}
	} else if (json_parse(buf_str(&text), text.n, RECORD_NODES, &doc, e) < 0 || read_all(json_root(doc), r, e) < 0) {
		err_at(e, "cannot read the commit record %s", path);
		return err_hint(e, "it was changed by hand or is from another version; the images are untouched");
	}
	*out = take_ptr(&r);
	return 0;
}

int record_none(const char *path, struct record **out, struct err *e)
{
	auto_record struct record *r = calloc(1, sizeof *r);

	if (!r || !(r->path = strdup(path)))
		return err_nomem(e, "read the record");
	r->next_id = 1;
	r->none = true;
	*out = take_ptr(&r);
	return 0;
}

static void write_snap(struct json_out *w, const char *key, const struct fermata_snap *s)
{
	json_obj(w, key);
	json_put_uint(w, "id", s->id);
	json_put_str(w, "name", s->name);
	json_put_str(w, "description", s->description);
	json_put_str(w, "kind", kinds[s->kind]);
	json_put_str(w, "state", states[s->state]);
	json_put_int(w, "created", s->created);
	json_put_uint(w, "vm-clock-ns", s->clock_ns);
	json_put_uint(w, "parent", s->parent);
	json_put_str(w, "qemu", s->qemu);
	json_put_str(w, "machine", s->machine);
	if (s->made[0])
		json_put_str(w, "made", s->made);
	if (s->adopted)
		json_put_bool(w, "adopted", true);
	if (s->nvram)
		json_put_str(w, "nvram", s->nvram);
	if (s->memory && s->memory[0])
		json_put_str(w, "memory", s->memory);
	if (fermata_snap_instant(s))
		json_put_str(w, "ram", s->ram);
	if (s->ram_base && s->ram_base[0])
		json_put_str(w, "ram-base", s->ram_base);
	json_arr(w, "disks");
	for (size_t i = 0; i < s->n_disks; i++) {
		json_obj(w, NULL);
		json_put_str(w, "disk", s->disks[i].disk);
		json_put_str(w, "file", s->disks[i].file);
		json_put_str(w, "tag", s->disks[i].tag);
		json_put_uint(w, "vm-state-size", s->disks[i].vmstate);
		if (s->disks[i].external)
			json_put_bool(w, "external", true);
		if (s->disks[i].raw)
			json_put_bool(w, "raw", true);
		if (s->disks[i].reused)
			json_put_bool(w, "reused", true);
		if (s->disks[i].overlay[0])
			json_put_str(w, "overlay", s->disks[i].overlay);
		json_obj_end(w);
	}
	json_arr_end(w);
	json_obj_end(w);
}

static void write_job(struct json_out *w, struct record_job *j)
{
	json_obj(w, NULL);
	json_put_uint(w, "id", j->id);
	json_put_str(w, "disk", j->disk);
	json_put_str(w, "operation", jobs[j->op]);
	json_put_str(w, "error", j->error);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (*flag(j, i))
			json_put_bool(w, flags[i].key, true);
	if (j->mark)
		json_put_uint(w, "mark", j->mark);
	if (j->inode)
		json_put_uint(w, "inode", j->inode);
	json_arr(w, "images");
	for (size_t i = 0; i < j->n_images; i++)
		json_put_str(w, NULL, j->images[i]);
	json_arr_end(w);
	json_obj_end(w);
}

static void write_pending(struct json_out *w, const struct pending *p)
{
	json_obj(w, "pending");
	json_put_str(w, "operation", ops[p->op]);
	json_put_bool(w, "live", p->live);
	json_put_bool(w, "run", p->run);
	if (p->guard)
		json_put_str(w, "guard", p->guard);
	if (p->switched)
		json_put_bool(w, "switched", true);
	if (p->keep_time)
		json_put_bool(w, "keep-time", true);
	json_put_uint(w, "replaces", p->replaces);
	json_put_uint(w, "since-ns", p->since_ns);
	json_put_uint(w, "mark", p->mark);
	write_marks(w, p);
	write_snap(w, "snapshot", p->snap);
	json_obj_end(w);
}

int record_save(struct record *r, struct err *e)
{
	auto_buf struct buf b = { 0 };
	struct json_out w;

	if (r->none)
		return err_set(e, -EPROTO, "the commit record %s cannot be read, and is not written over", r->path);
	json_out_init(&w, &b, false);
	json_obj(&w, NULL);
	json_put_uint(&w, "version", RECORD_VERSION);
	json_put_uint(&w, "next-id", r->next_id);
	json_put_uint(&w, "current", r->current);
	json_arr(&w, "snapshots");
	for (size_t i = 0; i < r->n_snaps; i++)
		write_snap(&w, NULL, r->snaps[i]);
	json_arr_end(&w);
	json_arr(&w, "disks");
	for (size_t i = 0; i < r->n_disks; i++) {
		json_obj(&w, NULL);
		json_put_str(&w, "name", r->disks[i].name);
		if (r->disks[i].active) {
			json_put_str(&w, "active", r->disks[i].active);
			note_defined(r, &r->disks[i]);
			if (r->disks[i].defined)
				json_put_str(&w, "defined", r->disks[i].defined);
		}
		json_put_bool(&w, "reclaim", r->disks[i].reclaim);
		if (r->disks[i].raw)
			json_put_bool(&w, "raw", true);
		json_obj_end(&w);
	}
	json_arr_end(&w);
	if (r->n_trash) {
		json_arr(&w, "trash");
		for (size_t i = 0; i < r->n_trash; i++)
			json_put_str(&w, NULL, r->trash[i]);
		json_arr_end(&w);
	}
	write_stays(&w, r);
	write_bases(&w, r);
	if (r->n_jobs) {
		json_arr(&w, "jobs");
		for (size_t i = 0; i < r->n_jobs; i++)
			write_job(&w, r->jobs[i]);
		json_arr_end(&w);
	}
	if (r->pending.op != PENDING_NONE)
		write_pending(&w, &r->pending);
	if (r->saved)
		json_put_uint(&w, "saved", r->saved);
	if (r->boot.since)
		write_boot(&w, &r->boot);
	if (r->standby) {
		write_snap(&w, "standby", r->standby);
		json_put_uint(&w, "standby-mark", r->standby_mark);
	}
	json_obj_end(&w);
	buf_addc(&b, '\n');
	if (buf_check(&b, "write the commit record", e) < 0)
		return e->code;
	if (file_replace(r->path, b.p, b.n, 0600, e) == 0) {
		r->bases_new = false;
		return 0;
	}
	if (e->code == -EINPROGRESS) {
		/* Whoever says "failed" now promises what may not be so. */
		e->code = FERMATA_PENDING;
		err_hint(e, "whether the record has it is not known; the next command goes by what it finds there");
	}
	return e->code;
}

const char *record_pending(const struct record *r)
{
	return ops[r->pending.op];
}

void record_clean(const struct record *r)
{
	auto_free char *left = str_fmt("%s.new", r->path);

	if (left)
		unlink(left);
}
