/* Names of block jobs: for users, for QEMU, and whether one is on record. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "monitor/monitor.h"

static const char *const job_names[] = { "Block Pull", "Block Commit", "Active Block Commit", "Block Copy" };

const char *fermata_job_name(enum fermata_job op)
{
	return job_names[op];
}

void block_id(const struct record_job *j, char id[MON_JOB_ID])
{
	snprintf(id, MON_JOB_ID, "fermata-block-%llu", (unsigned long long)j->id);
}

int jobs_none(const struct fermata_vm *vm, struct err *e)
{
	for (size_t i = 0; i < vm->rec->n_jobs; i++)
		if (!vm->rec->jobs[i]->ended) {
			err_set(e, -EBUSY, "%s: a job is under way: %s", vm->rec->jobs[i]->disk, job_names[vm->rec->jobs[i]->op]);
			return err_hint(e, "'fermata blockjob %s %s' shows it, --abort ends it", vm->name, vm->rec->jobs[i]->disk);
		}
	return 0;
}
