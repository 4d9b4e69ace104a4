/* Snapshots inside the images, as QEMU or the files list them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disks/disks.h"
#include "lib/json.h"
#include "qcow2/qcow2.h"

/* QMP SnapshotInfo (qapi/block-core.json). */
static struct tag tag_of_json(const struct json *s)
{
	return (struct tag){
		.id = json_str(json_get(s, "id"), ""),
		.name = json_str(json_get(s, "name"), ""),
		.vmstate = json_uint(json_get(s, "vm-state-size"), 0),
		.clock_ns = json_uint(json_get(s, "vm-clock-sec"), 0) * 1000000000u + json_uint(json_get(s, "vm-clock-nsec"), 0),
		.created = json_int(json_get(s, "date-sec"), 0),
	};
}

void disk_tags(const struct disk_state *d, bool (*fn)(void *ctx, const struct tag *t), void *ctx)
{
	const struct qcow2_snap *snaps;
	unsigned n;

	json_each(s, d->snaps) {
		struct tag t = tag_of_json(s);

		if (!fn(ctx, &t))
			return;
	}
	if (!d->image)
		return;
	snaps = qcow2_snaps(d->image, &n);
	for (unsigned i = 0; i < n; i++)
		if (!fn(ctx, &(struct tag){ snaps[i].id, snaps[i].name, snaps[i].vm_state_size, snaps[i].vm_clock_ns,
				     snaps[i].date_s }))
			return;
}
struct find_tag {
	const char *name;
	struct tag *t;
	bool found;
};

static bool is_tag(void *ctx, const struct tag *t)
{
	struct find_tag *f = ctx;

	if (strcmp(t->name, f->name))
		return true;
	f->found = true;
	if (f->t)
		*f->t = *t;
	return false;
}

bool disk_has_tag(const struct disk_state *d, const char *name, struct tag *t)
{
	struct find_tag f = { .name = name, .t = t };

	disk_tags(d, is_tag, &f);
	return f.found;
}
