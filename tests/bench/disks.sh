#!/bin/bash
# Disk snapshots of a running guest: the pause that it sees (the longest time between two ticks of the witness while the
# command runs, against the same with no command), what fermata takes, and how commands grow with the chain. Medians.
#   tests/bench/disks.sh [-n RUNS] [FERMATA]
# What fermata adds is the wall time of the whole command, less that of `fermata --version` (a process that starts and ends),
# less that of a bare QMP transaction over as many disks. There are two of those: one whose overlays were made and opened
# before it began (then QEMU's opening counts as ours, but for a row that leaves it out), and one in which QEMU does both
# (blockdev-snapshot-sync), which is the whole of what the command does, but for the flushes. The guests stand meanwhile.
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
	for d in "$mem" "$disk"; do
		for vm in w bare; do "$FERMATA" --root "$d" destroy $vm >/dev/null 2>&1 || true; done
	done
	rm -rf "$mem" "$disk"
}
trap finish EXIT

# vm ROOT NAME DISKS: a definition and images, the first with the witness, which ticks and reports 250 times a second
vm() {
	local i d
	mkdir -p "$1/etc/fermata" "$1/images"
	printf 'memory = 64M\nmachine = pc\naccel = kvm:tcg\n' >"$1/etc/fermata/$2.conf"
	tests/guest/mkwitness.sh "$1/w.raw" ticks=250 every=1
	for ((i = 0; i < $3; i++)); do
		d=vd$(printf "\\x$((61 + i))")
		rm -f "$1/images/$2-$d.qcow2"
		if [ $i = 0 ]; then qemu-img convert -q -O qcow2 "$1/w.raw" "$1/images/$2-$d.qcow2"
		else qemu-img create -q -f qcow2 "$1/images/$2-$d.qcow2" 64M; fi
		printf '[disk %s]\nfile = %s\nformat = qcow2\n' $d "$1/images/$2-$d.qcow2" >>"$1/etc/fermata/$2.conf"
	done
	printf '[qemu]\narg = -chardev socket,id=log,path=%s/%s.serial,server=on,wait=off -serial chardev:log\n' "$1" "$2" \
		>>"$1/etc/fermata/$2.conf"
}
clear() {
	for vm in w bare; do "$FERMATA" --root "$1" destroy $vm >/dev/null 2>&1 || true; done
	rm -rf "$1"/images "$1"/etc "$1"/var
}
one() {
	printf '\n%s, %d runs, median (smallest, largest) in milliseconds\n' "$2" "$runs"
	for n in 1 8; do
		vm "$1" w $n
		vm "$1" bare $n
		"$FERMATA" --root "$1" start w >/dev/null
		"$FERMATA" --root "$1" start bare --paused >/dev/null
		perl tests/bench/disks.pl switch "$1" $n "$runs"
		clear "$1"
	done
	vm "$1" w 1
	perl tests/bench/disks.pl chain "$1" 1 50 200 $((runs / 4 + 1))
	clear "$1"
}
one "$mem" "in memory"
one "$disk" "on disk"
