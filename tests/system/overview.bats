#!/usr/bin/env bats
# What runs is always seen, can be asked and stopped: without /proc, without its definition, beside others that are broken.
bats_require_minimum_version 1.5.0
load helper

setup() {
	root_make
}

teardown() {
	[ -z "${helper_pid-}" ] || kill "$helper_pid" 2>/dev/null || true
	root_end
}

@test "without /proc: a VM that runs is not taken for dead, by any command" {
	unshare -m true 2>/dev/null || skip "may not make name spaces"
	local c pid
	witness_vm w 1
	vm_start w
	wait_counter_above w 5
	pid=$(vm_pid w)
	export FERMATA_BIN
	for c in "domstate w" "recover w" "snapshot-list w" "start w" "list" "snapshot-create-as w one" "suspend w" "resume w"; do
		# shellcheck disable=SC2016
		unshare -m sh -c 'umount -l /proc && exec timeout 60 "$FERMATA_BIN" --root "$FERMATA_ROOT" '"$c" || [[ $c == s[tn]a* ]] # refused with a reason is right, too
		[ "$(vm_pid w)" = "$pid" ]
		kill -0 "$pid"
		[ "$(fermata domstate w | head -n 1)" != "shut off" ]
	done
	# It can be ended there, too: by its monitor, since a number alone is nobody's.
	# shellcheck disable=SC2016
	unshare -m sh -c 'umount -l /proc && exec timeout 60 "$FERMATA_BIN" --root "$FERMATA_ROOT" destroy w'
	wait_gone "$pid"
	assert_state w "shut off"
}

@test "in another PID namespace: a VM that runs is not taken for dead" {
	unshare -mpf --mount-proc true 2>/dev/null || skip "may not make name spaces"
	witness_vm w 1
	vm_start w
	local pid c
	pid=$(vm_pid w)
	export FERMATA_BIN
	for c in "domstate w" "recover w" "suspend w"; do
		unshare -mpf --mount-proc timeout 60 "$FERMATA_BIN" --root "$FERMATA_ROOT" ${c% *} w
		[ "$(vm_pid w)" = "$pid" ]
	done
	assert_state w paused
}
