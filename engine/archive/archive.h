/* A snapshot as one file: export, import. */
#ifndef ENGINE_ARCHIVE_ARCHIVE_H
#define ENGINE_ARCHIVE_ARCHIVE_H

#include "lib/err.h"

struct fermata_vm;

/* ---- import.c ---- */

/* Remove what the pending import has made. */
int import_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
