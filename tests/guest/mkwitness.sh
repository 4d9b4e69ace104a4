#!/bin/sh
# Make a bootable disk with the witness guest on it.
#
#   tests/guest/mkwitness.sh OUT.raw [size=MiB] [fill=MiB] [ticks=HZ] [every=TICKS] [write=0|1] [seed=N] [dirty=PAGES]
#
# size: of the disk (64); fill: memory to fill with the pattern (1); ticks: a second (100); every: ticks between
# two lines on the serial port (5); write: to the disks (1); dirty: pages of the pattern to rewrite each tick (1).
# The program is compiled once into $O (build) and found there the next time. Only gcc and binutils are needed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=${1:?usage: mkwitness.sh OUT.raw [size=MiB] [fill=MiB] [ticks=HZ] [every=TICKS] [write=0|1] [seed=N] [dirty=PAGES]}
shift
size=64 fill=1 ticks=100 every=5 write=1 seed=24301 dirty=1
for arg; do
	case $arg in
	size=*[0-9] | fill=*[0-9] | ticks=*[0-9] | every=*[0-9] | write=[01] | seed=*[0-9] | dirty=*[0-9])
		eval "${arg%%=*}=$((${arg#*=}))" ;;
	*)
		echo "mkwitness: what is '$arg'?" >&2
		exit 2 ;;
	esac
done

O=${O:-build}
case $O in /*) ;; *) O=$top/$O ;; esac
bin=$O/guest/witness.bin

# Compiled aside and moved into place: tests run at the same time and want it at the same time.
compile() {
	mkdir -p "$O/guest"
	tmp=$(mktemp -d "$O/guest/tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	objs=
	for src in "$here"/boot.S "$here"/*.c; do
		obj=$tmp/$(basename "$src").o
		gcc -m32 -march=i686 -mno-mmx -mno-sse -mgeneral-regs-only -std=gnu11 -O2 -Wall -Wextra -I"$top" \
			-ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none -fno-strict-aliasing \
			-fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -c -o "$obj" "$src"
		objs="$objs $obj"
	done
	# shellcheck disable=SC2086
	ld -m elf_i386 -T "$here/witness.ld" --no-warn-rwx-segments -o "$tmp/elf" $objs
	objcopy -O binary "$tmp/elf" "$tmp/bin"
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
truncate -s "${size}M" "$out"
for n in "$fill" "$ticks" "$every" "$write" "$seed" "$dirty"; do le32 "$n"; done |
	dd of="$out" bs=1 seek=516 conv=notrunc status=none
