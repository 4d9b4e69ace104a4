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
 * What blockdev-add is told of @file: the protocol node "NODE.file", with the disk's own cache mode and discard. It is a node
 * of its own: QEMU reopens what it opened inside the description of another node together with that one, forgets (7.2) that
 * it is writable, opens it anew with the next change of what is above, and a request of the guest that is under way then gets
 * "Bad file descriptor".
 */
void put_file_node(struct buf *b, const struct disk_state *d, const char *node, const char *file);

/* And of the format node @node over it. @backing: the node below; NULL: none. */
void put_overlay_node(struct buf *b, const struct disk_state *d, const char *node, bool raw, const char *backing);

/* QMP blockdev-del of the node that has @overlay open, if it is nobody's active layer. */
int drop_node(struct fermata_vm *vm, const struct disks *ds, size_t disk, const char *overlay, struct err *e) MUST_CHECK;

#endif
