/* Where things are on QEMU's virt machines: no firmware runs before the witness, and it looks nothing up. Included by witness.h. */
#pragma once

#if defined(__aarch64__)
#define RAM_START	0x40000000u
#define CONFIG_SPACE	0x4010000000ull		/* PCI's, each function 4 KiB */
#define IO_SPACE	0x3eff0000ull
#define FLASH1		0x04000000ull
static inline void barrier(void) { __asm__ volatile("dmb sy" ::: "memory"); }
static inline void relax(void) { __asm__ volatile("yield" ::: "memory"); }
#elif defined(__riscv)
#define RAM_START	0x80000000u
#define CONFIG_SPACE	0x30000000ull
#define IO_SPACE	0x03000000ull
#define FLASH1		0x22000000ull
static inline void barrier(void) { __asm__ volatile("fence iorw, iorw" ::: "memory"); }
static inline void relax(void) { __asm__ volatile("nop" ::: "memory"); }
#endif

static inline volatile uint8_t *at8(uint64_t a) { return (volatile uint8_t *)a; }
static inline volatile uint16_t *at16(uint64_t a) { return (volatile uint16_t *)a; }
static inline volatile uint32_t *at32(uint64_t a) { return (volatile uint32_t *)a; }
static inline volatile uint64_t *at64(uint64_t a) { return (volatile uint64_t *)a; }

static inline void outb(uint16_t p, uint8_t v) { barrier(); *at8(IO_SPACE + p) = v; }
static inline void outw(uint16_t p, uint16_t v) { barrier(); *at16(IO_SPACE + p) = v; }
static inline void outl(uint16_t p, uint32_t v) { barrier(); *at32(IO_SPACE + p) = v; }
static inline uint8_t inb(uint16_t p) { uint8_t v = *at8(IO_SPACE + p); barrier(); return v; }
static inline uint16_t inw(uint16_t p) { uint16_t v = *at16(IO_SPACE + p); barrier(); return v; }
static inline uint32_t inl(uint16_t p) { uint32_t v = *at32(IO_SPACE + p); barrier(); return v; }
