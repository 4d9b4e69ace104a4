# QEMU is killed in the middle of a block job, or the user presses ^C: the guest runs on in one instant, or starts again on
# all that it wrote.
load helper
load chains

setup() { root_make; }
teardown() { root_end; }

no_job() {
	fermata blockjob w vda | grep -q '^No current'
}

# 32 MiB that a job has to move, and a chain of two
slow_vm() {
	witness_vm w 2
	qemu-io -f qcow2 -c 'write -q -P 7 16M 32M' "$FERMATA_ROOT/images/w-vda.qcow2"
	vm_start w
	fermata snapshot-create-as w s1 --disk-only >/dev/null
}

# aborts PID WORD: it ends with status 1 and says so
aborts() {
	local status=0
	wait "$1" || status=$?
	cat "$FERMATA_ROOT/out"
	[ "$status" = 1 ]
	grep -q "^fermata: w: vda: $2 aborted$" "$FERMATA_ROOT/out"
	no_job
	assert_nodes vda
	[ "$(depth vda)" = 2 ]
}

job_runs() {
	fermata blockjob w vda | grep -q '%'
}

@test "^C, a timeout and blockjob --abort end a job; others are not locked out by who waits" {
	slow_vm
	from=$(mark w)
	for how in "blockpull w vda" "blockcopy w vda $FERMATA_ROOT/images/copy"; do
		word=$([ "${how%% *}" = blockpull ] && echo Pull || echo Copy)
		for sig in INT TERM; do
			# shellcheck disable=SC2086
			"$FERMATA_BIN" --root "$FERMATA_ROOT" $how --wait --bandwidth 70000 --bytes 2>"$FERMATA_ROOT/out" &
			wait_until 10 job_runs
			kill -$sig $!
			aborts $! $word
		done
		# shellcheck disable=SC2086
		fails 1 "$word aborted" $how --wait --bandwidth 70000 --bytes --timeout 1
		# shellcheck disable=SC2086
		"$FERMATA_BIN" --root "$FERMATA_ROOT" $how --wait --bandwidth 70000 --bytes 2>"$FERMATA_ROOT/out" &
		wait_until 10 job_runs
		fermata blockjob w vda --abort
		aborts $! $word
	done
	[ ! -e "$FERMATA_ROOT/images/copy" ]
	fermata blockcommit w vda --active --bandwidth 70000 --bytes --drop-snapshots
	fermata blockjob w vda --abort --async
	wait_until 10 no_job
	assert_sound "$from"
}

@test "QEMU is killed in the middle of a job: what the guest wrote is there, the disk is as the record says" {
	slow_vm
	for how in "blockpull w vda --bandwidth 70000 --bytes" "blockcopy w vda $FERMATA_ROOT/images/copy --bandwidth 70000 --bytes" \
		"blockcommit w vda --active --shallow --drop-snapshots" "blockcommit w vda --top k --shallow --bandwidth 70000 --bytes --drop-snapshots" \
		"blockcommit w vda --pivot --shallow --drop-snapshots" "blockcopy w vda $FERMATA_ROOT/images/copy --pivot"; do
		for ms in 0 60 200; do
			fermata snapshot-create-as w x --disk-only >/dev/null
			fermata snapshot-create-as w k --disk-only >/dev/null
			frozen | grep s1: >"$FERMATA_ROOT/before"
			pid=$(vm_pid w)
			# shellcheck disable=SC2086
			fermata $how >"$FERMATA_ROOT/out" 2>&1 &
			sleep "$(printf '0.%03d' $ms)"
			c=$(last_counter w)
			kill -KILL "$pid"
			wait $! || true
			wait_gone "$pid"
			echo "$how: killed after $ms ms: $(cat "$FERMATA_ROOT/out")"
			fermata recover w
			not is_pending w
			frozen | grep s1: | diff "$FERMATA_ROOT/before" -
			assert_images_ok w
			for file in $(chain vda); do qemu-img check -q "$file" || [ $? = 3 ]; done
			from=$(mark w)
			fermata start w
			wait_counter_above w $((c - 1)) 60 "$from"
			assert_one_instant w "$from"
			assert_nodes vda
			fermata snapshot-revert w s1 --running
			wait_counter_above w 0 60 "$(mark w)"
			for s in k x; do ! listed w $s || fermata snapshot-delete w $s; done
			rm -f "$FERMATA_ROOT/images/copy"
		done
	done
}
