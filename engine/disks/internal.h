/* engine/disks/internal.h */
#ifndef ENGINE_DISKS_INTERNAL_H
#define ENGINE_DISKS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/disks/disks.h"

struct buf;
struct err;
struct fermata_vm;
struct json;
struct json_doc;
struct json_out;

/* ---- node.c ---- */

/* The file that QEMU's format node @node has open, or "". Borrowed from @nodes. */
const char *node_file(const struct json_doc *nodes, const char *node);

/* ---- disks.c ---- */

/* What QEMU lists of @node, or NULL. */
const struct json *disks_node(const struct disks *ds, const char *node);

/* ---- node.c ---- */

const struct json *find_node(const struct json_doc *nodes, const char *name);
int call_with(struct fermata_vm *vm, const char *command, struct buf *args, struct err *e);
void put_cache(struct json_out *w, const struct json *cache);
void put_overlay_node(struct buf *b, const struct disk_state *d, const char *node, const char *file, bool raw, const char *backing);
int drop_node(struct fermata_vm *vm, const struct disks *ds, size_t disk, const char *overlay, struct err *e);

#endif
