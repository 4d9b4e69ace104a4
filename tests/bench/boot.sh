#!/bin/bash
# From the start of `fermata boot VM` to the guest's first new tick, from an internal checkpoint of 256 MiB and from instant
# ones of 256 MiB and 4 GiB; beside it the same QEMU started and told to load and go on by hand, with nothing else done:
# what is more is what fermata adds. And the bare start of that QEMU until its monitor answers. In turns, medians. On a busy host only the processor time that
# fermata takes (QEMU is not in it) says something of fermata.
#   [ACCEL=kvm] tests/bench/boot.sh [-n RUNS] [FERMATA]
set -eu
cd "$(dirname "$0")/../.."
runs=20
while getopts n: o; do case $o in n) runs=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
export FERMATA=${1:-${O:-build}/fermata}
command -v qemu-system-x86_64 >/dev/null || { echo "bench: no QEMU here" >&2; exit 0; }

FERMATA_ROOT=$(mktemp -d "${BENCH_DIR:-/var/tmp}/fermata-bench.XXXXXX")
export FERMATA_ROOT
finish() {
	"$FERMATA" destroy w >/dev/null 2>&1 || true
	rm -rf "$FERMATA_ROOT"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# one KIND MEMORY/USED OPTION...: from a checkpoint made with the options
one() {
	local kind=$1 memory=${2%/*} used=${2#*/}
	shift 2
	finish
	mkdir -p "$FERMATA_ROOT/etc/fermata"
	tests/guest/mkwitness.sh "$FERMATA_ROOT/w.raw" fill="$used" ticks=1000 every=1 write=0
	qemu-img convert -q -O qcow2 "$FERMATA_ROOT/w.raw" "$FERMATA_ROOT/w.qcow2"
	cat >"$FERMATA_ROOT/etc/fermata/w.conf" <<-END
		memory = ${memory}M
		memory-mode = $([ "$kind" = instant ] && echo instant || echo normal)
		memory-dir = /dev/shm
		machine = pc
		accel = ${ACCEL:-tcg}
		[disk vda]
		file = $FERMATA_ROOT/w.qcow2
		format = qcow2
		[boot]
		from = golden
		discard-changes = yes
		[qemu]
		arg = -chardev file,id=log,path=$FERMATA_ROOT/log,append=on -serial chardev:log
	END
	"$FERMATA" start w >/dev/null
	for _ in $(seq 600); do
		! grep -qs '^mem=..' "$FERMATA_ROOT/log" || break
		sleep 0.1
	done
	grep -q '^mem=..' "$FERMATA_ROOT/log" || { echo "bench: the guest does not come up" >&2; exit 1; }
	"$FERMATA" snapshot-create-as w golden "$@" >/dev/null
	"$FERMATA" destroy w >/dev/null
	printf '\n%s, %d MiB, %d in use; %d runs, median (smallest, largest) in milliseconds\n' "$kind" "$memory" "$used" "$runs"
	perl tests/bench/boot.pl "$runs" "${kind/internal/}"
}
one internal 256/64
one instant 256/64 --instant=handover
one instant 4096/1024 --instant=handover
