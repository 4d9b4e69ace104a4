/* Images that no snapshot froze any more and that stay in their chains, until a later deletion can merge them. */
#include <stdlib.h>
#include <string.h>

#include "engine/record/internal.h"
#include "engine/record/record.h"
#include "lib/err.h"
#include "lib/json.h"

/* The entry of @file, or n_stays. */
static size_t find_stay(const struct record *r, const char *file)
{
	size_t i = 0;

	while (i < r->n_stays && strcmp(r->stays[i].file, file))
		i++;
	return i;
}

int record_stay(struct record *r, const char *disk, const char *file, bool raw, struct err *e)
{
	struct record_stay *all, s = { .raw = raw };

	if (find_stay(r, file) < r->n_stays)
		return 0;
	all = reallocarray(r->stays, r->n_stays + 1, sizeof *all);
	if (all)
		r->stays = all;
	s.disk = strdup(disk);
	s.file = strdup(file);
	if (!all || !s.disk || !s.file) {
		free(s.disk);
		free(s.file);
		return err_nomem(e, "note an image on record");
	}
	all[r->n_stays++] = s;
	return 0;
}

void record_stay_drop(struct record *r, size_t i)
{
	free(r->stays[i].disk);
	free(r->stays[i].file);
	memmove(r->stays + i, r->stays + i + 1, (--r->n_stays - i) * sizeof *r->stays);
}

int record_stay_move(struct record *r, const char *from, const char *to, bool raw, struct err *e)
{
	size_t i = find_stay(r, from);

	if (i == r->n_stays)
		return 0;
	if (record_stay(r, r->stays[i].disk, to, raw, e) < 0)
		return e->code;
	record_stay_drop(r, i);
	return 0;
}

int read_stays(const struct json *list, struct record *r, struct err *e)
{
	json_each(o, list) {
		const char *disk, *file;

		if (json_need_str(o, "disk", &disk, e) < 0 || json_need_str(o, "file", &file, e) < 0 ||
			record_stay(r, disk, file, json_bool(json_get(o, "raw"), false), e) < 0)
			return err_at(e, "stays");
	}
	return 0;
}

void write_stays(struct json_out *w, const struct record *r)
{
	if (!r->n_stays)
		return;
	json_arr(w, "stays");
	for (size_t i = 0; i < r->n_stays; i++) {
		json_obj(w, NULL);
		json_put_str(w, "disk", r->stays[i].disk);
		json_put_str(w, "file", r->stays[i].file);
		if (r->stays[i].raw)
			json_put_bool(w, "raw", true);
		json_obj_end(w);
	}
	json_arr_end(w);
}
