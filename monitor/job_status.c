/* A job's status, from JOB_STATUS_CHANGE events and from query-jobs. */
#include <string.h>

#include "lib/own.h"
#include "monitor/mon.h"

static const char status_names[][10] = {
	"undefined", "created", "running", "paused", "ready", "standby", "waiting", "pending", "aborting", "concluded", "null",
};

const char *mon_job_status_name(enum mon_job_status s)
{
	return status_names[s];
}

void mon_job_set_status(struct mon_job *j, const char *name)
{
	for (unsigned s = 0; s < ARRAY_SIZE(status_names); s++)
		if (!strcmp(status_names[s], name)) {
			if (s == JOB_CREATED)
				j->seen = 0; /* a new job with an id that was used before */
			j->status = s;
			j->seen |= 1u << s;
		}
}

bool mon_job_event(struct mon *m, const struct json *data)
{
	const char *id = json_str(json_get(data, "id"), "");

	for (struct mon_job *j = m->jobs; j; j = j->next)
		if (!strcmp(j->id, id)) {
			mon_job_set_status(j, json_str(json_get(data, "status"), ""));
			j->newer = m->answered;
			return true;
		}
	return false;
}
