#!/bin/sh
# Make a bootable disk with the witness guest on it.
#
#   tests/guest/mkwitness.sh OUT.raw [size=MiB] [fill=MiB] [ticks=HZ] [every=TICKS] [write=0|1] [seed=N] [dirty=PAGES]
#
# size: of the disk (64); fill: memory to fill with the pattern (1); ticks: a second (100); every: ticks between
# two lines on the serial port (5); write: to the disks (1); dirty: pages of the pattern to rewrite each tick (1).
# arch=arm64 or riscv64: not a disk, but the kernel of a virt machine, whose disks are empty ones.
# The program is compiled once into $O (build) and found there the next time. Only gcc and binutils are needed; for another
# processor Debian's cross compiler is (gcc-aarch64-linux-gnu, gcc-riscv64-linux-gnu).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=${1:?usage: mkwitness.sh OUT.raw [size=MiB] [fill=MiB] [ticks=HZ] [every=TICKS] [write=0|1] [seed=N] [dirty=PAGES]}
shift
size=64 fill=1 ticks=100 every=5 write=1 seed=24301 dirty=1 arch=pc
for arg; do
	case $arg in
	size=*[0-9] | fill=*[0-9] | ticks=*[0-9] | every=*[0-9] | write=[01] | seed=*[0-9] | dirty=*[0-9])
		eval "${arg%%=*}=$((${arg#*=}))" ;;
	arch=arm64 | arch=riscv64)
		arch=${arg#*=} ;;
	*)
		echo "mkwitness: what is '$arg'?" >&2
		exit 2 ;;
	esac
done

O=${O:-build}
case $O in /*) ;; *) O=$top/$O ;; esac
bin=$O/guest/witness.$arch
lean="-std=gnu11 -O2 -Wall -Wextra -ffreestanding -fno-pic -fno-stack-protector -fno-strict-aliasing
	-fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns"
board="$here/board/board.c $here/board/$arch.S $here/board/$arch.c $here/witness.c $here/virtio.c $here/pci.c $here/serial.c"
case $arch in
pc)
	cross='' sources="$here/boot.S $here/*.c" link="-m elf_i386 -T $here/witness.ld"
	flags="-m32 -march=i686 -mno-mmx -mno-sse -mgeneral-regs-only -fcf-protection=none" ;;
arm64)
	cross=aarch64-linux-gnu- sources=$board link="--defsym=START=0x40080000 -T $here/board/board.ld"
	flags="-mgeneral-regs-only -mstrict-align" ;;
riscv64)
	cross=riscv64-linux-gnu- sources=$board link="--no-relax --defsym=START=0x80000000 -T $here/board/board.ld"
	flags="-march=rv64imac_zicsr -mabi=lp64 -mcmodel=medany -msmall-data-limit=0 -mno-relax" ;;
esac

# Compiled aside and moved into place: tests run at the same time and want it at the same time.
compile() {
	mkdir -p "$O/guest"
	tmp=$(mktemp -d "$O/guest/tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	objs=
	# shellcheck disable=SC2086
	for src in $sources; do
		obj=$tmp/$(basename "$src").o
		"${cross}gcc" $lean $flags -I"$top" -Wa,-I"$top" -c -o "$obj" "$src"
		objs="$objs $obj"
	done
	# shellcheck disable=SC2086
	"${cross}ld" $link --no-warn-rwx-segments -o "$tmp/elf" $objs
	"${cross}objcopy" -O binary "$tmp/elf" "$tmp/bin"
	mv "$tmp/bin" "$bin"
	rm -rf "$tmp"
	trap - EXIT
}
newer=$(find "$here" -newer "$bin" \( -name "*.[chS]" -o -name "*.ld" \) 2>/dev/null) || newer=none
if [ ! -e "$bin" ] || [ -n "$newer" ]; then compile; fi

le32() {
	# shellcheck disable=SC2059
	printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) \
		$(($1 >> 24 & 255)))"
}

cp "$bin" "$out"
[ "$arch" != pc ] || truncate -s "${size}M" "$out"
for n in "$fill" "$ticks" "$every" "$write" "$seed" "$dirty"; do le32 "$n"; done |
	dd of="$out" bs=1 seek=516 conv=notrunc status=none
