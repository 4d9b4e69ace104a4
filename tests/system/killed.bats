# QEMU is killed in the middle of a command. The command says so; the next one puts everything right.
load helper

setup() { root_make; }
teardown() { root_end; }

# kill_in MS ARGS...: run the command; once it is on record as pending, wait MS and kill QEMU
kill_in() {
	local ms=$1 pid end
	shift
	pid=$(vm_pid w)
	fermata "$@" >"$FERMATA_ROOT/out" 2>&1 &
	end=$((SECONDS + 120))
	until is_pending w || [ $SECONDS -gt $end ] || ! kill -0 $! 2>/dev/null; do :; done
	sleep "$(printf '0.%03d' "$ms")"
	kill -KILL "$pid"
	status=0
	wait $! || status=$?
	echo "killed after $ms ms: exit $status: $(tail -n 1 "$FERMATA_ROOT/out")"
	[ "$status" = 0 ] || grep -q '^fermata: ' "$FERMATA_ROOT/out"
	wait_gone "$pid"
}

off_and_clean() {
	fermata recover w
	not is_pending w
	assert_state w "shut off"
	assert_images_ok w
}

@test "QEMU killed in snapshot-create-as: on all disks or none, older checkpoints stay" {
	witness_vm w 3 size=20 fill=24 memory=128M
	vm_start w
	fermata snapshot-create-as w old
	n=0
	for ms in 0 20 50 100 200 400; do
		n=$((n + 1))
		kill_in $ms snapshot-create-as w "k$n"
		off_and_clean
		assert_whole w "k$n"
		assert_whole w old
		from=$(mark w)
		fermata start w
		assert_one_instant w "$from"
	done
	from=$(mark w)
	fermata snapshot-revert w old
	assert_one_instant w "$from"
	[ "$(ask w v '^V')" = "V ok" ]
}

@test "QEMU killed in snapshot-revert: it can be done again" {
	witness_vm w 2 size=20 fill=24 memory=128M
	vm_start w
	wait_counter_above w 20
	low=$(last_counter w)
	fermata snapshot-create-as w base
	then=$(last_counter w)
	for ms in 0 20 50 100 200; do
		kill_in $ms snapshot-revert w base
		off_and_clean
		assert_whole w base
		from=$(mark w)
		fermata snapshot-revert w base
		assert_back_in w "$from" "$low" "$then"
		assert_one_instant w "$from"
	done
	[ "$(ask w v '^V')" = "V ok" ]
}

@test "QEMU killed in snapshot-delete: it is gone from all disks, or still on all" {
	witness_vm w 3 size=20
	vm_start w
	fermata snapshot-create-as w base
	n=0
	for ms in 0 10 30; do
		n=$((n + 1))
		fermata snapshot-create-as w "k$n"
		kill_in $ms snapshot-delete w "k$n"
		off_and_clean
		assert_whole w "k$n"
		from=$(mark w)
		fermata start w
		# QEMU 7.2 can fail an assertion of its own where it saves while the firmware sets up the disks.
		wait_counter_above w 0 60 "$from"
	done
	from=$(mark w)
	fermata snapshot-revert w base
	assert_one_instant w "$from"
}

@test "QEMU killed while nobody looks: the VM is off, its leavings are cleaned" {
	witness_vm w 1 size=20
	vm_start w
	pid=$(vm_pid w)
	kill -KILL "$pid"
	wait_gone "$pid"
	assert_state w "shut off"
	fails 1 "not running" suspend w
	from=$(mark w)
	fermata start w
	assert_one_instant w "$from"
	[ "$(vm_pid w)" != "$pid" ]
}

# A command has looked, has put on record what it will do, and QEMU dies before it is told: what was QEMU's to do is not done, and
# nobody may take it for done.
@test "QEMU killed behind the check of a deletion or a job: what the guest wrote is there, no tag is left" {
	need_strace
	witness_vm w 2 size=20
	for how in "snapshot-delete w a" "snapshot-delete w i" "blockcommit w vda --pivot --wait --drop-snapshots" "blockpull w vda --wait"; do
		vm_start w
		fermata snapshot-create-as w i
		fermata snapshot-create-as w a --disk-only
		wait_counter_above w "$(($(last_counter w) + 20))"
		# shellcheck disable=SC2086
		[ "$how" != "snapshot-delete w i" ] || fermata snapshot-delete w a
		c=$(last_counter w)
		echo "$how, the guest at $c"
		# shellcheck disable=SC2086
		hold rename 1 $how
		pid=$(vm_pid w)
		kill -KILL "$pid"
		wait_gone "$pid"
		let_go
		wait $tracer || true
		cat "$FERMATA_ROOT/err"
		off_and_clean
		! listed w i || assert_whole w i
		from=$(mark w)
		fermata start w
		boot=$(will_say w "$from" 60 says '^boot d0=[0-9]+ d1=[0-9]+$')
		[[ $boot =~ d0=([0-9]+)\ d1=([0-9]+) ]]
		[ "${BASH_REMATCH[1]}" -ge "$c" ] && [ "${BASH_REMATCH[2]}" -ge "$c" ] || { echo "$boot after $c"; return 1; }
		fermata destroy w
		for s in a i; do ! listed w $s || fermata snapshot-delete w $s; done
		not grep -q ' [ai] ' <(for f in $(images w); do qemu-img snapshot -l "$f"; done)
	done
}

@test "QEMU killed behind the transaction of a disk snapshot: what the guest has written since is kept" {
	need_strace
	witness_vm w 2 size=20
	vm_start w
	calls_of snapshot-create-as w zero --disk-only >/dev/null
	fermata snapshot-delete w zero
	aim=$(echo 'sendmsg transaction' | aims "$FERMATA_ROOT/trace")
	hold sendmsg "${aim#*:}" snapshot-create-as w k --disk-only
	# Another tracer, in whose hands the answer is lost
	kill -KILL "$tracer"
	wait "$tracer" || true
	strace -o "$FERMATA_ROOT/ended" -e trace=recvfrom -e inject=recvfrom:error=ECONNRESET -p "$held" 2>"$FERMATA_ROOT/attached" 3>&- &
	wait_until 10 grep -q attached "$FERMATA_ROOT/attached"
	pid=$(vm_pid w)
	will_say w "$(mark w)" 30 lines 4
	last=$(last_counter w)
	kill -KILL "$pid"
	wait_gone "$pid"
	let_go
	wait_until 30 grep -q exited "$FERMATA_ROOT/ended"
	cat "$FERMATA_ROOT/err"
	grep -q 'exited with 3' "$FERMATA_ROOT/ended"
	fermata recover w
	not is_pending w
	listed w k
	from=$(mark w)
	fermata start w
	wait_counter_above w $((last - 10)) 60 "$from"
	assert_one_instant w "$from"
}
