#!/bin/bash
# Eight VMs that go on from one golden checkpoint: what they take of the host's memory together (proportional set size: a page
# that several have mapped counts once), and how long it takes until all eight run; beside it eight that load it with loadvm,
# each from images of its own.
#   [ACCEL=kvm] tests/bench/eight.sh [-s MEMORY/USED in MiB] [FERMATA]
set -eu
cd "$(dirname "$0")/../.."
size=256/200
while getopts s: o; do case $o in s) size=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
fermata=${1:-${O:-build}/fermata}
command -v qemu-system-x86_64 >/dev/null || { echo "bench: no QEMU here" >&2; exit 0; }

FERMATA_ROOT=$(mktemp -d "${BENCH_DIR:-/var/tmp}/fermata-bench.XXXXXX")
export FERMATA_ROOT
names="a b c d e f g h"
down() {
	for vm in w $names; do "$fermata" destroy $vm >/dev/null 2>&1 || true; done
}
finish() {
	down
	rm -rf "$FERMATA_ROOT"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

conf() {
	cat >"$FERMATA_ROOT/etc/fermata/$1.conf" <<-END
		memory = ${size%/*}M
		machine = pc
		accel = ${ACCEL:-tcg}
		[disk vda]
		file = $FERMATA_ROOT/$1.qcow2
		format = qcow2
		[qemu]
		arg = -chardev file,id=log,path=$FERMATA_ROOT/$1.log -serial chardev:log
	END
}

# Until the guest has filled its memory, and counts
counts() {
	for _ in $(seq 3000); do
		! grep -qs '^mem=' "$FERMATA_ROOT/$1.log" || return 0
		sleep 0.05
	done
	echo "bench: $1 does not come up" >&2
	return 1
}

together() {
	local pss=0 pid from
	from=${EPOCHREALTIME/[.,]/}
	for vm in $names; do "$fermata" snapshot-revert $vm golden >/dev/null & done
	wait
	printf '%-28s up after %6d ms, ' "$1" $(((${EPOCHREALTIME/[.,]/} - from) / 1000))
	for vm in $names; do counts $vm; done
	sleep 2
	for vm in $names; do
		read -r pid _ <"$FERMATA_ROOT/run/fermata/$vm/pid"
		pss=$((pss + $(awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup")))
	done
	printf '%6d MiB of memory\n' $((pss / 1024))
	down
}

mkdir -p "$FERMATA_ROOT/etc/fermata"
tests/guest/mkwitness.sh "$FERMATA_ROOT/w.raw" "fill=${size#*/}"
qemu-img convert -q -O qcow2 "$FERMATA_ROOT/w.raw" "$FERMATA_ROOT/w.qcow2"
conf w
"$fermata" start w >/dev/null
counts w
"$fermata" snapshot-create-as w inside >/dev/null
"$fermata" snapshot-create-as w golden --instant >/dev/null
down
"$fermata" snapshot-export w golden "$FERMATA_ROOT/golden.far" >/dev/null
printf '8 VMs, %s MiB of memory in use\n' "$size"
for vm in $names; do
	conf $vm
	"$fermata" snapshot-import $vm "$FERMATA_ROOT/golden.far" >/dev/null
done
together "instant, one memory file"
rm -rf "$FERMATA_ROOT"/var "$FERMATA_ROOT"/[a-h].* "$FERMATA_ROOT"/*golden*
qemu-img convert -q -O qcow2 "$FERMATA_ROOT/w.raw" "$FERMATA_ROOT/w.qcow2"
rm -f "$FERMATA_ROOT/w.log"
"$fermata" start w >/dev/null
counts w
"$fermata" snapshot-create-as w golden >/dev/null
down
for vm in $names; do cp --sparse=always "$FERMATA_ROOT/w.qcow2" "$FERMATA_ROOT/$vm.qcow2"; done
together "loadvm, images of their own"
