/* What the img commands share. Their exit statuses and words are qemu-img's: scripts read both. */
#ifndef INIT_IMG_IMG_H
#define INIT_IMG_IMG_H

#include "init/cli/cmd.h"
#include "lib/buf.h"
#include "qcow2/image/chain.h"

#define OPT_FORMAT(var) { 'f', "format", "FMT", "the image's format, qcow2 or raw; looked up when not given", OPT_STR(&(var)) }
#define OPT_SHARE(var)  { 'U', "force-share", NULL, "look even while others write", OPT_FLAG(&(var)) }
#define OPT_QUIET(var)  { 'q', "quiet", NULL, "say nothing but errors", OPT_FLAG(&(var)) }
#define OPT_BAR(var)   { 'p', "progress", NULL, "show how far it is", OPT_FLAG(&(var)) }
#define OPT_NODE      { 0, "image-opts", NULL, "FILE is a node's options: driver=qcow2,file.filename=FILE", OPT_FLAG(&img_naming.options) }
#define OPT_OBJECT    { 0, "object", "TYPE,...", "refused: there is nothing here that an object is for", OPT_STR(&img_naming.object) }
#define OPT_CACHE(var)    { 't', "cache", "MODE", "taken: what is written is flushed in any case", OPT_STR(&(var)) }

/* ---- util.c ---- */

/* "snapshots" as a table of qemu-img's; nothing when there are none. */
void img_print_snaps(const struct qcow2 *q);

/* Print a finished JSON text; b is done with. */
int img_print_json(struct buf *b, struct err *e) MUST_CHECK;

/* A size as qemu-img takes it; "-1" and "1X" are refused in its words. */
int img_size(const char *s, uint64_t *out, struct err *e) MUST_CHECK;

/* off, metadata, falloc or full. */
int img_prealloc(const char *s, enum qcow2_prealloc *out, struct err *e) MUST_CHECK;

/*
 * Which internal snapshot of @img -l means: an id or a name, or "snapshot.id=ID,snapshot.name=NAME". NULL is the active
 * layer, -1 in *@snap. *@size: of the disk then.
 */
int img_snap_find(const struct image *img, const char *which, int *snap, uint64_t *size, struct err *e) MUST_CHECK;

/* -EBUSY: a VM with a managed save needs @path as it is. Asked before any change. */
int img_unsaved(const char *path, struct err *e) MUST_CHECK;

/* ---- name.c: what an image is called on the command line, and opening it ---- */

/* What the options that all commands share have said. */
extern struct img_naming {
	bool options;       /* --image-opts */
	const char *object; /* --object; refused by img_name() */
} img_naming;

/* -EOPNOTSUPP if an --object was given: for who calls no img_name(). */
int img_no_object(struct err *e) MUST_CHECK;

/*
 * Read @given as a name, or as options with --image-opts. @format: of -f, goes before what the name says; NULL: none.
 * @out: image_name_free(). The second is for who has a switch of its own.
 */
int img_name(const char *given, const char *format, struct image_name **out, struct err *e) MUST_CHECK;
int img_name_as(const char *given, const char *format, bool options, struct image_name **out, struct err *e) MUST_CHECK;

/* The name of an image that is to be made. */
int img_name_new(const char *given, struct image_name **out, struct err *e) MUST_CHECK;

/* The name @backing, of format @format or NULL, as the image at @path records it. */
int img_name_below(const char *path, const char *backing, const char *format, struct image_name **out, struct err *e) MUST_CHECK;

/* image_open() and image_open_chain() by such a name. */
int img_open(const struct image_name *n, unsigned flags, struct image **out, struct err *e) MUST_CHECK;
int img_open_chain(const struct image_name *n, unsigned flags, struct image **out, struct err *e) MUST_CHECK;

/* A chain of which one image is to be changed, which the name does not forbid. img_unsaved() is the caller's. */
int img_open_to_change(const struct image_name *n, struct image **out, struct err *e) MUST_CHECK;

/* Is the file @path one that reading @top reads? With -U nobody's lock says so. */
bool img_is_read(const struct image *top, const char *path);

/* Open one image for a change. Raw images pass only if @raw. */
int img_open_rw(const struct image_name *n, bool raw, struct image **out, struct err *e) MUST_CHECK;

/* How long work is to be done, for the functions of qcow2/image/chain.h. Ends with img_progress_end(). */
struct chain_job img_job(bool progress);

/* ---- progress.c ---- */
void img_progress_begin(bool show);
void img_progress(uint64_t done, uint64_t total);
void img_progress_end(void);

/* ---- bitmaps.c: convert's --bitmaps ---- */

/* Can they be copied? One that is not consistent cannot, and is passed over if @skip_broken. Nothing is changed. */
int img_check_bitmaps(struct image *from, bool skip_broken, struct err *e) MUST_CHECK;

/* Add @from's bitmaps, with their bits, to @to. */
int img_copy_bitmaps(struct image *to, struct image *from, bool skip_broken, struct err *e) MUST_CHECK;

/* ---- opts.c: the -o KEY=VALUE,... of create, amend, convert and measure ---- */

enum img_key {
	IMG_BACKING_FILE, IMG_BACKING_FMT, IMG_CLUSTER_SIZE, IMG_COMPAT, IMG_COMPRESSION, IMG_DATA_FILE, IMG_DATA_FILE_RAW,
	IMG_EXTENDED_L2, IMG_EXTENT_HINT, IMG_LAZY, IMG_NOCOW, IMG_PREALLOC, IMG_REFCOUNT_BITS, IMG_SIZE, IMG_N_KEYS
};
#define IMG_KEYS_RAW    (1u << IMG_SIZE | 1u << IMG_PREALLOC | 1u << IMG_NOCOW | 1u << IMG_EXTENT_HINT)
#define IMG_KEYS_QCOW2  ((1u << IMG_N_KEYS) - 1)
#define IMG_KEYS_AMEND  (1u << IMG_BACKING_FILE | 1u << IMG_BACKING_FMT | 1u << IMG_COMPAT | 1u << IMG_DATA_FILE | \
	1u << IMG_DATA_FILE_RAW | 1u << IMG_LAZY | 1u << IMG_REFCOUNT_BITS | 1u << IMG_SIZE)

struct img_opts {
	char *v[IMG_N_KEYS]; /* as typed; NULL: not given */
	bool help;           /* "help" or "?" was among them */
};

/* @keys: which may be given. */
int img_opts_parse(const struct cmd_list *from, unsigned keys, struct img_opts *o, struct err *e) MUST_CHECK;
void img_opts_done(struct img_opts *o);
#define auto_opts __attribute__((cleanup(img_opts_done)))
/* "-o help": list @keys under @title, and true. */
bool img_opts_told(const struct img_opts *o, const char *title, unsigned keys);

/* As if @key had been given as @s. NULL: nothing changes. */
int img_opts_set(struct img_opts *o, enum img_key key, const char *s, struct err *e) MUST_CHECK;

/* "on" or "off" in all its spellings; @fallback when not given. */
int img_opts_bool(const struct img_opts *o, enum img_key key, bool fallback, bool *out, struct err *e) MUST_CHECK;
int img_opts_num(const struct img_opts *o, enum img_key key, uint64_t fallback, uint64_t *out, struct err *e) MUST_CHECK;

/* "0.10", "v2": 2; "1.1", "v3": 3. */
int img_compat(const char *s, unsigned *version, struct err *e) MUST_CHECK;

/* All that a new image needs, but its size when it is not given. Strings are borrowed from @o. */
int img_opts_create(const struct img_opts *o, struct qcow2_create *c, struct err *e) MUST_CHECK;

/* ---- resize.c ---- */

/* Give the disk another size, its data file too; what a larger backing file has behind the old end stays hidden. */
int img_resize(struct image *img, uint64_t size, bool smaller, enum qcow2_prealloc how, struct err *e) MUST_CHECK;

/* ---- create.c ---- */

/* Make @path of @format; prints "Formatting 'SHOWN' ..." unless @shown is NULL. The size is in @c, whatever @o says. */
int img_create_file(const char *path, const char *format, const struct img_opts *o, const struct qcow2_create *c,
	const char *shown, struct err *e) MUST_CHECK;

#endif
