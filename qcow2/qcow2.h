/*
 * qcow2 images as files: open, judge, snapshot, resize, amend. Knows no VM and no monitor.
 *
 * Specification: QEMU, docs/interop/qcow2.rst; section names in quotes below are its.
 *
 * How every change is made ("shadow commit"): all new tables, refcount blocks included, are written to clusters that
 * the image as it stands does not use; a flush; then the first sector of the header, which names the active L1 table,
 * the refcount table and the snapshot table, is written: that one write is the commit point of every mutating
 * function here; a flush. A cut at any moment leaves the old image or the new one, exactly, not even a leak.
 * On failure before the commit point the image is the old one and the file has its old length again.
 */
#ifndef QCOW2_QCOW2_H
#define QCOW2_QCOW2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/dev.h"
#include "lib/err.h"

struct qcow2;

enum qcow2_open_flags {
	QCOW2_RW = 1,    /* for changes; without it nothing is written */
	QCOW2_SHARE = 2, /* -U, --force-share: take no lock; not with QCOW2_RW */
	QCOW2_FOREIGN = 8, /* image_open(): a format found that cannot be read is no error: to say what it is */
	QCOW2_CHECK = 4, /* for check and repair: also what is corrupt in ways that these can deal with */
	QCOW2_ALONE = 16, /* image_open_chain(): without its backing file */
	QCOW2_NAMES = 32, /* image_open_chain(), image_open_backing(): backing files may be recorded as "json:{...}" */
};

/*
 * Open an image: header, extensions and snapshot table are read, decoded and checked; L1 and refcounts when needed.
 *
 * @path: borrowed for the handle's life
 * @out:  close with qcow2_close()
 *
 * Takes QEMU's image locks (qcow2/lock.h) unless QCOW2_SHARE. Does not open the backing file or a data file.
 * -EUCLEAN: breaks the format; -EOPNOTSUPP: a feature that we do not know, named; -EBUSY: in use, the holder named;
 * -EINVAL: no qcow2 image.
 */
int qcow2_open(const char *path, unsigned flags, struct qcow2 **out, struct err *e) MUST_CHECK;

/* The same on a device, which the handle borrows. No locks. */
int qcow2_open_dev(struct dev *d, unsigned flags, struct qcow2 **out, struct err *e) MUST_CHECK;

void qcow2_close(struct qcow2 *q);

static inline void qcow2_closep(struct qcow2 **q)
{
	qcow2_close(*q);
}
#define auto_qcow2 __attribute__((cleanup(qcow2_closep)))

/*
 * The format by its magic number: "qcow2", "raw" where there is none that is known, or the name that qemu-img has for a
 * format that nothing here reads: vmdk, vdi, vhdx, vpc, qed, qcow, parallels, luks, bochs, cloop, dmg.
 */
int qcow2_probe(struct dev *d, const char **format, struct err *e) MUST_CHECK;

/* ---- what the image says of itself ---- */

/* "Header": feature bits */
#define QCOW2_INCOMPAT_DIRTY       (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT     (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE   (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXT_L2      (1ull << 4)
#define QCOW2_COMPAT_LAZY          (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS    (1ull << 0)
#define QCOW2_AUTOCLEAR_DATA_RAW   (1ull << 1)

struct qcow2_info {
	unsigned version;        /* 2 (compat 0.10) or 3 (compat 1.1) */
	unsigned cluster_bits;
	unsigned refcount_bits;
	unsigned crypt;          /* 0 none, 1 AES, 2 LUKS */
	unsigned compression;    /* 0 zlib (deflate), 1 zstd */
	uint64_t size;           /* of the virtual disk */
	uint64_t file_size;
	uint64_t incompat, compat, autoclear;
	const char *backing;     /* NULL: none */
	const char *backing_fmt; /* NULL: not recorded */
	const char *data_file;   /* NULL: none recorded */
	unsigned n_snaps;
	unsigned n_bitmaps;      /* 0 too when the extension is not consistent */
	uint64_t mark;           /* of qcow2_create(); 0: none */
};

/* Filled afresh at each call; strings are borrowed until the next change or close. */
void qcow2_get_info(const struct qcow2 *q, struct qcow2_info *out);

/* ---- snapshots: "Snapshots" ---- */

#define QCOW2_NO_ICOUNT UINT64_MAX

struct qcow2_snap {
	char *id;
	char *name;
	uint64_t vm_state_size; /* 0: none saved */
	uint64_t disk_size;     /* the virtual disk's size then */
	uint64_t vm_clock_ns;
	uint64_t icount;        /* QCOW2_NO_ICOUNT: was not on */
	uint32_t date_s;        /* since the epoch */
	uint32_t date_ns;
	uint64_t l1_off;
	uint32_t l1_size;       /* entries */
	uint16_t id_len, name_len; /* in the file: it may hold NULs */
	uint32_t extra_len;     /* of the extra data as it stands in the file */
	uint8_t *extra;
};

/* In the table's order. Borrowed until the next change or close. */
const struct qcow2_snap *qcow2_snaps(const struct qcow2 *q, unsigned *n);

enum qcow2_by { QCOW2_BY_ID = 1, QCOW2_BY_NAME = 2, QCOW2_BY_EITHER = 3 /* id first, then name */ };

/* The snapshot's index, or -1. */
int qcow2_snap_find(const struct qcow2 *q, const char *key, enum qcow2_by by);

struct qcow2_snap_new {
	const char *name;
	const char *id;         /* NULL: as QEMU chooses, the largest number + 1 */
	uint32_t date_s, date_ns;
	uint64_t vm_state_size; /* with VM state already in the active layer, behind the disk's end; else 0 */
	uint64_t vm_clock_ns;
	uint64_t icount;        /* QCOW2_NO_ICOUNT */
};

/*
 * Take an internal snapshot of the active layer. A name may stand more than once, as with QEMU; an id may not.
 * -EEXIST for a used id; -EOPNOTSUPP with an external data file; -EFBIG when refcounts are too narrow.
 */
int qcow2_snap_create(struct qcow2 *q, const struct qcow2_snap_new *s, struct err *e) MUST_CHECK;

/*
 * Make snapshot @index the active layer's content, and its disk size the disk's. Enabled bitmaps become all dirty.
 * VM state is not taken over: QEMU loads it from the snapshot itself. Idempotent.
 */
int qcow2_snap_apply(struct qcow2 *q, unsigned index, struct err *e) MUST_CHECK;

/* Delete snapshot @index; clusters that nothing else uses become free. */
int qcow2_snap_delete(struct qcow2 *q, unsigned index, struct err *e) MUST_CHECK;

/*
 * The same in two halves, for who changes several images together: all that the new image needs is written beside the old
 * one and flushed, and nothing refers to it yet; then one write to the header makes it the image. In between the handle is
 * good for nothing else, and has to stay open.
 */
struct qcow2_change;

/* What of that can be refused without a write: the image's marks, its tables, those of snapshot @index (-1: none). */
int qcow2_snap_check(struct qcow2 *q, int index, struct err *e) MUST_CHECK;

int qcow2_snap_create_begin(struct qcow2 *q, const struct qcow2_snap_new *s, struct qcow2_change **out, struct err *e) MUST_CHECK;
int qcow2_snap_apply_begin(struct qcow2 *q, unsigned index, struct qcow2_change **out, struct err *e) MUST_CHECK;
int qcow2_snap_delete_begin(struct qcow2 *q, unsigned index, struct qcow2_change **out, struct err *e) MUST_CHECK;

/* Either frees @c. A commit that fails leaves the old image, unless qcow2_is_lost(); qcow2_change_drop(): c may be NULL. */
int qcow2_change_commit(struct qcow2_change *c, struct err *e) MUST_CHECK;
void qcow2_change_drop(struct qcow2_change *c);

/* The id of the snapshot that it creates; where the active layer's L1 table lies afterwards: never where it was. */
const char *qcow2_change_id(const struct qcow2_change *c);
uint64_t qcow2_change_l1(const struct qcow2_change *c);

/* Where that table lies now. */
uint64_t qcow2_l1_at(const struct qcow2 *q);

/* The last commit failed in its last write, which may be on the disk or not. */
bool qcow2_is_lost(const struct qcow2 *q);

/* Bytes of the file that snapshot @index uses, and of these, what nothing else uses. */
int qcow2_snap_space(struct qcow2 *q, unsigned index, uint64_t *used, uint64_t *alone, struct err *e) MUST_CHECK;

/* ---- VM state: "Snapshot table entry" ---- */

/*
 * Is all of snapshot @index's VM state there? @whole: out; every cluster of it is allocated in the snapshot's tables
 * and inside the file. True for a snapshot without VM state. The state's content is not looked at.
 */
int qcow2_vm_state_whole(struct qcow2 *q, unsigned index, bool *whole, struct err *e) MUST_CHECK;

/*
 * Free what the active layer has allocated behind the virtual disk's end: what a savevm that failed leaves there.
 * Nothing is written if there is none.
 */
int qcow2_vm_state_drop(struct qcow2 *q, struct err *e) MUST_CHECK;

/* ---- mapping: "Cluster mapping", "Extended L2 Entries" ---- */

enum qcow2_kind {
	QCOW2_HOLE,       /* not in this file: the backing file's content, or zeros without one */
	QCOW2_ZEROS,      /* reads as zeros, whatever a backing file says */
	QCOW2_DATA,       /* at hoff, in this file or its data file */
	QCOW2_COMPRESSED, /* clen bytes at hoff, any alignment; len is the guest's */
};

struct qcow2_run {
	uint64_t goff, len; /* on the guest's disk, bytes */
	enum qcow2_kind kind;
	bool has_hoff;      /* always with data; with zeros and holes when there is a cluster for them all the same */
	uint64_t hoff, clen;
};

/*
 * What is at guest offset @goff: the longest run of one kind from there, within one L2 table and the disk.
 *
 * @snap: index of a snapshot, or -1 for the active layer
 *
 * -ERANGE past the end of the disk; -EUCLEAN if an entry breaks the format. One L2 table is kept between calls, so
 * that walking the disk upward reads each once. Works on the handle's state at the last commit.
 */
int qcow2_map(struct qcow2 *q, int snap, uint64_t goff, struct qcow2_run *run, struct err *e) MUST_CHECK;

/* The same for byte @off of snapshot @index's VM state; @run->goff counts from its start. -ERANGE past its end. */
int qcow2_vm_state_map(struct qcow2 *q, unsigned index, uint64_t off, struct qcow2_run *run, struct err *e) MUST_CHECK;

/* ---- new images ---- */

enum qcow2_prealloc { QCOW2_PREALLOC_OFF, QCOW2_PREALLOC_METADATA, QCOW2_PREALLOC_FALLOC, QCOW2_PREALLOC_FULL };

struct qcow2_create {
	uint64_t size;          /* of the virtual disk, bytes; a multiple of 512 */
	unsigned version;       /* 2 or 3; 0: 3 */
	unsigned cluster_bits;  /* 9 to 21; 0: 16 */
	unsigned refcount_bits; /* a power of two, 1 to 64; 0: 16 */
	unsigned compression;   /* 0 zlib, 1 zstd */
	bool lazy_refcounts, ext_l2, data_file_raw;
	bool whole;             /* its refcount table is long enough for all of the disk: what fills it moves nothing */
	enum qcow2_prealloc prealloc;
	const char *backing, *backing_fmt; /* recorded as they are, not opened */
	const char *data_file;  /* recorded, not made: dev_open() and dev_truncate() it before */
	uint64_t mark;          /* what made it is known by, in an extension that all programs carry on; 0: nothing */
};

/*
 * Write an empty image. Tables first, then a flush, then the header's sector: half a creation is no image.
 * -EINVAL: options that contradict each other or the format; nothing is written then.
 */
int qcow2_create_dev(struct dev *d, const struct qcow2_create *o, struct err *e) MUST_CHECK;

/* The same in a file, made with mode 0600 if it is not there; what it held is lost. -EBUSY: in use by somebody. */
int qcow2_create(const char *path, const struct qcow2_create *o, struct err *e) MUST_CHECK;

/*
 * Bytes of an image file with all its @size bytes allocated, as qemu-img measure counts ("fully-allocated-size").
 * -EINVAL, -EFBIG: there can be no such image; qcow2_create() would say the same.
 */
int qcow2_full_size(const struct qcow2_create *o, uint64_t *bytes, struct err *e) MUST_CHECK;

/* ---- changing an image ---- */

/*
 * Give the disk another size. Growing extends the L1 table when needed; the new part reads as zeros.
 *
 * @hide_to:  when there is a backing file: its size, so that what it holds past the old end stays hidden; else 0
 * @prealloc: for the new part
 *
 * Shrinking (only if @shrink, else -EINVAL) frees what is past the new end.
 * -EOPNOTSUPP: a version 2 image with snapshots, and what has to be zeroed in version 2.
 */
int qcow2_resize(struct qcow2 *q, uint64_t size, bool shrink, uint64_t hide_to, enum qcow2_prealloc prealloc,
	struct err *e) MUST_CHECK;

/* Let the active layer have nothing of its own any more: the disk reads as the backing file, or as zeros. */
int qcow2_make_empty(struct qcow2 *q, struct err *e) MUST_CHECK;

/* Record another backing file (NULL: none) and format (NULL: not recorded) without touching data: rebase -u. */
int qcow2_set_backing(struct qcow2 *q, const char *backing, const char *fmt, struct err *e) MUST_CHECK;

/* What amend can change besides size and backing file. -1: as it is. */
struct qcow2_amend {
	int version;        /* 2 or 3 */
	int lazy_refcounts; /* 0 or 1 */
	int data_file_raw;  /* 0 or 1; setting it is only true of images made so: -EINVAL unless it is set */
	int refcount_bits;
	const char *data_file; /* NULL: as it is */
};
#define QCOW2_AMEND_NOTHING { -1, -1, -1, -1, NULL }
int qcow2_amend(struct qcow2 *q, const struct qcow2_amend *a, struct err *e) MUST_CHECK;

/* ---- bitmaps: "Bitmaps" ---- */

#define QCOW2_BITMAP_IN_USE 1u
#define QCOW2_BITMAP_AUTO   2u /* enabled */

struct qcow2_bitmap {
	char *name;
	uint64_t granularity; /* bytes of disk for each bit */
	unsigned gran_bits;
	unsigned type;        /* 1: dirty tracking */
	uint32_t flags;
	uint64_t table_off;
	uint32_t table_size;  /* entries */
	uint32_t extra_len;
	uint8_t *extra;
	uint16_t name_len;
};

/* The bitmap directory; *@n is 0 where there is none or the image does not vouch for it. Borrowed as snapshots are. */
int qcow2_bitmaps(struct qcow2 *q, const struct qcow2_bitmap **list, unsigned *n, struct err *e) MUST_CHECK;

/* @granularity: a power of two, 512 to 2 GiB; 0: as QEMU chooses, the cluster size within 4 KiB and 64 KiB. -EEXIST. */
int qcow2_bitmap_add(struct qcow2 *q, const char *name, uint64_t granularity, bool disabled, struct err *e) MUST_CHECK;

/* These refuse a name that is not there (-ENOENT), and a bitmap in use (-EBUSY) but for removal. */
int qcow2_bitmap_remove(struct qcow2 *q, const char *name, struct err *e) MUST_CHECK;
int qcow2_bitmap_clear(struct qcow2 *q, const char *name, struct err *e) MUST_CHECK;
int qcow2_bitmap_enable(struct qcow2 *q, const char *name, bool on, struct err *e) MUST_CHECK;

/* Add the bits of bitmap @from of image @src (may be @q) to bitmap @name. Disks have to be of one size. */
int qcow2_bitmap_merge(struct qcow2 *q, const char *name, struct qcow2 *src, const char *from, struct err *e) MUST_CHECK;

/* ---- check and repair ---- */

enum qcow2_fix { QCOW2_FIX_LEAKS = 1, QCOW2_FIX_ERRORS = 2 };

/* What was found, and what of it is left after a repair. */
struct qcow2_check {
	uint64_t image_end;      /* bytes up to the last cluster in use */
	uint64_t total_clusters; /* of the virtual disk */
	uint64_t allocated, fragmented, compressed; /* guest clusters of the active layer */
	uint64_t check_errors;   /* what could not be looked at */
	uint64_t corruptions, leaks;
	uint64_t corruptions_fixed, leaks_fixed;
};

/* One finding, a line without its newline. Borrowed. */
typedef void qcow2_report(void *ctx, const char *line);

/*
 * Check refcounts, tables, entries, snapshots and bitmaps; repair what @fix (of enum qcow2_fix) allows.
 *
 * @report: told every finding in qemu-img's words; NULL: nobody is
 *
 * The handle is best opened with QCOW2_CHECK. Repair needs QCOW2_RW. Refcounts, COPIED flags and the snapshot table
 * are repaired by one shadow commit, dirty and corrupt marks go with it; single entries of L2 tables are mended in
 * place before it, each one on its own. Leaks are repaired only when nothing hides what they might belong to.
 * At most 32 MiB are used for counting whatever the file's size; larger ones are walked more than once.
 *
 * 0 when the check was made, whatever it found; else nobody knows, and out->check_errors says so.
 */
int qcow2_check(struct qcow2 *q, unsigned fix, qcow2_report *report, void *ctx, struct qcow2_check *out, struct err *e)
	MUST_CHECK;

#endif
