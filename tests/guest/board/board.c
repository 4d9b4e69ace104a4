/* What the virt machines have in common: PCI Express, which nobody has set up. */
#include "tests/guest/witness.h"

#define FIRST_PORT	0x1000u

bool interrupts;

/* Interrupts stay masked, and are taken where one is waited for: to wait ends for a masked one, too. */
void calls_off(void)
{
}

void calls_on(void)
{
}

/* No room is looked for: who says how much is to be filled sees to it that there is as much. */
uint32_t board_ram_mib(void)
{
	return 4 + config.fill_mib;
}

static volatile uint32_t *config_at(const struct pci *p, unsigned reg)
{
	return at32(CONFIG_SPACE + (p->bus << 20 | p->dev << 15 | p->fn << 12 | (reg & 0xffc)));
}

uint32_t pci_read(const struct pci *p, unsigned reg)
{
	uint32_t v = *config_at(p, reg);

	barrier();
	return v;
}

void pci_write(const struct pci *p, unsigned reg, uint32_t value)
{
	barrier();
	*config_at(p, reg) = value;
}

/* No firmware has given out addresses: a device that talks through ports gets some. */
static void give_ports(const struct pci *p)
{
	static uint32_t next = FIRST_PORT;
	uint32_t mask, size;

	if (!(pci_read(p, 0x10) & 1))
		return;
	pci_write(p, 0x10, 0xffffffff);
	mask = pci_read(p, 0x10) & ~3u;
	size = -mask & 0xffff;
	if (!size)
		return;
	next = (next + size - 1) & ~(size - 1);
	pci_write(p, 0x10, next);
	next += size;
}

void board_start(void)
{
	pci_each(give_ports);
}

void board_found(const struct pci *p)
{
	(void)p;
}

bool board_flash(void)
{
	volatile uint32_t *word = at32(FLASH1);

	*word = 0x00400040;			/* two chips of 16 bits: program what comes next */
	barrier();
	*word = 0x5eed5eed;
	barrier();
	*word = 0x00ff00ff;			/* and be memory again */
	barrier();
	return *word == 0x5eed5eed;
}

void board_disks(void)
{
}
