/*
 * Entry of a static position-independent binary whose relative relocations are packed (DT_RELR: a bitmap where DT_RELA
 * takes 24 bytes for each pointer in a table; 23 KiB less of 1000 pointers). The linker packs them, but musl before
 * 1.2.4 does not unpack them: done here, before its own start runs. Nor does it make them read-only afterwards in a
 * static binary (RELRO), so that is done here too. Built in only where the Makefile asks for it, laid out by
 * init/fermata.lds. (That the whole program is packed, CONFIG_PACKED, is another matter: init/packed.c.)
 */
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef DT_RELR
#define DT_RELRSZ 35
#define DT_RELR   36
#endif

#define HIDDEN __attribute__((visibility("hidden")))

extern const Elf64_Dyn _DYNAMIC[] HIDDEN;
extern const char __ehdr_start[] HIDDEN; /* where the image was loaded */
extern const char relro_start[] HIDDEN, relro_end[] HIDDEN;

#define PAGE 4096ul

HIDDEN void start_relocate(void);

/* The kernel has set up nothing but the stack: no thread pointer, so no stack protector; no libc. */
__asm__(".text\n"
	".globl start_relr\n"
	".type start_relr, @function\n"
	"start_relr:\n"
	"	push %rdx\n"
	"	sub $8, %rsp\n"
	"	call start_relocate\n"
	"	add $8, %rsp\n"
	"	pop %rdx\n"
	"	jmp _start\n"
	".size start_relr, . - start_relr\n");

/* An even word is an address; an odd one is a bitmap of which of the 63 words after the last address move too. */
__attribute__((no_stack_protector)) void start_relocate(void)
{
	uintptr_t base = (uintptr_t)__ehdr_start, *where = NULL;
	const uintptr_t *relr = NULL;
	size_t n = 0;

	for (const Elf64_Dyn *d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_RELR)
			relr = (const uintptr_t *)(base + d->d_un.d_ptr);
		else if (d->d_tag == DT_RELRSZ)
			n = d->d_un.d_val / sizeof *relr;
	}
	for (size_t i = 0; i < n; i++) {
		if (!(relr[i] & 1)) {
			where = (uintptr_t *)(base + relr[i]);
			*where++ += base;
			continue;
		}
		for (unsigned bit = 1; bit < 64; bit++)
			if (relr[i] >> bit & 1)
				where[bit - 1] += base;
		where += 63;
	}
	/* As the system call itself: libc's has errno, and there is no thread yet to have one. */
	uintptr_t from = (uintptr_t)relro_start & -PAGE, to = ((uintptr_t)relro_end + PAGE - 1) & -PAGE;
	long rc = SYS_mprotect;
	__asm__ volatile("syscall" : "+a"(rc) : "D"(from), "S"(to - from), "d"(PROT_READ) : "rcx", "r11", "memory");
}
