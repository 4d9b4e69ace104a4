/* start: from a managed save if there is one, else from the disks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fermata.h"
#include "engine/vm/vm.h"
#include "lib/err.h"

int fermata_start(struct fermata_vm *vm, bool paused, struct err *e)
{
	if (CONFIG_MEMORY && !vm_alive(vm) && fermata_managed(vm))
		return fermata_restore(vm, &(struct fermata_restore){ .paused = paused }, e);
	return fermata_start_afresh(vm, paused, true, e);
}
