/* Images below the disks, as they were seen last. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine/record/internal.h"
#include "engine/record/record.h"
#include "lib/err.h"
#include "lib/json.h"

/* Whatever name it is asked for by: on record is where it really lies. */
static size_t find_base(const struct record *r, const char *file)
{
	char real[PATH_MAX];
	const char *name = realpath(file, real) ? real : file;
	size_t i = 0;

	while (i < r->n_bases && strcmp(r->bases[i].file, name))
		i++;
	return i;
}

struct record_base *record_base(const struct record *r, const char *file)
{
	size_t i = find_base(r, file);

	return i < r->n_bases ? &r->bases[i] : NULL;
}

struct record_base *record_base_named(const struct record *r, const char *name)
{
	for (size_t i = 0; i < r->n_bases; i++)
		if (!strcmp(r->bases[i].name, name))
			return &r->bases[i];
	return NULL;
}

int record_base_put(struct record *r, const char *file, const char *name, const struct record_base *seen, struct err *e)
{
	const struct record_base *named = record_base_named(r, name);
	size_t i = named ? (size_t)(named - r->bases) : find_base(r, file);
	struct record_base *all = r->bases, b = *seen;
	char real[PATH_MAX];

	b.file = strdup(realpath(file, real) ? real : file);
	b.name = strdup(name);
	if (b.file && b.name && i == r->n_bases) {
		all = reallocarray(r->bases, r->n_bases + 1, sizeof *all);
		if (all) {
			r->bases = all;
			all[r->n_bases++] = (struct record_base){ 0 };
		}
	}
	if (!b.file || !b.name || !all) {
		free(b.file);
		free(b.name);
		return err_nomem(e, "note an image on record");
	}
	free(all[i].file);
	free(all[i].name);
	all[i] = b;
	r->bases_new = true;
	return 0;
}

void record_base_forget(struct record *r, size_t i)
{
	free(r->bases[i].file);
	free(r->bases[i].name);
	r->bases_new = true;
	memmove(r->bases + i, r->bases + i + 1, (--r->n_bases - i) * sizeof *r->bases);
}

void record_base_drop(struct record *r, const char *file)
{
	size_t i = find_base(r, file);

	if (i < r->n_bases)
		record_base_forget(r, i);
}

int read_bases(const struct json *list, struct record *r, struct err *e)
{
	json_each(o, list) {
		struct record_base b = {
			.size = json_uint(json_get(o, "size"), 0),
			.span = json_uint(json_get(o, "span"), 0),
			.print = json_uint(json_get(o, "print"), 0),
			.ino = json_uint(json_get(o, "inode"), 0),
			.mtime_ns = json_uint(json_get(o, "mtime-ns"), 0),
			.above = json_uint(json_get(o, "above"), 0),
		};
		const char *file, *name = json_str(json_get(o, "name"), NULL);

		if (json_need_str(o, "file", &file, e) < 0 || record_base_put(r, file, name ? name : file, &b, e) < 0)
			return err_at(e, "bases");
	}
	r->bases_new = false;
	return 0;
}

void write_bases(struct json_out *w, const struct record *r)
{
	if (!r->n_bases)
		return;
	json_arr(w, "bases");
	for (size_t i = 0; i < r->n_bases; i++) {
		const struct record_base *b = &r->bases[i];

		json_obj(w, NULL);
		json_put_str(w, "file", b->file);
		if (strcmp(b->name, b->file))
			json_put_str(w, "name", b->name);
		json_put_uint(w, "size", b->size);
		json_put_uint(w, "span", b->span);
		json_put_uint(w, "print", b->print);
		json_put_uint(w, "inode", b->ino);
		json_put_uint(w, "mtime-ns", b->mtime_ns);
		json_put_uint(w, "above", b->above);
		json_obj_end(w);
	}
	json_arr_end(w);
}
