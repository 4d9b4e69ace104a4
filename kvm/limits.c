/* What the disks of a definition may do in a second. */
#include <inttypes.h>

#include "kvm/kvm.h"
#include "lib/buf.h"
#include "monitor/monitor.h"

/* @part: "" or the part of the device that has the disk. */
static int limit_disk(struct kvm *k, const struct def_disk *d, const char *part, struct deadline until, struct err *e)
{
	auto_buf struct buf b = { 0 };

	buf_addf(&b, "{\"id\":\"/machine/peripheral/%s%s\",\"iops\":%u,\"iops_rd\":0,\"iops_wr\":0,\"bps\":%" PRIu64
		",\"bps_rd\":0,\"bps_wr\":0}", d->name, part, d->iops, d->bps);
	if (buf_check(&b, "limit a disk", e) < 0)
		return e->code;
	return mon_call(kvm_mon(k), "block_set_io_throttle", b.p, until, NULL, e);
}

int kvm_limit_disks(struct kvm *k, const struct def *d, struct deadline until, struct err *e)
{
	for (size_t i = 0; i < d->n_disks; i++) {
		const struct def_disk *disk = &d->disks[i];
		struct err not_there;

		if (!disk->iops && !disk->bps)
			continue;
		/* virtio on PCI is two devices in one; the inner one has the disk. */
		if (disk->bus == BUS_VIRTIO && limit_disk(k, disk, "/virtio-backend", until, &not_there) == 0)
			continue;
		if (limit_disk(k, disk, "", until, e) < 0)
			return err_at(e, "%s", disk->name);
	}
	return 0;
}
