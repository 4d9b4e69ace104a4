/* IDE disks by programmed I/O, at the two places where a PC has them. */
#include "tests/guest/witness.h"

#define S_ERR	0x01
#define S_DRQ	0x08
#define S_BSY	0x80

static uint8_t wait_idle(uint16_t base)
{
	uint8_t s;

	while ((s = inb(base + 7)) & S_BSY)
		relax();
	return s;
}

static void select(struct disk *d, uint16_t base, uint32_t lba)
{
	outb(base + 6, 0xe0 | (d->unit & 1) << 4 | (lba >> 24 & 15));
	wait_idle(base);
	outb(base + 2, 1);
	outb(base + 3, lba);
	outb(base + 4, lba >> 8);
	outb(base + 5, lba >> 16);
}

static int ide_rw(struct disk *d, uint32_t lba, uint32_t *sector, bool write)
{
	uint16_t base = d->unit & 2 ? 0x170 : 0x1f0, *w = (uint16_t *)sector;
	uint8_t s;

	select(d, base, lba);
	outb(base + 7, write ? 0x30 : 0x20);
	s = wait_idle(base);
	if (!(s & S_DRQ) || (s & S_ERR))
		return 0x100 | s;
	for (unsigned i = 0; i < 256; i++)
		if (write)
			outw(base, w[i]);
		else
			w[i] = inw(base);
	s = wait_idle(base);
	return s & S_ERR ? 0x100 | s : 0;
}

static void probe(unsigned unit)
{
	uint16_t base = unit & 2 ? 0x170 : 0x1f0, id[256];
	struct disk *d, trial = { .unit = unit };
	uint8_t s;

	if (inb(base + 7) == 0xff)
		return;					/* nobody on the bus */
	outb(base + 0x206, 2);				/* no interrupts */
	select(&trial, base, 0);
	outb(base + 7, 0xec);
	if (!inb(base + 7))
		return;
	s = wait_idle(base);
	if (inb(base + 4) || inb(base + 5) || !(s & S_DRQ))
		return;					/* not a disk: a CD-ROM says so here */
	for (unsigned i = 0; i < 256; i++)
		id[i] = inw(base);
	d = disk_add("ide");
	if (!d)
		return;
	d->unit = unit;
	d->rw = ide_rw;
	d->sectors = id[60] | (uint32_t)id[61] << 16;
}

void ide_scan(void)
{
	for (unsigned unit = 0; unit < 4; unit++)
		probe(unit);
}
