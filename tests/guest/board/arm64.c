/* Arm's virt: a PL011, a GICv2, the virtual timer. */
#include "tests/guest/witness.h"

#define UART		0x09000000ull
#define UART_FLAGS	(UART + 0x18)
#define UART_LINE	(UART + 0x2c)
#define UART_CONTROL	(UART + 0x30)
#define TX_FULL		(1u << 5)
#define RX_EMPTY	(1u << 4)

#define GICD		0x08000000ull
#define GICC		0x08010000ull
#define TIMER_IRQ	27u
#define PCI_IRQ		35u			/* to 38: INTA to INTD */
#define NO_IRQ		1020u

static uint64_t period;

void uart_put(char c)
{
	unsigned left = 20000;

	while (left && (*at32(UART_FLAGS) & TX_FULL))
		left--;
	if (left)
		*at32(UART) = (uint8_t)c;
}

int uart_key(void)
{
	return *at32(UART_FLAGS) & RX_EMPTY ? -1 : (int)(*at32(UART) & 0xff);
}

static void timer_arm(void)
{
	__asm__ volatile("msr cntv_tval_el0, %0; isb" :: "r"(period));
}

void timer_start(uint32_t hz)
{
	uint64_t freq;

	*at32(UART_LINE) = 0x70;		/* eight bits, queues */
	*at32(UART_CONTROL) = 0x301;
	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(freq));
	period = freq / hz;
	*at32(GICD) = 1;
	*at32(GICD + 0x100) = 1u << TIMER_IRQ;
	*at32(GICD + 0x104) = 0xfu << (PCI_IRQ - 32);
	for (unsigned i = 0; i < 4; i++)
		*at8(GICD + 0x800 + PCI_IRQ + i) = 1;	/* to the first CPU */
	*at32(GICC + 4) = 0xff;			/* whatever its priority */
	*at32(GICC) = 1;
	timer_arm();
	__asm__ volatile("msr cntv_ctl_el0, %0; isb" :: "r"(1ull));
	interrupts = true;
}

void halt(void)
{
	uint32_t irq;

	__asm__ volatile("dsb sy; wfi" ::: "memory");
	while ((irq = *at32(GICC + 0xc)) % 1024 < NO_IRQ) {
		if (irq % 1024 == TIMER_IRQ) {
			irq_ticks++;
			timer_arm();
		} else {
			virtio_heard();
		}
		barrier();
		*at32(GICC + 0x10) = irq;
	}
}
