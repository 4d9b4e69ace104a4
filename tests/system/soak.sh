#!/bin/bash
# Eight VMs under `fermata init`, one after the other killed at random: its QEMU with SIGKILL, its guest by a panic or
# its watchdog. Each comes back as its policy says (half of them cold, half at their checkpoint), memory and disk of one
# instant. At the end the supervisor has as many descriptors, and no more memory or processes, than it had at the start.
#
#	[SEED=n] tests/system/soak.sh [SECONDS]
set -eu
. "$(dirname "$0")/helper.bash"

seconds=${1:-300}
seed=${SEED:-$$}
RANDOM=$seed
init=
declare -A ups seen
vms="a b c d e f g h"

finish() {
	[ -z "$init" ] || kill -KILL "$init" 2>/dev/null || true
	BATS_TEST_COMPLETED=1 root_end
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

fail() {
	echo "soak: $* (SEED=$seed)" >&2
	tail -n 30 "$FERMATA_ROOT/init.log" >&2
	exit 1
}

# How often the log has said that
logged() {
	grep -cF -- "$1" "$FERMATA_ROOT/init.log" || true
}

# Whether VM $1 is up since it was last killed, and has said enough for that to be seen in its log
is_up() {
	[ "$(logged ": $1: up")" -ge "${ups[$1]}" ] || return 1
	[ -n "${seen[$1]}" ] || seen[$1]=$(mark "$1")
	[ "$(counters "$1" "${seen[$1]}" | wc -l)" -ge 5 ]
}

all_up() {
	local name
	for name in $vms; do is_up "$name" || return 1; done
}

# crashed NAME TEXT
crashed() {
	[ "$(grep -cE "^fermata: $1: (QEMU died|the guest panicked|its watchdog rang)" "$FERMATA_ROOT/init.log")" -ge "${ups[$1]}" ]
}

descriptors() {
	find "/proc/$init/fd" -mindepth 1 | wc -l
}

resident() {
	sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$init/status"
}

qemus() {
	pgrep -fc "^[^ ]*qemu-system.*$FERMATA_ROOT" || true
}

root_make
for name in $vms; do
	witness_vm "$name" 1 memory=32M size=16 accel=kvm:tcg
	case $name in
	[abcd]) policy="on-crash = restart" ;;
	*) policy=$'on-crash = revert\nfrom = golden\ndiscard-changes = yes' ;;
	esac
	printf '\n[boot]\nautostart = yes\non-stop = kill\nback-off = 10ms\nhealthy = serial "mem="\nwithin = 120s\n%s\n' "$policy" |
		conf_add "$name"
	sed -i 's|^arg = |arg = -device pvpanic -device ib700 -action watchdog=none |' "$FERMATA_ROOT/etc/fermata/$name.conf"
	ups[$name]=1 seen[$name]=
done
for name in e f g h; do
	vm_start "$name" >/dev/null
	wait_counter_above "$name" 20
	fermata snapshot-create-as "$name" golden >/dev/null
	fermata destroy "$name" >/dev/null
	rm "$FERMATA_ROOT/$name.log"
done
"$FERMATA_BIN" --root "$FERMATA_ROOT" init 2>>"$FERMATA_ROOT/init.log" &
init=$!
wait_until 300 all_up || fail "not all came up"
fds=$(descriptors) rss=$(resident)

kills=0
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
	up=()
	for name in $vms; do ! is_up "$name" || up+=("$name"); done
	[ ${#up[@]} != 0 ] || { sleep 0.2; continue; }
	name=${up[$((RANDOM % ${#up[@]}))]}
	kills=$((kills + 1))
	case $((RANDOM % 4)) in
	0) key "$name" p ;;
	1) key "$name" w ;;
	*) kill -KILL "$(vm_pid "$name")" ;;
	esac
	wait_until 60 crashed "$name" || fail "$name: its crash is not seen"
	ups[$name]=$((${ups[$name]} + 1))
	seen[$name]=
	sleep "0.$((RANDOM % 10))"
done
wait_until 300 all_up || fail "not all are up again"

for name in $vms; do
	[ "$(logged ": $name: up")" = "${ups[$name]}" ] || fail "$name: up $(logged ": $name: up") times, not ${ups[$name]}"
	said "$name" >"$FERMATA_ROOT/said"
	! grep -E '^(BAD|ERR|TRAP)' "$FERMATA_ROOT/said" || fail "$name: memory and disk differ"
	# Cold, every start says so; from the checkpoint, none does, and the numbers fall back to about where it was taken.
	cold=$(grep -c ^boot "$FERMATA_ROOT/said" || true)
	back=$(sed -n 's/^mem=\([0-9]*\).*/\1/p' "$FERMATA_ROOT/said" |
		awk 'NR == 1 { g = $1 } $1 <= last && $1 <= g + 10 { n++ } { last = $1 } END { print n + 1 }')
	case $name in
	[abcd]) [ "$cold" = "${ups[$name]}" ] || fail "$name: $cold cold starts, not ${ups[$name]}" ;;
	*) [ "$cold$back" = "0${ups[$name]}" ] || fail "$name: $cold cold starts, $back times at its checkpoint, not ${ups[$name]}" ;;
	esac
done
[ "$(logged "did not boot")" = 0 ] || fail "a boot has failed"
now_fds=$(descriptors) now_rss=$(resident)
[ "$now_fds" = "$fds" ] || fail "$now_fds descriptors, $fds at the start"
[ "$now_rss" -le $((rss + 64)) ] || fail "$now_rss KiB resident, $rss at the start"
[ "$(qemus)" = 8 ] || fail "$(qemus) QEMUs"
[ -z "$(pgrep -P "$init")" ] || fail "a child is left"
kill -TERM "$init"
wait "$init" || fail "init ended with status $?"
init=
[ "$(qemus)" = 0 ] || fail "$(qemus) QEMUs are left"
for name in $vms; do assert_images_ok "$name" || fail "$name: its image is damaged"; done
echo "soak: $kills crashes of 8 VMs in $seconds s, each restarted by its policy; the supervisor: $now_fds descriptors, $now_rss KiB (at the start: $fds, $rss)"
