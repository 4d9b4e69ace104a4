/* What the files of engine/disks/ share: private to the room. */
#ifndef ENGINE_DISKS_INTERNAL_H
#define ENGINE_DISKS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/disks/disks.h"
#include "lib/err.h"

struct buf;
struct fermata_vm;
struct json;
struct json_doc;
struct json_out;

/* ---- disks.c ---- */

/* What QEMU lists of @node, or NULL. */
const struct json *disks_node(const struct disks *ds, const char *node);

/* ---- node.c ---- */

/* The file that QEMU's format node @node has open, or "". Borrowed from @nodes. */
const char *node_file(const struct json_doc *nodes, const char *node);

/* What QEMU lists of node @name, or NULL. Borrowed from @nodes. */
const struct json *find_node(const struct json_doc *nodes, const char *name);

/* QMP @command with @args, a finished JSON text. */
int call_with(struct fermata_vm *vm, const char *command, struct buf *args, struct err *e) MUST_CHECK;

/* The "cache" of a node to be added, as @cache, another node's, has it. */
void put_cache(struct json_out *w, const struct json *cache);

/*
 * What blockdev-add is told of a node @node over @file, with the disk's own cache mode and discard. @backing: the node below;
 * NULL: none.
 */
void put_overlay_node(struct buf *b, const struct disk_state *d, const char *node, const char *file, bool raw, const char *backing);

/* QMP blockdev-del of the node that has @overlay open, if it is nobody's active layer. */
int drop_node(struct fermata_vm *vm, const struct disks *ds, size_t disk, const char *overlay, struct err *e) MUST_CHECK;

#endif
