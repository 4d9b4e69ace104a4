#include "tests/harness/expect.h"

#include <stdio.h>
#include <string.h>

#define WRONG(...) return snprintf(why, 200, __VA_ARGS__), false

static void copy_bitmaps(struct guest_state *to, const struct guest_state *from)
{
	to->n_bitmaps = from->n_bitmaps;
	memcpy(to->bitmaps, from->bitmaps, sizeof(to->bitmaps));
}

bool expect_same(const struct guest_state *before, const struct guest_state *after, char *why)
{
	return guest_same(before, after, why);
}

bool expect_create(const struct guest_state *before, const struct guest_state *after, char *why)
{
	const struct guest_snap *s = &after->snaps[before->n_snaps];
	struct guest_state rest = *after;

	if (after->n_snaps != before->n_snaps + 1)
		WRONG("%u snapshots after %u", after->n_snaps, before->n_snaps);
	if (s->disk_size != before->size)
		WRONG("the new snapshot has %llu bytes of disk", (unsigned long long)s->disk_size);
	if (!s->vmstate && s->content != before->content)
		WRONG("the new snapshot is not what was active");
	rest.n_snaps--;
	return guest_same(before, &rest, why);
}

bool expect_apply(const struct guest_state *before, const struct guest_state *after, unsigned snap, char *why)
{
	const struct guest_snap *s = &before->snaps[snap];
	struct guest_state rest = *after;

	if (after->size != s->disk_size)
		WRONG("the disk has %llu bytes, the snapshot's %llu", (unsigned long long)after->size,
		      (unsigned long long)s->disk_size);
	if (!s->vmstate && after->content != s->content)
		WRONG("the disk is not what the snapshot holds");
	rest.size = before->size;
	rest.content = before->content;
	for (unsigned i = 0; i < after->n_bitmaps && i < before->n_bitmaps; i++)
		if (before->bitmaps[i].flags & 2) /* enabled: all dirty now */
			rest.bitmaps[i] = before->bitmaps[i];
		else if (after->size != before->size) /* another number of bits */
			rest.bitmaps[i].content = before->bitmaps[i].content;
	return guest_same(before, &rest, why);
}

bool expect_delete(const struct guest_state *before, const struct guest_state *after, unsigned snap, char *why)
{
	struct guest_state rest = *before;

	rest.n_snaps--;
	memmove(rest.snaps + snap, rest.snaps + snap + 1, (rest.n_snaps - snap) * sizeof(*rest.snaps));
	return guest_same(&rest, after, why);
}

bool expect_grown(const struct guest_state *before, const struct guest_state *after, uint64_t size, char *why)
{
	struct guest_state rest = *after;

	if (after->size != size)
		WRONG("%llu bytes of disk", (unsigned long long)after->size);
	rest.size = before->size;
	copy_bitmaps(&rest, before); /* they have another number of bits */
	return guest_same(before, &rest, why);
}

bool expect_amended(const struct guest_state *before, const struct guest_state *after, char *why)
{
	struct guest_state rest = *after;

	rest.version = before->version;
	rest.refcount_bits = before->refcount_bits;
	return guest_same(before, &rest, why);
}

bool expect_rebased(const struct guest_state *before, const struct guest_state *after, char *why)
{
	struct guest_state rest = *after;

	if (after->backing == before->backing)
		WRONG("the backing file is the same");
	rest.backing = before->backing;
	return guest_same(before, &rest, why);
}

bool expect_bitmaps(const struct guest_state *before, const struct guest_state *after, char *why)
{
	struct guest_state rest = *after;

	copy_bitmaps(&rest, before);
	return guest_same(before, &rest, why);
}
