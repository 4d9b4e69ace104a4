/*
 * virtio-blk and virtio-scsi disks by the legacy I/O ports ("Legacy Interface" in the virtio specification): the
 * queue's size is the device's choice, its memory one block with the used ring on the next page.
 */
#include "tests/guest/witness.h"

#define PAGE		4096
#define R_FEATURES	0
#define R_GUEST_FEATURES 4
#define R_QUEUE_PFN	8
#define R_QUEUE_SIZE	12
#define R_QUEUE_SELECT	14
#define R_NOTIFY	16
#define R_STATUS	18
#define R_ISR		19
#define R_CONFIG	20

#define BLK_F_RO	(1u << 5)
#define SCSI_TARGETS	16
#define MAX_QUEUES	16
#define PCI_INTERRUPT	0x3c

struct desc { uint32_t addr, addr_hi, len; uint16_t flags, next; };
struct used_elem { uint32_t id, len; };
struct used { uint16_t flags, idx; struct used_elem ring[]; };
struct avail { uint16_t flags, idx, ring[]; };

struct queue {
	uint16_t io, index, size, seen;
	struct desc *desc;
	struct avail *avail;
	volatile struct used *used;
	/* what a request points at */
	uint32_t head[16];
	uint8_t tail[128];
};

static struct queue *queues[MAX_QUEUES];
static unsigned n_queues;
uint32_t virtio_lines;

struct part { void *p; uint32_t len; bool device_writes; };

static bool queue_open(struct queue *q, uint16_t io, uint16_t index)
{
	uint32_t used_at;
	uint8_t *mem;

	q->io = io;
	q->index = index;
	outw(io + R_QUEUE_SELECT, index);
	q->size = inw(io + R_QUEUE_SIZE);
	if (!q->size)
		return false;
	used_at = (16u * q->size + 6 + 2u * q->size + PAGE - 1) & ~(PAGE - 1u);
	mem = take(used_at + 6 + 8u * q->size, PAGE);
	q->desc = (struct desc *)mem;
	q->avail = (struct avail *)(mem + 16u * q->size);
	q->used = (struct used *)(mem + used_at);
	q->avail->flags = n_queues == MAX_QUEUES;	/* 1: no interrupts */
	if (!q->avail->flags)
		queues[n_queues++] = q;
	outl(io + R_QUEUE_PFN, address_of(mem) / PAGE);
	return true;
}

/* A read of its cause ends a device's call. */
void virtio_heard(void)
{
	for (unsigned i = 0; i < n_queues; i++)
		inb(queues[i]->io + R_ISR);
}

static void queue_wait(struct queue *q)
{
	while (q->used->idx != q->seen) {
		if (!interrupts) {
			relax();
			continue;
		}
		/* Between the look and the halt no call is lost; and the timer comes whatever happens. */
		calls_off();
		if (q->used->idx != q->seen)
			halt();
		calls_on();
	}
}

static void queue_do(struct queue *q, const struct part *parts, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		q->desc[i] = (struct desc){ .addr = address_of(parts[i].p), .len = parts[i].len,
			.flags = (i + 1 < n) | parts[i].device_writes << 1, .next = i + 1 };
	q->avail->ring[q->avail->idx % q->size] = 0;
	barrier();
	q->avail->idx++;
	barrier();
	outw(q->io + R_NOTIFY, q->index);
	q->seen++;
	queue_wait(q);
	barrier();
}

static int blk_rw(struct disk *d, uint32_t lba, uint32_t *sector, bool write)
{
	struct queue *q = d->device;
	struct part parts[] = { { q->head, 16, false }, { sector, 512, !write }, { q->tail, 1, true } };

	q->head[0] = write;
	q->head[1] = 0;
	q->head[2] = lba;
	q->head[3] = 0;
	q->tail[0] = 0xff;
	queue_do(q, parts, 3);
	return q->tail[0];
}

/* One SCSI command; the first few may only report that the unit was reset. Returns response, or status. */
static int scsi_do(struct disk *d, uint8_t op, uint32_t lba, uint16_t count, void *data, uint32_t len, bool write)
{
	struct queue *q = d->device;
	uint8_t *h = (uint8_t *)q->head;
	int status = 0xff;

	for (unsigned tries = 0; tries < 4 && status; tries++) {
		struct part out[] = { { h, 51, false }, { data, len, false }, { q->tail, 108, true } };
		struct part in[] = { { h, 51, false }, { q->tail, 108, true }, { data, len, true } };

		for (unsigned i = 0; i < 51; i++)
			h[i] = 0;
		h[0] = 1;				/* logical unit 0 of target d->unit */
		h[1] = d->unit;
		h[2] = 0x40;
		h[19] = op;				/* the command block; numbers are big endian */
		for (unsigned i = 0; i < 4; i++)
			h[21 + i] = lba >> (24 - 8 * i);
		h[26] = count >> 8;
		h[27] = count;
		q->tail[11] = 0xff;
		queue_do(q, write ? out : in, 3);
		status = q->tail[11] ? q->tail[11] : q->tail[10];
		if (q->tail[11])
			break;				/* 3: no such target */
	}
	return status;
}

static int scsi_rw(struct disk *d, uint32_t lba, uint32_t *sector, bool write)
{
	return scsi_do(d, write ? 0x2a : 0x28, lba, 1, sector, 512, write);
}

static void scsi_scan(struct queue *q)
{
	uint8_t *capacity = take(8, 8);

	for (unsigned t = 0; t < SCSI_TARGETS; t++) {
		struct disk probe = { .device = q, .unit = t }, *d;

		if (scsi_do(&probe, 0x25, 0, 0, capacity, 8, false))
			continue;
		d = disk_add("scsi");
		if (!d)
			return;
		d->device = q;
		d->unit = t;
		d->rw = scsi_rw;
		d->sectors = (capacity[0] << 24 | capacity[1] << 16 | capacity[2] << 8 | capacity[3]) + 1;
	}
}

void virtio_found(const struct pci *p)
{
	bool blk = p->device == 0x1001, scsi = p->device == 0x1004;
	uint32_t bar = pci_read(p, 0x10);
	uint16_t io = bar & ~3u;
	struct queue *q;
	struct disk *d;
	bool readonly;

	if (p->vendor != 0x1af4 || (!blk && !scsi) || !(bar & 1))
		return;
	pci_enable(p);
	outb(io + R_STATUS, 0);				/* the BIOS has used it */
	outb(io + R_STATUS, 1);
	outb(io + R_STATUS, 3);
	readonly = blk && (inl(io + R_FEATURES) & BLK_F_RO);
	outl(io + R_GUEST_FEATURES, readonly ? BLK_F_RO : 0);
	q = take(sizeof *q, 16);
	if (!queue_open(q, io, blk ? 0 : 2))
		return;
	virtio_lines |= 1u << (pci_read(p, PCI_INTERRUPT) & 15);
	outb(io + R_STATUS, 7);
	if (scsi) {
		scsi_scan(q);
		return;
	}
	d = disk_add("virtio");
	if (!d)
		return;
	d->device = q;
	d->rw = blk_rw;
	d->readonly = readonly;
	d->sectors = inl(io + R_CONFIG + 4) ? UINT32_MAX : inl(io + R_CONFIG);
}
