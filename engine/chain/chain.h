/* The images behind every disk: follow, overlay, branch, merge, remove; who needs what. */
#ifndef ENGINE_CHAIN_CHAIN_H
#define ENGINE_CHAIN_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kvm/def.h"
#include "kvm/kvm.h"
#include "lib/buf.h"
#include "lib/err.h"

struct fermata_snap;
struct fermata_snap_disk;
struct fermata_vm;
struct qcow2_create;
struct record;

struct chains {
	struct kvm_chain chain[DEF_MAX_DISKS]; /* in the definition's order */
};

/* ---- chain.c ---- */

/*
 * Follow every disk from its active layer down to its base. Names in images are untrusted: protocol names, cycles, more
 * than 200 layers, a missing backing format and paths outside the folders of the definition's own disks are errors.
 */
int chains_find(struct fermata_vm *vm, struct chains *c, struct err *e) MUST_CHECK;

/* The same for a QEMU that has the overlays of @s in place of what the record says of those disks. */
int chains_find_on(struct fermata_vm *vm, const struct fermata_snap *s, struct chains *c, struct err *e) MUST_CHECK;

/* The same for disk number @i alone; chain_done(). */
int chain_find(struct fermata_vm *vm, size_t i, struct kvm_chain *out, struct err *e) MUST_CHECK;
void chain_done(struct kvm_chain *c);
void chains_done(struct chains *c);

static inline void chains_donep(struct chains *c)
{
	chains_done(c);
}
#define auto_chains __attribute__((cleanup(chains_donep)))

/* ---- nvram.c ---- */

/* Give @s a place for its copy, if it needs one. */
int nvram_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Make the copy; tell whether it is still the same. */
int nvram_keep(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;
void nvram_compare(struct fermata_vm *vm, const struct fermata_snap *s);

/* VM off: open and lock what the copy is brought back to; then bring it back. What was made for it and not written goes again. */
struct nvram_change {
	const char *path; /* NULL: there is nothing to do */
	int fd;
	bool made; /* the file was gone */
	struct buf text;
};
int nvram_open(struct fermata_vm *vm, const struct fermata_snap *s, struct nvram_change *c, struct err *e) MUST_CHECK;
int nvram_write(struct nvram_change *c, struct err *e) MUST_CHECK;
void nvram_close(struct nvram_change *c);

/* ---- trash.c ---- */

/* The pending deletion's tags are gone: drop it from the record. Commit point: the record. */
int remove_finish(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- merge.c ---- */

/* A change of images that no QEMU has: open under their locks from the check, over what goes on record, to the change itself. */
struct off_change {
	enum { OFF_STAND, OFF_PULL, OFF_COMMIT } kind;
	struct image *img, *base; /* the highest image that is open, and a pull's or a commit's base in its chain */
	char *name;               /* what @img names in the end, in format @fmt; NULL: nothing (OFF_PULL), or what it does */
	const char *fmt;
	struct fermata_vm *vm; /* for progress */
};

/*
 * @top is to take over what the @n images below it have, but for the @n-th, which it is backed by then, under a relative name
 * if @relative. Opens, locks and looks for room; nothing is changed. off_change_done(), also after a failure.
 */
int off_pull_begin(struct fermata_vm *vm, const char *top, size_t n, bool relative, struct off_change *c, struct err *e) MUST_CHECK;

/*
 * The same: the @n-th image below @top is to take over what those above it have. @over: the image above @top, which is backed by
 * that one then; or NULL.
 */
int off_commit_begin(struct fermata_vm *vm, const char *over, const char *top, size_t n, bool relative, struct off_change *c,
	struct err *e) MUST_CHECK;

/* The same: @file is to name @base, which holds the same as what it was backed by. */
int off_stand_begin(const char *file, const char *base, bool raw, bool relative, struct off_change *c, struct err *e) MUST_CHECK;

/* Do it. It can be repeated from the beginning; the header is the last step. */
int off_change_commit(struct off_change *c, struct err *e) MUST_CHECK;
void off_change_done(struct off_change *c);

/* At once: let @file name @base. */
int off_stand_on(const char *file, const char *base, bool raw, bool relative, struct err *e) MUST_CHECK;

/* ---- made.c ---- */

/* The name that a file has until it is whole, of the operation marked @mark alone. Caller frees; NULL: no memory. */
char *made_tmp(const char *path, uint64_t mark);

/*
 * A file that has no place for a mark is known by its time, to the nanosecond: set it on @fd before the last flush, for the
 * pending operation. Without one, nothing is done.
 */
int made_stamp(struct fermata_vm *vm, int fd, const char *path, struct err *e) MUST_CHECK;

/* Whether @path was made by the pending operation, in the form that made_stamp() or image_new() gave it. */
bool made_stamped(struct fermata_vm *vm, const char *path);

/*
 * Whether the image @path has @mark: 1, 0 (it is not there, or no qcow2 image at all); -errno if that cannot be told, since it
 * cannot be read or is damaged.
 */
int made_image(const char *path, uint64_t mark, struct err *e) MUST_CHECK;

/* ---- unmake.c ---- */

/*
 * Undo @path, which the pending operation has on record: overlay_remove() if that operation has made it, and what it had under
 * made_tmp(). What somebody else has put there stays, and so does what cannot be told; the user hears of it. @mark 0: by name
 * alone.
 */
int made_remove_image(struct fermata_vm *vm, const char *path, uint64_t mark, struct err *e) MUST_CHECK;
int made_remove_file(struct fermata_vm *vm, const char *path, struct err *e) MUST_CHECK;

/* A notice: @path is not what the pending operation has made, and stays. */
void made_stays(struct fermata_vm *vm, const char *path);

/* -EEXIST: an overlay of the pending operation's is not the one that it made. */
int made_overlays(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* ---- base.c ---- */

/*
 * -ESTALE: the image @file, below @above (NULL: below nothing yet) in a chain of @vm's, is another one by now than a snapshot
 * froze, or than @above was written over. It is read only if the file is another one, or was written to.
 */
int base_check(struct fermata_vm *vm, const char *above, const char *file, bool raw, struct err *e) MUST_CHECK;

/* ---- bases.c ---- */

/*
 * In memory: remember the images below the disks as they are, for the checks to come; vm->rec->bases_new tells whether that is
 * news. They must be on disk. bases_note_all() follows the chains first. Best effort.
 */
void bases_note(struct fermata_vm *vm, const struct chains *c);
void bases_note_all(struct fermata_vm *vm);

/* ---- overlay.c ---- */

/* Bytes that a file takes on the host; 0 when it is not there. */
uint64_t file_allocated(const char *file);

/*
 * A name for a new file of disk number @disk that was never used: it carries the snapshot's id. In snapshot-dir, else
 * beside the definition's image; of a disk on a block device beside its active layer, for what is beside a device is in
 * the host's memory. -EINVAL: that is the device, too. Caller frees *@out.
 */
int overlay_name(struct fermata_vm *vm, size_t disk, const char *snapshot, uint64_t id, char **out, struct err *e) MUST_CHECK;

/* How much of a snapshot's name is part of a file's name, for "%.*s": the first 64 bytes, cut at a character. */
int name_in_file(const char *snapshot);

/*
 * Make @path an empty overlay on @backing: size, cluster size and subclusters as there, mode 0600, owned by the VM's
 * user, durable. It is never seen without @mark. -EEXIST if @path is there; -EOPNOTSUPP when a dirty bitmap of @backing would
 * be left behind.
 */
int overlay_make(struct fermata_vm *vm, const char *path, const char *backing, bool raw, uint64_t mark, struct err *e) MUST_CHECK;

/*
 * The same for all external disks of @s, which is pending, whose overlays are not there yet. What was made before one that
 * fails stays.
 * @made: or NULL; called for each external disk (number @j of @s) as soon as its overlay can be opened. Its name is
 * durable only when this returns.
 */
typedef void overlay_made_fn(void *ctx, size_t j);
int overlays_make(struct fermata_vm *vm, const struct fermata_snap *s, overlay_made_fn *made, void *ctx, struct err *e) MUST_CHECK;

/* -EOPNOTSUPP: dirty bitmap @bitmap of @file would not see what is written to an overlay. */
int bitmap_stays(const char *file, const char *bitmap, struct err *e);

/* The same for any empty image of @like's size and clusters, on @backing or (NULL) on nothing. A raw one has no mark. */
int image_make(struct fermata_vm *vm, const char *path, const char *like, bool like_raw, const char *backing,
	bool backing_raw, bool raw, uint64_t mark, struct err *e) MUST_CHECK;

/* The same of any shape; not durable yet. -EEXIST if @path is there. */
struct qcow2_create;
int image_new(struct fermata_vm *vm, const char *path, const struct qcow2_create *c, bool raw, struct err *e) MUST_CHECK;

/* The same as it counts from the folder of @overlay, for who wants to move both. -EINVAL: a folder is not there. */
int backing_name_for(const char *overlay, const char *backing, bool relative, char **out, struct err *e) MUST_CHECK;

/* Whether @path, made by somebody else, is an overlay on @backing that nothing was written to yet. -EINVAL. */
int overlay_check(const char *path, const char *backing, struct err *e) MUST_CHECK;

/* Whether anything was written to it. A file that is not there, or whose making was cut off, holds none. */
int overlay_holds_data(const char *path, bool *data, struct err *e) MUST_CHECK;

/*
 * Unlink it, if it is there: under QEMU's lock, so that nobody has it open. -EBUSY names who has. A block device stays.
 */
int overlay_remove(const char *path, struct err *e) MUST_CHECK;

/* -EBUSY, with who, if anybody has @path open as an image. */
int overlay_unused(const char *path, struct err *e) MUST_CHECK;

/* ---- backing.c ---- */

/*
 * What stands behind @image, made absolute: "" when nothing does. Only follows; whether it may be used is for
 * chain_check(). @raw: out, its format. Errors as of qcow2_open(); -EINVAL without a recorded format.
 */
int chain_next(const char *image, char next[4096], bool *raw, struct err *e) MUST_CHECK;

/* Files, by what they are rather than by name. Each is followed once, however many chains it is part of. */
struct file_set {
	struct file_id {
		dev_t dev;
		ino_t ino;
		bool raw;
	} *v;
	size_t n;
	bool all; /* a chain could not be followed: in doubt it has everything */
};

/* ---- file_set.c ---- */

/* Add @top, if it is there, and all below it. */
void file_set_add(struct file_set *s, const char *top, bool raw);

/* Add @file alone. False: it is in already, or there is no such file, or no memory (then @s has everything). */
bool file_set_put(struct file_set *s, const char *file, bool raw);

/* Whether @file is there, and in it. */
bool file_set_has(const struct file_set *s, const char *file);
void file_set_done(struct file_set *s);
#define auto_file_set __attribute__((cleanup(file_set_done)))

/* ---- chain.c ---- */

/* The image names no other file: neither a backing file nor an external data file. */
int chain_alone(const char *image, struct err *e) MUST_CHECK;

/* Everything below @file is there and allowed, and an overlay on it would not make the chain too deep. Errors as chains_find(). */
int chain_check(struct fermata_vm *vm, const char *file, bool raw, struct err *e) MUST_CHECK;

/* ---- trash.c ---- */

/* Whether any definition, record or chain of another VM of this host needs @file. In doubt it does. */
bool needed_by_others(struct fermata_vm *vm, const char *file);

/* ---- overlay.c ---- */

/* The name of the first of them, or NULL. Caller frees. */
char *needed_by_whom(struct fermata_vm *vm, const char *file);

/* ---- trash.c ---- */

/* @s goes, and its memory with it, if that is in a file. */
int trash_memory(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;

/*
 * Remove what the record lists for removal and no definition, record or chain of any VM of this host needs. What cannot be
 * removed stays on the list, with a notice: whatever the command was about is done.
 */
void trash_empty(struct fermata_vm *vm);

/* A kind of file that is written, and may take the place of an older one. */
struct output_kind {
	const char *name; /* "a dump of memory" */
	bool (*is)(const char *path);
};

/* ---- output.c ---- */

/*
 * Whether @path may be written to, by way of @tmp: 0 if neither is there, or is empty, or is of @kind and no VM of this host
 * needs it. -EEXIST. @tmp: may also have begun with zeros, since a header is written last; NULL: there is none.
 */
int output_check(struct fermata_vm *vm, const char *path, const char *tmp, const struct output_kind *kind, struct err *e) MUST_CHECK;

/* -EEXIST if @path is there and an image, or anything else, of some VM of this host. In doubt it is. */
int output_spare(struct fermata_vm *vm, const char *path, struct err *e) MUST_CHECK;

/* ---- branch.c ---- */

/* Whether all that is needed on the disks' side to go back is there. */
int revert_ext_check(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Give @s, a copy, a name for every overlay; make them. */
int revert_ext_name(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;
int revert_ext_make(struct fermata_vm *vm, const struct fermata_snap *s, struct err *e) MUST_CHECK;

/* In memory alone: the disks use the pending revert's overlays, it is current, what the present used may go. */
int revert_ext_switch(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/*
 * The pending revert was cut off. Before any disk was changed: undo. With the VM off: redo. @n: the images as they were
 * opened for it; NULL: they are opened here.
 */
int revert_ext_undo(struct fermata_vm *vm, struct err *e) MUST_CHECK;

/* ---- users.c ---- */

/* The overlays of this VM that are backed directly by one frozen image. */
struct users {
	char **file;
	size_t n;
};

/* @u: out, empty before; users_done(), also after a failure. */
int find_users(struct fermata_vm *vm, const char *frozen, struct users *u, struct err *e) MUST_CHECK;
void users_done(struct users *u);
#define auto_users __attribute__((cleanup(users_done)))

/* ---- branch.c ---- */

/* The number of the disk whose active layer is another image than the one that carries @d, or n_disks. */
size_t carrier_differs(const struct fermata_vm *vm, const struct fermata_snap_disk *d);

/*
 * In @s, which is to be the pending revert's: what its disks use until then. As long as it is pending, the VM's disks are the
 * images that carry it (fermata_vm_disk_file()), and on record those that it comes from.
 */
int carriers_note(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;

/* In memory: the pending revert has succeeded. The disks use those images from now on, what they used before may go. */
int carriers_take(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
