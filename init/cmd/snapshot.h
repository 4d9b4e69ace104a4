/* Printing snapshots, shared by the commands about them. */
#ifndef INIT_CMD_SNAPSHOT_H
#define INIT_CMD_SNAPSHOT_H

#include "engine/fermata.h"
#include "lib/json.h"

const char *snap_state_word(const struct fermata_snap *s); /* "running", "paused", "shutoff" */
const char *snap_kind_word(const struct fermata_snap *s);  /* "internal-checkpoint", ... */
void snap_put_json(struct json_out *w, struct fermata_vm *vm, const struct fermata_snap *s);

/* What --print-xml says of a snapshot that is not taken. */
int snap_print_plan(const struct fermata_create *c);

/* In libvirt's layout (docs/formatsnapshot). */
int snap_print_xml(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

#endif
