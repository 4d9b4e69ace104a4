# VMs whose guest can write to no disk: none at all, or some that are only read. A checkpoint is their memory.
load helper

setup() { root_make; }
teardown() { root_end; }

# diskless_vm NAME none|readonly [as witness_vm]: the guest is the kernel, or lies on a disk that is only read
diskless_vm() {
	local name=$1 disks=$2
	shift 2
	if [ "$disks" = none ]; then
		witness_vm "$name" 0 size=1 "$@"
	else
		witness_vm "$name" 1 size=16 format=raw "$@"
		sed -i '/^bus = /a readonly = yes' "$FERMATA_ROOT/etc/fermata/$name.conf"
		chmod a-w "$FERMATA_ROOT/images/$name-vda.raw"
	fi
	sed -i '1i memory-mode = instant' "$FERMATA_ROOT/etc/fermata/$name.conf"
}

state_files() {
	find "$FERMATA_ROOT/var/lib/fermata/w" "$FERMATA_ROOT/dev/shm" ! -type d ! -name state.json 2>/dev/null
}

assert_nothing_left() {
	not is_pending w
	[ -z "$(state_files)" ] || { state_files; return 1; }
	[ -z "$(ls -A "$FERMATA_ROOT/run/fermata/w" | grep -E 'next|devices-')" ]
}

# back_to NAME [OPTION...]: from the count that it was taken at; $low and $high are around that
back_to() {
	local from
	from=$(mark w)
	fermata snapshot-revert w "$@"
	assert_back_in w "$from" "$low" "$high"
	assert_one_instant w "$from"
}

taken() {
	low=$(last_counter w)
	fermata snapshot-create-as w "$@" 2>"$FERMATA_ROOT/err" || { cat "$FERMATA_ROOT/err"; return 1; }
	high=$(last_counter w)
}

@test "no disk, or one that is only read: taken stopped, live, instant and by hand-over, gone back to running and off, deleted" {
	for disks in none readonly; do
		rm -f "$FERMATA_ROOT/w.log"
		diskless_vm w $disks
		vm_start w
		sum=$(md5sum "$FERMATA_ROOT"/images/*)
		for how in --instant --instant=handover "--memspec $FERMATA_ROOT/k.mem" "--memspec $FERMATA_ROOT/k.mem --live"; do
			echo "$disks: $how"
			from=$(mark w)
			# shellcheck disable=SC2086
			taken k $how
			assert_one_instant w "$from"
			fermata snapshot-info w k | grep -qE '^State: +running'
			[ "$(fermata snapshot-current w --name)" = k ]
			wait_counter_above w $((high + 40))
			back_to k
			fermata destroy w
			fermata snapshot-revert w k --paused
			assert_state w paused
			fermata snapshot-delete w k
			fermata resume w
			assert_one_instant w
			assert_nothing_left
			[ ! -e "$FERMATA_ROOT/k.mem" ]
			fermata destroy w
			[ $disks = none ] || break
			vm_start w
		done
		! state_is w running || fermata destroy w
		[ "$(md5sum "$FERMATA_ROOT"/images/*)" = "$sum" ]
		rm -rf "$FERMATA_ROOT/images"/* "$FERMATA_ROOT/var"
	done
}

@test "what has nothing to hold it is refused, with what to use; writable disks that are left out are no reason to do without" {
	for disks in none readonly; do
		diskless_vm w $disks
		vm_start w
		for how in "" --disk-only --no-metadata; do
			# shellcheck disable=SC2086
			fails 1 "no disk that can be written, and none to hold it; --memspec or --instant keeps the memory" snapshot-create-as w k $how
		done
		fails 1 "No such file" snapshot-create-as w k --memspec "$FERMATA_ROOT/nowhere/k.mem"
		assert_one_instant w
		fermata destroy w
		fails 1 "the VM is off: it has no memory to keep" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
		fails 1 "no disk that can be written" snapshot-create-as w k
		assert_nothing_left
		[ -z "$(fermata snapshot-list w --name)" ]
		rm -rf "$FERMATA_ROOT/images"/* "$FERMATA_ROOT/var"
	done
	witness_vm w 1 size=16
	sed -i '/^bus = /a snapshot = no' "$FERMATA_ROOT/etc/fermata/w.conf"
	vm_start w
	fails 1 "no disk of the VM takes part in it" snapshot-create-as w k --memspec "$FERMATA_ROOT/k.mem"
	fails 1 "no disk of the VM takes part in it" snapshot-create-as w k
}

@test "a tree of them: replaced, gone back to from the other branch, verified, damaged, deleted with its children" {
	diskless_vm w readonly
	vm_start w
	taken a --instant
	wait_counter_above w $((high + 20))
	fermata snapshot-create-as w b --memspec "$FERMATA_ROOT/b.mem"
	back_to a
	fermata snapshot-create-as w c --instant
	fermata snapshot-create-as w c --instant --replace
	[ "$(fermata snapshot-list w --name | sort | tr '\n' ' ')" = "a b c " ]
	[ "$(fermata snapshot-info w c | awk '$1 == "Parent:" { print $2 }')" = a ]
	fermata standby w a
	back_to a
	fermata standby w --end
	printf X | dd of="$FERMATA_ROOT/b.mem" bs=1 seek=100000 conv=notrunc status=none
	from=$(mark w)
	fails 1 "is damaged" snapshot-verify w b
	fails 1 "is damaged" snapshot-revert w b
	truncate -s 8192 "$FERMATA_ROOT/b.mem"
	fails 1 "is damaged" snapshot-revert w b
	rm "$FERMATA_ROOT/b.mem"
	fails 1 "No such file" snapshot-revert w b
	assert_one_instant w "$from"
	fails 1 "no disk that can be written" snapshot-revert w a --keep-current kept
	fermata snapshot-delete w a --children
	[ -z "$(fermata snapshot-list w --name)" ]
	assert_one_instant w "$from"
	assert_nothing_left
}

@test "exported and imported, into a VM without disks only; booted from; saved, restored, dumped" {
	diskless_vm w none
	vm_start w
	taken golden --instant
	fermata snapshot-export w golden "$FERMATA_ROOT/golden.fermata"
	fermata snapshot-delete w golden
	fermata snapshot-import w "$FERMATA_ROOT/golden.fermata" --name again
	fermata snapshot-verify w again
	back_to again
	from=$(mark w)
	fermata save w "$FERMATA_ROOT/w.save"
	fermata restore "$FERMATA_ROOT/w.save"
	assert_one_instant w "$from"
	fermata managedsave w
	fails 1 "managed save" snapshot-revert w again
	fermata start w
	assert_one_instant w "$from"
	fermata dump w "$FERMATA_ROOT/core" --memory-only
	[ "$(head -c 4 "$FERMATA_ROOT/core" | tail -c 3)" = ELF ]
	fermata destroy w
	printf '\n[boot]\nfrom = again\ndiscard-changes = yes\n' | conf_add w
	for round in 1 2; do
		from=$(mark w)
		fermata boot w 2>"$FERMATA_ROOT/err" || { cat "$FERMATA_ROOT/err"; return 1; }
		assert_back_in w "$from" "$low" "$high"
		fermata destroy w
	done
	witness_vm d 1 size=16
	fails 1 "the archive has no such disk" snapshot-import d "$FERMATA_ROOT/golden.fermata"
	fails 1 "the archive has none of the VM's disks" snapshot-import d "$FERMATA_ROOT/golden.fermata" --force
}

# cut_off SAMPLES ARGS...: killed at system calls, every third time with QEMU: the guest runs, or its QEMU was killed; the
# snapshot is there, whole, or has left nothing
cut_off() {
	local samples=$1 total n turn=0 from op=$2
	shift 2
	state_is w running || vm_start w
	listed w a || [ "$op" = snapshot-create-as ] || taken a --instant
	total=$(calls_of "$op" w a "$@")
	for n in $(moments "$total" "$samples"); do
		turn=$((turn + 1))
		state_is w running || vm_start w
		if [ "$op" = snapshot-create-as ]; then
			! listed w a || fermata snapshot-delete w a
		elif ! listed w a; then
			taken a --instant
		fi
		from=$(mark w)
		cut_at "$n" "$op" w a "$@"
		echo "cut at $n of $total, $(sed -n "${n}p" "$FERMATA_ROOT/calls"): $op $*"
		if [ $((turn % 3)) = 0 ]; then
			pid=$(vm_pid w)
			[ -z "$pid" ] || { kill -KILL "$pid" || true; wait_gone "$pid"; }
		fi
		fermata recover w
		not is_pending w
		[ $((turn % 3)) = 0 ] || assert_state w running
		! state_is w running || assert_one_instant w "$from"
		[ ! -e "$FERMATA_ROOT/run/fermata/w/next/pid" ]
		[ -z "$(find "$FERMATA_ROOT/var/lib/fermata/w" -name '*.part')" ]
		if listed w a; then
			fermata snapshot-info w a | grep -qE '^Memory: '
			fermata snapshot-verify w a
			[ "$op" != snapshot-create-as ] || { fermata snapshot-revert w a; assert_one_instant w; }
		else
			assert_nothing_left
		fi
	done
}

@test "taking one is cut off: it is whole or nothing, and the guest goes on" {
	need_strace
	diskless_vm w none
	for how in "--memspec $FERMATA_ROOT/var/lib/fermata/w/a.mem" --instant --instant=handover; do
		# shellcheck disable=SC2086
		cut_off 5 snapshot-create-as $how
		# From a cold start, so that the memory is a file of its own again
		! state_is w running || fermata destroy w
	done
}

@test "going back is cut off: the guest goes on where it was, or where it was taken; deleting: there, or gone" {
	need_strace
	diskless_vm w readonly
	cut_off 9 snapshot-revert
	cut_off 4 snapshot-delete
	most_cut
}

@test "going back is cut off before the second QEMU has loaded, and when it is the only one: the present is not lost, nor is the new one" {
	need_strace
	diskless_vm w none
	vm_start w
	taken a --instant
	wait_counter_above w $((high + 100))
	was=$(vm_pid w)
	from=$(mark w)
	cut_pending w snapshot-revert w a
	fermata recover w 2>"$FERMATA_ROOT/err"
	grep -q "the guest goes on where it was" "$FERMATA_ROOT/err"
	[ "$(vm_pid w)" = "$was" ]
	wait_counter_above w $((high + 100)) 60 "$from"
	# The second time that it goes on record the present QEMU has ended: killed before that, and behind it.
	strace -qq -o "$FERMATA_ROOT/trace" -e trace=rename "$FERMATA_BIN" --root "$FERMATA_ROOT" snapshot-revert w a
	n=$(grep '^rename(' "$FERMATA_ROOT/trace" | grep -n 'state[.]json"' | sed -n '2s/:.*//p')
	[ "$(grep -c '^rename(' "$FERMATA_ROOT/trace")" -gt "$n" ] || { cat "$FERMATA_ROOT/trace"; return 1; }
	for nth in "$n" $((n + 1)); do
		wait_counter_above w $((high + 100)) 60 "$(mark w)"
		from=$(mark w)
		inject rename "$nth" snapshot-revert w a
		# The child that sees to the guest may be before us.
		fermata recover w
		not is_pending w
		assert_state w running
		assert_back_in w "$from" "$low" "$high"
	done
	[ "$n_cut" = 3 ]
}

@test "a call that fails while one is taken or gone back to: all or nothing, and the guest runs" {
	need_strace
	diskless_vm w none
	for how in "--memspec $FERMATA_ROOT/var/lib/fermata/w/k.mem" --instant --instant=handover; do
		for call in pwrite64:ENOSPC:1 fsync:EIO:3 rename:EIO:2 ${FERMATA_SOAK+fsync:EIO:4 rename:ENOSPC:3 ftruncate:EIO:1 linkat:EIO:1 pread64:EIO:2}; do
			IFS=: read -r name error nth <<<"$call"
			state_is w running || vm_start w
			from=$(mark w)
			status=0
			# shellcheck disable=SC2086
			timeout 180 strace -qq -o /dev/null -e "inject=$name:error=$error:when=$nth" "$FERMATA_BIN" --root "$FERMATA_ROOT" \
				snapshot-create-as w k $how >"$FERMATA_ROOT/out" 2>"$FERMATA_ROOT/err" || status=$?
			echo "$how $call: $status $(cat "$FERMATA_ROOT/err")"
			[ $status = 0 ] || [ -s "$FERMATA_ROOT/err" ]
			fermata recover w
			assert_state w running
			assert_one_instant w "$from"
			if listed w k; then
				fermata snapshot-info w k | grep -qE '^Memory: '
				fermata snapshot-verify w k
			else
				[ $status != 0 ]
				assert_nothing_left
			fi
			fermata destroy w
			! listed w k || fermata snapshot-delete w k
			assert_nothing_left
		done
	done
	vm_start w
	taken k --instant
	for call in fsync:EIO:1 fsync:EIO:3 rename:ENOSPC:3 ${FERMATA_SOAK+rename:EIO:1 rename:EIO:2 clone:EAGAIN:1 pread64:EIO:2 connect:ECONNREFUSED:2}; do
		IFS=: read -r name error nth <<<"$call"
		from=$(mark w)
		status=0
		timeout 180 strace -qq -o /dev/null -e "inject=$name:error=$error:when=$nth" "$FERMATA_BIN" --root "$FERMATA_ROOT" \
			snapshot-revert w k >"$FERMATA_ROOT/out" 2>"$FERMATA_ROOT/err" || status=$?
		echo "revert $call: $status $(cat "$FERMATA_ROOT/err")"
		fermata recover w
		assert_state w running
		assert_one_instant w "$from"
	done
	fermata snapshot-delete w k
	assert_nothing_left
}
