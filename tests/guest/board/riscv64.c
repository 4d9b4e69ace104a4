/* RISC-V's virt, in machine mode: a 16550, the core's timer, a PLIC. */
#include "tests/guest/witness.h"

#define UART		0x10000000ull
#define UART_STATUS	(UART + 5)

#define CLINT_COMPARE	0x02004000ull
#define CLINT_TIME	0x0200bff8ull
#define CLINT_HZ	10000000u
#define PLIC		0x0c000000ull
#define PLIC_ENABLE	(PLIC + 0x2000)
#define PLIC_THRESHOLD	(PLIC + 0x200000)
#define PLIC_CLAIM	(PLIC + 0x200004)
#define PCI_IRQ		32u			/* to 35: INTA to INTD */
#define TIMER_BIT	(1ul << 7)
#define DEVICE_BIT	(1ul << 11)

static uint64_t period;

void uart_put(char c)
{
	unsigned left = 20000;

	while (left && !(*at8(UART_STATUS) & 0x20))
		left--;
	if (left)
		*at8(UART) = (uint8_t)c;
}

int uart_key(void)
{
	return *at8(UART_STATUS) & 1 ? *at8(UART) : -1;
}

static void timer_arm(void)
{
	*at64(CLINT_COMPARE) = *at64(CLINT_TIME) + period;
}

void timer_start(uint32_t hz)
{
	period = CLINT_HZ / hz;
	for (unsigned i = 0; i < 4; i++)
		*at32(PLIC + 4 * (PCI_IRQ + i)) = 1;
	*at32(PLIC_ENABLE + PCI_IRQ / 8) = 0xf;
	*at32(PLIC_THRESHOLD) = 0;
	timer_arm();
	__asm__ volatile("csrw mie, %0" :: "r"(TIMER_BIT | DEVICE_BIT));
	interrupts = true;
}

void halt(void)
{
	unsigned long waits;
	uint32_t irq;

	__asm__ volatile("fence; wfi; csrr %0, mip" : "=r"(waits) :: "memory");
	if (waits & TIMER_BIT) {
		irq_ticks++;
		timer_arm();
	}
	while ((waits & DEVICE_BIT) && (irq = *at32(PLIC_CLAIM))) {
		virtio_heard();
		barrier();
		*at32(PLIC_CLAIM) = irq;
	}
}
