/* record.c */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/fermata.h"
#include "engine/record/internal.h"
#include "engine/record/record.h"
#include "kvm/def.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/own.h"

/* The strings of the boots, in the record's words. */
static const struct {
	const char *key;
	size_t at;
} boot_strings[] = {
	{ "good", offsetof(struct record_boot, good) },
	{ "guard", offsetof(struct record_boot, guard) },
	{ "from", offsetof(struct record_boot, from) },
	{ "result", offsetof(struct record_boot, result) },
};

static char **boot_string(struct record_boot *b, size_t i)
{
	return (char **)((char *)b + boot_strings[i].at);
}

static void boot_done(struct record_boot *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(boot_strings); i++)
		free(*boot_string(b, i));
}

int read_boot(const struct json *o, struct record_boot *b, struct err *e)
{
	if (!o)
		return 0;
	if (json_need_uint(o, "tries", &b->tries, e) < 0 || json_need_int(o, "since", &b->since, e) < 0)
		return err_at(e, "boot");
	b->kept = json_bool(json_get(o, "kept"), false);
	b->saved = json_bool(json_get(o, "saved"), false);
	b->aside = json_uint(json_get(o, "aside"), 0);
	b->cut = json_bool(json_get(o, "guard-cut-off"), false);
	b->guard_id = json_uint(json_get(o, "guard-id"), 0);
	b->kept_id = json_uint(json_get(o, "kept-id"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(boot_strings); i++)
		if (record_string(boot_string(b, i), json_str(json_get(o, boot_strings[i].key), NULL), e) < 0)
			return e->code;
	return 0;
}

void write_boot(struct json_out *w, struct record_boot *b)
{
	json_obj(w, "boot");
	json_put_uint(w, "tries", b->tries);
	json_put_int(w, "since", b->since);
	json_put_bool(w, "kept", b->kept);
	if (b->saved)
		json_put_bool(w, "saved", true);
	if (b->aside)
		json_put_uint(w, "aside", b->aside);
	if (b->cut)
		json_put_bool(w, "guard-cut-off", true);
	if (b->guard_id)
		json_put_uint(w, "guard-id", b->guard_id);
	if (b->kept_id)
		json_put_uint(w, "kept-id", b->kept_id);
	for (size_t i = 0; i < ARRAY_SIZE(boot_strings); i++)
		if (*boot_string(b, i))
			json_put_str(w, boot_strings[i].key, *boot_string(b, i));
	json_obj_end(w);
}

void write_marks(struct json_out *w, const struct pending *p)
{
	json_arr(w, "marks");
	for (size_t i = 0; i < p->snap->n_disks && i < DEF_MAX_DISKS; i++) {
		const struct pending_mark *m = &p->marks[i];

		json_obj(w, NULL);
		if (m->id[0]) {
			json_put_str(w, "id", m->id);
			json_put_uint(w, "date", m->date_s);
			json_put_uint(w, "date-ns", m->date_ns);
		}
		if (m->l1)
			json_put_uint(w, "l1", m->l1);
		json_obj_end(w);
	}
	json_arr_end(w);
}

/* Once: it is what the chain begins with, whatever the definition says later. */
void note_defined(const struct record *r, struct record_disk *d)
{
	const struct def_disk *def = r->def ? def_disk_find(r->def, d->name) : NULL;

	if (def && !d->defined)
		d->defined = strdup(def->file); /* without memory it is noted the next time */
}

void pending_clear(struct record *r)
{
	snap_free(r->pending.snap);
	free(r->pending.guard);
	r->pending = (struct pending){ 0 };
}

void record_free(struct record *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_snaps; i++)
		snap_free(r->snaps[i]);
	for (size_t i = 0; i < r->n_disks; i++) {
		free(r->disks[i].name);
		free(r->disks[i].active);
		free(r->disks[i].defined);
	}
	for (size_t i = 0; i < r->n_trash; i++)
		free(r->trash[i]);
	free(r->trash);
	while (r->n_stays)
		record_stay_drop(r, r->n_stays - 1);
	while (r->n_bases)
		record_base_forget(r, r->n_bases - 1);
	free(r->bases);
	free(r->stays);
	for (size_t i = 0; i < r->n_jobs; i++)
		job_free(r->jobs[i]);
	free(r->jobs);
	pending_clear(r);
	snap_free(r->standby);
	boot_done(&r->boot);
	free(r->snaps);
	free(r->disks);
	free(r->path);
	free(r);
}

int record_add(struct record *r, struct fermata_snap *s, struct err *e)
{
	struct fermata_snap **all = reallocarray(r->snaps, r->n_snaps + 1, sizeof *all);

	if (!all)
		return err_nomem(e, "add a snapshot to the record");
	r->snaps = all;
	all[r->n_snaps++] = s;
	return 0;
}

struct fermata_snap *record_take(struct record *r, uint64_t id)
{
	for (size_t i = 0; i < r->n_snaps; i++) {
		struct fermata_snap *s = r->snaps[i];

		if (s->id != id)
			continue;
		memmove(r->snaps + i, r->snaps + i + 1, (r->n_snaps - i - 1) * sizeof *r->snaps);
		r->n_snaps--;
		for (size_t j = 0; j < r->n_snaps; j++)
			if (r->snaps[j]->parent == id)
				r->snaps[j]->parent = s->parent;
		if (r->current == id)
			r->current = s->parent;
		return s;
	}
	return NULL;
}

struct fermata_snap *record_by_id(const struct record *r, uint64_t id)
{
	for (size_t i = 0; i < r->n_snaps; i++)
		if (r->snaps[i]->id == id)
			return r->snaps[i];
	return NULL;
}

struct fermata_snap *record_by_name(const struct record *r, const char *name)
{
	for (size_t i = 0; i < r->n_snaps; i++)
		if (!strcmp(r->snaps[i]->name, name))
			return r->snaps[i];
	return NULL;
}

static int add_string(char ***list, size_t *n, const char *s, struct err *e)
{
	char **all = reallocarray(*list, *n + 1, sizeof *all);
	char *copy = strdup(s);

	if (all)
		*list = all;
	if (!all || !copy) {
		free(copy);
		return err_nomem(e, "note a file on record");
	}
	all[(*n)++] = copy;
	return 0;
}

int record_string(char **at, const char *s, struct err *e)
{
	char *copy = s ? strdup(s) : NULL;

	if (s && !copy)
		return err_nomem(e, "note a boot on record");
	free(*at);
	*at = copy;
	return 0;
}

int record_trash(struct record *r, const char *file, struct err *e)
{
	for (size_t i = r->n_stays; i-- > 0;)
		if (!strcmp(r->stays[i].file, file))
			record_stay_drop(r, i);
	return add_string(&r->trash, &r->n_trash, file, e);
}

void record_keep(struct record *r, const char *file)
{
	size_t left = 0;

	for (size_t i = 0; i < r->n_trash; i++) {
		if (strcmp(r->trash[i], file))
			r->trash[left++] = r->trash[i];
		else
			free(r->trash[i]);
	}
	r->n_trash = left;
}

int job_image(struct record_job *j, const char *file, struct err *e)
{
	return add_string(&j->images, &j->n_images, file, e);
}

void job_free(struct record_job *j)
{
	if (!j)
		return;
	for (size_t i = 0; i < j->n_images; i++)
		free(j->images[i]);
	free(j->images);
	free(j->disk);
	free(j->error);
	free(j);
}

struct record_job *record_job(const struct record *r, const char *disk)
{
	for (size_t i = 0; i < r->n_jobs; i++)
		if (!strcmp(r->jobs[i]->disk, disk))
			return r->jobs[i];
	return NULL;
}

int record_job_add(struct record *r, struct record_job *j, struct err *e)
{
	struct record_job **all = reallocarray(r->jobs, r->n_jobs + 1, sizeof *all);

	if (!all)
		return err_nomem(e, "note a job on record");
	r->jobs = all;
	all[r->n_jobs++] = j;
	return 0;
}

void record_job_drop(struct record *r, struct record_job *j)
{
	size_t i = 0;

	while (r->jobs[i] != j)
		i++;
	memmove(r->jobs + i, r->jobs + i + 1, (--r->n_jobs - i) * sizeof *r->jobs);
	job_free(j);
}

struct record_disk *record_disk(const struct record *r, const char *name)
{
	for (size_t i = 0; i < r->n_disks; i++)
		if (!strcmp(r->disks[i].name, name))
			return &r->disks[i];
	return NULL;
}

struct record_disk *record_disk_need(struct record *r, const char *name)
{
	struct record_disk *d = record_disk(r, name), *all;

	if (d)
		return d;
	all = reallocarray(r->disks, r->n_disks + 1, sizeof *all);
	if (!all)
		return NULL;
	r->disks = all;
	d = &all[r->n_disks];
	*d = (struct record_disk){ .name = strdup(name) };
	if (!d->name)
		return NULL;
	r->n_disks++;
	return d;
}
