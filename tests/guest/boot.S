/*
 * The witness guest, from the first sector to C.
 *
 * Sector 0 (at 0x7c00, put there by the BIOS) loads the sectors behind it to 0x7e00: first the configuration
 * sector, then the program at 0x8000. It enters flat 32-bit protected mode and never turns paging on: such code
 * also runs where KVM is nested so deep that a paged guest does not.
 */
	.code16
	.section .boot, "ax"
	.globl start
start:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	ljmp	$0, $1f
1:	sti
	movw	$packet, %si
	movb	$0x42, %ah		/* extended read; dl is still the drive that the BIOS booted */
	int	$0x13
	jc	fail
	cli
	inb	$0x92, %al		/* address line 20 */
	orb	$2, %al
	andb	$0xfe, %al
	outb	%al, $0x92
	lgdtl	gdtr
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmp	$8, $protected

fail:	movw	$0x3f8, %dx
	movw	$no_load, %si
2:	lodsb
	outb	%al, %dx
	testb	%al, %al
	jnz	2b
3:	hlt
	jmp	3b

no_load: .asciz	"witness: cannot read the boot disk\r\n"

	.balign	4
packet:	.byte	16, 0
	.word	load_sectors		/* from the linker script */
	.word	0x7e00, 0
	.quad	1

	.balign	8
gdt:	.quad	0
	.quad	0x00cf9a000000ffff	/* 8: code, flat */
	.quad	0x00cf92000000ffff	/* 16: data, flat */
gdtr:	.word	. - gdt - 1
	.long	gdt

	/* Multiboot, with addresses: the same image as a "kernel", for a VM without any disk. Enters in flat 32-bit mode. */
	.balign	4
mboot:	.long	0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
	.long	mboot, start, image_end, bss_end, entry32
	.code32
entry32: cli
	lgdtl	gdtr
	ljmp	$8, $protected
	.code16

	.org	510
	.word	0xaa55

	/* The configuration sector; mkwitness.sh writes over the numbers. struct config in witness.c */
	.globl	config
config:	.ascii	"FWCF"
	.long	1			/* MiB to fill */
	.long	100			/* ticks a second */
	.long	5			/* ticks between two lines */
	.long	1			/* write to the disks */
	.long	0x5eed			/* of the pattern */
	.long	4			/* pages to rewrite each tick */
	.org	1024

	.code32
	.section .text.first, "ax"
protected:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	movl	$0x7c00, %esp
	movl	$bss_start, %edi
	movl	$bss_end, %ecx
	subl	%edi, %ecx
	xorl	%eax, %eax
	rep stosb
	call	witness
4:	cli
	hlt
	jmp	4b

	.text
	/* Vectors 0..31 come here, eight bytes apart: say which, then stop. */
	.globl	traps
	.balign	8
traps:	.set	n, 0
	.rept	32
	.balign	8
	pushl	$n
	jmp	trapped
	.set	n, n + 1
	.endr
trapped:
	call	trap
	jmp	4b

	/* Without iret: where KVM emulates unpaged code, that is the one instruction here that it does not know. */
	.globl	timer_irq
timer_irq:
	pushl	%eax
	incl	irq_ticks
	movb	$0x20, %al
	outb	%al, $0x20
	popl	%eax
	pushl	8(%esp)		/* the flags; then back by a far return, which drops them from the stack */
	popfl
	lret	$4

	/* Any other line that is open: the disks'. */
	.globl	disk_irq
disk_irq:
	pushl	%eax
	pushl	%ecx
	pushl	%edx
	call	virtio_heard
	movb	$0x20, %al
	outb	%al, $0xa0
	outb	%al, $0x20
	popl	%edx
	popl	%ecx
	popl	%eax
	pushl	8(%esp)
	popfl
	lret	$4

	.section .note.GNU-stack, "", @progbits
