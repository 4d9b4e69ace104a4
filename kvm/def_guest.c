#include "kvm/def_guest.h"

static void put(struct buf *b, const char *key, const char *val)
{
	if (val)
		buf_addf(b, "%s = %s\n", key, val);
}

/* The end of a device's line. */
static void put_place(struct buf *b, const char *address, unsigned queues)
{
	if (address)
		buf_addf(b, ", address %s", address);
	if (queues)
		buf_addf(b, ", %u queues", queues);
	buf_addc(b, '\n');
}

void def_guest(const struct def *d, struct buf *b)
{
	static const char *const accels[] = { "kvm", "tcg", "kvm:tcg" }, *const buses[] = { "virtio", "ide", "sata", "scsi" };

	put(b, "machine", d->machine);
	put(b, "accel", accels[d->accel]);
	put(b, "uuid", d->uuid);
	put(b, "cpu", d->cpu);
	buf_addf(b, "memory = %llu MiB\nvcpus = %u\n", (unsigned long long)(d->memory >> 20), d->vcpus);
	put(b, "agent", d->agent ? "yes" : "no");
	put(b, "firmware", d->firmware);
	put(b, "nvram", d->nvram);
	put(b, "kernel", d->kernel);
	put(b, "initrd", d->initrd);
	put(b, "append", d->append);
	for (size_t i = 0; i < d->n_disks; i++) {
		const struct def_disk *k = &d->disks[i];

		buf_addf(b, "disk %s = %s, %s%s%s%s", k->name, buses[k->bus], k->format == FORMAT_RAW ? "raw" : "qcow2",
			k->serial ? ", serial " : "", k->serial ? k->serial : "", k->readonly ? ", readonly" : "");
		put_place(b, k->address, k->queues);
	}
	for (size_t i = 0; i < d->n_cdroms; i++) { /* what is in it can be changed while the guest runs */
		const struct def_disk *k = &d->cdroms[i];

		buf_addf(b, "cdrom %s = %s%s%s", k->name, buses[k->bus], k->serial ? ", serial " : "", k->serial ? k->serial : "");
		put_place(b, k->address, 0);
	}
	for (size_t i = 0; i < d->n_nets; i++) {
		const struct def_net *n = &d->nets[i];

		/* The other end of its cable is the host's affair. */
		if (str_eq(n->type, "none"))
			continue;
		buf_addf(b, "net %s = %s, %s", n->name, n->model, n->mac);
		put_place(b, n->address, n->queues);
	}
	for (size_t i = 0; i < d->qemu_args.n; i++)
		put(b, "[qemu] arg", d->qemu_args.v[i]);
}
