/* One image or a chain of them, as a guest reads it. "Backing files", "External data file". */
#include "qcow2/image/image.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "lib/buf.h"
#include "qcow2/inflate.h"
#include "qcow2/internal.h"
#include "qcow2/lock.h"
#include "qcow2/zstd.h"

void image_close(struct image *img)
{
	while (img) {
		struct image *below = img->backing;

		qcow2_close(img->q);
		if (img->data != img->dev)
			dev_close(img->data);
		dev_close(img->dev);
		free(img->inflated);
		free(img->zstd);
		free(img->path);
		free(img);
		img = below;
	}
}

static int open_format(struct image *img, const char *format, unsigned flags, struct err *e)
{
	if (!format) {
		img->probed = true;
		if (qcow2_probe(img->dev, &format, e) < 0)
			return e->code;
		img->foreign = strcmp(format, "raw") && strcmp(format, "qcow2");
	}
	if (img->foreign && !(flags & QCOW2_FOREIGN)) {
		err_set(e, -EOPNOTSUPP, "%s is a %s image: qcow2 and raw are read", img->path, format);
		return err_hint(e, "qemu-img convert -O qcow2 makes one of it; -f raw takes its bytes for a disk's");
	}
	if (img->foreign || !strcmp(format, "raw")) {
		img->format = img->foreign ? format : "raw";
		img->size = (img->dev->size + SECTOR - 1) & ~(uint64_t)(SECTOR - 1);
		return 0;
	}
	if (strcmp(format, "qcow2"))
		return err_set(e, -EOPNOTSUPP, "unknown format '%s': qcow2 and raw are known", format);
	img->format = "qcow2";
	if (qcow2_open_dev(img->dev, flags, &img->q, e) < 0)
		return err_at(e, "%s", img->path);
	img->size = img->q->h.size & ~(uint64_t)(SECTOR - 1);
	return 0;
}

static int open_locked(const char *path, unsigned flags, struct dev **d, struct err *e)
{
	if (dev_open(path, flags & QCOW2_RW ? O_RDWR : O_RDONLY, d, e) < 0)
		return e->code;
	return flags & QCOW2_SHARE ? 0 : image_lock(dev_fd(*d), path, flags & QCOW2_RW, e);
}

int image_open(const char *path, const char *format, unsigned flags, struct image **out, struct err *e)
{
	auto_image struct image *img = calloc(1, sizeof *img);
	struct stat st;

	if (!img || !(img->path = strdup(path)))
		return q_nomem(e);
	if (open_locked(img->path, flags, &img->dev, e) < 0)
		return e->code;
	if (fstat(dev_fd(img->dev), &st) == 0) {
		img->st_dev = st.st_dev;
		img->st_ino = st.st_ino;
	}
	if (open_format(img, format, flags, e) < 0)
		return e->code;
	*out = take_ptr(&img);
	return 0;
}

/* QEMU's name for what needs no name. What follows it counts from the working folder. */
static const char *after_file(const char *name)
{
	return str_starts(name, "file:") ? name + 5 : name;
}

/* A backing file that is recorded as a node. What that says of further nodes has no place in a chain of images. */
static int open_node(const struct image *img, const char *name, const char *format, unsigned flags, struct image **out, struct err *e)
{
	auto_name struct image_name *n = NULL;

	if (image_name_read(name, &n, e) < 0)
		return err_at(e, "%s: its backing file", img->path);
	if (n->alone)
		return err_set(e, -EOPNOTSUPP, "%s: its backing file is recorded as %s: what is below that it has to record itself", img->path, name);
	return image_open(n->path, format ? format : n->format, flags, out, e);
}

char *image_backing_path(const char *image, const char *backing)
{
	const char *slash = strrchr(image, '/');

	if (*backing == '/' || image_is_remote(backing) || after_file(backing) != backing || !slash)
		return strdup(backing);
	return str_fmt("%.*s/%s", (int)(slash - image), image, backing);
}

int image_open_backing(const struct image *img, unsigned flags, struct image **out, struct err *e)
{
	auto_image struct image *below = NULL;
	auto_free char *path = NULL;
	struct qcow2_info info;

	*out = NULL;
	if (!img->q)
		return 0;
	qcow2_get_info(img->q, &info);
	if (!info.backing)
		return 0;
	path = image_backing_path(img->path, info.backing);
	if (!path)
		return q_nomem(e);
	if ((flags & QCOW2_NAMES) && str_starts(path, "json:")) {
		if (open_node(img, path, info.backing_fmt, flags & QCOW2_SHARE, &below, e) < 0)
			return e->code;
	} else if (image_is_remote(path)) {
		return err_set(e, -EOPNOTSUPP, "%s: its backing file '%s' is not a local file", img->path, path);
	} else if (image_open(after_file(path), info.backing_fmt, flags & QCOW2_SHARE, &below, e) < 0) {
		return e->code;
	}
	if (below->probed && below->q && (below->q->backing || below->q->data_file)) {
		err_set(e, -EACCES, "%s: the format of its backing file %s is not recorded, and that names files itself",
			img->path, path);
		return err_hint(e, "if they are meant: fermata img rebase -u -b %s -F qcow2 %s", info.backing, img->path);
	}
	*out = take_ptr(&below);
	return 0;
}

bool image_same(const struct image *a, const struct image *b)
{
	return a == b || (a->st_ino && a->st_ino == b->st_ino && a->st_dev == b->st_dev);
}

int image_check_loop(const struct image *top, const struct image *next, struct err *e)
{
	unsigned depth = 0;

	for (const struct image *i = top; i; i = i->backing, depth++)
		if (image_same(i, next))
			return err_set(e, -EUCLEAN, "%s: the chain of backing files comes back to %s", top->path, next->path);
	return depth < MAX_BACKING_DEPTH ? 0 :
		err_set(e, -EFBIG, "%s: more than %d backing files", top->path, MAX_BACKING_DEPTH);
}

#define COUNT_MAX (1ull << 26) /* clusters: 4 TiB of file with 64 KiB */

/* An image whose metadata was preallocated has far more clusters in use than the file has blocks: look for holes then. */
static int detect_sparse(struct image *img, struct err *e)
{
	struct qcow2 *q = img->q;
	uint64_t per = refs_per_block(q), end = q_clusters(q, img->dev->size), real, used = 0;
	const uint8_t *blk = NULL;
	struct stat st;

	if (fstat(dev_fd(img->dev), &st) < 0)
		return 0;
	real = ((uint64_t)st.st_blocks * SECTOR) >> q->h.cluster_bits;
	real = real * 10 / 9 > real + 2 ? real * 10 / 9 : real + 2;
	/* Looking for holes in vain only costs time; so does counting, and a stranger's tables may make us count for ever. */
	img->sparse = end > COUNT_MAX;
	for (uint64_t i = 0; i < end && used < real && !img->sparse; i++) {
		if (i % per == 0) {
			if (i)
				refs_drop(q, i / per - 1);
			if (refs_block(q, i / per, &blk, e) < 0)
				return e->code;
		}
		if (!blk)
			i += per - 1;
		else
			used += refblock_get(blk, q->h.refcount_order, i % per) != 0;
	}
	img->sparse |= used >= real;
	return 0;
}

/* What reading guest data needs besides the image itself. */
static int open_data(struct image *img, unsigned flags, struct err *e)
{
	img->data = img->dev;
	if (!img->q)
		return 0;
	if (img->q->h.crypt)
		return err_set(e, -EOPNOTSUPP, "%s: reading encrypted images is not supported", img->path);
	if (!(img->q->h.incompat & QCOW2_INCOMPAT_DATA_FILE))
		return detect_sparse(img, e);
	img->data = NULL;
	if (!img->q->data_file)
		return err_set(e, -EUCLEAN, "%s: its data file has no name", img->path);
	if (open_locked(img->q->data_file, flags & QCOW2_SHARE, &img->data, e) < 0)
		return err_at(e, "%s: data file", img->path);
	return 0;
}

int image_open_below(struct image *top, unsigned flags, struct err *e)
{
	struct image *next = NULL;

	if (open_data(top, flags, e) < 0)
		return e->code;
	for (struct image *img = flags & QCOW2_ALONE ? NULL : top; img; img = next) {
		if (image_open_backing(img, flags, &next, e) < 0)
			return e->code;
		if (next && (image_check_loop(top, next, e) < 0 || open_data(next, flags, e) < 0)) {
			image_close(next);
			return e->code;
		}
		img->backing = next;
	}
	return 0;
}

int image_open_chain(const char *path, const char *format, unsigned flags, struct image **out, struct err *e)
{
	auto_image struct image *top = NULL;

	if (image_open(path, format, flags, &top, e) < 0 || image_open_below(top, flags, e) < 0)
		return e->code;
	*out = take_ptr(&top);
	return 0;
}

int image_reopen_rw(struct image *img, struct err *e)
{
	struct dev *d;

	/* First of all find out whether we may: after that, there is no way back. */
	if (dev_open(img->path, O_RDWR, &d, e) < 0)
		return e->code;
	qcow2_close(take_ptr(&img->q));
	if (img->data != img->dev)
		dev_close(img->data);
	dev_close(img->dev);
	img->dev = img->data = d;
	free(take_ptr(&img->inflated));
	if (image_lock(dev_fd(d), img->path, true, e) < 0 || open_format(img, img->format, QCOW2_RW, e) < 0)
		return e->code;
	return open_data(img, QCOW2_RW, e);
}

/* ---- where things are ---- */

static void find_extent(struct image *img, uint64_t off)
{
	int fd = dev_fd(img->data);
	off_t at = lseek(fd, (off_t)off, SEEK_DATA);

	img->extent.from = off;
	img->extent.to = UINT64_MAX;
	img->extent.data = at == (off_t)off || (at < 0 && errno != ENXIO);
	if (at > (off_t)off)
		img->extent.to = (uint64_t)at;
	else if (at == (off_t)off && (at = lseek(fd, at, SEEK_HOLE)) > (off_t)off)
		img->extent.to = (uint64_t)at;
}

/*
 * Does the file with @img's data have some at @off, or a hole? *@len becomes the length of that, if it was more. Past the
 * end there is nothing.
 */
static bool file_has_data(struct image *img, uint64_t off, uint64_t *len)
{
	if (off >= img->data->size)
		return false;
	if (off < img->extent.from || off >= img->extent.to)
		find_extent(img, off);
	if (img->extent.to - off < *len)
		*len = img->extent.to - off;
	return img->extent.data;
}

static void map_raw(struct image *img, uint64_t goff, struct image_run *run)
{
	/* What rounding the size up to a sector adds belongs to what the file ends with. */
	bool tail = goff + run->len >= img->dev->size;
	uint64_t len = run->len;

	run->data = file_has_data(img, goff, &len);
	if (!tail || goff + len < img->dev->size)
		run->len = len;
	run->zero = !run->data;
	run->has_hoff = true;
	run->hoff = goff;
}

static int map_qcow2(struct image *img, int snap, uint64_t goff, struct image_run *run, struct err *e)
{
	struct qcow2_run r;

	if (qcow2_map(img->q, snap, goff, &r, e) < 0)
		return err_at(e, "%s", img->path);
	if (r.len < run->len)
		run->len = r.len;
	run->zero = r.kind == QCOW2_ZEROS;
	run->compressed = r.kind == QCOW2_COMPRESSED;
	run->data = run->compressed || r.kind == QCOW2_DATA;
	run->has_hoff = r.has_hoff && !run->compressed;
	run->hoff = r.hoff;
	run->clen = r.clen;
	if (r.kind == QCOW2_DATA && img->sparse)
		run->zero = !file_has_data(img, r.hoff, &run->len);
	return 0;
}

static uint64_t disk_size(const struct image *img, int snap)
{
	return snap < 0 ? img->size : img->q->snaps[snap].disk_size;
}

int image_map_to(struct image *top, const struct image *stop, int snap, uint64_t goff, uint64_t len, struct image_run *run,
	struct err *e)
{
	struct image *img = top;

	*run = (struct image_run){ .goff = goff, .len = len };
	for (;; img = img->backing, run->depth++, snap = -1) {
		uint64_t size = disk_size(img, snap);

		if (goff >= size)
			return err_set(e, -ERANGE, "%s: offset %" PRIu64 " is past the disk's end", img->path, goff);
		if (size - goff < run->len)
			run->len = size - goff;
		run->at = img;
		if (!img->q)
			map_raw(img, goff, run);
		else if (map_qcow2(img, snap, goff, run, e) < 0)
			return e->code;
		run->present = run->data || run->zero;
		if (run->present)
			return 0;
		if (!img->backing || goff >= img->backing->size) {
			run->zero = true;
			return 0;
		}
		if (img->backing == stop) {
			if (stop->size - goff < run->len)
				run->len = stop->size - goff;
			run->at = stop;
			return 0;
		}
	}
}

int image_map(struct image *top, int snap, uint64_t goff, uint64_t len, struct image_run *run, struct err *e)
{
	return image_map_to(top, NULL, snap, goff, len, run, e);
}

int image_allocated(struct image *img, uint64_t *bytes, struct err *e)
{
	struct image_run run;

	*bytes = 0;
	for (uint64_t at = 0; at < img->size; at += run.len) {
		if (image_map_to(img, img->backing, -1, at, img->size - at, &run, e) < 0)
			return e->code;
		if (run.data && !run.zero)
			*bytes += run.len;
	}
	return 0;
}

/* ---- reading ---- */

static int read_padded(struct dev *d, uint64_t off, void *buf, size_t n, struct err *e)
{
	size_t there = off >= d->size ? 0 : d->size - off < n ? (size_t)(d->size - off) : n;

	memset((uint8_t *)buf + there, 0, n - there);
	return there ? dev_read(d, off, buf, there, e) : 0;
}

static int inflate_cluster(struct image *img, const struct image_run *run, struct err *e)
{
	auto_free uint8_t *in = malloc(run->clen);
	bool zstd = img->q->h.compression;

	if (!img->inflated)
		img->inflated = malloc(img->q->cluster);
	if (zstd && !img->zstd)
		img->zstd = zstd_new();
	if (!in || !img->inflated || (zstd && !img->zstd))
		return q_nomem(e);
	img->inflated_at = UINT64_MAX;
	if (read_padded(img->data, run->hoff, in, run->clen, e) < 0)
		return e->code;
	if (!(zstd ? zstd_exactly(img->zstd, in, run->clen, img->inflated, img->q->cluster) :
			inflate_exactly(in, run->clen, img->inflated, img->q->cluster)))
		return err_set(e, -EUCLEAN, "the compressed cluster at %" PRIu64 " is damaged", run->hoff);
	img->inflated_at = run->hoff;
	return 0;
}

int image_read_run(const struct image_run *run, uint64_t goff, void *buf, size_t n, struct err *e)
{
	/* The chain is the caller's: what was inflated last is kept in it. */
	struct image *img = (struct image *)run->at;
	int r = 0;

	if (run->zero || !run->data) {
		memset(buf, 0, n);
	} else if (!run->compressed) {
		r = read_padded(img->data, run->hoff + (goff - run->goff), buf, n, e);
	} else {
		if (!img->inflated || img->inflated_at != run->hoff)
			r = inflate_cluster(img, run, e);
		if (r >= 0)
			memcpy(buf, img->inflated + (goff & (img->q->cluster - 1)), n);
	}
	return r < 0 ? err_at(e, "%s: cannot read the disk at %" PRIu64, img->path, goff) : 0;
}

int image_read(struct image *top, int snap, uint64_t goff, void *buf, size_t n, struct err *e)
{
	uint64_t size = disk_size(top, snap);
	struct image_run run;
	uint8_t *p = buf;

	while (n && goff < size) {
		size_t step;

		if (image_map(top, snap, goff, n, &run, e) < 0)
			return e->code;
		step = (size_t)run.len;
		if (image_read_run(&run, goff, p, step, e) < 0)
			return e->code;
		p += step;
		goff += step;
		n -= step;
	}
	memset(p, 0, n);
	return 0;
}

int image_read_vm_state(struct image *img, unsigned index, uint64_t off, void *buf, size_t n, struct err *e)
{
	struct qcow2_run r;

	for (uint8_t *p = buf; n; p += r.len, off += r.len, n -= r.len) {
		struct image_run run = { .at = img };

		if (qcow2_vm_state_map(img->q, index, off, &r, e) < 0)
			return err_at(e, "%s", img->path);
		if (r.kind == QCOW2_HOLE)
			return err_set(e, -ENODATA, "%s: its VM state is not whole", img->path);
		if (r.len > n)
			r.len = n;
		run.goff = off;
		run.zero = r.kind == QCOW2_ZEROS;
		run.data = !run.zero;
		run.compressed = r.kind == QCOW2_COMPRESSED;
		run.hoff = r.hoff;
		run.clen = r.clen;
		if (image_read_run(&run, off, p, r.len, e) < 0)
			return e->code;
	}
	return 0;
}
