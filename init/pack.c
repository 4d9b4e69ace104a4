/* At build time, CONFIG_PACKED: an x86-64 ELF program from stdin to stdout, its calls as init/packed.h says. */
#include <elf.h>
#include <stdio.h>

#include "init/packed.h"

int main(void)
{
	static uint8_t image[4 << 20]; /* one LZ4 block */
	size_t n = fread(image, 1, sizeof image, stdin);
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)image;
	const Elf64_Phdr *ph = (const Elf64_Phdr *)(image + eh->e_phoff);

	if (n < sizeof *eh || n == sizeof image || eh->e_machine != EM_X86_64 || eh->e_type != ET_DYN) {
		fputs("pack: this is no position-independent x86-64 program of less than 4 MiB\n", stderr);
		return 1;
	}
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type != PT_LOAD)
			continue;
		if (ph[i].p_offset != ph[i].p_vaddr || ph[i].p_vaddr + ph[i].p_memsz > n + PACKED_BSS_MAX) {
			fputs("pack: a part of the program is not in memory where it is in the file\n", stderr);
			return 1;
		}
		if (ph[i].p_flags & PF_X)
			each_call(image + ph[i].p_offset, ph[i].p_filesz, call_absolute);
	}
	return fwrite(image, 1, n, stdout) != n || fflush(stdout) != 0;
}
