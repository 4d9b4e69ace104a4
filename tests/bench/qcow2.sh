#!/bin/bash
# How long metadata work takes, ours and Debian's qemu-img side by side, interleaved, medians; and peak memory.
#   tests/bench/qcow2.sh [-n RUNS] [-s SIZE] [FERMATA]
# Twice: with the files in a tmpfs (page cache) and in BENCH_DIR on disk (default: /var/tmp), flushes included.
set -eu
runs=5 size=200G
while getopts n:s: o; do case $o in n) runs=$OPTARG ;; s) size=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
fermata=${1:-${O:-build}/fermata}
command -v qemu-img >/dev/null || { echo "bench: no qemu-img to compare with" >&2; exit 0; }

ours() { "$fermata" img "$@"; }
theirs() { qemu-img "$@"; }

# one SIDE COMMAND...: microseconds and KiB of one run, appended to $tmp/SIDE
one() {
	local side=$1; shift
	local cmd=(qemu-img); [ "$side" = theirs ] || cmd=("$fermata" img)
	"$tmp/lap" "${cmd[@]}" "$@" >> "$tmp/$side"
}
median() { sort -n "$1" | awk '{ v[NR] = $1; if ($2 > m) m = $2 } END { printf "%d %d", v[int((NR + 1) / 2)], m }'; }

# row NAME WANT: what both did, and how many times faster ours was
row() {
	local o t; o=$(median "$tmp/ours"); t=$(median "$tmp/theirs")
	awk -v n="$1" -v w="$2" -v o="$o" -v t="$t" 'BEGIN { split(o, a); split(t, b);
		printf "%-26s %9.1f %9.1f %7.1fx  (%sx)  %7d %7d\n", n, a[1] / 1000, b[1] / 1000, b[1] / a[1], w, a[2], b[2] }'
	rm -f "$tmp/ours" "$tmp/theirs"
}
# both TIMES COMMAND... FILE-PREFIX: the same on each side's own file
both() { local f=$1; shift; one ours "$@" "$f.ours"; one theirs "$@" "$f.theirs"; }

round() {
	local d=$1 i
	printf '\n%s, %d runs; milliseconds, peak KiB\n%-26s %9s %9s %8s  %s  %7s %7s\n' "$2" "$runs" "" fermata qemu-img ratio want KiB KiB
	qemu-img create -q -f qcow2 -o preallocation=metadata "$d/a.theirs" "$size"
	cp --sparse=always "$d/a.theirs" "$d/a.ours"; sync -f "$d"
	for i in $(seq "$runs"); do both "$d/a" snapshot -c k1; ours snapshot -d k1 "$d/a.ours"; theirs snapshot -d k1 "$d/a.theirs"; done; row "snapshot -c" 5
	ours snapshot -c k1 "$d/a.ours"; theirs snapshot -c k1 "$d/a.theirs"
	for i in $(seq "$runs"); do both "$d/a" snapshot -a k1; done; row "snapshot -a" 5
	for i in $(seq "$runs"); do both "$d/a" snapshot -l; done; row "snapshot -l" 5
	for i in $(seq "$runs"); do both "$d/a" info; done; row "info" 5
	for i in 2 3; do ours snapshot -c k$i "$d/a.ours"; theirs snapshot -c k$i "$d/a.theirs"; done
	for i in $(seq "$runs"); do both "$d/a" check -q; done; row "check, 3 snapshots" 5
	for i in 2 3; do ours snapshot -d k$i "$d/a.ours"; theirs snapshot -d k$i "$d/a.theirs"; done
	for i in $(seq "$runs"); do both "$d/a" snapshot -d k1; ours snapshot -c k1 "$d/a.ours"; theirs snapshot -c k1 "$d/a.theirs"; done; row "snapshot -d" 5
	for i in $(seq "$runs"); do
		rm -f "$d"/c.*
		one ours create -q -f qcow2 "$d/c.ours" 1T; one theirs create -q -f qcow2 "$d/c.theirs" 1T
	done; row "create 1T" 3
	for i in $(seq "$runs"); do
		rm -f "$d"/o.*
		one ours create -q -f qcow2 -b "$d/c.ours" -F qcow2 "$d/o.ours"
		one theirs create -q -f qcow2 -b "$d/c.theirs" -F qcow2 "$d/o.theirs"
	done; row "create an overlay" 3
	# Programs pack as well as what is kept packed. A file that is read, not a figure of the metadata: as fast will do.
	cat /usr/bin/* /usr/lib/*-linux-gnu/* 2>/dev/null | head -c 128M > "$d/p.raw" || true
	qemu-img convert -c -O qcow2 "$d/p.raw" "$d/p.theirs"; cp "$d/p.theirs" "$d/p.ours"; rm "$d/p.raw"; sync -f "$d"
	for i in $(seq "$runs"); do
		rm -f "$d"/u.*
		one ours convert -O raw "$d/p.ours" "$d/u.ours"; one theirs convert -O raw "$d/p.theirs" "$d/u.theirs"
	done; row "convert, compressed" 1
}

tmp=$(mktemp -d); mem=$(mktemp -d /dev/shm/fermata-bench.XXXXXX); disk=$(mktemp -d "${BENCH_DIR:-/var/tmp}/fermata-bench.XXXXXX")
${CC:-cc} -O2 -D_GNU_SOURCE -o "$tmp/lap" "$(dirname "$0")/lap.c"
trap 'rm -rf "$tmp" "$mem" "$disk"' EXIT
round "$mem" "in memory"
round "$disk" "on disk"
