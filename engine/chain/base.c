/* Images below the disks: another one in such a place is not what those above it were written over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/chain/chain.h"
#include "engine/chain/internal.h"
#include "engine/fermata.h"
#include "engine/record/record.h"
#include "engine/vm/vm.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/xxh64.h"
#include "qcow2/image/image.h"
#include "qcow2/qcow2.h"

#define SPOTS 64               /* pieces of the disk that are compared, at most: half a second on a disk that has to seek */
#define PIECE ((size_t)16 << 10) /* bytes */
#define TABLES ((uint64_t)1 << 20) /* where the first partition begins, and its file system's own description */

/* Where piece number @i of @n lies: the first at the beginning, the second at the first partition, the others evenly. */
static uint64_t piece_at(uint64_t span, uint64_t i, uint64_t n)
{
	if (n < SPOTS)
		return i * PIECE;
	return i == 1 && span >= 2 * TABLES ? TABLES : (span - PIECE) / (n - 1) * i / 4096 * 4096;
}

/*
 * A hash over samples of what a reader finds in the first @span bytes; 0: not known. It is the same in a copy, however that was
 * made, and whatever of the image was moved between it and those below it.
 */
static uint64_t print_of(struct image *img, uint64_t span)
{
	auto_free uint8_t *buf = malloc(PIECE);
	uint64_t prints[SPOTS], n = (span + PIECE - 1) / PIECE, print;
	struct err ignored;

	n = n < SPOTS ? n : SPOTS;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = piece_at(span, i, n);
		size_t len = span - at < PIECE ? (size_t)(span - at) : PIECE;

		if (!buf || image_read(img, -1, at, buf, len, &ignored) < 0)
			return 0;
		prints[i] = xxh64(buf, len);
	}
	print = xxh64((const uint8_t *)prints, n * sizeof *prints);
	return print ? print : 1;
}

/* What the file itself is. A device's times are not its content's. */
static bool look_at_file(const char *file, struct record_base *b, bool *device)
{
	struct stat st;

	if (stat(file, &st) < 0)
		return false;
	*device = !S_ISREG(st.st_mode);
	b->ino = *device ? 0 : st.st_ino;
	b->mtime_ns = *device ? 0 : (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
	return true;
}

static bool untouched(const struct record_base *a, const struct record_base *b)
{
	return a->ino && a->ino == b->ino && a->mtime_ns == b->mtime_ns;
}

/* The size, and what is in the first @span bytes; 0: in all of it. What cannot be read is not known. */
static void look_inside(const char *file, bool raw, bool device, uint64_t span, struct record_base *b)
{
	auto_image struct image *img = NULL;
	struct err ignored;

	b->size = b->span = b->print = 0;
	if (image_open_chain(file, raw ? "raw" : "qcow2", QCOW2_SHARE, &img, &ignored) < 0)
		return;
	/* A device may be given more at any time. */
	b->size = raw && device ? 0 : img->size;
	b->span = span && span < img->size ? span : img->size;
	b->print = print_of(img, b->span);
}

const struct fermata_snap *frozen_by(const struct record *r, const char *file)
{
	for (size_t i = 0; i < r->n_snaps; i++)
		for (size_t j = 0; j < r->snaps[i]->n_disks; j++)
			if (r->snaps[i]->disks[j].external && same_file(r->snaps[i]->disks[j].file, file))
				return r->snaps[i];
	return NULL;
}

/* Whether what is above @b was written while @b was seen: an overlay that was made anew goes with any image. */
static bool was_written_over(const struct record_base *b, const char *above)
{
	struct err ignored;
	struct stat st;
	bool data = true;

	if (!above || stat(above, &st) < 0 || st.st_ino != b->above)
		return false;
	return overlay_holds_data(above, &data, &ignored) < 0 || data;
}

static int refuse_base(const struct fermata_vm *vm, const char *file, bool raw, const struct record_base *was,
	const struct record_base *now, const struct fermata_snap *frozen, struct err *e)
{
	char whose[300];

	if (frozen)
		snprintf(whose, sizeof whose, "'%s' froze", frozen->name);
	else
		snprintf(whose, sizeof whose, "%s ran on", vm->name);
	if (was->size == now->size) {
		err_set(e, -ESTALE, "%s is not the image that %s: something else is in it", file, whose);
		return err_hint(e, "put that one back, or 'fermata recover --accept-images %s' takes them as they are", vm->name);
	}
	err_set(e, -ESTALE, "%s is not the image that %s: its disk has %llu bytes, not %llu", file, whose,
		(unsigned long long)now->size, (unsigned long long)was->size);
	return err_hint(e, "put that one back; if it was only resized, 'fermata img resize%s%s %s %llu' does", raw ? " -f raw" : "",
		now->size > was->size ? " --shrink" : "", file, (unsigned long long)was->size);
}

/* What the header of @above calls the image below it, from the root on, links as they are; NULL: not known. */
static char *name_below(const char *above)
{
	auto_qcow2 struct qcow2 *q = NULL;
	struct qcow2_info info;
	struct err ignored;

	if (qcow2_open(above, QCOW2_SHARE, &q, &ignored) < 0)
		return NULL;
	qcow2_get_info(q, &info);
	return info.backing ? path_beside(above, info.backing) : NULL;
}

/*
 * What is on record about the image that @above, or a snapshot, means by the name that leads to @file now. An image that was rebased
 * has another name in its header; a link that was switched is another image under the same name.
 */
static struct record_base *known(struct fermata_vm *vm, const char *above, const char *file)
{
	struct record_base *there = record_base(vm->rec, file), *named;
	auto_free char *name = NULL;
	struct stat st;

	if (above && there && stat(above, &st) == 0 && st.st_ino == there->above)
		return there;
	name = above ? name_below(above) : NULL;
	named = name || !above ? record_base_named(vm->rec, name ? name : file) : NULL;
	return named ? named : there;
}

int base_check(struct fermata_vm *vm, const char *above, const char *file, bool raw, struct err *e)
{
	struct record_base *was = known(vm, above, file), now = { 0 };
	const struct fermata_snap *s;
	bool device;

	if (!was || !look_at_file(file, &now, &device) || untouched(was, &now))
		return 0;
	look_inside(file, raw, device, was->span, &now);
	if (!now.print || (now.size == was->size && now.print == was->print)) {
		was->ino = now.ino;
		was->mtime_ns = now.mtime_ns;
		vm->rec->bases_new = true;
		return 0;
	}
	s = frozen_by(vm->rec, file);
	return s || was_written_over(was, above) ? refuse_base(vm, file, raw, was, &now, s, e) : 0;
}

void base_note(struct fermata_vm *vm, const char *above, const char *file, bool raw)
{
	struct record_base *was = record_base(vm->rec, file), b = { 0 };
	auto_free char *name = NULL;
	struct err ignored;
	struct stat st;
	bool device;

	if (!look_at_file(file, &b, &device))
		return;
	b.above = above && stat(above, &st) == 0 ? st.st_ino : was ? was->above : 0;
	if (was && b.above == was->above && (device || untouched(was, &b)))
		return;
	look_inside(file, raw, device, 0, &b);
	name = above ? name_below(above) : NULL;
	/* A later start tries again. */
	if (b.print && record_base_put(vm->rec, file, name ? name : file, &b, &ignored) < 0)
		vm_notice(vm, "%s", ignored.msg);
}
