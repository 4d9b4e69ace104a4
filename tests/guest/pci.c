/* PCI through ports 0xcf8/0xcfc, behind bridges too; the BIOS has given out buses and addresses. */
#include "tests/guest/witness.h"

static void address(const struct pci *p, unsigned reg)
{
	outl(0xcf8, 1u << 31 | p->bus << 16 | p->dev << 11 | p->fn << 8 | (reg & 0xfc));
}

uint32_t pci_read(const struct pci *p, unsigned reg)
{
	address(p, reg);
	return inl(0xcfc);
}

void pci_enable(const struct pci *p)
{
	uint32_t command = pci_read(p, 4);

	address(p, 4);
	outl(0xcfc, (command & 0xffff) | 7);
}

static void scan(uint8_t bus, unsigned depth, void (*found)(const struct pci *p))
{
	for (unsigned i = 0; i < 32 * 8; i++) {
		struct pci p = { .bus = bus, .dev = i / 8, .fn = i % 8 };
		uint32_t id = pci_read(&p, 0), header;

		if ((id & 0xffff) == 0xffff || !id) {
			if (!p.fn)
				i += 7;			/* no function 0: no device */
			continue;
		}
		p.vendor = id & 0xffff;
		p.device = id >> 16;
		p.class = pci_read(&p, 8) >> 8;
		header = pci_read(&p, 12) >> 16;
		if ((header & 0x7f) == 1 && depth < 8)
			scan(pci_read(&p, 0x18) >> 8 & 0xff, depth + 1, found);
		else
			found(&p);
		if (!p.fn && !(header & 0x80))
			i += 7;
	}
}

void pci_each(void (*found)(const struct pci *p))
{
	scan(0, 0, found);
}
