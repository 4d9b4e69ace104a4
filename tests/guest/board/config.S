	/* struct config in witness.c, at the same place as in boot.S; mkwitness.sh writes over the numbers. */
	.org	512
	.globl	config
config:	.ascii	"FWCF"
	.long	1, 100, 5, 1, 0x5eed, 4

	.section .note.GNU-stack, "", %progbits
