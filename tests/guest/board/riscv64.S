/* The witness guest on RISC-V's virt: the first instruction of all behind the reset code, in machine mode, without paging. */
	.section .text.first, "ax"
	.option	norelax
	.globl	start
start:	csrw	mie, zero
	csrr	t0, mhartid
	bnez	t0, 3f
	la	sp, stack_end
	la	t0, bss_start
	la	t1, bss_end
1:	bgeu	t0, t1, 2f
	sd	zero, 0(t0)
	addi	t0, t0, 8
	j	1b
2:	call	witness
3:	wfi
	j	3b
	.include "tests/guest/board/config.S"
