/* Findings: the one table of what can be wrong, who may repair it, and how it is said. */
#include "qcow2/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define X "%" PRIx64
#define U "%" PRIu64

enum { ONCE = 4 }; /* does not depend on the window: said in the first walk only */

/* @who: the consent that covers its repair (0: nobody's), and ONCE. The words are those that scripts look for. */
static const struct {
	uint8_t who;
	const char *fmt;
} table[N_FINDINGS] = {
	[F_L1_RESERVED] = { ONCE, "found L1 entry with reserved bits set: " X },
	[F_L1_ALIGN] = { ONCE, "l2_offset=" X ": Table is not cluster aligned; L1 entry corrupted" },
	[F_L2_RESERVED] = { ONCE, "found l2 entry with reserved bits set: " X },
	[F_V2_ZERO] = { ONCE, "found l2 entry with a zero flag in a version 2 image: " X },
	[F_L2_ALIGN] = { ONCE, "offset=" X ": Data cluster is not properly aligned; L2 entry corrupted." },
	[F_L2_PREALLOC] = { ONCE | QCOW2_FIX_ERRORS,
		"offset=" X ": Preallocated cluster is not properly aligned; L2 entry corrupted." },
	[F_PACKED_COPIED] = { ONCE | QCOW2_FIX_ERRORS,
		"coffset=0x" X ": copied flag must never be set for compressed clusters" },
	[F_PACKED_DATA_FILE] = { ONCE, "compressed cluster " U " with data file, entry=0x" X },
	[F_PACKED_BITMAP] = { ONCE | QCOW2_FIX_ERRORS,
		"compressed cluster " U " with non-zero subcluster allocation bitmap, entry=0x" X },
	[F_SUB_BOTH] = { ONCE, "offset=" X ": Allocated cluster has corrupted subcluster allocation bitmap" },
	[F_SUB_NONE] = { ONCE, "Unallocated cluster has non-zero subcluster allocation map" },
	[F_PAST_END] = { ONCE, "counting reference for region exceeding the end of the file by one cluster or more: "
		"offset 0x" X " size 0x" X },
	[F_OVERLAP] = { 0, "cluster " U " is used for more than one thing" },
	[F_TANGLED] = { ONCE, "L1 tables overlap so often that they cannot be counted" },
	[F_SNAP_DATA_FILE] = { ONCE, U " snapshots in image with data file" },
	[F_SNAP_ALIGN] = { ONCE, "snapshot %s (%s) l1_offset=0x" X ": L1 table is not cluster aligned; "
		"snapshot table entry corrupted" },
	[F_SNAP_LARGE] = { ONCE, "snapshot %s (%s) l1_size=0x" X ": L1 table is too large; snapshot table entry corrupted" },
	[F_SNAP_SHORT] = { ONCE | QCOW2_FIX_ERRORS, "snapshot table entry " U " is incomplete" },
	[F_SNAP_LONG] = { ONCE | QCOW2_FIX_ERRORS, "snapshot table entry " U " has too much extra metadata: " U " bytes" },
	[F_SNAP_PLACE] = { ONCE | QCOW2_FIX_ERRORS, "no snapshots, but a table for them at 0x" X },
	[F_RT_PLACE] = { QCOW2_FIX_ERRORS, "refcount table offset=0x" X " size=0x" X " is no table of this file" },
	[F_RB_RESERVED] = { ONCE | QCOW2_FIX_ERRORS, "refcount table entry " U " has reserved bits set" },
	[F_RB_ALIGN] = { ONCE | QCOW2_FIX_ERRORS,
		"refcount block " U " is not cluster aligned; refcount table entry corrupted" },
	[F_RB_OUTSIDE] = { ONCE | QCOW2_FIX_ERRORS, "refcount block " U " is outside image" },
	[F_RB_COUNT] = { QCOW2_FIX_ERRORS, "refcount block " U " refcount=" U },
	[F_BM_DIR] = { ONCE, "bitmap directory entry " U " is corrupt" },
	[F_BM_ENTRY] = { ONCE, "bitmap table entry 0x" X " is corrupt" },
	[F_BM_TABLE] = { ONCE, "bitmap directory offset=0x" X " size=0x" X " is corrupt" },
	[F_OVERFLOW] = { 0, "overflow cluster offset=0x" X },
	[F_RC_LOW] = { QCOW2_FIX_ERRORS, "cluster " U " refcount=" U " reference=" U },
	[F_RC_HIGH] = { QCOW2_FIX_LEAKS, "cluster " U " refcount=" U " reference=" U },
	[F_FLAG_L2] = { QCOW2_FIX_ERRORS, "OFLAG_COPIED L2 cluster: l1_index=" U " l1_entry=" X " refcount=" U },
	[F_FLAG_DATA] = { QCOW2_FIX_ERRORS, "OFLAG_COPIED data cluster: l2_entry=" X " refcount=" U },
	[F_SHARED_L2] = { QCOW2_FIX_ERRORS, "OFLAG_COPIED L2 cluster: l1_index=" U " l1_entry=" X " refcount=" U },
	[F_SHARED_DATA] = { QCOW2_FIX_ERRORS, "OFLAG_COPIED data cluster: l2_entry=" X " refcount=" U },
};

bool finding_fixable(const struct chk *c, enum finding f)
{
	if (f == F_L2_PREALLOC || f == F_PACKED_COPIED || f == F_PACKED_BITMAP)
		return c->mend;
	if (f == F_FLAG_L2 || f == F_FLAG_DATA)
		return c->flags;
	if (f == F_SHARED_L2 || f == F_SHARED_DATA)
		return c->flags || c->shared;
	return table[f].who & c->fix;
}

void found(struct chk *c, enum finding f, uint64_t times, ...)
{
	char line[512];
	va_list ap;
	int n;

	if (c->mute || (c->later && (table[f].who & ONCE)))
		return;
	c->seen[f] += times;
	if (!c->report)
		return;
	n = snprintf(line, sizeof line, "%s ", finding_fixable(c, f) ? "Repairing" : f == F_RC_HIGH ? "Leaked" : "ERROR");
	va_start(ap, times);
	vsnprintf(line + n, sizeof line - (size_t)n, table[f].fmt, ap);
	va_end(ap);
	c->report(c->ctx, line);
}

void findings_sum(struct chk *c, bool repaired)
{
	for (unsigned f = 0; f < N_FINDINGS; f++) {
		bool done = repaired && finding_fixable(c, (enum finding)f);

		if (f == F_RC_HIGH)
			*(done ? &c->r->leaks_fixed : &c->r->leaks) += c->seen[f];
		else
			*(done ? &c->r->corruptions_fixed : &c->r->corruptions) += c->seen[f];
	}
}

uint64_t findings_but(const struct chk *c, const int *but)
{
	uint64_t n = 0;

	for (int f = 0; f < N_FINDINGS; f++) {
		const int *b = but;

		while (*b >= 0 && *b != f)
			b++;
		n += *b < 0 ? c->seen[f] : 0;
	}
	return n;
}
