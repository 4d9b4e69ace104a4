/* Overlays: named, made natively, and removed when nobody needs them. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/chain/chain.h"
#include "engine/chain/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/policy.h"
#include "engine/vm/vm.h"
#include "kvm/def.h"
#include "lib/buf.h"
#include "lib/dev.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/text.h"
#include "qcow2/lock.h"
#include "qcow2/qcow2.h"

/* Where @path's last component begins. */
static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int name_in_file(const char *snapshot)
{
	return (int)text_cut(snapshot, 64);
}

/* Whether what is beside @file is a folder of device nodes: @file is one, or would be one if it were there. */
static bool beside_devices(const char *file)
{
	auto_free char *dir = strndup(file, (size_t)(base_of(file) - file));
	char real[PATH_MAX];
	struct stat st;

	if (stat(file, &st) == 0 ? !S_ISBLK(st.st_mode) : !strncmp(file, "/dev/shm/", 9))
		return false;
	if (!dir || !realpath(dir[0] ? dir : ".", real))
		return !strncmp(file, "/dev/", 5);
	return !strcmp(real, "/dev") || !strncmp(real, "/dev/", 5);
}

/* The part of disk number @disk's image name that new names begin with. */
static int stem_of(const struct fermata_vm *vm, size_t disk, const char **base)
{
	const char *dot;

	*base = base_of(vm->def->disks[disk].file);
	dot = strrchr(*base, '.');
	return (int)text_cut(*base, dot && dot != *base && dot - *base < 120 ? (size_t)(dot - *base) : 120);
}

/* Whether another disk's new names would be the same. */
static bool stem_is_shared(const struct fermata_vm *vm, size_t disk)
{
	const char *base, *other;
	int n = stem_of(vm, disk, &base);

	for (size_t i = 0; i < vm->def->n_disks; i++)
		if (i != disk && stem_of(vm, i, &other) == n && !strncmp(base, other, (size_t)n))
			return true;
	return false;
}

int overlay_name(struct fermata_vm *vm, size_t disk, const char *snapshot, uint64_t id, char **out, struct err *e)
{
	const char *beside = vm->def->disks[disk].file, *dir = vm->def->snapshot_dir, *base;
	bool shared = stem_is_shared(vm, disk);
	int stem = stem_of(vm, disk, &base);

	if (!dir && beside_devices(beside))
		beside = fermata_vm_disk_file(vm, disk);
	if (!dir && beside_devices(beside)) {
		err_set(e, -EINVAL, "%s: its image %s is a block device: beside it there is no place for files",
			vm->def->disks[disk].name, beside);
		return err_hint(e, "set snapshot-dir in %s, or name the file: --diskspec %s,file=FILE", vm->def->path,
			vm->def->disks[disk].name);
	}
	*out = str_fmt("%.*s%s%.*s%s%s.%.*s-%llu.qcow2", dir ? (int)strlen(dir) : (int)(base_of(beside) - beside), dir ? dir : beside,
		dir ? "/" : "", stem, base, shared ? "." : "", shared ? vm->def->disks[disk].name : "", name_in_file(snapshot), snapshot,
		(unsigned long long)id);
	return *out ? 0 : err_nomem(e, "name an overlay");
}

char *backing_name(const char *backing)
{
	return path_beside("", backing);
}

/* @path's folder and the last component in it, without links. NULL: no such folder. */
static char *real_name(const char *path)
{
	auto_free char *dir = strndup(path, (size_t)(base_of(path) - path));
	char real[PATH_MAX];

	return dir && realpath(dir[0] ? dir : ".", real) ? str_fmt("%s/%s", strcmp(real, "/") ? real : "", base_of(path)) : NULL;
}

int backing_name_for(const char *overlay, const char *backing, bool relative, char **out, struct err *e)
{
	auto_free char *from = real_name(overlay), *to = real_name(backing);
	auto_buf struct buf b = { 0 };
	size_t same = 0;

	if (!relative) {
		*out = backing_name(backing);
		return *out ? 0 : err_nomem(e, "name a backing file");
	}
	if (!from || !to)
		return err_set(e, -EINVAL, "cannot find the folder of %s", from ? backing : overlay);
	/* Behind the last slash that both have. */
	for (size_t i = 0; from[i] && from[i] == to[i]; i++)
		if (from[i] == '/')
			same = i + 1;
	for (const char *p = from + same; (p = strchr(p, '/')); p++)
		buf_addf(&b, "../");
	buf_addf(&b, "%s", to + same);
	if (buf_check(&b, "name a backing file", e) < 0)
		return e->code;
	/* "a:b" would be a protocol's. */
	*out = strchr(b.p, ':') ? str_fmt("./%s", b.p) : buf_take(&b);
	return *out ? 0 : err_nomem(e, "name a backing file");
}

int bitmap_stays(const char *file, const char *bitmap, struct err *e)
{
	err_set(e, -EOPNOTSUPP, "%s has the dirty bitmap '%s', which would not go on in the overlay", file, bitmap);
	return err_hint(e, "remove it first: fermata img bitmap --remove, or QMP block-dirty-bitmap-remove");
}

/* What the overlay takes over from the image below it: nobody writes to that, but for the VM's own QEMU. */
static int inherit(struct fermata_vm *vm, const char *backing, bool raw, struct qcow2_create *c, struct err *e)
{
	bool alive = vm_alive(vm);
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_info info;
	struct dev *d = NULL;
	const struct qcow2_bitmap *bitmaps;
	unsigned n;

	if (raw) {
		int rc;

		if (dev_open(backing, O_RDONLY, &d, e) < 0)
			return e->code;
		rc = alive ? 0 : image_lock(dev_fd(d), backing, false, e);
		c->size = (d->size + 511) & ~511ull;
		dev_close(d);
		return rc;
	}
	if (qcow2_open(backing, alive ? QCOW2_SHARE : 0, &q, e) < 0)
		return e->code;
	qcow2_get_info(q, &info);
	if (qcow2_bitmaps(q, &bitmaps, &n, e) < 0)
		return e->code;
	if (n)
		return bitmap_stays(backing, bitmaps[0].name, e);
	c->size = info.size;
	c->cluster_bits = info.cluster_bits;
	c->ext_l2 = info.incompat & QCOW2_INCOMPAT_EXT_L2;
	return 0;
}

static int make_file(struct fermata_vm *vm, const char *path, const struct qcow2_create *c, bool raw, struct err *e)
{
	auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(e, errno, "cannot create %s", path);
	if (raw && ftruncate(fd, (off_t)c->size) < 0)
		return err_sys(e, errno, "cannot make %s as large as the disk", path);
	return give_to_user(vm, fd, path, e) < 0 || (!raw && qcow2_create(path, c, e) < 0) ? e->code : 0;
}

int image_new(struct fermata_vm *vm, const char *path, const struct qcow2_create *c, bool raw, struct err *e)
{
	auto_free char *tmp = made_tmp(path, c->mark);

	if (raw || !c->mark)
		return make_file(vm, path, c, raw, e);
	if (!tmp)
		return err_nomem(e, "make an image");
	if (file_exists(path))
		return err_sys(e, EEXIST, "cannot create %s", path);
	/* Of a try that was cut off. */
	unlink(tmp);
	if (make_file(vm, tmp, c, false, e) == 0 && file_place_new(tmp, path, e) == 0)
		return 0;
	unlink(tmp);
	return e->code;
}

static int make(struct fermata_vm *vm, const char *path, const char *like, bool like_raw, const char *backing,
	bool backing_raw, bool raw, uint64_t mark, struct err *e)
{
	struct qcow2_create c = { .mark = mark };
	auto_free char *name = backing ? backing_name(backing) : NULL;

	if (backing && !name)
		return err_nomem(e, "make an image");
	if (inherit(vm, like, like_raw, &c, e) < 0)
		return e->code;
	if (backing) {
		c.backing = name;
		c.backing_fmt = backing_raw ? "raw" : "qcow2";
	}
	return image_new(vm, path, &c, raw, e);
}

int image_make(struct fermata_vm *vm, const char *path, const char *like, bool like_raw, const char *backing,
	bool backing_raw, bool raw, uint64_t mark, struct err *e)
{
	return make(vm, path, like, like_raw, backing, backing_raw, raw, mark, e) < 0 ? e->code : file_flush_name(path, e);
}

int overlay_make(struct fermata_vm *vm, const char *path, const char *backing, bool raw, uint64_t mark, struct err *e)
{
	return make(vm, path, backing, raw, backing, raw, false, mark, e) < 0 ? e->code : file_flush_name(path, e);
}

bool in_one_folder(const char *a, const char *b)
{
	return base_of(a) - a == base_of(b) - b && !strncmp(a, b, (size_t)(base_of(a) - a));
}

int overlays_make(struct fermata_vm *vm, const struct fermata_snap *s, overlay_made_fn *made, void *ctx, struct err *e)
{
	const char *last = NULL;

	for (size_t j = 0; j < s->n_disks; j++) {
		const struct fermata_snap_disk *d = &s->disks[j];

		if (!d->external)
			continue;
		/* A folder is flushed once for all that is made in it. */
		if (!d->reused && ((last && !in_one_folder(last, d->overlay) && file_flush_name(last, e) < 0) ||
				make(vm, d->overlay, d->file, d->raw, d->file, d->raw, false, vm->rec->pending.mark, e) < 0))
			return err_at(e, "%s", d->disk);
		if (!d->reused)
			last = d->overlay;
		if (made)
			made(ctx, j);
	}
	return last ? file_flush_name(last, e) : 0;
}

/* An image's header is written last: one that was cut off before holds nothing. */
static bool never_made(const char *path)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint32_t magic = 0;

	return fd >= 0 && pread(fd, &magic, sizeof magic, 0) >= 0 && !magic;
}

int overlay_holds_data(const char *path, bool *data, struct err *e)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_run run;
	struct qcow2_info info;

	*data = false;
	if (!file_exists(path) || never_made(path))
		return 0;
	if (qcow2_open(path, QCOW2_SHARE, &q, e) < 0)
		return e->code;
	qcow2_get_info(q, &info);
	for (uint64_t at = 0; at < info.size && !*data; at += run.len) {
		if (qcow2_map(q, -1, at, &run, e) < 0)
			return e->code;
		*data = run.kind != QCOW2_HOLE;
	}
	return 0;
}

int overlay_check(const char *path, const char *backing, struct err *e)
{
	char next[PATH_MAX];
	bool raw, data;

	if (chain_next(path, next, &raw, e) < 0 || overlay_holds_data(path, &data, e) < 0)
		return e->code;
	if (same_file(next, backing) && !data)
		return 0;
	return err_set(e, -EINVAL, "the overlay %s %s %s", path, data ? "holds data of its own, not only that of" : "is not backed by",
		backing);
}

/* ---- removing ------------------------------------------------------------------------------------------- */

int overlay_unused(const char *path, struct err *e)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? 0 : image_lock(fd, path, true, e);
}

int overlay_remove(const char *path, struct err *e)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd >= 0 && fstat(fd, &st) == 0) {
		/* The node of a device is not a file that we made. */
		if (S_ISBLK(st.st_mode))
			return 0;
		if (S_ISREG(st.st_mode) && image_lock(fd, path, true, e) < 0)
			return err_at(e, "cannot remove %s", path);
	}
	/* A read-only file system says so of what is not there, too. */
	return unlink(path) < 0 && file_exists(path) ? err_sys(e, errno, "cannot remove %s", path) : 0;
}

void file_set_add_needs(struct file_set *s, const struct def *def, const struct record *r)
{
	for (size_t i = 0; i < def->n_disks; i++) {
		const struct record_disk *d = record_disk(r, def->disks[i].name);

		file_set_add(s, def->disks[i].file, def->disks[i].format == FORMAT_RAW);
		if (d && d->active)
			file_set_add(s, d->active, d->raw);
	}
	for (size_t j = 0; r->standby && j < r->standby->n_disks; j++)
		if (r->standby->disks[j].external)
			file_set_add(s, r->standby->disks[j].overlay, false);
	/* What a revert goes to, or comes from. */
	for (size_t j = 0; r->pending.snap && j < r->pending.snap->n_disks; j++)
		if (!r->pending.snap->disks[j].external)
			file_set_add(s, r->pending.snap->disks[j].file, false);
	for (size_t i = 0; i < r->n_snaps; i++) {
		const char *memory[] = { r->snaps[i]->memory, r->snaps[i]->ram, r->snaps[i]->ram_base };

		for (size_t j = 0; j < r->snaps[i]->n_disks; j++)
			file_set_add(s, r->snaps[i]->disks[j].file, r->snaps[i]->disks[j].raw);
		for (size_t j = 0; j < ARRAY_SIZE(memory); j++)
			if (memory[j] && memory[j][0])
				file_set_add(s, memory[j], true);
	}
}

/* What VM @name needs, into @s. */
void other_needs(struct file_set *s, struct fermata_vm *vm, const char *name)
{
	auto_record struct record *r = NULL;
	auto_def struct def *def = NULL;
	auto_free char *conf = str_fmt("%s/%s.conf", vm->host->conf_dir, name);
	auto_free char *state = str_fmt("%s/%s/state.json", vm->host->state_dir, name);
	struct err e;

	/* What cannot be read may need anything. */
	if (!conf || !state || def_read(conf, name, &policy_section, &def, &e) < 0 || record_load(state, &r, &e) < 0)
		s->all = true;
	else
		file_set_add_needs(s, def, r);
}

char *needed_by_whom(struct fermata_vm *vm, const char *file)
{
	auto_free char *names = NULL;
	struct err e;

	if (fermata_names(vm->host, &names, &e) < 0)
		return strdup("?");
	for (const char *n = names; *n; n += strlen(n) + 1) {
		auto_file_set struct file_set s = { 0 };

		if (!strcmp(n, vm->name))
			continue;
		other_needs(&s, vm, n);
		if (file_set_has(&s, file))
			return strdup(n);
	}
	return NULL;
}

uint64_t file_allocated(const char *file)
{
	uint64_t bytes;

	return file_measure(file, NULL, &bytes) ? bytes : 0;
}
