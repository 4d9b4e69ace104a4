/* Overlays and the files behind them. */
#ifndef ENGINE_OVERLAY_H
#define ENGINE_OVERLAY_H

#include "engine/internal.h"

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
 * user, durable. -EEXIST if @path is there; -EOPNOTSUPP when a dirty bitmap of @backing would be left behind.
 */
int overlay_make(struct fermata_vm *vm, const char *path, const char *backing, bool raw, struct err *e) MUST_CHECK;

/* QEMU, which may run as another user, must be able to open what we make. */
int give_to_user(struct fermata_vm *vm, int fd, const char *path, struct err *e) MUST_CHECK;

/*
 * The same for all external disks of @s whose overlays are not there yet. What was made before one that fails stays.
 * @made: or NULL; called for each external disk (number @j of @s) as soon as its overlay can be opened. Its name is
 * durable only when this returns.
 */
typedef void overlay_made_fn(void *ctx, size_t j);
int overlays_make(struct fermata_vm *vm, const struct fermata_snap *s, overlay_made_fn *made, void *ctx, struct err *e) MUST_CHECK;

/* -EOPNOTSUPP: dirty bitmap @bitmap of @file would not see what is written to an overlay. */
int bitmap_stays(const char *file, const char *bitmap, struct err *e);

/*
 * The same for any empty image of @like's size and clusters, on @backing or (NULL) on nothing.
 */
int image_make(struct fermata_vm *vm, const char *path, const char *like, bool like_raw, const char *backing,
	bool backing_raw, bool raw, struct err *e) MUST_CHECK;

/* The same of any shape; not durable yet. -EEXIST if @path is there. */
struct qcow2_create;
int image_new(struct fermata_vm *vm, const char *path, const struct qcow2_create *c, bool raw, struct err *e) MUST_CHECK;

/*
 * How an overlay names @backing in its header: absolute, the very name under which QEMU has it open. With any other name, a
 * question about the nodes costs QEMU time and bytes that grow with the square of the chain. Caller frees; NULL: no memory.
 */
char *backing_name(const char *backing);

/* Whether @path, made by somebody else, is an overlay on @backing that nothing was written to yet. -EINVAL. */
int overlay_check(const char *path, const char *backing, struct err *e) MUST_CHECK;

/* Whether anything was written to it. A file that is not there, or whose making was cut off, holds none. */
int overlay_holds_data(const char *path, bool *data, struct err *e) MUST_CHECK;

/* Unlink it, if it is there. */
int overlay_remove(const char *path, struct err *e) MUST_CHECK;

bool same_file(const char *a, const char *b);

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

/* Add @top, if it is there, and all that it stands on. */
void file_set_add(struct file_set *s, const char *top, bool raw);

/* Add what a VM's definition, record and all chains that begin in them need. */
void file_set_add_needs(struct file_set *s, const struct def *def, const struct record *r);

/* Whether @file is there, and in it. */
bool file_set_has(const struct file_set *s, const char *file);
void file_set_done(struct file_set *s);
#define auto_file_set __attribute__((cleanup(file_set_done)))

/* Everything below @file is there and allowed, and an overlay on it would not make the chain too deep. Errors as chains_find(). */
int chain_check(struct fermata_vm *vm, const char *file, bool raw, struct err *e) MUST_CHECK;

/* Whether any definition, record or chain of another VM of this host needs @file. In doubt it does. */
bool needed_by_others(struct fermata_vm *vm, const char *file);

/* @s goes, and its memory with it, if that is in a file. */
int trash_memory(struct fermata_vm *vm, struct fermata_snap *s, struct err *e) MUST_CHECK;

/* Remove what the record lists for removal and no definition, record or chain of any VM of this host needs. */
int trash_empty(struct fermata_vm *vm, struct err *e) MUST_CHECK;

#endif
