/* PCI's devices, behind bridges too. */
#include "tests/guest/witness.h"

void pci_enable(const struct pci *p)
{
	pci_write(p, 4, (pci_read(p, 4) & 0xffff) | 7);
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
