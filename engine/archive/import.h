/* An import under way: what import.c, import_plan.c and import_data.c share. */
#ifndef ENGINE_ARCHIVE_IMPORT_H
#define ENGINE_ARCHIVE_IMPORT_H

#include <stddef.h>
#include <stdint.h>

#include "engine/archive/internal.h"
#include "engine/memory/memory.h"
#include "lib/err.h"

struct fermata_import;
struct fermata_snap;
struct fermata_vm;
struct json;
struct json_doc;

struct import {
	struct fermata_vm *vm;
	const struct fermata_import *o;
	struct archive a;
	struct json_doc *doc;
	const struct json *manifest;
	struct archive_part parts[ARCHIVE_PARTS_MAX];
	const char *to[ARCHIVE_PARTS_MAX]; /* the file that it goes into; NULL: it is left out */
	size_t n;
	struct ram_out ram; /* of an instant checkpoint: complete when its stream comes */
	uint64_t done, total, began_ms;
};

/* ---- import_plan.c ---- */

/*
 * What the snapshot will be in this VM, with the names of its files; whether it fits. Nothing is made. @out: the caller's. Where each
 * part goes, and how much there is, is in @j afterwards.
 */
int import_describe(struct import *j, struct fermata_snap **out, struct err *e) MUST_CHECK;

/* -ENOSPC: a file system does not take all that goes there. */
int import_check_room(const struct import *j, struct err *e) MUST_CHECK;

/* ---- import_data.c ---- */

/* Every part into its file, flushed; then the overlays of the pending @s. What was made stays for import_undo(). */
int import_take_all(struct import *j, const struct fermata_snap *s, struct err *e) MUST_CHECK;

#endif
