#!/bin/bash
# How long the guest stands in a checkpoint, by the clock of QEMU's own events: --live, without it, and savevm of the same
# guest, one after the other; how long each takes in all. Medians.
#   tests/bench/live.sh [-n RUNS] [FERMATA]
# Guests of 256 MiB and 1 GiB, with 64 MiB and nearly all of it in use, and of 4 GiB with 3 in use. In BENCH_DIR on disk (default: /var/tmp).
set -eu
cd "$(dirname "$0")/../.."
runs=7
while getopts n: o; do case $o in n) runs=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
export FERMATA=${1:-${O:-build}/fermata}
command -v qemu-system-x86_64 >/dev/null || { echo "bench: no QEMU here" >&2; exit 0; }

dir=$(mktemp -d "${BENCH_DIR:-/var/tmp}/fermata-bench.XXXXXX")
export FERMATA_ROOT=$dir
finish() {
	"$FERMATA" destroy w >/dev/null 2>&1 || true
	rm -rf "$dir"
}
trap finish EXIT

one() {
	rm -rf "${dir:?}"/*
	mkdir -p "$dir/etc/fermata" "$dir/images"
	tests/guest/mkwitness.sh "$dir/w.raw" fill="$2"
	qemu-img convert -q -O qcow2 "$dir/w.raw" "$dir/images/a.qcow2"
	qemu-img create -q -f qcow2 "$dir/images/b.qcow2" 64M
	cat > "$dir/etc/fermata/w.conf" <<-END
		memory = ${1}M
		machine = pc
		accel = tcg
		[disk vda]
		file = $dir/images/a.qcow2
		format = qcow2
		[disk vdb]
		file = $dir/images/b.qcow2
		format = qcow2
		[qemu]
		arg = -chardev file,id=log,path=$dir/log -serial chardev:log
	END
	"$FERMATA" start w >/dev/null
	for _ in $(seq 600); do
		grep -qs 'mem=' "$dir/log" && break
		sleep 0.2
	done
	printf '\n%d MiB, %d MiB in use, %d runs, median (smallest, largest) in milliseconds\n' "$1" "$2" "$runs"
	perl tests/bench/live.pl "$dir/run/fermata/w/events.sock" "$runs" "$dir"
	"$FERMATA" destroy w >/dev/null
}
one 256 64
one 256 200
one 1100 64
one 1100 1000
one 4096 3000
