/* --diskspec and --memspec: words with commas between them, KEY=VALUE, as virsh has them. */
#ifndef INIT_CMD_SPEC_H
#define INIT_CMD_SPEC_H

#include "engine/fermata.h"

/*
 * "vda,snapshot=external,driver=qcow2,file=/x/y" into @spec, which borrows from @text; a comma that belongs to a value is
 * doubled. A key that is unknown or given twice, or a value that is none of its key's, is wrong usage.
 */
int spec_disk(char *text, struct fermata_diskspec *spec, struct err *e) MUST_CHECK;

/* "[file=]/x/y,snapshot=external" into @c's members about memory, in the same way. */
int spec_memory(char *text, struct fermata_create *c, struct err *e) MUST_CHECK;

#endif
