/*
 * CONFIG_PACKED: the program as an LZ4 frame, and what brings it back. Six tenths of the size as a file; it costs a
 * part of a millisecond at each start, and memory that processes no longer share (see the option's help).
 *
 * What runs here is a program of its own, without a libc: it unpacks the whole one into anonymous memory, gives its parts
 * the rights that the kernel's loader would have given them (System V ABI, "Program Loading"), tells it through the
 * auxiliary vector where it is, and jumps to its entry. No page is ever writable and executable at once. x86-64.
 */
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "init/packed.h"

#define PAGE 4096ul

/* LZ4 Frame Format, as "lz4 -12 -B7 -BX --content-size --no-frame-crc" writes it: one block, of 4 MiB at most. */
struct __attribute__((packed)) frame {
	uint32_t magic;
	uint8_t flags, block_max;
	uint64_t size; /* of all that comes out */
	uint8_t checksum;
	uint32_t n; /* bytes of the block */
	uint8_t block[];
};
#define FRAME_END 8 /* behind the block: its checksum, and 0 for no other */

#define HIDDEN __attribute__((visibility("hidden")))

extern const struct frame packed_start HIDDEN;
extern const uint8_t packed_end[] HIDDEN;
HIDDEN uintptr_t unpack(uintptr_t *stack);

__asm__(".section .payload, \"a\"\n"
	"packed_start:\n"
	"	.incbin \"" PAYLOAD "\"\n"
	"packed_end:\n"
	".text\n"
	".globl packed_entry\n"
	"packed_entry:\n"
	"	mov %rsp, %rbp\n"
	"	mov %rsp, %rdi\n"
	"	call unpack\n"
	"	mov %rbp, %rsp\n"
	"	xor %ebp, %ebp\n"
	"	xor %edx, %edx\n"
	"	jmp *%rax\n");

/* What the compiler may call. */
void *memcpy(void *to, const void *from, size_t n)
{
	void *d = to;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	return to;
}

void *memset(void *to, int c, size_t n)
{
	void *d = to;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return to;
}

static long call(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = 0;

	__asm__ volatile("syscall"
			 : "+a"(nr)
			 : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return nr;
}

static void __attribute__((noreturn)) die(const char *why, long n)
{
	call(SYS_write, 2, (long)why, n, 0, 0);
	for (;;)
		call(SYS_exit_group, 1, 0, 0, 0, 0);
}
#define DAMAGED	 "the program's file is damaged: install it anew"
#define DIE(why) die("fermata: " why "\n", sizeof "fermata: " why)

/* Bytes that are mapped at first, all that the program can need. */
static size_t room(size_t size)
{
	return (size + PACKED_BSS_MAX + PAGE - 1) & -PAGE;
}

static uint32_t word(const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof v);
	return v;
}

static uint32_t turned(uint32_t v, unsigned by)
{
	return v << by | v >> (32 - by);
}

/* XXH32, seed 0. A flipped bit does more harm here than in a program that is mapped as it is: it is looked for. */
static uint32_t checksum(const uint8_t *p, size_t n)
{
	const uint32_t p1 = 2654435761, p2 = 2246822519, p3 = 3266489917, p4 = 668265263, p5 = 374761393;
	uint32_t lane[4] = { p1 + p2, p2, 0, -p1 }, h;
	const uint8_t *end = p + n;

	for (; end - p >= 16; p += 16)
#pragma GCC unroll 4
		for (unsigned i = 0; i < 4; i++)
			lane[i] = turned(lane[i] + word(p + 4 * i) * p2, 13) * p1;
	h = n < 16 ? p5 : turned(lane[0], 1) + turned(lane[1], 7) + turned(lane[2], 12) + turned(lane[3], 18);
	h += (uint32_t)n;
	for (; end - p >= 4; p += 4)
		h = turned(h + word(p) * p3, 17) * p4;
	for (; p < end; p++)
		h = turned(h + *p * p5, 11) * p1;
	h = (h ^ h >> 15) * p2;
	h = (h ^ h >> 13) * p3;
	return h ^ h >> 16;
}

/* Of a token's half, and what follows it. */
static size_t length_of(unsigned half, const uint8_t **in, const uint8_t *end)
{
	size_t n = half;

	if (half == 15)
		for (unsigned more = 255; more == 255 && *in < end; n += more)
			more = *(*in)++;
	return n;
}

/*
 * @back: how far @from is behind @to, or more than that if it is elsewhere. @room: how much may be written there, from
 * @n on. In pieces that may go over the end, onto what comes next.
 */
static inline void copy(uint8_t *to, const uint8_t *from, size_t n, size_t back, size_t room)
{
	uint8_t *end = to + n;

	if (back >= 16 && room >= n + 16)
		do {
			__builtin_memcpy(to, from, 16);
			to += 16;
			from += 16;
		} while (to < end);
	else if (back >= 8 && room >= n + 8)
		do {
			__builtin_memcpy(to, from, 8);
			to += 8;
			from += 8;
		} while (to < end);
	else
		while (to < end)
			*to++ = *from++;
}

/* LZ4 Block Format: literals and matches in turn, literals last. False if it does not come out at @size bytes. */
static int unpack_block(const uint8_t *in, size_t n_in, uint8_t *out, size_t size)
{
	const uint8_t *end = in + n_in;
	size_t at = 0;

	while (in < end) {
		unsigned token = *in++;
		size_t n = length_of(token >> 4, &in, end), left = (size_t)(end - in), back;

		if (n > left || n > size - at)
			return 0;
		copy(out + at, in, n, 16, left < size - at ? left : size - at);
		at += n;
		in += n;
		if (in == end)
			return at == size;
		if (left - n < 2)
			return 0;
		back = in[0] | (size_t)in[1] << 8;
		in += 2;
		n = 4 + length_of(token & 15, &in, end);
		if (!back || back > at || n > size - at)
			return 0;
		copy(out + at, out + at - back, n, back, size - at);
		at += n;
	}
	return 0;
}

/* Where a part is in the file it is in memory (pack.c has looked): what is left is room for the data without a value. */
static void lay_out(uint8_t *image, size_t size)
{
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)image;
	const Elf64_Phdr *ph = (const Elf64_Phdr *)(image + eh->e_phoff);
	size_t top = 0;

	for (unsigned i = 0; i < eh->e_phnum; i++) {
		size_t end = ph[i].p_vaddr + ph[i].p_filesz, whole = ph[i].p_vaddr + ph[i].p_memsz;

		if (ph[i].p_type != PT_LOAD)
			continue;
		if (ph[i].p_flags & PF_X)
			each_call(image + ph[i].p_vaddr, ph[i].p_filesz, call_relative);
		/* Behind it in the file stand names of sections. */
		if (ph[i].p_memsz > ph[i].p_filesz && end < size)
			memset(image + end, 0, size - end);
		top = (whole + PAGE - 1) & -PAGE;
	}
	call(SYS_munmap, (long)(image + top), (long)(room(size) - top), 0, 0, 0);
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		size_t from = ph[i].p_vaddr & -PAGE, n = ph[i].p_vaddr + ph[i].p_memsz - from;
		unsigned f = ph[i].p_flags;
		int rights = (f & PF_R ? PROT_READ : 0) | (f & PF_W ? PROT_WRITE : 0) | (f & PF_X ? PROT_EXEC : 0);

		if (ph[i].p_type == PT_LOAD && call(SYS_mprotect, (long)(image + from), (long)n, rights, 0, 0) < 0)
			DIE("this kernel does not let it make unpacked code executable: use a build without CONFIG_PACKED");
	}
}

/* @stack: as the kernel left it: argc, argv, NULL, the environment, NULL, the auxiliary vector. Returns where to go on. */
uintptr_t unpack(uintptr_t *stack)
{
	uintptr_t *aux = stack + 1 + stack[0] + 1;
	const struct frame *f = &packed_start;
	const Elf64_Ehdr *eh;
	size_t size = f->size;
	uint8_t *image;

	if (f->magic != 0x184d2204 || f->block + f->n + FRAME_END != packed_end || size >> 22 ||
		checksum(f->block, f->n) != word(f->block + f->n))
		DIE(DAMAGED);
	image = (uint8_t *)call(SYS_mmap, 0, (long)room(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if ((uintptr_t)image > -PAGE)
		DIE("out of memory");
#ifdef MADV_POPULATE_WRITE
	call(SYS_madvise, (long)image, (long)(size & -PAGE), MADV_POPULATE_WRITE, 0, 0); /* at once, where the kernel can */
#endif
	if (!unpack_block(f->block, f->n, image, size))
		DIE(DAMAGED);
	lay_out(image, size);
	eh = (const Elf64_Ehdr *)image;
	while (*aux++)
		;
	for (; aux[0] != AT_NULL; aux += 2)
		switch (aux[0]) {
		case AT_PHDR: aux[1] = (uintptr_t)image + eh->e_phoff; break;
		case AT_PHNUM: aux[1] = eh->e_phnum; break;
		case AT_ENTRY: aux[1] = (uintptr_t)image + eh->e_entry; break;
		}
	return (uintptr_t)image + eh->e_entry;
}
