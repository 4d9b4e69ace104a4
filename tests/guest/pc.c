/* The PC: its interrupt controllers and timer, what the BIOS has found out, configuration space through ports 0xcf8 and 0xcfc. */
#include "tests/guest/witness.h"

extern const uint8_t traps[];
void timer_irq(void);
void disk_irq(void);
void trap(uint32_t vector, uint32_t a, uint32_t b, uint32_t c);

bool interrupts;

void trap(uint32_t vector, uint32_t a, uint32_t b, uint32_t c)
{
	serial_text("\nTRAP ");
	serial_number(vector);
	for (uint32_t i = 0, w[] = { a, b, c }; i < 3; i++) {
		serial_text(" ");
		serial_hex(w[i]);
	}
	serial_text("\n");
}

/* ---- the interrupt ---- */
static struct { uint16_t low, selector, type, high; } idt[256];

static void gate(unsigned n, uint32_t handler)
{
	idt[n].low = handler;
	idt[n].selector = 8;
	idt[n].type = 0x8e00;
	idt[n].high = handler >> 16;
}

void timer_start(uint32_t hz)
{
	static struct { uint16_t limit; uint32_t base; } __attribute__((packed)) idtr;
	uint32_t divisor = 1193182 / hz;

	for (unsigned i = 0; i < 32; i++)
		gate(i, (uint32_t)traps + 8 * i);
	gate(32, (uint32_t)timer_irq);
	for (unsigned i = 33; i < 48; i++)
		gate(i, (uint32_t)disk_irq);
	idtr.limit = sizeof idt - 1;
	idtr.base = (uint32_t)idt;
	__asm__ volatile("lidt %0" :: "m"(idtr));

	outb(0x20, 0x11);			/* both interrupt controllers to vectors 32..47 */
	outb(0xa0, 0x11);
	outb(0x21, 32);
	outb(0xa1, 40);
	outb(0x21, 4);
	outb(0xa1, 2);
	outb(0x21, 1);
	outb(0xa1, 1);
	outb(0x21, ~(virtio_lines | 1u << 2 | 1u));	/* the timer, the second controller, the disks */
	outb(0xa1, ~virtio_lines >> 8);
	outb(0x43, 0x34);
	outb(0x40, divisor);
	outb(0x40, divisor >> 8);
	interrupts = true;
	__asm__ volatile("sti");
}

void calls_off(void)
{
	__asm__ volatile("cli" ::: "memory");
}

void calls_on(void)
{
	__asm__ volatile("sti" ::: "memory");
}

void halt(void)
{
	__asm__ volatile("sti; hlt" ::: "memory");
}

static uint8_t cmos(uint8_t reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

uint32_t board_ram_mib(void)
{
	return 16 + (cmos(0x34) | cmos(0x35) << 8) / 16;
}

/* The BIOS has given out buses and addresses. */
void board_start(void)
{
}

void board_found(const struct pci *p)
{
	ahci_found(p);
}

void board_disks(void)
{
	ide_scan();
}

bool board_flash(void)
{
	return false;
}

static void address(const struct pci *p, unsigned reg)
{
	outl(0xcf8, 1u << 31 | p->bus << 16 | p->dev << 11 | p->fn << 8 | (reg & 0xfc));
}

uint32_t pci_read(const struct pci *p, unsigned reg)
{
	address(p, reg);
	return inl(0xcfc);
}

void pci_write(const struct pci *p, unsigned reg, uint32_t value)
{
	address(p, reg);
	outl(0xcfc, value);
}

/* Its serial ports are all where serial.c looks. */
void uart_put(char c)
{
	(void)c;
}

int uart_key(void)
{
	return -1;
}
