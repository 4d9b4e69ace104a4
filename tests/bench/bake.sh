#!/bin/bash
# How fast snapshot-bake makes an instant checkpoint of a stream, from page cache, and in how much memory; and how long a
# revert takes before and after, the VM off. Medians.
#   tests/bench/bake.sh [-n RUNS] [-m MIB] [-u MIB IN USE] [FERMATA]
# Twice: with the files in a tmpfs, and in BENCH_DIR on disk (default: /var/tmp), flushes included.
set -eu
cd "$(dirname "$0")/../.."
runs=5 mib=1100 used=1024
while getopts n:m:u: o; do case $o in n) runs=$OPTARG ;; m) mib=$OPTARG ;; u) used=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
fermata=${1:-${O:-build}/fermata}
command -v qemu-system-x86_64 >/dev/null || { echo "bench: no QEMU here" >&2; exit 0; }

tmp=$(mktemp -d); mem=$(mktemp -d /dev/shm/fermata-bench.XXXXXX); disk=$(mktemp -d "${BENCH_DIR:-/var/tmp}/fermata-bench.XXXXXX")
finish() {
	for d in "$mem" "$disk"; do "$fermata" --root "$d" destroy w >/dev/null 2>&1 || true; done
	rm -rf "$tmp" "$mem" "$disk"
}
trap finish EXIT
${CC:-cc} -O2 -D_GNU_SOURCE -o "$tmp/lap" tests/bench/lap.c

# row NAME BYTES: median of the microseconds in $tmp/laps, the rate, the peak
row() {
	sort -n "$tmp/laps" | awk -v n="$1" -v b="$2" '{ v[NR] = $1; if ($2 > m) m = $2 }
		END { t = v[int((NR + 1) / 2)]; printf "%-24s %8.1f ms %8.0f MB/s %7d KiB\n", n, t / 1000, b / t, m }'
	rm "$tmp/laps"
}

# reverts NAME: ROW each time from off, to the guest running
reverts() {
	local i
	for i in $(seq "$runs"); do
		"$tmp/lap" "${f[@]}" snapshot-revert w k >>"$tmp/laps"
		"${f[@]}" destroy w >/dev/null
	done
	row "$1" 0
}

one() {
	local state=$1/var/lib/fermata/w i bytes f=("$fermata" --root "$1")
	mkdir -p "$1/etc/fermata" "$1/images"
	tests/guest/mkwitness.sh "$1/images/a.raw" fill="$used"
	printf 'memory = %sM\nmachine = pc\naccel = tcg\n[disk vda]\nfile = %s\nformat = raw\n' "$mib" "$1/images/a.raw" \
		>"$1/etc/fermata/w.conf"
	"${f[@]}" start w >/dev/null
	# Until all of it is filled
	until [ "$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$(grep -o '[0-9]*' "$1/run/fermata/w/pid" | head -n 1)/status")" -ge "$used" ]; do
		sleep 0.2
	done
	"${f[@]}" snapshot-create-as w k --memspec snapshot=external >/dev/null
	"${f[@]}" destroy w >/dev/null
	reverts "revert, a stream"
	cp "$state/state.json" "$tmp/state"
	ln "$state"/k-*.mem "$state/kept"
	name=$(basename "$state"/k-*.mem)
	bytes=$(stat -c %s "$state/kept")
	for i in $(seq "$runs"); do
		rm -f "$state"/k-*
		ln -f "$state/kept" "$state/$name"
		cp "$tmp/state" "$state/state.json"
		"$tmp/lap" "${f[@]}" snapshot-bake w k >>"$tmp/laps"
	done
	row "snapshot-bake" "$bytes"
	reverts "revert, baked"
}

for d in "$mem" "$disk"; do
	printf '\n%s, %d MiB, %d in use, %d runs\n' "$d" "$mib" "$used" "$runs"
	one "$d"
	rm -rf "$d"
	mkdir "$d"
done
