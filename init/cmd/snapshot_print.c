/* What the listings and the JSON say of a snapshot. */
#include "init/cmd/snapshot.h"

const char *snap_state_word(const struct fermata_snap *s)
{
	static const char *const words[] = { "running", "paused", "shutoff", "disk-snapshot" };

	return words[s->state];
}

const char *snap_kind_word(const struct fermata_snap *s)
{
	static const char *const words[] = { "internal-checkpoint", "internal-disk", "external-disk", "external-checkpoint" };

	return words[s->kind];
}

void snap_put_json(struct json_out *w, struct fermata_vm *vm, const struct fermata_snap *s)
{
	const struct fermata_snap *parent = fermata_snap_by_id(vm, s->parent);

	json_obj(w, NULL);
	json_put_str(w, "name", s->name);
	json_put_str(w, "description", s->description);
	json_put_str(w, "state", snap_state_word(s));
	json_put_str(w, "kind", snap_kind_word(s));
	json_put_int(w, "creation-time", s->created);
	json_put_uint(w, "vm-clock-ns", s->clock_ns);
	json_put_bool(w, "current", s == fermata_snap_current(vm));
	json_put_bool(w, "adopted", s->adopted);
	json_put_str(w, "parent", parent ? parent->name : NULL);
	json_put_str(w, "qemu", s->qemu);
	json_put_str(w, "machine", s->machine);
	if (s->memory && s->memory[0])
		json_put_str(w, "memory", s->memory);
	if (fermata_snap_instant(s))
		json_put_str(w, "ram", s->ram);
	if (fermata_snap_instant(s) && s->ram_base && s->ram_base[0])
		json_put_str(w, "ram-base", s->ram_base);
	json_arr(w, "disks");
	for (size_t i = 0; i < s->n_disks; i++) {
		json_obj(w, NULL);
		json_put_str(w, "disk", s->disks[i].disk);
		json_put_str(w, "file", s->disks[i].file);
		json_put_str(w, "snapshot", s->disks[i].external ? "external" : "internal");
		if (!s->disks[i].external)
			json_put_str(w, "tag", s->disks[i].tag);
		json_put_uint(w, "vm-state-size", s->disks[i].vmstate);
		json_obj_end(w);
	}
	json_arr_end(w);
	json_obj_end(w);
}
