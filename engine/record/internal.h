/* engine/record/internal.h */
#ifndef ENGINE_RECORD_INTERNAL_H
#define ENGINE_RECORD_INTERNAL_H

#include "engine/record/record.h"

struct err;
struct json;
struct json_out;

/* ---- record.c ---- */

void pending_clear(struct record *r);
int read_boot(const struct json *o, struct record_boot *b, struct err *e);
void write_boot(struct json_out *w, struct record_boot *b);
void write_marks(struct json_out *w, const struct pending *p);
void note_defined(const struct record *r, struct record_disk *d);

/* ---- base.c ---- */

int read_bases(const struct json *list, struct record *r, struct err *e);
void write_bases(struct json_out *w, const struct record *r);

/* ---- stay.c ---- */

int read_stays(const struct json *list, struct record *r, struct err *e);
void write_stays(struct json_out *w, const struct record *r);

#endif
