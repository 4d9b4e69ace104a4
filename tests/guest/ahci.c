/* SATA disks behind an AHCI controller: one command slot for each port, polled. */
#include "tests/guest/witness.h"

#define H_GHC		(0x04 / 4)
#define H_PORTS		(0x0c / 4)
#define P_CLB		(0x00 / 4)
#define P_CLB_HI	(0x04 / 4)
#define P_FB		(0x08 / 4)
#define P_FB_HI		(0x0c / 4)
#define P_STATUS	(0x10 / 4)
#define P_INTR		(0x14 / 4)
#define P_CMD		(0x18 / 4)
#define P_TASK		(0x20 / 4)
#define P_SIG		(0x24 / 4)
#define P_LINK		(0x28 / 4)
#define P_ISSUE		(0x38 / 4)

struct port {
	volatile uint32_t *reg;
	uint32_t *list;				/* 1 KiB, 32 slots of 8 words; slot 0 is used */
	uint8_t *table;				/* command at 0, one region at 0x80 */
};

static int command(struct port *p, uint8_t op, uint32_t lba, uint16_t count, void *data, bool write)
{
	uint32_t *region = (uint32_t *)(p->table + 0x80);
	const uint8_t fis[20] = { 0x27, 0x80, op, 0, lba, lba >> 8, lba >> 16, 0x40, lba >> 24, 0, 0, 0, count };

	for (unsigned i = 0; i < sizeof fis; i++)
		p->table[i] = fis[i];
	region[0] = (uint32_t)data;
	region[1] = region[2] = 0;
	region[3] = 511;
	p->list[0] = 5 | write << 6 | 1 << 16;
	p->list[1] = 0;
	p->list[2] = (uint32_t)p->table;
	p->list[3] = 0;
	barrier();
	p->reg[P_STATUS] = p->reg[P_STATUS];
	p->reg[P_ISSUE] = 1;
	while ((p->reg[P_ISSUE] & 1) && !(p->reg[P_TASK] & 1))
		relax();
	barrier();
	return p->reg[P_TASK] & 1 ? 0x200 | (p->reg[P_TASK] & 0xff) : 0;
}

static int ahci_rw(struct disk *d, uint32_t lba, uint32_t *sector, bool write)
{
	return command(d->device, write ? 0x35 : 0x25, lba, 1, sector, write);
}

static void port_found(volatile uint32_t *reg)
{
	uint16_t *id = take(512, 512);
	struct port *p = take(sizeof *p, 16);
	struct disk *d;

	reg[P_CMD] &= ~(1u | 1u << 4);
	while (reg[P_CMD] & (1u << 15 | 1u << 14))
		relax();
	p->reg = reg;
	p->list = take(1024, 1024);
	p->table = take(256, 128);
	reg[P_CLB] = (uint32_t)p->list;
	reg[P_CLB_HI] = 0;
	reg[P_FB] = (uint32_t)take(256, 256);
	reg[P_FB_HI] = 0;
	reg[P_INTR] = 0;
	reg[P_CMD] |= 1u << 4;
	reg[P_CMD] |= 1;
	if (command(p, 0xec, 0, 0, id, false))
		return;
	d = disk_add("sata");
	if (!d)
		return;
	d->device = p;
	d->rw = ahci_rw;
	d->sectors = id[60] | (uint32_t)id[61] << 16;
}

void ahci_found(const struct pci *p)
{
	volatile uint32_t *host;
	uint32_t present;

	if (p->class != 0x010601)
		return;
	pci_enable(p);
	host = (volatile uint32_t *)(pci_read(p, 0x24) & ~15u);
	host[H_GHC] |= 1u << 31;
	present = host[H_PORTS];
	for (unsigned i = 0; i < 32; i++) {
		volatile uint32_t *reg = host + (0x100 + 0x80 * i) / 4;

		if ((present >> i & 1) && (reg[P_LINK] & 15) == 3 && reg[P_SIG] == 0x101)
			port_found(reg);
	}
}
