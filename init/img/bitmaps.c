#include "init/img/img.h"

int img_check_bitmaps(struct image *from, bool skip_broken, struct err *e)
{
	const struct qcow2_bitmap *b;
	unsigned n;

	if (!from->q)
		return err_set(e, -EOPNOTSUPP, "%s: raw images have no bitmaps", from->path);
	if (qcow2_bitmaps(from->q, &b, &n, e) < 0)
		return e->code;
	for (unsigned i = 0; i < n; i++)
		if ((b[i].flags & QCOW2_BITMAP_IN_USE) && !skip_broken) {
			err_set(e, -EBUSY, "%s: bitmap '%s' was in use when its writer ended, and cannot be copied", from->path, cmd_shown(b[i].name));
			return err_hint(e, "--skip-broken-bitmaps leaves it out");
		}
	return 0;
}

int img_copy_bitmaps(struct image *to, struct image *from, bool skip_broken, struct err *e)
{
	const struct qcow2_bitmap *b;
	unsigned n;

	if (img_check_bitmaps(from, skip_broken, e) < 0 || qcow2_bitmaps(from->q, &b, &n, e) < 0)
		return e->code;
	for (unsigned i = 0; i < n; i++) {
		if (b[i].flags & QCOW2_BITMAP_IN_USE)
			continue;
		if (qcow2_bitmap_add(to->q, b[i].name, b[i].granularity, !(b[i].flags & QCOW2_BITMAP_AUTO), e) < 0 ||
			qcow2_bitmap_merge(to->q, b[i].name, from->q, b[i].name, e) < 0)
			return err_at(e, "cannot copy bitmap '%s'", cmd_shown(b[i].name));
	}
	return 0;
}
