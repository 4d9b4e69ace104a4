/* What check and repair share. */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "qcow2/cells.h"
#include "qcow2/internal.h"

#define MAX_REBUILD (256 * MIB) /* of refcount blocks made anew in memory */
#define L1_CHUNK    8192        /* entries of an L1 table read at once */

/* All that check can find. finding.c has the one table of what each means. */
enum finding {
	F_L1_RESERVED, F_L1_ALIGN, F_L2_RESERVED, F_V2_ZERO, F_L2_ALIGN, F_L2_PREALLOC,
	F_PACKED_COPIED, F_PACKED_DATA_FILE, F_PACKED_BITMAP, F_SUB_BOTH, F_SUB_NONE,
	F_PAST_END, F_OVERLAP, F_TANGLED,
	F_SNAP_DATA_FILE, F_SNAP_ALIGN, F_SNAP_LARGE, F_SNAP_SHORT, F_SNAP_LONG, F_SNAP_PLACE,
	F_RT_PLACE, F_RB_RESERVED, F_RB_ALIGN, F_RB_OUTSIDE, F_RB_COUNT,
	F_BM_DIR, F_BM_ENTRY, F_BM_TABLE,
	F_OVERFLOW, F_RC_LOW, F_RC_HIGH, F_FLAG_L2, F_FLAG_DATA, F_SHARED_L2, F_SHARED_DATA,
	N_FINDINGS
};

/* An L2 table that some L1 entries name. */
struct l2ref {
	uint64_t off;
	uint32_t n;      /* how many L1 entries */
	uint32_t active; /* how many of these in the active L1 table */
};

enum phase {
	PH_COUNT, /* judge entries and count what they refer to */
	PH_FLAGS, /* compare COPIED flags with refcounts: the active layer only */
	PH_MEND,  /* write entries that can be mended in place */
};

struct chk {
	struct qcow2 *q;
	unsigned fix;
	qcow2_report *report;
	void *ctx;
	struct qcow2_check *r;
	enum phase phase;
	uint64_t n_clusters; /* of the file */
	uint64_t n_past;     /* as many would it have if it had all that is referenced not too far behind its end */
	struct cells cells;
	struct l2ref *tab;   /* L2 tables to be walked next */
	size_t n_tab, tab_len;
	uint8_t *buf;        /* L2 tables or a refcount block */
	size_t buf_len;
	uint64_t *l1;        /* a piece of an L1 table, as on disk */
	uint64_t *rt;        /* a piece of the refcount table, as on disk, from entry rt_first on */
	uint64_t rt_first;   /* UINT64_MAX: none yet */
	uint64_t rt_n;       /* entries of the refcount table that count */
	uint64_t l1_left;    /* bytes of L1 tables that we are still willing to read */
	bool later;          /* not the first walk: what does not depend on the window has been reported */
	bool mute;           /* report nothing */
	bool mend;           /* entries that can be mended are or will be: they refer to nothing odd any more */
	bool flags;          /* COPIED flags are or will be repaired */
	bool shared;         /* those that shared clusters must not have are, whatever else cannot be repaired */
	bool apply;          /* comparing refcounts sets them */
	bool rebuild;        /* the refcount structure itself is broken */
	bool hidden;         /* there are references that we could not follow */
	uint64_t seen[N_FINDINGS];
};

/* ---- finding.c ---- */
/* Report @f, which stands @times times; its arguments all are uint64_t but as the table says. */
void found(struct chk *c, enum finding f, uint64_t times, ...);
/* May the caller's consent cover @f? */
bool finding_fixable(const struct chk *c, enum finding f);
/* Sums of what was seen into @c->r: apart, if @repaired, what the consent covers. */
void findings_sum(struct chk *c, bool repaired);
/* How often anything was seen but what @but lists (-1 ends it). */
uint64_t findings_but(const struct chk *c, const int *but);

/* ---- check.c ---- */
/* qcow2_check() with @cells bytes to count in, 4 at least. */
int check_within(struct qcow2 *q, unsigned fix, qcow2_report *report, void *ctx, uint64_t cells, struct qcow2_check *out,
	struct err *e) MUST_CHECK;

/* ---- claim.c ---- */
/*
 * Count @n bytes at @off as used for @use, @times times. False if the file ends before them.
 * @clash: out, set if another use was there before; NULL: report that.
 */
bool claim(struct chk *c, uint64_t off, uint64_t n, enum use use, uint32_t times, bool *clash);

/* ---- check_walk.c ---- */
/* Count (or set, see @c->apply) everything, window by window. */
int check_windows(struct chk *c, struct err *e) MUST_CHECK;
/* Walk all L1 tables in the present phase. */
int check_tables(struct chk *c, struct err *e) MUST_CHECK;

/* ---- check_l2.c ---- */
void check_l2(struct chk *c, const struct l2ref *t, const uint8_t *l2);
int check_l2_flags(struct chk *c, const struct l2ref *t, const uint8_t *l2, struct err *e) MUST_CHECK;
int check_l2_mend(struct chk *c, const struct l2ref *t, const uint8_t *l2, struct err *e) MUST_CHECK;

/* ---- check_refs.c ---- */
/* Judge the refcount table and its blocks and count them. */
int check_refblocks(struct chk *c, struct err *e) MUST_CHECK;
/* Compare the window's refcounts with the references. The cells then say which refcounts are 1, for flag_wrong(). */
int check_compare(struct chk *c, struct err *e) MUST_CHECK;
/* Does a COPIED flag contradict the refcount @rc (out, if so) of @cluster? False outside the window: ask again there. */
int flag_wrong(struct chk *c, uint64_t cluster, bool copied, bool *wrong, uint64_t *rc, struct err *e) MUST_CHECK;

/* ---- check_bitmap.c ---- */
int check_bitmaps(struct chk *c, struct err *e) MUST_CHECK;

/* ---- repair.c ---- */
/* Keep of @c->fix what can be done to what was found. */
void repair_plan(struct chk *c);
int repair(struct chk *c, struct err *e) MUST_CHECK;

#endif
