/*
 * The witness guest's parts. Everything runs in one loop. The timer interrupts it, and the virtio disks, for which it halts:
 * one that polls would take a whole processor from the tests. All other devices are polled.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__i386__)
#define RAM_START	0u
static inline void outb(uint16_t p, uint8_t v) { __asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(p)); }
static inline void outw(uint16_t p, uint16_t v) { __asm__ volatile("outw %0, %1" :: "a"(v), "Nd"(p)); }
static inline void outl(uint16_t p, uint32_t v) { __asm__ volatile("outl %0, %1" :: "a"(v), "Nd"(p)); }
static inline uint8_t inb(uint16_t p) { uint8_t v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline uint16_t inw(uint16_t p) { uint16_t v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline uint32_t inl(uint16_t p) { uint32_t v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline void barrier(void) { __asm__ volatile("" ::: "memory"); }
static inline void relax(void) { __asm__ volatile("pause" ::: "memory"); }
#else
#include "tests/guest/board/board.h"
#endif

/* All memory is below 4 GiB. */
static inline uint32_t address_of(const volatile void *p) { return (uint32_t)(uintptr_t)p; }

#define MAX_DISKS	16
#define SECTOR_WORDS	128

/* One disk, whatever bus it hangs on. */
struct disk {
	const char *bus;
	/* Move one sector; waits for the device. Returns 0, or the device's own status. */
	int (*rw)(struct disk *d, uint32_t lba, uint32_t *sector, bool write);
	void *device;			/* the driver's */
	uint32_t unit;			/* the driver's */
	uint32_t sectors;		/* size; saturates */
	bool readonly;
};

extern struct disk disks[MAX_DISKS];
extern unsigned n_disks;
struct disk *disk_add(const char *bus);	/* NULL when there are too many */

/* Zeroed memory that never goes back, below the filled part; @align a power of two. */
void *take(uint32_t bytes, uint32_t align);

struct pci { uint8_t bus, dev, fn; uint16_t vendor, device; uint32_t class; };
uint32_t pci_read(const struct pci *p, unsigned reg);
void pci_write(const struct pci *p, unsigned reg, uint32_t value);
void pci_enable(const struct pci *p);	/* I/O, memory, bus master */
void pci_each(void (*found)(const struct pci *p));

void serial_init(void);
void serial_found(const struct pci *p);
void serial_text(const char *s);
void serial_number(uint32_t v);		/* decimal */
void serial_hex(uint32_t v);
void serial_seal(void);			/* end the line with its checksum */
int serial_key(void);			/* -1: none waits */

struct config {
	uint32_t magic, fill_mib, hz, report_every, write_disks, seed, dirty_pages;
};
extern const struct config config;

/* The board's: pc.c, arm64.c, riscv64.c. */
extern volatile uint32_t irq_ticks;
void timer_start(uint32_t hz);
void calls_off(void);			/* an interrupt waits from here on */
void calls_on(void);
void halt(void);			/* until one has come; takes it */
uint32_t board_ram_mib(void);
void board_start(void);
void board_found(const struct pci *p);	/* a device that only it can have */
bool board_flash(void);			/* write a word there, and read it back */
void board_disks(void);			/* those behind no PCI device */
void uart_put(char c);			/* the port that it has beside those of a PC */
int uart_key(void);			/* -1: none waits */

extern bool interrupts;			/* from timer_start() on */
extern uint32_t virtio_lines;		/* of the interrupt controllers, a bit each */
void virtio_heard(void);		/* one of them has called */

/* The drivers; each adds the disks it finds. */
void virtio_found(const struct pci *p);
void ahci_found(const struct pci *p);
void ide_scan(void);
