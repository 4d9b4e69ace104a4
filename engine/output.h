/* Files that a user names to be written to: what is there already is spared, unless an earlier command wrote it there. */
#ifndef ENGINE_OUTPUT_H
#define ENGINE_OUTPUT_H

#include "engine/internal.h"

/* A kind of file that is written, and may take the place of an older one. */
struct output_kind {
	const char *name; /* "a dump of memory" */
	bool (*is)(const char *path);
};

/*
 * Whether @path may be written to, by way of @tmp: 0 if neither is there, or is empty, or is of @kind and no VM of this host
 * needs it. -EEXIST. @tmp: may also have begun with zeros, since a header is written last; NULL: there is none.
 */
int output_check(struct fermata_vm *vm, const char *path, const char *tmp, const struct output_kind *kind, struct err *e) MUST_CHECK;

/* -EEXIST if @path is there and an image, or anything else, of some VM of this host. In doubt it is. */
int output_spare(struct fermata_vm *vm, const char *path, struct err *e) MUST_CHECK;

#endif
