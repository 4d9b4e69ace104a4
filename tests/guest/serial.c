/*
 * Everything is said on, and every key is taken from, every serial port there is: a test logs one to a file and
 * leaves the other to the console socket.
 */
#include "tests/guest/witness.h"

static const uint16_t bases[] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
static uint16_t ports[4];
static bool stuck[4];
static unsigned n_ports;
static uint16_t sum;	/* of the line so far */

static void add(uint16_t p)
{
	if (n_ports == 4)
		return;
	outb(p + 7, 0xa5);			/* the scratch register keeps it only if there is a UART */
	if (inb(p + 7) != 0xa5)
		return;
	outb(p + 1, 0);
	outb(p + 3, 0x80);
	outb(p, 1);
	outb(p + 1, 0);
	outb(p + 3, 3);
	outb(p + 2, 7);
	outb(p + 4, 3);
	ports[n_ports++] = p;
}

void serial_init(void)
{
	for (unsigned i = 0; i < 4; i++)
		add(bases[i]);
}

/* QEMU's pci-serial */
void serial_found(const struct pci *p)
{
	if (p->vendor != 0x1b36 || p->device != 2)
		return;
	pci_enable(p);
	add(pci_read(p, 0x10) & ~3u);
}

/* A reader that has gone to sleep must not stop the clock: give up on its port until it is ready again. */
static void put(char c)
{
	uart_put(c);
	for (unsigned i = 0; i < n_ports; i++) {
		unsigned left = stuck[i] ? 1 : 20000;

		while (left && !(inb(ports[i] + 5) & 0x20))
			left--;
		stuck[i] = !left;
		if (left)
			outb(ports[i], c);
	}
}

void serial_text(const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			put('\r');
		put(*s);
		sum = *s == '\n' ? 0 : (uint16_t)(sum * 31 + (uint8_t)*s);
	}
}

void serial_seal(void)
{
	uint32_t s = sum;

	serial_text(" ~");
	serial_hex(s);
	serial_text("\n");
}

void serial_number(uint32_t v)
{
	char b[11], *p = b + 10;

	*p = 0;
	do
		*--p = '0' + v % 10;
	while (v /= 10);
	serial_text(p);
}

void serial_hex(uint32_t v)
{
	char b[9];

	for (unsigned i = 0; i < 8; i++)
		b[i] = "0123456789abcdef"[v >> (28 - 4 * i) & 15];
	b[8] = 0;
	serial_text(b);
}

int serial_key(void)
{
	for (unsigned i = 0; i < n_ports; i++)
		if (inb(ports[i] + 5) & 1)
			return inb(ports[i]);
	return uart_key();
}
