#!/bin/bash
# Instant checkpoints beside savevm and loadvm of the same guest, for guests of several sizes: how long the guest stands while
# one is taken (by QEMU's clock), and from the start of the command that goes back to the guest's first new tick; beside
# it the bare start of the same QEMU until its monitor answers; and the most memory that any fermata took. Medians.
#   [ACCEL=kvm] tests/bench/instant.sh [-n RUNS] [-s "256/64 1024/256 ..."] [FERMATA]
# Sizes: MiB of memory / MiB of that in use. Everything is on a disk (BENCH_DIR, default /var/tmp), the memory in /dev/shm.
set -eu
cd "$(dirname "$0")/../.."
runs=5 sizes="256/64 256/230 1024/256 1024/1000 4096/1024 4096/3000"
while getopts n:s: o; do case $o in n) runs=$OPTARG ;; s) sizes=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
export FERMATA=${1:-${O:-build}/fermata}
command -v qemu-system-x86_64 >/dev/null || { echo "bench: no QEMU here" >&2; exit 0; }

FERMATA_ROOT=$(mktemp -d "${BENCH_DIR:-/var/tmp}/fermata-bench.XXXXXX")
export FERMATA_ROOT
finish() {
	"$FERMATA" standby w --end >/dev/null 2>&1 || true
	"$FERMATA" destroy w >/dev/null 2>&1 || true
	rm -rf "$FERMATA_ROOT"
}
end() {
	finish
	rm -f "$FERMATA_ROOT.lap"
}
trap end EXIT
trap 'exit 1' HUP INT TERM

export LAP="$FERMATA_ROOT.lap"
gcc -O2 -o "$LAP" tests/bench/lap.c
for size in $sizes; do
	finish
	mkdir -p "$FERMATA_ROOT/etc/fermata"
	tests/guest/mkwitness.sh "$FERMATA_ROOT/w.raw" "fill=${size#*/}" ticks=1000 every=1
	qemu-img convert -q -O qcow2 "$FERMATA_ROOT/w.raw" "$FERMATA_ROOT/w.qcow2"
	cat >"$FERMATA_ROOT/etc/fermata/w.conf" <<-END
		memory = ${size%/*}M
		memory-mode = instant
		memory-dir = /dev/shm
		machine = pc
		accel = ${ACCEL:-tcg}
		[disk vda]
		file = $FERMATA_ROOT/w.qcow2
		format = qcow2
		[qemu]
		arg = -chardev file,id=log,path=$FERMATA_ROOT/log,append=on -serial chardev:log
	END
	perl tests/bench/instant.pl "$size" "$runs"
done
