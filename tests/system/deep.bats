# Many snapshots on top of each other: forty in make check, two hundred in make soak.
load helper

setup() { root_make; }
teardown() { root_end; }

@test "a chain: taken, listed, gone back into, thinned out, started" {
	n=40
	[ -z "${FERMATA_SOAK-}" ] || n=200
	witness_vm w 1 size=16 accel=kvm:tcg
	vm_start w
	from=$(mark w)
	for ((i = 1; i <= n; i++)); do
		fermata snapshot-create-as w "s$i" --disk-only
	done
	[ "$(fermata snapshot-list w --name | wc -l)" = "$n" ]
	[ "$(fermata snapshot-list w --leaves --name)" = "s$n" ]
	assert_one_instant w "$from"
	# Every name that QEMU has for a file is a plain one: what it says of the nodes grows with the chain, not with its square.
	fermata qemu-monitor-command w '{"execute":"query-named-block-nodes","arguments":{"flat":true}}' >"$FERMATA_ROOT/nodes"
	not grep -q 'json:' "$FERMATA_ROOT/nodes"
	fermata destroy w
	vm_start w
	fermata destroy w
	fermata snapshot-revert w "s$((n / 2))"
	for ((i = 2; i <= n; i += 2)); do
		fermata snapshot-delete w "s$i"
	done
	[ "$(fermata snapshot-list w --name | wc -l)" = "$((n / 2))" ]
	vm_start w
	assert_one_instant w
}

# What a command asks of the system grows as the chain does, not as its square.
@test "a chain four times as long: at most five times the work" {
	need_strace
	witness_vm w 1 size=16
	i=0
	for n in 25 100; do
		for ((; i < n; i++)); do
			fermata snapshot-create-as w "s$i" --disk-only
		done
		for c in "snapshot-create-as w k$i --disk-only" "domblkchain w" "snapshot-delete w s$((i / 2))" "snapshot-revert w k$i"; do
			# shellcheck disable=SC2086
			calls_of $c
		done >"$FERMATA_ROOT/calls.$n"
	done
	paste "$FERMATA_ROOT/calls.25" "$FERMATA_ROOT/calls.100"
	paste "$FERMATA_ROOT/calls.25" "$FERMATA_ROOT/calls.100" | awk '$2 > 5 * $1 { bad = 1 } END { exit bad || NR != 4 }'
}
