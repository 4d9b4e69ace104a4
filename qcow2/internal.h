/* What the files of qcow2/ share. Nothing outside the room includes this. */
#ifndef QCOW2_INTERNAL_H
#define QCOW2_INTERNAL_H

#include "lib/endian.h"
#include "lib/limits.h"
#include "lib/own.h"
#include "qcow2/qcow2.h"

/* "Header": byte offsets */
#define HDR_MAGIC       0
#define HDR_VERSION     4
#define HDR_BACKING_OFF 8
#define HDR_BACKING_LEN 16
#define HDR_CLUSTER     20
#define HDR_SIZE        24
#define HDR_CRYPT       32
#define HDR_L1_SIZE     36
#define HDR_L1_OFF      40
#define HDR_RT_OFF      48
#define HDR_RT_CLUSTERS 56
#define HDR_N_SNAPS     60
#define HDR_SNAP_OFF    64
#define HDR_V2_LEN      72
#define HDR_INCOMPAT    72
#define HDR_COMPAT      80
#define HDR_AUTOCLEAR   88
#define HDR_REF_ORDER   96
#define HDR_LEN         100
#define HDR_V3_LEN      104
#define HDR_COMPRESSION 104

#define QCOW2_MAGIC   0x514649fbu

#define SECTOR        512u /* what a disk writes whole, or not at all */
#define HDR_FULL_LEN  112  /* what we write for version 3: with the compression type and its padding */

#define KNOWN_INCOMPAT  (0x1full)
#define KNOWN_COMPAT    (1ull)
#define KNOWN_AUTOCLEAR (3ull)

/* "Header extensions": types */
#define EXT_END         0x00000000u
#define EXT_BACKING_FMT 0xe2792acau
#define EXT_FEATURES    0x6803f857u
#define EXT_BITMAPS     0x23852875u
#define EXT_CRYPTO      0x0537be77u
#define EXT_DATA_FILE   0x44415441u
#define EXT_MARK        0x66726d61u /* ours: who made the image, 64 bits */

/* "L1 table entry", "L2 table entry", "Extended L2 Entries" */
#define OFLAG_COPIED     (1ull << 63)
#define OFLAG_COMPRESSED (1ull << 62)
#define OFLAG_ZERO       (1ull << 0)
#define OFFSET_MASK      0x00fffffffffffe00ull
#define L1_RESERVED      0x7f000000000001ffull
#define L2_RESERVED      0x3f000000000001feull /* of standard clusters; bit 0 besides in version 2 and with extended L2 */
#define RT_RESERVED      0x00000000000001ffull

/* The header, decoded and in range. */
struct qhdr {
	unsigned version, cluster_bits, refcount_order, crypt, compression;
	uint32_t len; /* of the header structure */
	uint64_t backing_off;
	uint32_t backing_len;
	uint64_t size;
	uint32_t l1_size;
	uint64_t l1_off;
	uint64_t rt_off;
	uint32_t rt_clusters;
	uint32_t n_snaps;
	uint64_t snap_off;
	uint64_t incompat, compat, autoclear;
};

/* One header extension, unknown ones too. @data points into the handle's copy of the first cluster. */
struct qext {
	uint32_t type;
	uint32_t len;
	const uint8_t *data;
};
#define MAX_EXT 64

/* One block of refcounts, raw as on disk. */
struct rblk {
	uint8_t *data; /* NULL: not loaded, or not there when its table entry is 0 */
	uint8_t *pin;  /* a bit for each cluster: freed since the last commit, so the old image still uses
	                * it; behind those, a bit for each that was a table which moved */
	bool dirty;
	bool moved;    /* has its new place for this commit already */
};

/* "Host cluster management". Loaded on demand by the refs_* functions. */
struct refs {
	uint64_t *table; /* refcount table, host order; NULL: not loaded */
	struct rblk *blk;
	size_t n;        /* entries of both */
	size_t loaded;   /* blocks in memory, against what the file can hold */
	uint64_t hint;   /* no free cluster below this one */
	uint64_t packed; /* where the next compressed cluster may go, in the rest of the last one's; 0: nowhere */
};

/* Adjacent writes, joined. */
struct wbuf {
	uint8_t *p;
	uint64_t off;
	size_t n;
};

/* "Bitmaps", as loaded by qcow2_bitmaps(). */
struct bitmaps {
	bool loaded;
	struct qcow2_bitmap *list;
	unsigned n;
	uint64_t dir_off, dir_bytes;
};

/* The tables that the last call of map.c used. */
struct view {
	int snap;
	uint64_t *l1; /* of a snapshot; the active layer's is q->l1 */
	size_t n;
	uint64_t l2_off;
	uint8_t *l2;
};

struct qcow2 {
	struct dev *dev;
	bool own_dev, rw, check;
	bool lost; /* a commit's outcome is unknown: reopen */
	uint64_t cluster;         /* bytes */
	unsigned l2_bits;         /* log2 of the entries of an L2 table */
	unsigned l2_step;         /* bytes of one: 8, or 16 with extended L2 */
	struct qhdr h;
	uint8_t *first;           /* the first cluster's head: header, extensions, backing name */
	size_t first_len;
	struct qext ext[MAX_EXT]; /* in the file's order */
	unsigned n_ext;
	char *backing, *backing_fmt, *data_file;
	struct qcow2_snap *snaps;
	uint64_t snap_bytes;      /* of the snapshot table on disk */
	uint64_t *l1;             /* active L1, host order, h.l1_size entries; NULL: not loaded (q_load_l1) */
	struct refs refs;
	struct wbuf wbuf;
	struct bitmaps bitmaps;
	struct view *view;        /* map.c's tables */
	bool unflushed;           /* something was written since the last flush */
	uint64_t old_size;        /* of the file, when the first uncommitted write was made; 0: none */
};

/* ---- handle.c: parts of it are forgotten, and read afresh when they are needed ---- */
void snaps_free(struct qcow2_snap *s, unsigned n);
void refs_done(struct refs *r);
/* The tables changed: forget what was kept of them. */
void map_forget(struct qcow2 *q);
void bitmaps_free(struct bitmaps *b);

/* ---- header.c: bytes <-> struct ---- */
int hdr_decode(const uint8_t *p, size_t n, struct qhdr *h, struct err *e) MUST_CHECK;
/* Patch @h's fields into @p, which holds at least max(h->len, 72) bytes; other bytes of a header are kept. */
void hdr_encode(const struct qhdr *h, uint8_t *p);
/* Unknown incompatible bits (named by the image's own table @names, or NULL) and what bits and fields must agree on. */
int hdr_check_features(const struct qhdr *h, const struct qext *names, struct err *e) MUST_CHECK;
/*
 * Find the extensions between @from and @end in the @n bytes at @p, the file's first. @want: out; not 0 if more bytes
 * of the file are needed to know. At most MAX_EXT.
 */
int ext_parse(const uint8_t *p, size_t n, uint64_t from, uint64_t end, struct qext *ext, unsigned *n_ext, size_t *want,
	struct err *e) MUST_CHECK;
const struct qext *ext_find(const struct qcow2 *q, uint32_t type);

/* ---- head.c: the first cluster as a whole ---- */
/* A header to be written. */
struct head {
	struct qhdr h;
	const struct qext *ext; /* in order; the feature name table among them is not looked at */
	unsigned n_ext;
	bool features;          /* with a feature name table, if there is room; version 3 only */
	const char *backing;    /* NULL: none */
};

/* Write the header of a new image: what is past the first sector, a flush, the first sector (commit point), a flush. */
int head_create(struct qcow2 *q, struct head *hd, struct err *e) MUST_CHECK;

/*
 * Make @hd the header: see head.c. Two flushes (four where the header has to be shortened first). Commit point: the
 * last write of the first sector. On success the handle's header, extensions and names are the new ones.
 * -ENOSPC: does not fit into the first cluster.
 */
int head_switch(struct qcow2 *q, struct head *hd, struct err *e) MUST_CHECK;

/* ---- create.c ---- */
/* Back a part of the file with space (and zeros, with FULL), growing the file as needed. */
int prealloc_area(struct qcow2 *q, uint64_t off, uint64_t n, enum qcow2_prealloc how, struct err *e) MUST_CHECK;

/* ---- read.c ---- */
/*
 * Is [@off, @off + @n * @unit) a region that the image may name? The product and the end do not overflow, the size is
 * at most @cap bytes, the start is at a cluster's and inside the file. The last cluster of a file may be cut short;
 * the region may reach past the file's end by less than a cluster, where it reads as zeros.
 * -EFBIG over @cap, else -EUCLEAN. An empty region is fine wherever it claims to be.
 */
int region_check(const struct qcow2 *q, const char *what, uint64_t off, uint64_t n, uint64_t unit, uint64_t cap,
	struct err *e) MUST_CHECK;

/* Read metadata of a checked region: what the file's end cuts off reads as zeros. */
int q_read(struct qcow2 *q, uint64_t off, void *buf, size_t n, struct err *e) MUST_CHECK;

/* Read a checked table of @n be64 entries into a new array in host order. Caller frees *@out. */
int q_read_table(struct qcow2 *q, uint64_t off, size_t n, const char *what, uint64_t **out, struct err *e) MUST_CHECK;

/* Decode header, extensions and names from q->first. @want: out; not 0 if more bytes of the file are needed. */
int q_parse_first(struct qcow2 *q, size_t *want, struct err *e) MUST_CHECK;

/* The same for an L1 table anywhere; and the active layer's, into q->l1. */
int q_read_l1(struct qcow2 *q, uint64_t off, uint64_t n, uint64_t **out, struct err *e) MUST_CHECK;
int q_load_l1(struct qcow2 *q, struct err *e) MUST_CHECK;

/* -ENOMEM. */
int q_nomem(struct err *e);

/* Check can tell more, and do something about it. Returns e->code. */
int q_hint_check(const struct qcow2 *q, struct err *e);

/* May this image be changed now? Refuses read-only handles, dirty and corrupt images, and lost ones. */
int q_may_write(struct qcow2 *q, const char *what, struct err *e) MUST_CHECK;

static inline uint64_t q_clusters(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes >> q->h.cluster_bits) + ((bytes & (q->cluster - 1)) != 0);
}

/* L1 entries that a disk of @size bytes needs: also the first that describes VM state. */
static inline uint64_t q_l1_needed(const struct qcow2 *q, uint64_t size)
{
	unsigned shift = q->h.cluster_bits + q->l2_bits;

	return (size >> shift) + ((size & ((1ull << shift) - 1)) != 0);
}

/* ---- l2.c: entries decoded ---- */
enum l2_kind { L2_UNALLOCATED, L2_ZERO, L2_DATA, L2_COMPRESSED };

/* The host clusters that entry @v refers to: @n of them from cluster number @first; n is 0 for none. */
void l2_refs(const struct qcow2 *q, uint64_t v, uint64_t *first, uint64_t *n);

/* A compressed entry's bytes on the host. "Compressed Clusters Descriptor". */
void l2_compressed(const struct qcow2 *q, uint64_t v, uint64_t *hoff, uint64_t *len);

/* The entry for @len compressed bytes at @hoff. -EFBIG: the format cannot say that offset. */
int l2_packed(const struct qcow2 *q, uint64_t hoff, uint64_t len, uint64_t *v, struct err *e) MUST_CHECK;

/* ---- refs.c: "Host cluster management" ---- */
static inline uint64_t refs_per_block(const struct qcow2 *q)
{
	return q->cluster << 3 >> q->h.refcount_order;
}
static inline uint64_t refs_max(const struct qcow2 *q)
{
	return q->h.refcount_order == 6 ? UINT64_MAX : (1ull << (1u << q->h.refcount_order)) - 1;
}

/* One entry of a block as it is on disk, of width 1 << @order bits. */
uint64_t refblock_get(const uint8_t *blk, unsigned order, uint64_t i);
void refblock_set(uint8_t *blk, unsigned order, uint64_t i, uint64_t v);

/* Load the refcount table. Everything below does this by itself. */
int refs_load(struct qcow2 *q, struct err *e) MUST_CHECK;

/* The block of index @i for reading; *@p is NULL if there is none (all its refcounts are 0). Borrowed. */
int refs_block(struct qcow2 *q, uint64_t i, const uint8_t **p, struct err *e) MUST_CHECK;

/* Forget a loaded clean block's memory (a walk over a large image). */
void refs_drop(struct qcow2 *q, uint64_t i);

int refs_get(struct qcow2 *q, uint64_t cluster, uint64_t *rc, struct err *e) MUST_CHECK;

/*
 * Change in memory what the next txn_commit() writes. refs_add() moves @n refcounts up or down by one: each must be
 * above 0 before (-EUCLEAN) and fit (-EFBIG). refs_set() sets any value; blocks that are missing are made.
 * Clusters that become 0 stay out of refs_alloc() until the commit: the old image still uses them.
 */
int refs_add(struct qcow2 *q, uint64_t first, uint64_t n, int delta, struct err *e) MUST_CHECK;
int refs_set(struct qcow2 *q, uint64_t first, uint64_t n, uint64_t v, struct err *e) MUST_CHECK;

/* Take @n free clusters in one piece, refcount 1: free in the old image too. @hoff: out, bytes. */
int refs_alloc(struct qcow2 *q, uint64_t n, uint64_t *hoff, struct err *e) MUST_CHECK;

/* The same for @min to *@n clusters; *@n becomes how many: the first piece that is long enough. */
int refs_alloc_some(struct qcow2 *q, uint64_t min, uint64_t *n, uint64_t *hoff, struct err *e) MUST_CHECK;

/* Room for @n bytes of a compressed cluster, less than a cluster: right behind the last one where that is possible. */
int refs_alloc_packed(struct qcow2 *q, uint64_t n, uint64_t *hoff, struct err *e) MUST_CHECK;

/* Give back what a table of @bytes at @hoff occupies. */
int refs_free(struct qcow2 *q, uint64_t hoff, uint64_t bytes, struct err *e) MUST_CHECK;

/*
 * Give back the cluster of a table that moves. It is not discarded: the next table moves to its place, and for
 * hundreds of them, each alone between data, a hole in the file costs more than all the rest.
 */
int refs_retire(struct qcow2 *q, uint64_t hoff, struct err *e) MUST_CHECK;

/* ---- write.c ---- */
/* Write new metadata into clusters of refs_alloc(). Adjacent writes are joined; nothing is durable yet. */
int txn_write(struct qcow2 *q, uint64_t off, const void *buf, size_t n, struct err *e) MUST_CHECK;

/* For writes that go to the device directly: call it before the first. */
void txn_touch(struct qcow2 *q);

/* A flush, if anything was written since the last one. */
int txn_barrier(struct qcow2 *q, struct err *e) MUST_CHECK;

/* The commit point itself: the first sector, a flush. Whoever fails here leaves the handle lost. */
int txn_put_sector(struct qcow2 *q, const uint8_t *p, size_t n, struct err *e) MUST_CHECK;

/* A table of @n entries in host order, written big-endian and padded with zeros to whole clusters. */
int txn_write_table(struct qcow2 *q, uint64_t off, const uint64_t *t, size_t n, struct err *e) MUST_CHECK;

/* Hand what is still joined to the device. */
int txn_write_done(struct qcow2 *q, struct err *e) MUST_CHECK;

/* ---- txn.c: the shadow commit ---- */
/*
 * Write changed refcount blocks and the refcount table to new places, flush, write the header's first sector with
 * *@nh (rt_off and rt_clusters are filled in here), flush. Commit point: that sector. On success q->h is *@nh.
 * On failure the caller calls txn_abort() and returns.
 */
int txn_commit(struct qcow2 *q, struct qhdr *nh, struct err *e) MUST_CHECK;

/* The two halves of that: all but the header, flushed; then the header's sector. */
int txn_prepare(struct qcow2 *q, struct qhdr *nh, struct err *e) MUST_CHECK;
int txn_publish(struct qcow2 *q, const struct qhdr *nh, struct err *e) MUST_CHECK;
int txn_publish_head(struct qcow2 *q, struct head *hd, struct err *e) MUST_CHECK;

/* The same with extensions and backing name: @hd as for head_switch(), which makes the commit. */
int txn_commit_head(struct qcow2 *q, struct head *hd, struct err *e) MUST_CHECK;

/*
 * The commit of an image that was empty, of which nothing is to move, so that it gets no larger than it has to be: changed
 * refcount blocks, a flush, the refcount table, a flush, then @l1, all where they are. Commit point: every sector of the
 * L1 table for itself, so a cut leaves parts of the disk, and what the others have taken leaks. The refcount table has to
 * be long enough: txn_fits_fresh().
 */
int txn_commit_fresh(struct qcow2 *q, const uint64_t *l1, struct err *e) MUST_CHECK;
bool txn_fits_fresh(const struct qcow2 *q);

/* A head that changes nothing yet: the header, extensions (@ext: room for MAX_EXT) and name as they are. */
void txn_head(const struct qcow2 *q, struct head *hd, struct qext *ext);

/* Put, replace or (with @data NULL) take out one of @hd's extensions. -EFBIG: there are MAX_EXT. */
int txn_head_ext(struct head *hd, struct qext *ext, uint32_t type, const void *data, size_t len, struct err *e) MUST_CHECK;

/* Forget uncommitted refcounts and cut the file back. Returns e->code, so that "return txn_abort(q, e)" reads well. */
int txn_abort(struct qcow2 *q, struct err *e);

/* ---- tree.c: from an L1 table to all that it references ---- */
/* -EUCLEAN for an L2 entry that is none. */
int tree_bad_entry(struct qcow2 *q, uint64_t v, struct err *e);

/* Read the L2 table that L1 entry @entry names (not 0) into @buf, one cluster. */
int tree_read_l2(struct qcow2 *q, uint64_t entry, uint8_t *buf, struct err *e) MUST_CHECK;

/* Move the refcounts of what one L2 table refers to. */
int tree_count_l2(struct qcow2 *q, const uint8_t *l2, int delta, struct err *e) MUST_CHECK;

/* The same for the L2 tables of @l1 and all they refer to, but for entries that are the same in @except. */
int tree_count(struct qcow2 *q, const uint64_t *l1, size_t n, const uint64_t *except, size_t n_except, int delta,
	struct err *e) MUST_CHECK;

/* Set the COPIED flags of an L2 table of the active layer by the refcounts as they are now in memory. */
int tree_fix_l2(struct qcow2 *q, uint8_t *l2, bool *changed, struct err *e) MUST_CHECK;

/* Put @l2 to a new place in the stead of *@entry's table (0: there was none), and point *@entry there, COPIED. */
int tree_move_l2(struct qcow2 *q, uint64_t *entry, const uint8_t *l2, struct err *e) MUST_CHECK;

/* Both, for all L2 tables of an active @l1, and the flags of @l1 itself. */
int tree_fix_flags(struct qcow2 *q, uint64_t *l1, size_t n, struct err *e) MUST_CHECK;

/* Allocate and write an L1 table. *@off is 0 for an empty one. */
int tree_put_l1(struct qcow2 *q, const uint64_t *l1, size_t n, uint64_t *off, struct err *e) MUST_CHECK;

/* ---- snap_table.c: "Snapshots" ---- */
int snaps_load(struct qcow2 *q, struct err *e) MUST_CHECK;
size_t snaps_bytes(const struct qcow2_snap *s, unsigned n);
void snaps_encode(const struct qcow2_snap *s, unsigned n, uint8_t *p);
/* Write @s as a new snapshot table, and give back the one that stands. @off: out; 0 without snapshots. */
int snaps_put(struct qcow2 *q, const struct qcow2_snap *s, unsigned n, uint64_t *off, struct err *e) MUST_CHECK;

/* Bring the extra data in line with the struct's fields, growing it to what QEMU writes today (24 bytes). */
int snap_set_extra(struct qcow2_snap *s, struct err *e) MUST_CHECK;

/* Its L1 table, s->l1_size entries. Caller frees *@l1. */
int snap_load_l1(struct qcow2 *q, const struct qcow2_snap *s, uint64_t **l1, struct err *e) MUST_CHECK;

/* ---- bitmap_dir.c: more of it in bitmap.h ---- */
/* A directory entry without its strings, and how long it is with them; what the format says of it is true. */
void bitmap_decode(const uint8_t *p, struct qcow2_bitmap *b);
uint64_t bitmap_bytes(const struct qcow2_bitmap *b);
bool bitmap_formed(const struct qcow2_bitmap *b);

/* A bitmap's table, every cluster that it names inside the file. Caller frees *@t. */
int bitmap_load_table(struct qcow2 *q, const struct qcow2_bitmap *b, uint64_t **t, struct err *e) MUST_CHECK;

/* Write @t, @n entries, as @b's new table. */
int bitmap_put_table(struct qcow2 *q, struct qcow2_bitmap *b, const uint64_t *t, uint64_t n, struct err *e) MUST_CHECK;

/* ---- bitmap_merge.c ---- */
/* Says with bitmap_set(), in the disk's order, which parts of the disk are to be set in a bitmap. */
struct bitmap_sink;
typedef int bitmap_ranges_fn(void *ctx, struct bitmap_sink *s, struct err *e);

/* Set what covers bytes [@from, @to) of the disk. */
int bitmap_set(struct bitmap_sink *s, uint64_t from, uint64_t to, struct err *e) MUST_CHECK;

/* A transaction: set them in all enabled bitmaps. @ranges is called for each. */
int bitmaps_mark(struct qcow2 *q, bitmap_ranges_fn *ranges, void *ctx, struct err *e) MUST_CHECK;

/* ---- bitmap.c ---- */
/*
 * Part of a transaction that changes the disk: make the bitmaps' tables fit a disk of @size bytes, and with @dirty
 * set every bit of the enabled ones. Names the new directory in @hd; @x: storage for that. Afterwards the caller
 * commits with txn_commit_head() and calls bitmaps_free(), so that they are read afresh.
 */
int bitmaps_refit(struct qcow2 *q, struct head *hd, struct qext *ext, uint8_t x[24], uint64_t size, bool dirty,
	struct err *e) MUST_CHECK;

#endif
