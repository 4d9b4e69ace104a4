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

# broken HOW: w's definition has a wrong line, cannot be read at all, or is not there
broken() {
	local conf=$FERMATA_ROOT/etc/fermata/w.conf
	cp -n "$conf" "$FERMATA_ROOT/kept.conf"
	rm -rf "$conf"
	case $1 in
	wrong) { cat "$FERMATA_ROOT/kept.conf"; echo 'memroy = 1'; } >"$conf" ;;
	empty) : >"$conf" ;;
	folder) mkdir "$conf" ;;
	esac
}

@test "a definition that is broken or gone: what runs is listed, asked, snapshotted and ended" {
	local how pid
	witness_vm w 1
	for how in wrong gone empty folder; do
		fermata start w
		wait_counter_above w 5 20
		pid=$(vm_pid w)
		broken "$how"
		fermata list | grep -qw "$pid *w *running"
		fermata list --all --output json | grep -q '"w"'
		[ "$(fermata domstate w | head -n 1)" = running ]
		fermata dominfo w | grep -q 'Max memory: *65536 KiB'
		fermata domblklist w | grep -q "$FERMATA_ROOT/images/w-vda.qcow2"
		fermata qemu-monitor-command w '{"execute":"query-status"}' | grep -q running
		run --separate-stderr fermata snapshot-create-as w "s$how"
		[ "$status" = 0 ]
		[[ $stderr == *w* ]] # the definition's trouble is told
		fermata snapshot-revert w "s$how"
		assert_state w running
		[ "$how" = wrong ] || fermata shutdown w --mode acpi
		fermata destroy w || [ -z "$(fermata list --name)" ]
		wait_gone "$pid"
		run fermata start w
		[ "$status" = 1 ]
		rm -rf "$FERMATA_ROOT/etc/fermata/w.conf"
		cp "$FERMATA_ROOT/kept.conf" "$FERMATA_ROOT/etc/fermata/w.conf"
	done
	[ -z "$(fermata list --name)" ]
}

@test "a damaged record: what runs is listed, asked and ended; the record stays as it is" {
	local pid record=$FERMATA_ROOT/var/lib/fermata/w/state.json
	witness_vm w 1
	vm_start w
	fermata snapshot-create-as w one
	pid=$(vm_pid w)
	echo '{"version":' >"$record"
	fermata list | grep -qw "$pid *w *running"
	[ "$(fermata domstate w | head -n 1)" = running ]
	fermata qemu-monitor-command w '{"execute":"query-status"}'
	run fermata snapshot-create-as w two
	[ "$status" = 1 ]
	run fermata domblklist w # which file it has is on record
	[ "$status" = 1 ]
	fermata destroy w
	wait_gone "$pid"
	[ "$(cat "$record")" = '{"version":' ]
	fermata list --all | grep -q 'w *damaged record'
}

@test "one bad VM hides no other, in list, boot-status and recover" {
	local v how
	for v in a b c d; do
		conf_head $v pc tcg 32M
		qemu-img create -q -f qcow2 "$FERMATA_ROOT/images/$v" 1M
		printf '[disk vda]\nfile = %s\nformat = qcow2\n' "$FERMATA_ROOT/images/$v" | conf_add $v
	done
	fermata start d --paused
	mkdir -p "$FERMATA_ROOT/var/lib/fermata/b"
	echo '{' >"$FERMATA_ROOT/var/lib/fermata/b/state.json"
	echo 'memry = 3' | conf_add c
	for how in "list --all" "list --all --output json" boot-status "boot-status --output json"; do
		# shellcheck disable=SC2086
		run --separate-stderr fermata $how
		for v in a b c d; do grep -qE "(^|[ \"])$v([ \"]|\$)" <<<"$output"; done
		[ "${how%% *}" = list ] || [ "$status" = 1 ]
		[[ $output == *[Pp]aused* ]]
	done
	run --separate-stderr fermata recover
	[ "$status" = 1 ]
	[[ $stderr == *b/state.json* ]]
	[[ $stderr == *c.conf* ]]
	not grep -qE '^fermata: (a|d):' <<<"$stderr"
	[ -z "$(fermata boot-status a 2>&1 >/dev/null)" ]
}

@test "list: beside QEMUs that do not answer, all are told of at once, and those can be destroyed" {
	local v pid start
	for v in a b c; do
		conf_head $v pc tcg 32M
		fermata start $v --paused
	done
	kill -STOP "$(vm_pid a)"
	kill -STOP "$(vm_pid b)"
	for how in "" --all "--output json"; do
		start=$SECONDS
		# shellcheck disable=SC2086
		run --separate-stderr fermata list $how
		[ "$status" = 0 ]
		[ $((SECONDS - start)) -lt 8 ]
		for v in a b c; do grep -qE "(^|[ \"])$v([ \"]|\$)" <<<"$output"; done
	done
	[ "$(fermata domstate --reason a)" = "running (QEMU does not answer)" ]
	[ "$(fermata domstate c | head -n 1)" = paused ]
	pid=$(vm_pid a)
	FERMATA_TIMEOUT=60 fermata destroy a
	wait_gone "$pid"
	kill -CONT "$(vm_pid b)"
}
