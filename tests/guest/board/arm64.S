/* The witness guest on Arm's virt: QEMU's own loader jumps here, with the MMU and the caches off, and they stay off. */
	.section .text.first, "ax"
	.globl	start
start:	ldr	x0, =stack_end
	mov	sp, x0
	ldr	x0, =bss_start
	ldr	x1, =bss_end
1:	cmp	x0, x1
	b.hs	2f
	str	xzr, [x0], #8
	b	1b
2:	bl	witness
3:	wfi
	b	3b
	.ltorg
	.include "tests/guest/board/config.S"
