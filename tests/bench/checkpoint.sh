#!/bin/bash
# What fermata adds to QEMU's own work: the wall time of a command less the time that QEMU's job took by the clock of
# its own events; for a checkpoint less what the same job takes over that, sent by hand on an open connection (QEMU's jobs
# themselves differ by tens of milliseconds, whoever sends them); and the wall time of listings. Medians.
#   tests/bench/checkpoint.sh [-n RUNS] [FERMATA]
# Twice: on a tmpfs, where a flush costs nothing, and in BENCH_DIR on disk (default: /var/tmp).
set -eu
cd "$(dirname "$0")/../.."
runs=20
while getopts n: o; do case $o in n) runs=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
export FERMATA=${1:-${O:-build}/fermata}
command -v qemu-system-x86_64 >/dev/null || { echo "bench: no QEMU here" >&2; exit 0; }

mem=$(mktemp -d /dev/shm/fermata-bench.XXXXXX)
disk=$(mktemp -d "${BENCH_DIR:-/var/tmp}/fermata-bench.XXXXXX")
finish() {
	for d in "$mem" "$disk"; do "$FERMATA" --root "$d" destroy w >/dev/null 2>&1 || true; done
	rm -rf "$mem" "$disk"
}
trap finish EXIT

one() {
	export FERMATA_ROOT=$1
	mkdir -p "$1/etc/fermata" "$1/images"
	tests/guest/mkwitness.sh "$1/w.raw" fill=8
	qemu-img convert -q -O qcow2 "$1/w.raw" "$1/images/a.qcow2"
	qemu-img create -q -f qcow2 "$1/images/b.qcow2" 64M
	cat > "$1/etc/fermata/w.conf" <<-END
		memory = 64M
		machine = pc
		accel = tcg
		[disk vda]
		file = $1/images/a.qcow2
		format = qcow2
		[disk vdb]
		file = $1/images/b.qcow2
		format = qcow2
	END
	"$FERMATA" start w >/dev/null
	sleep 2
	"$FERMATA" suspend w >/dev/null
	printf '\n%s, %d runs, median (smallest, largest) in milliseconds\n' "$2" "$runs"
	perl tests/bench/checkpoint.pl "$FERMATA_ROOT/run/fermata/w/events.sock" "$runs"
	"$FERMATA" destroy w >/dev/null
}
one "$mem" "in memory"
one "$disk" "on disk"
